//! `GetItem`: properties and contents of items, many at once.

use super::{Element, ItemId, ItemInfo, Malformed, Mime, Operation, Properties, Reader, Writer, item};

/// The request.
#[derive(Clone, Debug)]
pub struct GetItem<'a> {
    /// The items.
    pub ids: &'a [ItemId],
    /// What to tell of each.
    pub properties: Properties,
    /// Ask for the whole message in MIME as well.
    pub content: bool,
}

/// An item with its content, if that was asked for and exists.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The item.
    pub item: Option<ItemInfo>,
    /// Its content.
    pub content: Option<Mime>,
}

impl Operation for GetItem<'_> {
    const NAME: &'static str = "GetItem";
    const EFFECT: bool = false;
    const CONTENT: bool = true;
    type Part = Fetched;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:GetItem", |writer| {
            self.properties.write_shape(writer, self.content);
            ItemId::write_all(self.ids, writer);
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Fetched) -> Result<(), Malformed> {
        if element.name() != "Items" {
            return Ok(());
        }
        item::read_all(reader, |info, content| {
            part.item = Some(info);
            part.content = content;
        })
    }
}
