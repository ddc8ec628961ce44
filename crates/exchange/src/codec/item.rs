//! Items as they stand in answers of several operations.

use base64::Engine as _;
use mailyard_policy::Timestamp;

use super::{Element, ItemId, Malformed, Mime, Reader, date, property};

/// What kind of item it is, by its element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemKind {
    /// A mail, a post or a report.
    #[default]
    Message,
    /// A meeting request, response or cancellation.
    Meeting,
    /// An appointment.
    Appointment,
    /// A contact or a distribution list.
    Contact,
    /// A task.
    Task,
    /// Anything else, also what this version does not know.
    Other,
}

/// An item with the properties that were asked for and that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemInfo {
    /// Its id.
    pub id: ItemId,
    /// Its kind.
    pub kind: ItemKind,
    /// Bytes, as the server counts them.
    pub size: Option<u64>,
    /// When it was delivered.
    pub received: Option<Timestamp>,
    /// When it was made in this mailbox.
    pub created: Option<Timestamp>,
    /// The subject.
    pub subject: Option<Box<str>>,
    /// It is on its way out.
    pub is_submitted: Option<bool>,
    /// `Message-ID`, with its angle brackets.
    pub message_id: Option<Box<str>>,
    /// The key that survives moves and copies.
    pub search_key: Option<Box<[u8]>>,
    /// The operation that made it.
    pub operation_id: Option<Box<str>>,
}

impl ItemKind {
    /// By the name of the element; `None` for elements that are no items.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "Message" | "PostItem" | "Item" => Self::Message,
            "MeetingMessage" | "MeetingRequest" | "MeetingResponse" | "MeetingCancellation" => Self::Meeting,
            "CalendarItem" => Self::Appointment,
            "Contact" | "DistributionList" => Self::Contact,
            "Task" => Self::Task,
            _ => return None,
        })
    }
}

/// Reads the elements inside `Items`.
pub(super) fn read_all(
    reader: &mut Reader<'_>,
    mut found: impl FnMut(ItemInfo, Option<Mime>),
) -> Result<(), Malformed> {
    reader.children(|reader, element| {
        let kind = ItemKind::of(element.name()).unwrap_or(ItemKind::Other);
        if let (Some(info), mime) = read(reader, kind)? {
            found(info, mime);
        }
        Ok(())
    })
}

fn read(reader: &mut Reader<'_>, kind: ItemKind) -> Result<(Option<ItemInfo>, Option<Mime>), Malformed> {
    let (mut id, mut mime) = (None, None);
    let mut info = ItemInfo {
        id: ItemId::new(""),
        kind,
        size: None,
        received: None,
        created: None,
        subject: None,
        is_submitted: None,
        message_id: None,
        search_key: None,
        operation_id: None,
    };
    reader.children(|reader, element| {
        match element.name() {
            "ItemId" => id = ItemId::read(element)?,
            "MimeContent" => mime = reader.next_mime(),
            _ => read_property(reader, element, &mut info)?,
        }
        Ok(())
    })?;
    Ok((id.map(|id| ItemInfo { id, ..info }), mime))
}

fn read_property(
    reader: &mut Reader<'_>,
    element: &Element<'_>,
    info: &mut ItemInfo,
) -> Result<(), Malformed> {
    match element.name() {
        "Size" => info.size = reader.text()?.trim().parse().ok(),
        "DateTimeReceived" => info.received = date::read(&reader.text()?),
        "DateTimeCreated" => info.created = date::read(&reader.text()?),
        "Subject" => info.subject = Some(reader.boxed_text()?),
        "IsSubmitted" => info.is_submitted = read_bool(&reader.text()?),
        "InternetMessageId" => info.message_id = Some(reader.boxed_text()?),
        "ExtendedProperty" => match property::read_extended(reader)? {
            property::Extended::SearchKey(text) => {
                info.search_key =
                    base64::engine::general_purpose::STANDARD.decode(&*text).ok().map(Vec::into_boxed_slice);
            }
            property::Extended::OperationId(text) => info.operation_id = Some(text),
            property::Extended::Other => {}
        },
        _ => {}
    }
    Ok(())
}

/// `xs:boolean`, in any case of letters.
pub(super) fn read_bool(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "True" | "TRUE" | "1" => Some(true),
        "false" | "False" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}
