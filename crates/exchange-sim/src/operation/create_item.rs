//! `CreateItem`: drafts, and messages that are sent at once.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Call, call::unless_denied};
use crate::{
    answer::Refusal,
    item::{Content, Person, read_mime},
    mailbox::{DRAFTS, SENT_ITEMS},
    operation::{attachments, send},
    property::{self, Path, stored_form},
    xml::{self, Element},
};

/// What becomes of a new message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Save,
    Send,
    SendAndSave,
}

pub(super) fn run(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let disposition = match request.attribute("MessageDisposition") {
        Some("SaveOnly") => Disposition::Save,
        Some("SendOnly") => Disposition::Send,
        Some("SendAndSaveCopy") => Disposition::SendAndSave,
        _ => {
            let text = "Message disposition is required for operations on messages.";
            return Err(Refusal::new("ErrorMessageDispositionRequired", text));
        }
    };
    let folder = {
        let contents = call.contents();
        call.folder_in(request, "SavedItemFolderId", &contents)
    };
    let items = request.child("Items").map_or(&[][..], |items| &items.children);
    call.respond(items, "<m:Items/>", out, |call, element, out| {
        let default = if disposition == Disposition::Save { DRAFTS } else { SENT_ITEMS };
        let not_found =
            Refusal::new("ErrorSavedItemFolderNotFound", "The folder to save in could not be found.");
        let folder = folder.clone().map_err(|refusal| unless_denied(refusal, not_found))?.unwrap_or(default);
        if element.name != "Message" {
            return Err(Refusal::new(
                "ErrorInvalidItemForOperationCreateItem",
                "Only messages can be created here.",
            ));
        }
        let new = read(call, element)?;
        out.push_str("<m:Items>");
        if disposition == Disposition::Save {
            save(call, folder, new, out);
        } else {
            let copy = (disposition == Disposition::SendAndSave).then_some(folder);
            send_at_once(call, copy, new)?;
        }
        out.push_str("</m:Items>");
        Ok(())
    });
    Ok(())
}

struct New {
    content: Content,
    extended: Vec<(String, Vec<String>)>,
    is_read: bool,
    flags: Option<u32>,
}

fn save(call: &Call<'_>, folder: u32, new: New, out: &mut String) {
    let (now, key) = (call.world.now(), call.world.search_key());
    let mut contents = call.contents();
    let item = contents.add(folder, Arc::new(new.content), now, key);
    item.extended = new.extended;
    // Flag 8 is "not sent"; an import says 0 or 1.
    item.is_draft = new.flags.is_none_or(|flags| flags & 8 != 0);
    item.is_read = new.is_read || item.is_draft || new.flags.is_some_and(|flags| flags & 1 != 0);
    out.push_str("<t:Message>");
    property::write_item_id(call.mailbox.number, item, out);
    out.push_str("</t:Message>");
}

fn send_at_once(call: &Call<'_>, copy: Option<u32>, new: New) -> Result<(), Refusal> {
    send::check_recipients(&new.content)?;
    let content = call.sent_as(&Arc::new(new.content))?;
    let (now, key) = (call.world.now(), call.world.search_key());
    // The copy is the item whose send key the truth is told by.
    let mut contents = call.contents();
    let item = contents.add(copy.unwrap_or(SENT_ITEMS), content, now, key);
    item.extended = new.extended;
    item.is_read = true;
    let (number, content, send_key) = (item.number, item.content.clone(), property::send_key(item));
    if copy.is_none() {
        contents.remove(number, now);
    }
    drop(contents);
    call.world.submit(call.mailbox, &content, send_key);
    Ok(())
}

/// Only the server sets these.
const READ_ONLY: &[&str] = &[
    "ItemId",
    "ParentFolderId",
    "DateTimeReceived",
    "Size",
    "IsSubmitted",
    "IsDraft",
    "IsFromMe",
    "IsResend",
    "IsUnmodified",
    "InternetMessageHeaders",
    "DateTimeSent",
    "DateTimeCreated",
    "DisplayCc",
    "DisplayTo",
    "HasAttachments",
    "LastModifiedName",
    "LastModifiedTime",
    "ConversationId",
    "ConversationTopic",
];

