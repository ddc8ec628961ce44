//! `SendItem`: a draft is submitted.

use super::{Element, Folder, ItemId, Malformed, Operation, Reader, Writer};

/// The request.
#[derive(Clone, Debug)]
pub struct SendItem<'a> {
    /// The draft with its present change key.
    pub id: &'a ItemId,
    /// Where the sent copy is kept.
    pub copy_to: &'a Folder,
}

impl Operation for SendItem<'_> {
    const NAME: &'static str = "SendItem";
    const EFFECT: bool = true;
    type Part = ();

    fn write(&self, writer: &mut Writer<'_>) {
        writer.element("m:SendItem", &[("SaveItemToFolder", "true")], |writer| {
            ItemId::write_all(std::slice::from_ref(self.id), writer);
            self.copy_to.write_in(writer, "m:SavedItemFolderId");
        });
    }

    fn read(_: &mut Reader<'_>, _: &Element<'_>, (): &mut ()) -> Result<(), Malformed> {
        Ok(())
    }
}
