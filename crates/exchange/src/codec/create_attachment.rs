//! `CreateAttachment`: a file that is added to a draft.

use super::{Element, ItemId, Malformed, Operation, Reader, Writer};

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its media type, such as `text/plain`.
    pub content_type: &'a str,
    /// `Content-ID` without angle brackets, if the text refers to it.
    pub content_id: Option<&'a str>,
    /// It is shown inside the text.
    pub inline: bool,
    /// What it holds.
    pub content: &'a [u8],
}

/// The request.
#[derive(Clone, Debug)]
pub struct CreateAttachment<'a> {
    /// The draft.
    pub parent: &'a ItemId,
    /// The file.
    pub attachment: Attachment<'a>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The id of the attachment.
    pub id: Box<str>,
    /// The draft with its new change key.
    pub parent: Option<ItemId>,
}

impl Operation for CreateAttachment<'_> {
    const NAME: &'static str = "CreateAttachment";
    const EFFECT: bool = true;
    type Part = Attached;

    fn write(&self, writer: &mut Writer<'_>) {
        let Attachment { name, content_type, content_id, inline, content } = self.attachment;
        writer.nest("m:CreateAttachment", |writer| {
            self.parent.write(writer, "m:ParentItemId");
            writer.nest("m:Attachments", |writer| {
                writer.nest("t:FileAttachment", |writer| {
                    writer.text("t:Name", name);
                    writer.text("t:ContentType", content_type);
                    writer.optional_text("t:ContentId", content_id);
                    writer.text("t:IsInline", if inline { "true" } else { "false" });
                    writer.base64("t:Content", content);
                });
            });
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Attached) -> Result<(), Malformed> {
        if element.name() != "Attachments" {
            return Ok(());
        }
        reader.children(|reader, _| {
            reader.children(|_, element| {
                if element.name() == "AttachmentId" {
                    part.id = element.attribute("Id")?.unwrap_or_default();
                    let change_key = element.attribute("RootItemChangeKey")?;
                    part.parent = element.attribute("RootItemId")?.map(|id| ItemId { id, change_key });
                }
                Ok(())
            })
        })
    }
}
