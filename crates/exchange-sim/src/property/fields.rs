//! How answers write the properties of items, in the order of the schema.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Shape;
use crate::{
    id::{self, Name},
    item::{self, Item},
    xml,
};

/// Adds `<t:ItemId>`.
pub(crate) fn write_item_id(mailbox: u32, item: &Item, out: &mut String) {
    let id = id::encode(Name::Item { mailbox, number: item.number });
    out.push_str(&format!("<t:ItemId Id=\"{id}\" ChangeKey=\"{}\"/>", id::change_key(item.version)));
}

/// Where an item is written.
pub(super) struct Place<'a> {
    pub mailbox: u32,
    pub shape: &'a Shape,
}

pub(super) type Writer = fn(&Place<'_>, &Item, &mut String);

/// Where the extended properties stand among the others.
pub(super) const EXTENDED: &str = "";
/// What only `GetItem` tells.
pub(super) const NOT_IN_LISTS: &[&str] = &[
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
pub(super) const FIELDS: &[(&str, Writer)] = &[
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
