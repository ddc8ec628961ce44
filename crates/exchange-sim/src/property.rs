//! Properties of items: how requests name them, how answers write them, what they compare as.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    id::{self, Name},
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

/// Adds `<t:ItemId>`.
pub(crate) fn write_item_id(mailbox: u32, item: &Item, out: &mut String) {
    let id = id::encode(Name::Item { mailbox, number: item.number });
    out.push_str(&format!("<t:ItemId Id=\"{id}\" ChangeKey=\"{}\"/>", id::change_key(item.version)));
}

struct Place<'a> {
    mailbox: u32,
    shape: &'a Shape,
}

type Writer = fn(&Place<'_>, &Item, &mut String);

const EXTENDED: &str = "";
const NOT_IN_LISTS: &[&str] = &[
    "item:Body",
    "item:Attachments",
    "item:InternetMessageHeaders",
    "message:ToRecipients",
    "message:CcRecipients",
    "message:BccRecipients",
    "message:ReplyTo",
    "item:TextBody",
];

fn optional(name: &str, text: &str, out: &mut String) {
    if !text.is_empty() {
        xml::element(name, text, out);
    }
}

fn flag(name: &str, value: bool, out: &mut String) {
    xml::element(name, if value { "true" } else { "false" }, out);
}

fn people(name: &str, people: &[item::Person], out: &mut String) {
    if !people.is_empty() {
        out.push_str(&format!("<{name}>"));
        people.iter().for_each(|person| item::write_person(person, out));
        out.push_str(&format!("</{name}>"));
    }
}

/// Elements of a message in the order of the schema (`ItemType`, then `MessageType`).
const FIELDS: &[(&str, Writer)] = &[
    ("item:ParentFolderId", |place, item, out| {
        let id = id::encode(Name::Folder { mailbox: place.mailbox, number: item.folder });
        out.push_str(&format!("<t:ParentFolderId Id=\"{id}\" ChangeKey=\"AQAAAA==\"/>"));
    }),
    ("item:ItemClass", |_, item, out| xml::element("t:ItemClass", &item.content.class, out)),
    ("item:Subject", |_, item, out| optional("t:Subject", &item.content.subject, out)),
    ("item:Sensitivity", |_, item, out| xml::element("t:Sensitivity", &item.content.sensitivity, out)),
    ("item:Body", |place, item, out| {
        let html = match place.shape.body_type.as_str() {
            "HTML" => true,
            "Text" => false,
            _ => item.content.body_is_html,
        };
        out.push_str(if html { "<t:Body BodyType=\"HTML\">" } else { "<t:Body BodyType=\"Text\">" });
        xml::escape(&item.content.body, out);
        out.push_str("</t:Body>");
    }),
    ("item:Attachments", |place, item, out| {
        if item.content.attachments.is_empty() {
            return;
        }
        out.push_str("<t:Attachments>");
        for attachment in &item.content.attachments {
            let name =
                Name::Attachment { mailbox: place.mailbox, item: item.number, number: attachment.number };
            out.push_str(&format!("<t:FileAttachment><t:AttachmentId Id=\"{}\"/>", id::encode(name)));
            xml::element("t:Name", &attachment.name, out);
            optional("t:ContentType", &attachment.content_type, out);
            optional("t:ContentId", &attachment.content_id, out);
            xml::element("t:Size", &attachment.content.len().to_string(), out);
            xml::element("t:LastModifiedTime", &item::date(item.modified), out);
            flag("t:IsInline", attachment.is_inline, out);
            out.push_str("</t:FileAttachment>");
        }
        out.push_str("</t:Attachments>");
    }),
    ("item:DateTimeReceived", |_, item, out| {
        xml::element("t:DateTimeReceived", &item::date(item.received), out);
    }),
    ("item:Size", |_, item, out| xml::element("t:Size", &item.size.to_string(), out)),
    ("item:Categories", |_, item, out| {
        if !item.content.categories.is_empty() {
            out.push_str("<t:Categories>");
            item.content.categories.iter().for_each(|category| xml::element("t:String", category, out));
            out.push_str("</t:Categories>");
        }
    }),
    ("item:Importance", |_, item, out| xml::element("t:Importance", &item.content.importance, out)),
    ("item:InReplyTo", |_, item, out| optional("t:InReplyTo", &item.content.in_reply_to, out)),
    ("item:IsSubmitted", |_, _, out| flag("t:IsSubmitted", false, out)),
    ("item:IsDraft", |_, item, out| flag("t:IsDraft", item.is_draft, out)),
    ("item:IsFromMe", |_, _, out| flag("t:IsFromMe", false, out)),
    ("item:IsResend", |_, _, out| flag("t:IsResend", false, out)),
    ("item:IsUnmodified", |_, item, out| flag("t:IsUnmodified", item.version == 1, out)),
    ("item:InternetMessageHeaders", |_, item, out| {
        let mime = item.mime();
        let text = String::from_utf8_lossy(&mime);
        let head =
            text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
        out.push_str("<t:InternetMessageHeaders>");
        for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
            out.push_str("<t:InternetMessageHeader HeaderName=\"");
            xml::escape(name.trim(), out);
            out.push_str("\">");
            xml::escape(value.trim(), out);
            out.push_str("</t:InternetMessageHeader>");
        }
        out.push_str("</t:InternetMessageHeaders>");
    }),
    ("item:DateTimeSent", |_, item, out| xml::element("t:DateTimeSent", &item::date(item.sent), out)),
    ("item:DateTimeCreated", |_, item, out| {
        xml::element("t:DateTimeCreated", &item::date(item.created), out);
    }),
    ("item:ReminderIsSet", |_, _, out| flag("t:ReminderIsSet", false, out)),
    ("item:DisplayCc", |_, item, out| xml::element("t:DisplayCc", &names(&item.content.cc), out)),
    ("item:DisplayTo", |_, item, out| xml::element("t:DisplayTo", &names(&item.content.to), out)),
    ("item:HasAttachments", |_, item, out| {
        flag("t:HasAttachments", !item.content.attachments.is_empty(), out);
    }),
    (EXTENDED, |_, _, _| {}),
    ("item:Culture", |_, _, out| xml::element("t:Culture", "en-US", out)),
    ("item:LastModifiedTime", |_, item, out| {
        xml::element("t:LastModifiedTime", &item::date(item.modified), out);
    }),
    ("item:IsAssociated", |_, _, out| flag("t:IsAssociated", false, out)),
    ("item:ConversationId", |place, item, out| {
        let seed = if item.content.references.is_empty() {
            &item.content.message_id
        } else {
            &item.content.references
        };
        let number = seed
            .bytes()
            .fold(u64::from(place.mailbox), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        out.push_str(&format!(
            "<t:ConversationId Id=\"{}\"/>",
            STANDARD.encode([number.to_be_bytes(); 3].concat())
        ));
    }),
    ("item:TextBody", |_, item, out| {
        out.push_str("<t:TextBody BodyType=\"Text\">");
        xml::escape(&item.content.body, out);
        out.push_str("</t:TextBody>");
    }),
    ("message:Sender", |_, item, out| people("t:Sender", item.content.sender.as_slice(), out)),
    ("message:ToRecipients", |_, item, out| people("t:ToRecipients", &item.content.to, out)),
    ("message:CcRecipients", |_, item, out| people("t:CcRecipients", &item.content.cc, out)),
    ("message:BccRecipients", |_, item, out| people("t:BccRecipients", &item.content.bcc, out)),
    ("message:IsReadReceiptRequested", |_, _, out| flag("t:IsReadReceiptRequested", false, out)),
    ("message:IsDeliveryReceiptRequested", |_, _, out| flag("t:IsDeliveryReceiptRequested", false, out)),
    ("message:ConversationTopic", |_, item, out| optional("t:ConversationTopic", &item.content.subject, out)),
    ("message:From", |_, item, out| people("t:From", item.content.from.as_slice(), out)),
    ("message:InternetMessageId", |_, item, out| {
        optional("t:InternetMessageId", &item.content.message_id, out);
    }),
    ("message:IsRead", |_, item, out| flag("t:IsRead", item.is_read, out)),
    ("message:IsResponseRequested", |_, _, out| flag("t:IsResponseRequested", false, out)),
    ("message:References", |_, item, out| optional("t:References", &item.content.references, out)),
    ("message:ReplyTo", |_, item, out| people("t:ReplyTo", &item.content.reply_to, out)),
];

fn names(people: &[item::Person]) -> String {
    people.iter().map(|person| person.name.as_str()).collect::<Vec<_>>().join("; ")
}
