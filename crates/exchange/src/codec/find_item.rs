//! `FindItem`: the items of a folder that carry a certain value, the newest first.

use base64::Engine as _;

use super::{Element, Folder, ItemInfo, Malformed, Operation, Properties, Property, Reader, Writer, item};

/// What an item must carry.
#[derive(Clone, Copy, Debug)]
pub enum Criterion<'a> {
    /// The mark of the operation that made it.
    OperationId(&'a str),
    /// The key that survives moves and copies.
    SearchKey(&'a [u8]),
    /// `Message-ID`, with its angle brackets.
    MessageId(&'a str),
}

/// The request.
#[derive(Clone, Debug)]
pub struct FindItem<'a> {
    /// Where to look; folders further below are not searched.
    pub folder: &'a Folder,
    /// What to look for.
    pub criterion: Criterion<'a>,
    /// What to tell of each.
    pub properties: Properties,
    /// How many to return at most.
    pub max: u16,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The items, the newest first.
    pub items: Vec<ItemInfo>,
    /// There are no more.
    pub last: bool,
}

impl Operation for FindItem<'_> {
    const NAME: &'static str = "FindItem";
    const EFFECT: bool = false;
    type Part = Found;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.element("m:FindItem", &[("Traversal", "Shallow")], |writer| {
            self.properties.write_shape(writer, false);
            writer.empty(
                "m:IndexedPageItemView",
                &[
                    ("MaxEntriesReturned", &self.max.max(1).to_string()),
                    ("Offset", "0"),
                    ("BasePoint", "Beginning"),
                ],
            );
            writer.nest("m:Restriction", |writer| {
                writer.nest("t:IsEqualTo", |writer| {
                    self.criterion.property().write(writer);
                    writer.nest("t:FieldURIOrConstant", |writer| {
                        writer.empty("t:Constant", &[("Value", &self.criterion.value())]);
                    });
                });
            });
            writer.nest("m:SortOrder", |writer| {
                writer.element("t:FieldOrder", &[("Order", "Descending")], |writer| {
                    Property::Created.write(writer);
                });
            });
            self.folder.write_in(writer, "m:ParentFolderIds");
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, found: &mut Found) -> Result<(), Malformed> {
        if element.name() != "RootFolder" {
            return Ok(());
        }
        let last = element.attribute("IncludesLastItemInRange")?;
        found.last = last.and_then(|text| item::read_bool(&text)).unwrap_or(true);
        reader.children(|reader, element| {
            if element.name() == "Items" {
                item::read_all(reader, |info, _| found.items.push(info))?;
            }
            Ok(())
        })
    }
}

impl Criterion<'_> {
    fn property(&self) -> Property {
        match self {
            Self::OperationId(_) => Property::OperationId,
            Self::SearchKey(_) => Property::SearchKey,
            Self::MessageId(_) => Property::MessageId,
        }
    }

    fn value(&self) -> String {
        match self {
            Self::OperationId(text) | Self::MessageId(text) => (*text).to_owned(),
            Self::SearchKey(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        }
    }
}
