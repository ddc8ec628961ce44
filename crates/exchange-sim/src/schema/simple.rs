//! Values of attributes and of elements without children.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::facts::{Facts, Kind};

/// A simple type.
#[derive(Clone, Debug)]
pub(crate) enum Simple {
    /// One of these.
    Values(Vec<&'static str>),
    /// Several of a type, divided by spaces.
    List(usize),
    /// A value of one of these types.
    Any(Vec<usize>),
    /// A whole number.
    Range(i64, i64),
    /// At least so many characters.
    Length(usize),
    /// Text of a form.
    Form(Form),
}

/// Forms of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Boolean,
    Decimal,
    Base64,
    Date,
    Guid,
    /// The number of a property in hexadecimal digits.
    Tag,
    /// A number in hexadecimal or decimal digits.
    Number,
}

impl Simple {
    /// Reads a line of the table.
    pub fn read(
        form: &str,
        values: &[&'static str],
        mut number: impl FnMut(&'static str) -> usize,
    ) -> Option<Self> {
        Some(match (form, values) {
            ("values", values) => Self::Values(values.to_vec()),
            ("list", [kind]) => Self::List(number(kind)),
            ("any", kinds) => Self::Any(kinds.iter().map(|kind| number(kind)).collect()),
            ("range", [least, most]) => Self::Range(least.parse().ok()?, most.parse().ok()?),
            ("length", [least]) => Self::Length(least.parse().ok()?),
            ("form", ["guid"]) => Self::Form(Form::Guid),
            ("form", ["tag"]) => Self::Form(Form::Tag),
            ("form", ["number"]) => Self::Form(Form::Number),
            _ => return None,
        })
    }

    /// A type of XML Schema itself.
    pub fn built_in(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("xs:")? {
            "boolean" => Self::Form(Form::Boolean),
            "base64Binary" => Self::Form(Form::Base64),
            "dateTime" | "date" => Self::Form(Form::Date),
            "double" | "float" | "decimal" => Self::Form(Form::Decimal),
            "int" => Self::Range(i32::MIN.into(), i32::MAX.into()),
            "short" => Self::Range(i16::MIN.into(), i16::MAX.into()),
            "unsignedInt" => Self::Range(0, u32::MAX.into()),
            "unsignedShort" => Self::Range(0, u16::MAX.into()),
            "unsignedByte" => Self::Range(0, u8::MAX.into()),
            "long" | "integer" => Self::Range(i64::MIN, i64::MAX),
            "nonNegativeInteger" => Self::Range(0, i64::MAX),
            _ => Self::Form(Form::Text),
        })
    }
}

/// Checks a text against a type; the error says what is wrong with it.
pub(crate) fn check(facts: &Facts, kind: usize, text: &str) -> Result<(), String> {
    let Some(Kind::Simple(simple)) = facts.kind(kind) else { return Ok(()) };
    let trimmed = text.trim();
    let (fits, wanted) = match simple {
        Simple::Values(values) => (values.contains(&text), format!("one of {}", few(values, 12))),
        Simple::List(kind) => {
            return trimmed.split_whitespace().try_for_each(|word| check(facts, *kind, word));
        }
        Simple::Any(kinds) => {
            let mut result = Ok(());
            for kind in kinds {
                result = check(facts, *kind, text);
                if result.is_ok() {
                    break;
                }
            }
            return result;
        }
        Simple::Range(least, most) => {
            let number = trimmed.strip_prefix('+').unwrap_or(trimmed).parse::<i64>();
            let fits = number.is_ok_and(|number| (least..=most).contains(&&number));
            (fits, format!("a whole number between {least} and {most}"))
        }
        Simple::Length(least) => {
            (text.chars().take(*least).count() == *least, format!("at least {least} characters long"))
        }
        Simple::Form(form) => (form.fits(text, trimmed), form.name().to_owned()),
    };
    if fits { Ok(()) } else { Err(format!("'{}' is not {wanted}", shortened(text))) }
}

impl Form {
    fn fits(self, text: &str, trimmed: &str) -> bool {
        let hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        match self {
            Self::Text => true,
            Self::Boolean => matches!(trimmed, "true" | "false" | "1" | "0"),
            Self::Decimal => matches!(trimmed, "INF" | "-INF" | "NaN") || trimmed.parse::<f64>().is_ok(),
            Self::Base64 => {
                let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
                STANDARD.decode(packed).is_ok()
            }
            // Years, zones and fractions are read where they matter.
            Self::Date => trimmed.len() >= 10 && trimmed.is_ascii() && trimmed.as_bytes()[4] == b'-',
            Self::Guid => {
                let lengths: Vec<usize> = text.split('-').map(str::len).collect();
                lengths == [8, 4, 4, 4, 12] && text.split('-').all(hex)
            }
            Self::Tag => hexadecimal.is_some_and(|digits| (1..=4).contains(&digits.len()) && hex(digits)),
            Self::Number => match hexadecimal {
                Some(digits) => hex(digits),
                None => text.bytes().all(|digit| digit.is_ascii_digit()),
            },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Boolean => "true or false",
            Self::Decimal => "a number",
            Self::Base64 => "valid base64",
            Self::Date => "a date",
            Self::Guid => "a GUID",
            Self::Tag => "the number of a property",
            Self::Number => "a number in decimal or hexadecimal digits",
        }
    }
}

/// A list that ends early if it is long.
pub(crate) fn few<T: AsRef<str>>(values: &[T], most: usize) -> String {
    let first: Vec<&str> = values.iter().take(most).map(AsRef::as_ref).collect();
    match values.len() {
        all if all > most => format!("{} and {} more", first.join(", "), all - most),
        _ => first.join(", "),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
