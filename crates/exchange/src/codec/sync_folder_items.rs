//! `SyncFolderItems`: what changed in a folder since a state that the server gave.

use base64::{Engine as _, decoded_len_estimate, engine::general_purpose::STANDARD};
use mailyard_policy::Timestamp;

use super::{
    Element, Folder, ItemId, ItemKind, Malformed, Operation, Properties, Property, Reader, Writer, date, item,
};

/// More changes in one answer are a violation of the schema.
const MOST_CHANGES: u16 = 512;
/// First byte of a cursor: the state as it was written by the server follows.
const AS_IS: u8 = 0;
/// First byte of a cursor: the bytes follow whose base64 is the state.
const DECODED: u8 = 1;

/// What is told of an item that is new or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its id.
    IdOnly,
    /// Its id, when it was received and how large it is.
    Known,
}

/// The request.
#[derive(Clone, Debug)]
pub struct SyncFolderItems<'a> {
    /// The folder.
    pub folder: &'a Folder,
    /// The cursor of the last page; `None` begins at the beginning.
    pub cursor: Option<&'a [u8]>,
    /// How many changes to return at most, 1 to 512.
    pub max: u16,
    /// What to tell of an item.
    pub shape: Shape,
}

/// A page of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncPage {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// Where the next page begins: opaque, to be stored together with what this page brought.
    pub cursor: Box<[u8]>,
    /// There are no more changes now.
    pub last: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The item is new in the folder, or the server tells of it again.
    Create(Entry),
    /// The item was changed.
    Update(Entry),
    /// The item is gone from the folder.
    Delete(ItemId),
    /// The item was marked as read or unread.
    ReadFlag(ItemId, bool),
}

/// An item in a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: ItemId,
    /// Its kind.
    pub kind: ItemKind,
    /// When it was received, if asked for and known.
    pub received: Option<Timestamp>,
    /// Bytes, as the server counts them, if asked for and known.
    pub size: Option<u64>,
}

impl Operation for SyncFolderItems<'_> {
    const NAME: &'static str = "SyncFolderItems";
    const EFFECT: bool = false;
    type Part = SyncPage;

    fn write(&self, writer: &mut Writer<'_>) {
        let properties = match self.shape {
            Shape::IdOnly => Properties::NONE,
            Shape::Known => Properties::of(&[Property::Size, Property::Received]),
        };
        writer.raw("<m:SyncFolderItems>");
        properties.write_shape(writer, false);
        self.folder.write_in(writer, "m:SyncFolderId");
        if let Some(cursor) = self.cursor {
            write_state(writer, cursor);
        }
        writer.text("m:MaxChangesReturned", &self.max.clamp(1, MOST_CHANGES).to_string());
        writer.raw("<m:SyncScope>NormalItems</m:SyncScope></m:SyncFolderItems>");
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, page: &mut SyncPage) -> Result<(), Malformed> {
        match element.name() {
            "SyncState" => page.cursor = cursor_of(&reader.text()?),
            "IncludesLastItemInRange" => page.last = item::read_bool(&reader.text()?).unwrap_or(false),
            "Changes" => reader.children(|reader, element| {
                page.changes.extend(read_change(reader, element)?);
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    }
}

/// Kept as bytes where the server's base64 is the one way to write them: a quarter less to hold in memory. No other
/// way can be decoded.
fn cursor_of(state: &str) -> Box<[u8]> {
    let state = state.trim();
    let mut cursor = Vec::with_capacity(1 + decoded_len_estimate(state.len()));
    cursor.push(DECODED);
    if STANDARD.decode_vec(state, &mut cursor).is_err() {
        cursor.clear();
        cursor.push(AS_IS);
        cursor.extend_from_slice(state.as_bytes());
    }
    cursor.into_boxed_slice()
}

fn write_state(writer: &mut Writer<'_>, cursor: &[u8]) {
    writer.nest("m:SyncState", |writer| match cursor {
        [DECODED, bytes @ ..] => writer.base64_content(bytes),
        [_, text @ ..] => writer.content(&String::from_utf8_lossy(text)),
        [] => {}
    });
}

fn read_change(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<Option<Change>, Malformed> {
    match element.name() {
        "Create" => Ok(read_entry(reader)?.map(Change::Create)),
        "Update" => Ok(read_entry(reader)?.map(Change::Update)),
        "Delete" => Ok(read_flag(reader)?.map(|(id, _)| Change::Delete(id))),
        "ReadFlagChange" => Ok(read_flag(reader)?.map(|(id, is_read)| Change::ReadFlag(id, is_read))),
        _ => Ok(None),
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Option<Entry>, Malformed> {
    let mut entry = None;
    reader.children(|reader, element| {
        let kind = ItemKind::of(element.name()).unwrap_or(ItemKind::Other);
        let (mut id, mut received, mut size) = (None, None, None);
        reader.children(|reader, element| {
            match element.name() {
                "ItemId" => id = ItemId::read(element)?,
                "Size" => size = reader.text()?.trim().parse().ok(),
                "DateTimeReceived" => received = date::read(&reader.text()?),
                _ => {}
            }
            Ok(())
        })?;
        entry = id.map(|id| Entry { id, kind, received, size });
        Ok(())
    })?;
    Ok(entry)
}

fn read_flag(reader: &mut Reader<'_>) -> Result<Option<(ItemId, bool)>, Malformed> {
    let (mut id, mut is_read) = (None, false);
    reader.children(|reader, element| {
        match element.name() {
            "ItemId" => id = ItemId::read(element)?,
            "IsRead" => is_read = item::read_bool(&reader.text()?).unwrap_or(false),
            _ => {}
        }
        Ok(())
    })?;
    Ok(id.map(|id| (id, is_read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_byte_for_byte() {
        for (state, length) in [
            ("H4sIAAAA", 7),
            ("SGVsbG8=", 6),
            ("SGVsbG8", 8),
            ("SGVsbG9=", 9),
            ("not base64 & <odd>", 19),
            ("", 1),
        ] {
            let cursor = cursor_of(state);
            assert_eq!(cursor.len(), length, "{state}");
            let mut out = Vec::new();
            write_state(&mut Writer::new(&mut out), &cursor);
            let document = String::from_utf8(out).expect("UTF-8").replace("m:", "");
            let mut reader = Reader::new(&document, Vec::new());
            reader.root().expect("a root");
            assert_eq!(reader.text().expect("a text"), state);
        }
    }
}
