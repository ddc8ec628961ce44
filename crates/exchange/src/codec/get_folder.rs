//! `GetFolder`: one folder; the cheapest proof that a mailbox can be reached.

use super::{Element, Folder, FolderId, Malformed, Operation, Reader, Writer};

/// The request.
#[derive(Clone, Debug)]
pub struct GetFolder<'a> {
    /// The folder that is asked for.
    pub folder: &'a Folder,
}

/// A folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderInfo {
    /// Its id.
    pub id: Option<FolderId>,
    /// Its name.
    pub name: Option<Box<str>>,
    /// How many items it holds.
    pub total_count: Option<u32>,
}

impl Operation for GetFolder<'_> {
    const NAME: &'static str = "GetFolder";
    const EFFECT: bool = false;
    type Part = Vec<FolderInfo>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:GetFolder", |writer| {
            writer.nest("m:FolderShape", |writer| writer.text("t:BaseShape", "IdOnly"));
            self.folder.write_in(writer, "m:FolderIds");
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "Folders" { read_all(reader, part) } else { Ok(()) }
    }
}

/// Reads the elements inside `Folders`.
pub(super) fn read_all(reader: &mut Reader<'_>, folders: &mut Vec<FolderInfo>) -> Result<(), Malformed> {
    reader.children(|reader, _| {
        let mut folder = FolderInfo::default();
        reader.children(|reader, element| {
            match element.name() {
                "FolderId" => folder.id = FolderId::read(element)?,
                "DisplayName" => folder.name = Some(reader.boxed_text()?),
                "TotalCount" => folder.total_count = reader.text()?.trim().parse().ok(),
                _ => {}
            }
            Ok(())
        })?;
        folders.push(folder);
        Ok(())
    })
}
