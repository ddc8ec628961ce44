//! Properties of items: how requests name them, how answers write them, what they compare as.

mod fields;

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(crate) use self::fields::write_item_id;
use self::fields::{EXTENDED, FIELDS, NOT_IN_LISTS, Place};
use crate::{
    item::{self, Item},
    xml::{self, Element},
};

/// The names under which a client marks what it sends.
const SEND_KEY: &str = "set:6d61696c-7961-7264-8000-000000000001:operationid";
const SEND_KEY_HEADER: &str = "x-mailyard-operation-id";

/// A property as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// By its URI, such as `item:Subject`.
    Field(String),
    /// An extended one, with the element that names it in answers.
    Extended { name: String, kind: String, uri: String },
    /// Anything that no item here has.
    Unknown,
}

/// What a property compares as.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    Flag(bool),
}

impl Path {
    /// Reads a `FieldURI`, `ExtendedFieldURI` or `IndexedFieldURI`.
    pub fn read(element: &Element) -> Self {
        match element.name.as_str() {
            "FieldURI" => Self::Field(element.attribute("FieldURI").unwrap_or_default().to_owned()),
            "ExtendedFieldURI" => Self::extended(element),
            _ => Self::Unknown,
        }
    }

    /// The first path among the children.
    pub fn inside(element: &Element) -> Option<Self> {
        let named = |child: &&Element| {
            matches!(child.name.as_str(), "FieldURI" | "ExtendedFieldURI" | "IndexedFieldURI")
        };
        element.children.iter().find(named).map(Self::read)
    }

    fn extended(element: &Element) -> Self {
        let lower = |key| element.attribute(key).map(str::to_lowercase);
        let kind = element.attribute("PropertyType").unwrap_or("String").to_owned();
        let id = || lower("PropertyName").or_else(|| lower("PropertyId")).unwrap_or_default();
        let name = match (lower("PropertyTag"), lower("PropertySetId"), lower("DistinguishedPropertySetId")) {
            (Some(tag), ..) => format!("tag:{}", tag_number(&tag)),
            (_, Some(set), _) => format!("set:{set}:{}", id()),
            (_, _, Some(set)) => format!("known:{set}:{}", id()),
            _ => return Self::Unknown,
        };
        let mut uri = "<t:ExtendedFieldURI".to_owned();
        for (key, value) in &element.attributes {
            uri.push_str(&format!(" {key}=\""));
            let value = match key.as_str() {
                "PropertyTag" => format!("0x{:x}", tag_number(value)),
                "PropertySetId" => value.to_lowercase(),
                _ => value.clone(),
            };
            xml::escape(&value, &mut uri);
            uri.push('"');
        }
        uri.push_str("/>");
        Self::Extended { name, kind, uri }
    }
}

/// A property tag in hexadecimal or decimal digits.
fn tag_number(text: &str) -> u32 {
    let text = text.to_lowercase();
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).unwrap_or_default(),
        None => text.parse().unwrap_or_default(),
    }
}

/// The operation id that an item carries: the named property, else the header.
pub(crate) fn send_key(item: &Item) -> Option<String> {
    let named = item.extended(SEND_KEY).and_then(|values| values.first().cloned());
    named.or_else(|| {
        let header = item.content.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(SEND_KEY_HEADER));
        header.map(|(_, value)| value.clone())
    })
}

/// Values of an extended property, as they stand in `Value` elements.
pub(crate) fn extended_values(item: &Item, name: &str) -> Option<Vec<String>> {
    if let Some(values) = item.extended(name) {
        return Some(values.to_vec());
    }
    if let Some(header) = name.strip_prefix("known:internetheaders:") {
        let found = item.content.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(header));
        return found.map(|(_, value)| vec![value.clone()]);
    }
    let number = name.strip_prefix("tag:")?.parse::<u32>().ok()?;
    let flags = u32::from(item.is_read) | if item.is_draft { 8 } else { 0 };
    let value = match number {
        0x300b => STANDARD.encode(item.search_key),
        0x0e23 => item.article.to_string(),
        0x0ff9 => STANDARD.encode(item.number.to_be_bytes()),
        0x0e07 => flags.to_string(),
        0x0e08 => item.size.to_string(),
        0x0e06 => item::date(item.received),
        0x0039 => item::date(item.sent),
        0x3007 => item::date(item.created),
        0x3008 => item::date(item.modified),
        0x1035 => item.content.message_id.clone(),
        0x0037 => item.content.subject.clone(),
        0x001a => item.content.class.clone(),
        0x007d => {
            let mime = item.mime();
            let text = String::from_utf8_lossy(&mime);
            text.split("\r\n\r\n").next().unwrap_or_default().to_owned()
        }
        _ => return None,
    };
    (!value.is_empty()).then(|| vec![value])
}

