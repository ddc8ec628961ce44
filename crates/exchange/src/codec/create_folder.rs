//! `CreateFolder`: one folder for mail.

use super::{Element, Folder, FolderInfo, Malformed, Operation, Reader, Writer, get_folder};

/// The request.
#[derive(Clone, Debug)]
pub struct CreateFolder<'a> {
    /// Where to make it.
    pub parent: &'a Folder,
    /// Its name.
    pub name: &'a str,
}

impl Operation for CreateFolder<'_> {
    const NAME: &'static str = "CreateFolder";
    const EFFECT: bool = true;
    type Part = Vec<FolderInfo>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:CreateFolder", |writer| {
            self.parent.write_in(writer, "m:ParentFolderId");
            writer.nest("m:Folders", |writer| {
                writer.nest("t:Folder", |writer| {
                    writer.text("t:FolderClass", "IPF.Note");
                    writer.text("t:DisplayName", self.name);
                });
            });
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "Folders" { get_folder::read_all(reader, part) } else { Ok(()) }
    }
}