/// Refuses what only the server sets.
pub(super) fn check_settable(element: &Element) -> Result<(), Refusal> {
    if element.children.iter().any(|child| READ_ONLY.contains(&child.name.as_str())) {
        let text = "Set action is invalid for property.";
        return Err(Refusal::new("ErrorInvalidPropertySet", text));
    }
    Ok(())
}

fn read(call: &Call<'_>, element: &Element) -> Result<New, Refusal> {
    check_settable(element)?;
    let mut content = match element.text_of("MimeContent") {
        Some(encoded) => {
            let packed: String = encoded.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| {
                Refusal::new("ErrorMimeContentInvalidBase64String", "The MIME content is not valid base64.")
            })?;
            read_mime(&bytes)
        }
        None => Content {
            class: "IPM.Note".to_owned(),
            importance: "Normal".to_owned(),
            sensitivity: "Normal".to_owned(),
            ..Content::default()
        },
    };
    for child in &element.children {
        set(&mut content, child);
    }
    for (number, file) in
        element.child("Attachments").map_or(&[][..], |files| &files.children).iter().enumerate()
    {
        content.attachments.push(attachments::read(file, number as u32 + 1)?);
    }
    let own = Person::new(&call.mailbox.address);
    content.sender.get_or_insert_with(|| own.clone());
    content.from.get_or_insert(own);
    if content.message_id.is_empty() {
        content.message_id = call.world.message_id();
    }
    let extended = read_extended(element, &mut content);
    let flags = extended
        .iter()
        .find(|(name, _)| name == "tag:3591")
        .and_then(|(_, values)| values.first()?.parse().ok());
    let is_read = xml::is_true(element.text_of("IsRead"));
    Ok(New { content, extended, is_read, flags })
}

/// Sets a property of a message from its element. Unknown ones are left alone: the schema has let them pass.
pub(super) fn set(content: &mut Content, element: &Element) {
    let text = || element.text.clone();
    match element.name.as_str() {
        "ItemClass" => content.class = text(),
        "Subject" => content.subject = text(),
        "Sensitivity" => content.sensitivity = text(),
        "Importance" => content.importance = text(),
        "InReplyTo" => content.in_reply_to = text(),
        "InternetMessageId" => content.message_id = text(),
        "References" => content.references = text(),
        "Body" => {
            content.body = text();
            content.body_is_html = element.attribute("BodyType") == Some("HTML");
            content.mime = None;
        }
        "Categories" => {
            content.categories = element.children.iter().map(|child| child.text.clone()).collect();
        }
        "ToRecipients" => content.to = people(element),
        "CcRecipients" => content.cc = people(element),
        "BccRecipients" => content.bcc = people(element),
        "ReplyTo" => content.reply_to = people(element),
        "From" => content.from = people(element).into_iter().next(),
        "Sender" => content.sender = people(element).into_iter().next(),
        _ => {}
    }
}

fn people(element: &Element) -> Vec<Person> {
    let one = |mailbox: &Element| {
        let address = mailbox.text_of("EmailAddress").unwrap_or_default();
        match mailbox.text_of("Name").filter(|name| !name.is_empty()) {
            Some(name) => Person { name: name.to_owned(), address: address.to_owned() },
            None => Person::new(address),
        }
    };
    element.children.iter().map(one).collect()
}

/// Extended properties of a new item; internet headers become headers.
pub(super) fn read_extended(element: &Element, content: &mut Content) -> Vec<(String, Vec<String>)> {
    let mut extended = Vec::new();
    for property in element.children.iter().filter(|child| child.name == "ExtendedProperty") {
        let Some(Path::Extended { name, kind, .. }) = Path::inside(property) else { continue };
        let values: Vec<String> = match property.child("Values") {
            Some(values) => values.children.iter().map(|value| stored_form(&kind, &value.text)).collect(),
            None => property.text_of("Value").map(|value| stored_form(&kind, value)).into_iter().collect(),
        };
        if name.starts_with("known:internetheaders:") {
            let uri = property.child("ExtendedFieldURI").and_then(|uri| uri.attribute("PropertyName"));
            let value = values.into_iter().next().unwrap_or_default();
            content.headers.push((uri.unwrap_or_default().to_owned(), value));
        } else {
            extended.push((name, values));
        }
    }
    extended
}
