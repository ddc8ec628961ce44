//! `FindFolder`: the folders of a name beneath another.

use super::{Element, Folder, FolderInfo, Malformed, Operation, Reader, Writer, get_folder};

/// The request.
#[derive(Clone, Debug)]
pub struct FindFolder<'a> {
    /// Where to look; folders further below are not searched.
    pub parent: &'a Folder,
    /// The name, which must be equal.
    pub name: &'a str,
}

impl Operation for FindFolder<'_> {
    const NAME: &'static str = "FindFolder";
    const EFFECT: bool = false;
    type Part = Vec<FolderInfo>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.element("m:FindFolder", &[("Traversal", "Shallow")], |writer| {
            writer.nest("m:FolderShape", |writer| {
                writer.text("t:BaseShape", "IdOnly");
                writer.nest("t:AdditionalProperties", |writer| {
                    writer.empty("t:FieldURI", &[("FieldURI", "folder:DisplayName")]);
                });
            });
            writer.empty(
                "m:IndexedPageFolderView",
                &[("MaxEntriesReturned", "10"), ("Offset", "0"), ("BasePoint", "Beginning")],
            );
            writer.nest("m:Restriction", |writer| {
                writer.nest("t:IsEqualTo", |writer| {
                    writer.empty("t:FieldURI", &[("FieldURI", "folder:DisplayName")]);
                    writer.nest("t:FieldURIOrConstant", |writer| {
                        writer.empty("t:Constant", &[("Value", self.name)]);
                    });
                });
            });
            self.parent.write_in(writer, "m:ParentFolderIds");
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() != "RootFolder" {
            return Ok(());
        }
        reader.children(
            |reader, element| {
                if element.name() == "Folders" { get_folder::read_all(reader, part) } else { Ok(()) }
            },
        )
    }
}
