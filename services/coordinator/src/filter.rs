//! Filters of lists: the text that people write, after AIP-160, becomes the condition that the store answers.
//!
//! A comparison is `FIELD OPERATOR VALUE`; comparisons are joined by `AND`, `OR`, `NOT` and parentheses. Where `AND`
//! meets `OR` without parentheses the text is refused: AIP-160 binds `OR` closer, nearly everything else `AND`, and a
//! filter may select mailboxes for a change.

use std::fmt::Write as _;

use mailyard_policy::{Reason, Timestamp};
use mailyard_store::{
    people::Profile,
    query::{Field, FieldKind, Filter, Operator, Value},
};

/// A longer text is refused; bytes.
pub const MAX_LENGTH: usize = 4096;
/// Parentheses and negations deeper than this are refused.
pub const MAX_DEPTH: usize = 16;
/// More comparisons than this are refused.
pub const MAX_COMPARISONS: usize = 64;

/// Fields of the list of profiles, which is short and filtered in memory by [`profile_matches`].
pub const PROFILE_FIELDS: &[Field] = &[
    Field { name: "display_name", kind: FieldKind::Text },
    Field { name: "description", kind: FieldKind::Text },
    Field { name: "auth", kind: FieldKind::Text },
    Field { name: "incoming_url", kind: FieldKind::Text },
    Field { name: "outgoing_url", kind: FieldKind::Text },
    Field { name: "owner_email", kind: FieldKind::Text },
    Field { name: "max_connections", kind: FieldKind::Number },
    Field { name: "move_failed", kind: FieldKind::Flag },
    Field { name: "streaming", kind: FieldKind::Flag },
    Field { name: "password_set", kind: FieldKind::Flag },
    Field { name: "create_time", kind: FieldKind::Time },
];

/// The text is no filter of this list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {detail}")]
pub struct FilterError {
    /// `FILTER_INVALID` or `FILTER_FIELD_UNKNOWN`.
    pub reason: Reason,
    /// Where, in characters; the first is 1.
    pub column: usize,
    /// What is wrong there and what would be right.
    pub detail: String,
    /// The known field or word that is nearest to what was written.
    pub nearest: Option<&'static str>,
}

/// Reads a filter over these fields. An empty text is [`Filter::All`].
pub fn parse(text: &str, fields: &'static [Field]) -> Result<Filter, FilterError> {
    let mut parser = Parser { text, at: 0, fields, comparisons: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.invalid(0, format!("it is longer than {MAX_LENGTH} bytes")));
    }
    parser.skip_blanks();
    if parser.rest().is_empty() {
        return Ok(Filter::All);
    }
    let filter = parser.expression(0)?;
    if parser.rest().is_empty() {
        return Ok(filter);
    }
    Err(match parser.peek_word() {
        "and" | "or" | "And" | "Or" => parser.invalid(parser.at, "AND and OR are written in capitals"),
        _ if parser.rest().starts_with(')') => {
            parser.invalid(parser.at, "this parenthesis closes none that is open")
        }
        _ => parser.invalid(parser.at, "AND, OR or the end is expected"),
    })
}

/// True if the profile is one that the filter (over [`PROFILE_FIELDS`]) asks for.
pub fn profile_matches(filter: &Filter, profile: &Profile) -> bool {
    match filter {
        Filter::All => true,
        Filter::And(parts) => parts.iter().all(|part| profile_matches(part, profile)),
        Filter::Or(parts) => parts.iter().any(|part| profile_matches(part, profile)),
        Filter::Not(part) => !profile_matches(part, profile),
        Filter::Compare { field, operator, value } => {
            compare(&profile_value(profile, field), *operator, value)
        }
    }
}

