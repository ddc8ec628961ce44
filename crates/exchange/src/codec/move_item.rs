//! `MoveItem`: an item goes to another folder and gets another id.

use super::{Element, Folder, ItemId, Malformed, Operation, Reader, Writer, item};

/// The request.
#[derive(Clone, Debug)]
pub struct MoveItem<'a> {
    /// The item.
    pub id: &'a ItemId,
    /// Where it goes.
    pub to: &'a Folder,
}

impl Operation for MoveItem<'_> {
    const NAME: &'static str = "MoveItem";
    const EFFECT: bool = true;
    /// The new id; the server keeps it to itself for moves out of the mailbox.
    type Part = Option<ItemId>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:MoveItem", |writer| {
            self.to.write_in(writer, "m:ToFolderId");
            ItemId::write_all(std::slice::from_ref(self.id), writer);
            writer.text("m:ReturnNewItemIds", "true");
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "Items" {
            item::read_all(reader, |info, _| *part = Some(info.id))?;
        }
        Ok(())
    }
}