/// What a property of an item compares as; `None`: it has none.
pub(crate) fn value(item: &Item, path: &Path) -> Option<Value> {
    let text = |text: &str| (!text.is_empty()).then(|| Value::Text(text.to_owned()));
    let people = |people: &[item::Person]| {
        let all: Vec<&str> = people.iter().map(|person| person.address.as_str()).collect();
        (!all.is_empty()).then(|| Value::Text(all.join("; ")))
    };
    let content = &item.content;
    let uri = match path {
        Path::Field(uri) => uri.as_str(),
        Path::Extended { name, kind, .. } => {
            let first = extended_values(item, name)?.into_iter().next()?;
            return Some(match kind.as_str() {
                "Integer" | "Short" | "Long" => Value::Number(first.parse().ok()?),
                "SystemTime" => Value::Number(read_date(&first)?),
                "Boolean" => Value::Flag(xml::is_true(Some(&first))),
                _ => Value::Text(first),
            });
        }
        Path::Unknown => return None,
    };
    match uri {
        "item:Subject" => text(&content.subject),
        "item:ItemClass" => text(&content.class),
        "item:Body" => text(&content.body),
        "item:Importance" => text(&content.importance),
        "item:Size" => Some(Value::Number(i64::from(item.size))),
        "item:DateTimeReceived" => Some(Value::Number(item.received / 1000)),
        "item:DateTimeSent" => Some(Value::Number(item.sent / 1000)),
        "item:DateTimeCreated" => Some(Value::Number(item.created / 1000)),
        "item:LastModifiedTime" => Some(Value::Number(item.modified / 1000)),
        "item:HasAttachments" => Some(Value::Flag(!content.attachments.is_empty())),
        "item:IsDraft" => Some(Value::Flag(item.is_draft)),
        "item:IsSubmitted" | "item:IsResend" => Some(Value::Flag(false)),
        "item:InReplyTo" => text(&content.in_reply_to),
        "item:DisplayTo" | "message:ToRecipients" => people(&content.to),
        "item:DisplayCc" | "message:CcRecipients" => people(&content.cc),
        "message:InternetMessageId" => text(&content.message_id),
        "message:IsRead" => Some(Value::Flag(item.is_read)),
        "message:From" => people(content.from.as_slice()),
        "message:Sender" => people(content.sender.as_slice()),
        "message:References" => text(&content.references),
        "item:Categories" => text(&content.categories.join("; ")),
        _ => None,
    }
}

/// A constant of a restriction, to be compared with a value of the same kind.
pub(crate) fn constant(text: &str, like: &Value) -> Option<Value> {
    match like {
        Value::Number(_) => {
            text.parse().ok().map(Value::Number).or_else(|| read_date(text).map(Value::Number))
        }
        Value::Text(_) => Some(Value::Text(text.to_owned())),
        Value::Flag(_) => match text {
            "true" | "1" => Some(Value::Flag(true)),
            "false" | "0" => Some(Value::Flag(false)),
            _ => None,
        },
    }
}

/// The value of an extended property as answers write it: moments have whole seconds, truth is spelled out.
pub(crate) fn stored_form(kind: &str, text: &str) -> String {
    let plain = kind.strip_suffix("Array").unwrap_or(kind);
    match plain {
        "SystemTime" => read_date(text).map(|seconds| item::date(seconds.saturating_mul(1000))),
        "Boolean" => Some(xml::is_true(Some(text)).to_string()),
        _ => None,
    }
    .unwrap_or_else(|| text.to_owned())
}

/// Seconds since 1970 of a date in a request.
fn read_date(text: &str) -> Option<i64> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.as_second());
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// What an answer tells of items.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub fields: Vec<String>,
    extended: Vec<(String, String, String)>,
    pub mime: bool,
    pub body_type: String,
}

const DEFAULT: &[&str] = &[
    "item:Subject",
    "item:Sensitivity",
    "item:Importance",
    "item:Size",
    "item:DateTimeSent",
    "item:DateTimeCreated",
    "item:HasAttachments",
    "message:From",
    "message:IsRead",
    "item:DateTimeReceived",
];

impl Shape {
    /// Reads an `ItemShape`.
    pub fn read(shape: Option<&Element>) -> Self {
        let mut read = Self { body_type: "Best".to_owned(), ..Self::default() };
        let Some(shape) = shape else { return read };
        match shape.text_of("BaseShape") {
            Some("Default") => read.fields.extend(DEFAULT.iter().map(|field| (*field).to_owned())),
            Some("AllProperties") => read.fields.extend(FIELDS.iter().map(|(field, _)| (*field).to_owned())),
            _ => {}
        }
        read.mime = xml::is_true(shape.text_of("IncludeMimeContent"));
        if let Some(kind) = shape.text_of("BodyType") {
            kind.clone_into(&mut read.body_type);
        }
        for property in shape.child("AdditionalProperties").map_or(&[][..], |all| &all.children) {
            match Path::read(property) {
                Path::Field(uri) if uri == "item:MimeContent" => read.mime = true,
                Path::Field(uri) => read.fields.push(uri),
                Path::Extended { name, kind, uri } => read.extended.push((name, kind, uri)),
                Path::Unknown => {}
            }
        }
        read
    }

    fn has(&self, uri: &str) -> bool {
        self.fields.iter().any(|field| field == uri)
    }

    /// Adds an item. `full`: bodies and contents too, which lists do not tell.
    pub fn write(&self, mailbox: u32, item: &Item, full: bool, out: &mut String) {
        out.push_str("<t:Message>");
        if self.mime && full {
            out.push_str("<t:MimeContent CharacterSet=\"UTF-8\">");
            STANDARD.encode_string(item.mime(), out);
            out.push_str("</t:MimeContent>");
        }
        write_item_id(mailbox, item, out);
        for (uri, write) in FIELDS {
            if *uri == EXTENDED {
                self.write_extended(item, out);
            } else if self.has(uri) && (full || !NOT_IN_LISTS.contains(uri)) {
                write(&Place { mailbox, shape: self }, item, out);
            }
        }
        out.push_str("</t:Message>");
    }

    fn write_extended(&self, item: &Item, out: &mut String) {
        for (name, kind, uri) in &self.extended {
            let Some(values) = extended_values(item, name) else { continue };
            out.push_str("<t:ExtendedProperty>");
            out.push_str(uri);
            if kind.ends_with("Array") {
                out.push_str("<t:Values>");
                values.iter().for_each(|value| xml::element("t:Value", value, out));
                out.push_str("</t:Values>");
            } else if let Some(value) = values.first() {
                xml::element("t:Value", value, out);
            }
            out.push_str("</t:ExtendedProperty>");
        }
    }
}