fn profile_value(profile: &Profile, field: &str) -> Value {
    let text = |text: Option<&str>| Value::Text(text.unwrap_or_default().to_owned());
    match field {
        "description" => text(Some(&profile.description)),
        "auth" => text(Some(profile.credentials.authentication.word())),
        "incoming_url" => text(profile.incoming_url.as_deref()),
        "outgoing_url" => text(profile.outgoing_url.as_deref()),
        "owner_email" => text(profile.owner_email.as_deref()),
        "max_connections" => Value::Number(profile.max_connections.into()),
        "move_failed" => Value::Flag(profile.move_failed),
        "streaming" => Value::Flag(profile.streaming),
        "password_set" => Value::Flag(profile.credentials.secret_set()),
        "create_time" => Value::Time(profile.create_time),
        _ => text(Some(&profile.display_name)),
    }
}

fn compare(have: &Value, operator: Operator, want: &Value) -> bool {
    let order = match (have, want) {
        (Value::Text(have), Value::Text(want)) => {
            let (have, want) = (have.to_lowercase(), want.to_lowercase());
            if operator == Operator::Contains {
                return have.contains(&want);
            }
            have.cmp(&want)
        }
        (Value::Number(have), Value::Number(want)) => have.cmp(want),
        (Value::Time(have), Value::Time(want)) => have.cmp(want),
        (Value::Flag(have), Value::Flag(want)) => have.cmp(want),
        _ => return false,
    };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        Operator::Contains => false,
    }
}

/// Reads a moment: RFC 3339 with an offset, or a date, which is its first moment in UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date: jiff::civil::Date = (text.len() == 10).then(|| text.parse().ok())??;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

