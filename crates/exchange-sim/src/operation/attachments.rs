//! `CreateAttachment` and `GetAttachment`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Call, ITEM_NOT_FOUND};
use crate::{
    answer::Refusal,
    id::{self, Name},
    item::{Attachment, Content, Item},
    xml::{self, Element},
};

pub(super) fn create(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let files = request.child("Attachments").map_or(&[][..], |files| &files.children);
    call.respond(files, "<m:Attachments/>", out, |call, file, out| {
        if file.name != "FileAttachment" {
            return Err(Refusal::new("ErrorCannotOpenFileAttachment", "Only files can be attached here."));
        }
        let now = call.world.now();
        let mut contents = call.contents();
        let parent = request.child("ParentItemId").ok_or(super::ID_MALFORMED)?;
        let (number, _) = call.item(parent, &contents)?;
        let item = contents.items.get_mut(&number).ok_or(ITEM_NOT_FOUND)?;
        let attachment = read(file, item.content.attachments.len() as u32 + 1)?;
        let attached = attachment.number;
        let mut content = Content::clone(&item.content);
        content.attachments.push(attachment);
        item.size = Item::size_of(&content);
        item.content = Arc::new(content);
        contents.saved(number, now, false);
        let version = contents.items.get(&number).map_or(1, |item| item.version);
        let mailbox = call.mailbox.number;
        out.push_str(&format!(
            "<m:Attachments><t:FileAttachment><t:AttachmentId Id=\"{}\" RootItemId=\"{}\" RootItemChangeKey=\"{}\"/>\
             </t:FileAttachment></m:Attachments>",
            id::encode(Name::Attachment { mailbox, item: number, number: attached }),
            id::encode(Name::Item { mailbox, number }),
            id::change_key(version)
        ));
        Ok(())
    });
    Ok(())
}

/// Reads an attachment from its element.
pub(super) fn read(file: &Element, number: u32) -> Result<Attachment, Refusal> {
    let text = |name: &str| file.text_of(name).unwrap_or_default().to_owned();
    let packed: String = text("Content").split_ascii_whitespace().collect();
    let content = STANDARD.decode(packed).map_err(|_| {
        Refusal::new("ErrorInvalidAttachmentId", "The content of the attachment is not valid base64.")
    })?;
    let content_type =
        file.text_of("ContentType").filter(|kind| !kind.is_empty()).unwrap_or("application/octet-stream");
    Ok(Attachment {
        number,
        name: text("Name"),
        content_type: content_type.to_owned(),
        content_id: text("ContentId"),
        is_inline: xml::is_true(file.text_of("IsInline")),
        content: content.into(),
    })
}

pub(super) fn get(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let ids = request.child("AttachmentIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "<m:Attachments/>", out, |call, wanted, out| {
        let invalid = Refusal::new("ErrorInvalidAttachmentId", "The attachment could not be found.");
        let name = id::decode(wanted.attribute("Id").unwrap_or_default());
        let Some(Name::Attachment { mailbox, item, number }) = name else { return Err(invalid) };
        if mailbox != call.mailbox.number {
            return Err(invalid);
        }
        let contents = call.contents();
        let item = contents.items.get(&item).ok_or(ITEM_NOT_FOUND)?;
        let attachment =
            item.content.attachments.iter().find(|attachment| attachment.number == number).ok_or(invalid)?;
        let id = wanted.attribute("Id").unwrap_or_default();
        out.push_str(&format!("<m:Attachments><t:FileAttachment><t:AttachmentId Id=\"{id}\"/>"));
        xml::element("t:Name", &attachment.name, out);
        xml::element("t:ContentType", &attachment.content_type, out);
        if !attachment.content_id.is_empty() {
            xml::element("t:ContentId", &attachment.content_id, out);
        }
        xml::element("t:Size", &attachment.content.len().to_string(), out);
        out.push_str(if attachment.is_inline {
            "<t:IsInline>true</t:IsInline>"
        } else {
            "<t:IsInline>false</t:IsInline>"
        });
        out.push_str("<t:Content>");
        STANDARD.encode_string(&attachment.content, out);
        out.push_str("</t:Content></t:FileAttachment></m:Attachments>");
        Ok(())
    });
    Ok(())
}
