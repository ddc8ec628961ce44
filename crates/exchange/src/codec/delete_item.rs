//! `DeleteItem`: items are deleted; an item that is gone already is no failure for the caller to fear.

use super::{Element, ItemId, Malformed, Operation, Reader, Writer};

/// How far away it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// To the bin.
    MoveToDeletedItems,
    /// Where it can be recovered for a while.
    SoftDelete,
    /// For good.
    HardDelete,
}

/// The request.
#[derive(Clone, Debug)]
pub struct DeleteItem<'a> {
    /// The items.
    pub ids: &'a [ItemId],
    /// How far away they go.
    pub deletion: Deletion,
}

impl Operation for DeleteItem<'_> {
    const NAME: &'static str = "DeleteItem";
    const EFFECT: bool = true;
    type Part = ();

    fn write(&self, writer: &mut Writer<'_>) {
        let deletion = match self.deletion {
            Deletion::MoveToDeletedItems => "MoveToDeletedItems",
            Deletion::SoftDelete => "SoftDelete",
            Deletion::HardDelete => "HardDelete",
        };
        let attributes = [
            ("DeleteType", deletion),
            ("SendMeetingCancellations", "SendToNone"),
            ("AffectedTaskOccurrences", "AllOccurrences"),
            ("SuppressReadReceipts", "true"),
        ];
        writer.element("m:DeleteItem", &attributes, |writer| ItemId::write_all(self.ids, writer));
    }

    fn read(_: &mut Reader<'_>, _: &Element<'_>, (): &mut ()) -> Result<(), Malformed> {
        Ok(())
    }
}