/// The known word that a person who wrote `text` most likely meant.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&text, &word.to_lowercase()), word))
        .min()
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(2))
        .map(|(_, word)| word)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    fields: &'static [Field],
    comparisons: usize,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, depth: usize) -> Result<Filter, FilterError> {
        let mut parts = vec![self.term(depth)?];
        let mut joined_by = "";
        loop {
            let start = self.at;
            let word = self.peek_word();
            if word != "AND" && word != "OR" {
                break;
            }
            if !joined_by.is_empty() && joined_by != word {
                return Err(self.invalid(
                    start,
                    "AND and OR stand side by side: say with parentheses which belong together",
                ));
            }
            joined_by = word;
            self.advance(word.len());
            parts.push(self.term(depth)?);
        }
        Ok(match (joined_by, parts.len()) {
            ("OR", _) => Filter::Or(parts),
            (_, 1) => parts.swap_remove(0),
            _ => Filter::And(parts),
        })
    }

    fn term(&mut self, depth: usize) -> Result<Filter, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.invalid(self.at, format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        if self.peek_word() == "NOT" {
            self.advance("NOT".len());
            return Ok(Filter::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.rest().starts_with('-') {
            self.advance(1);
            return Ok(Filter::Not(Box::new(self.term(depth + 1)?)));
        }
        if !self.rest().starts_with('(') {
            return self.comparison();
        }
        let opened = self.at;
        self.advance(1);
        let inner = self.expression(depth + 1)?;
        if !self.rest().starts_with(')') {
            let detail = if self.rest().is_empty() {
                return Err(self.invalid(opened, "this parenthesis is not closed"));
            } else {
                "AND, OR or a closing parenthesis is expected"
            };
            return Err(self.invalid(self.at, detail));
        }
        self.advance(1);
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Filter, FilterError> {
        let start = self.at;
        let name = self.peek_word();
        if name.is_empty() {
            return Err(self.invalid(start, "a comparison such as `field = \"value\"` is expected"));
        }
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return Err(self.invalid(start, format!("it has more than {MAX_COMPARISONS} comparisons")));
        }
        let field = self.field(name, start)?;
        self.advance(name.len());
        let operator_at = self.at;
        let operator = self.operator(field.name)?;
        let value_at = self.at;
        let (text, quoted) = self.value()?;
        if text == "*" && !quoted {
            return Err(
                self.invalid(value_at, "there are no wildcards; `field:\"part\"` finds a part of a text")
            );
        }
        let operator = self.fitting(field, operator, operator_at)?;
        let value = self.converted(field, text, value_at)?;
        Ok(Filter::Compare { field: field.name, operator, value })
    }

    fn field(&self, name: &str, at: usize) -> Result<&'static Field, FilterError> {
        if let Some(field) = self.fields.iter().find(|field| field.name == name) {
            return Ok(field);
        }
        let nearest = nearest(name, self.fields.iter().map(|field| field.name));
        let mut detail = format!("there is no field {}", shown(name));
        if let Some(nearest) = nearest {
            let _ = write!(detail, "; did you mean {nearest}?");
        }
        let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
        let _ = write!(detail, " (fields: {})", names.join(", "));
        let column = self.column(at);
        Err(FilterError { reason: Reason::FilterFieldUnknown, column, detail, nearest })
    }

    fn operator(&mut self, field: &str) -> Result<Operator, FilterError> {
        const OPERATORS: [(&str, Operator); 7] = [
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
            (":", Operator::Contains),
        ];
        for (sign, operator) in OPERATORS {
            if self.rest().starts_with(sign) {
                self.advance(sign.len());
                return Ok(operator);
            }
        }
        Err(self.invalid(self.at, format!("after {field} one of = != < <= > >= : is expected")))
    }

    /// The operator as the kind of the field understands it.
    fn fitting(&self, field: &Field, operator: Operator, at: usize) -> Result<Operator, FilterError> {
        let (fits, allowed) = match (field.kind, operator) {
            (_, Operator::Equal | Operator::NotEqual) => return Ok(operator),
            // A word has no parts: `state:failing` can only mean equality.
            (FieldKind::Word(_), Operator::Contains) => return Ok(Operator::Equal),
            (FieldKind::Text, operator) => (operator == Operator::Contains, "= != :"),
            (FieldKind::Number | FieldKind::Time, operator) => {
                (operator != Operator::Contains, "= != < <= > >=")
            }
            (FieldKind::Word(_) | FieldKind::Flag, _) => (false, "= !="),
        };
        if fits {
            return Ok(operator);
        }
        Err(self.invalid(at, format!("{} can be compared by {allowed}", field.name)))
    }

    /// A quoted text without its quotes, or what stands up to the next blank or parenthesis.
    fn value(&mut self) -> Result<(String, bool), FilterError> {
        let start = self.at;
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
            let end = rest
                .find(|c: char| {
                    c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | '=' | '<' | '>' | '!')
                })
                .unwrap_or(rest.len());
            if end == 0 {
                return Err(self.invalid(start, "a value is expected"));
            }
            self.advance(end);
            return Ok((rest[..end].to_owned(), false));
        };
        let mut value = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.advance(at + 1);
                    return Ok((value, true));
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                    _ => {
                        return Err(
                            self.invalid(start + at, "after a backslash only \\ and quotes may stand")
                        );
                    }
                },
                _ => value.push(c),
            }
        }
        Err(self.invalid(start, "this quote is not closed"))
    }

    fn converted(&self, field: &Field, text: String, at: usize) -> Result<Value, FilterError> {
        let expected = |what: &str| {
            self.invalid(at, format!("{} is compared with {what}, not with {}", field.name, shown(&text)))
        };
        match field.kind {
            FieldKind::Text => Ok(Value::Text(text)),
            FieldKind::Word(known) => match known.iter().find(|word| word.eq_ignore_ascii_case(&text)) {
                Some(word) => Ok(Value::Text((*word).to_owned())),
                None => Err(FilterError {
                    nearest: nearest(&text, known.iter().copied()),
                    ..expected(&format!("one of {}", known.join(", ")))
                }),
            },
            FieldKind::Number => text.parse().map(Value::Number).map_err(|_| expected("a whole number")),
            FieldKind::Time => parse_time(&text)
                .map(Value::Time)
                .ok_or_else(|| expected("a time such as 2026-03-01T12:00:00Z or a date such as 2026-03-01")),
            FieldKind::Flag => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err(expected("true or false")),
            },
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len())]
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.skip_blanks();
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn column(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }

    fn invalid(&self, at: usize, detail: impl Into<String>) -> FilterError {
        let column = self.column(at);
        FilterError { reason: Reason::FilterInvalid, column, detail: detail.into(), nearest: None }
    }
}

/// What a person wrote, quoted and not longer than a message can bear.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(LONGEST).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests;
