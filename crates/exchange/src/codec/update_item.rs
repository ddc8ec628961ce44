//! `UpdateItem`: one property of a message is set.

use super::{Element, ItemId, Malformed, Operation, Reader, Writer, item};

/// What to set.
#[derive(Clone, Copy, Debug)]
pub enum Update<'a> {
    /// Mark it as read or unread, without sending receipts.
    Read(bool),
    /// Give it another subject.
    Subject(&'a str),
}

/// The request. A change key in the id makes it fail if the item was changed meanwhile.
#[derive(Clone, Debug)]
pub struct UpdateItem<'a> {
    /// The item.
    pub id: &'a ItemId,
    /// What to set.
    pub update: Update<'a>,
}

impl Operation for UpdateItem<'_> {
    const NAME: &'static str = "UpdateItem";
    const EFFECT: bool = true;
    type Part = Option<ItemId>;

    fn write(&self, writer: &mut Writer<'_>) {
        let resolution = if self.id.change_key.is_some() { "NeverOverwrite" } else { "AlwaysOverwrite" };
        let attributes = [
            ("ConflictResolution", resolution),
            ("MessageDisposition", "SaveOnly"),
            ("SendMeetingInvitationsOrCancellations", "SendToNone"),
            ("SuppressReadReceipts", "true"),
        ];
        writer.element("m:UpdateItem", &attributes, |writer| {
            writer.nest("m:ItemChanges", |writer| {
                writer.nest("t:ItemChange", |writer| {
                    self.id.write(writer, "t:ItemId");
                    writer.nest("t:Updates", |writer| {
                        writer.nest("t:SetItemField", |writer| self.update.write(writer));
                    });
                });
            });
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "Items" {
            item::read_all(reader, |info, _| *part = Some(info.id))?;
        }
        Ok(())
    }
}

impl Update<'_> {
    fn write(self, writer: &mut Writer<'_>) {
        let (uri, name, value) = match self {
            Self::Read(true) => ("message:IsRead", "t:IsRead", "true"),
            Self::Read(false) => ("message:IsRead", "t:IsRead", "false"),
            Self::Subject(subject) => ("item:Subject", "t:Subject", subject),
        };
        writer.empty("t:FieldURI", &[("FieldURI", uri)]);
        writer.nest("t:Message", |writer| writer.text(name, value));
    }
}
