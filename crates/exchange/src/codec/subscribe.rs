//! `Subscribe`: the server keeps what happens in a folder for whoever comes to read it over a connection that stays open.

use super::{Element, Folder, Malformed, Operation, Reader, Writer};

/// The request: to be told of new mail.
#[derive(Clone, Debug)]
pub struct Subscribe<'a> {
    /// Where mail arrives.
    pub folder: &'a Folder,
}

impl Operation for Subscribe<'_> {
    const NAME: &'static str = "Subscribe";
    /// Nothing in the mailbox changes; a subscription that nobody reads ends by itself.
    const EFFECT: bool = false;
    /// The name of the subscription.
    type Part = Option<Box<str>>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:Subscribe", |writer| {
            writer.nest("m:StreamingSubscriptionRequest", |writer| {
                self.folder.write_in(writer, "t:FolderIds");
                writer.nest("t:EventTypes", |writer| writer.text("t:EventType", "NewMailEvent"));
            });
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "SubscriptionId" {
            let id = reader.text()?;
            *part = Some(id.trim()).filter(|id| !id.is_empty()).map(Into::into);
        }
        Ok(())
    }
}
