//! The protocol without IO: each operation writes its request into a buffer and reads its answer out of one.
//!
//! Element orders and values follow the Exchange Web Services schemas (`messages.xsd`, `types.xsd`, 2013 SP1).

mod create_attachment;
mod create_folder;
mod create_item;
mod cutter;
mod date;
mod delete_item;
mod envelope;
mod find_folder;
mod find_item;
mod get_folder;
mod get_item;
mod get_streaming_events;
mod id;
mod item;
mod mime;
mod move_item;
mod property;
mod reader;
mod send_item;
mod subscribe;
mod sync_folder_items;
mod text;
mod unsubscribe;
mod update_item;
mod writer;

pub use create_attachment::{Attached, Attachment, CreateAttachment};
pub use create_folder::CreateFolder;
pub use create_item::{Address, Body, Content, CreateItem, Draft, Importance};
pub use cutter::Cutter;
pub use delete_item::{DeleteItem, Deletion};
pub use envelope::{Acting, Answer, Refusal, ServerVersion, read, write};
pub use find_folder::FindFolder;
pub use find_item::{Criterion, FindItem, Found};
pub use get_folder::{FolderInfo, GetFolder};
pub use get_item::{Fetched, GetItem};
pub use get_streaming_events::{GetStreamingEvents, Heard, LONGEST_CONNECTION, MOST_SUBSCRIPTIONS};
pub use id::{Folder, FolderId, ItemId, WellKnown};
pub use item::{ItemInfo, ItemKind};
pub use mime::{Limits, Mime, Sieve};
pub use move_item::MoveItem;
pub use property::{OPERATION_HEADER, Properties, Property};
pub use reader::{Element, Reader};
pub use send_item::SendItem;
pub use subscribe::Subscribe;
pub use sync_folder_items::{Change, Entry, Shape, SyncFolderItems, SyncPage};
pub use text::admit as text;
pub use unsubscribe::Unsubscribe;
pub use update_item::{Update, UpdateItem};
pub use writer::Writer;

/// An operation of Exchange Web Services.
pub trait Operation {
    /// Its name, such as `GetItem`.
    const NAME: &'static str;
    /// True if it changes something in the mailbox: it is never repeated by itself.
    const EFFECT: bool;
    /// True if its answer may hold `MimeContent`.
    const CONTENT: bool = false;
    /// What one response message holds.
    type Part: Default;

    /// Writes the operation's element, its namespace prefixes being `m` and `t`.
    fn write(&self, writer: &mut Writer<'_>);

    /// Reads one child of a response message; what is unknown is left alone.
    ///
    /// # Errors
    /// [`Malformed`] if the answer cannot be what the server meant.
    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed>;
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not UTF-8.
    #[error("the answer is not UTF-8")]
    Encoding,
    /// It is not well-formed.
    #[error("the answer is not well-formed XML")]
    Syntax,
    /// It ends too early.
    #[error("the answer ends before its last element is closed")]
    Truncated,
    /// It declares a document type.
    #[error("the answer declares a document type, which no answer of Exchange does")]
    DocumentType,
    /// It uses an entity that XML does not define.
    #[error("the answer uses an entity that XML does not define")]
    Entity,
    /// Its elements are nested too deep.
    #[error("the elements of the answer are nested deeper than 64 levels")]
    Depth,
    /// It is not the answer to this request.
    #[error("the answer has no usable {0}")]
    Unexpected(&'static str),
    /// It is larger than any answer may be.
    #[error("the answer is larger than the limit")]
    DocumentTooLarge,
    /// Its contents are larger than was asked for.
    #[error("the content in the answer is larger than the limit")]
    ContentTooLarge,
}

#[cfg(test)]
mod tests;
