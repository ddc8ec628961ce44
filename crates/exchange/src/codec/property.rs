//! The properties of items that are asked for, and how they are named in requests and answers.

use super::{Element, Malformed, Reader, Writer};

/// The property set of the properties that Mailyard sets by itself.
const PROPERTY_SET: &str = "6d61696c-7961-7264-8000-000000000001";
/// The named property that marks a draft and its copies with the operation that made it.
const OPERATION_ID: &str = "OperationId";
/// The same mark as an internet header: it reaches the recipients.
pub const OPERATION_HEADER: &str = "X-Mailyard-Operation-Id";
/// `PR_SEARCH_KEY` of MS-OXPROPS: it survives moves and copies.
const SEARCH_KEY: &str = "0x300B";

/// A property of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Bytes.
    Size,
    /// When it was delivered.
    Received,
    /// When it was made in this mailbox.
    Created,
    /// The subject.
    Subject,
    /// It is on its way out.
    Submitted,
    /// `Message-ID`.
    MessageId,
    /// The key that survives moves and copies.
    SearchKey,
    /// The operation that made it.
    OperationId,
}

/// A set of properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties(u16);

/// What an extended property of an answer turned out to be.
pub(super) enum Extended {
    SearchKey(Box<str>),
    OperationId(Box<str>),
    Other,
}

impl Property {
    const ALL: [Self; 8] = [
        Self::Size,
        Self::Received,
        Self::Created,
        Self::Subject,
        Self::Submitted,
        Self::MessageId,
        Self::SearchKey,
        Self::OperationId,
    ];

    pub(super) fn write(self, writer: &mut Writer<'_>) {
        let uri = match self {
            Self::Size => "item:Size",
            Self::Received => "item:DateTimeReceived",
            Self::Created => "item:DateTimeCreated",
            Self::Subject => "item:Subject",
            Self::Submitted => "item:IsSubmitted",
            Self::MessageId => "message:InternetMessageId",
            Self::SearchKey => {
                return writer
                    .empty("t:ExtendedFieldURI", &[("PropertyTag", SEARCH_KEY), ("PropertyType", "Binary")]);
            }
            Self::OperationId => return write_operation_uri(writer),
        };
        writer.empty("t:FieldURI", &[("FieldURI", uri)]);
    }
}

impl Properties {
    /// No property beside the id.
    pub const NONE: Self = Self(0);

    /// A set of some properties.
    pub const fn of(properties: &[Property]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < properties.len() {
            set |= 1 << properties[at] as u16;
            at += 1;
        }
        Self(set)
    }

    /// Writes the shape of an answer: the id and these properties, and the whole content if asked for.
    pub(super) fn write_shape(self, writer: &mut Writer<'_>, content: bool) {
        writer.nest("m:ItemShape", |writer| {
            writer.text("t:BaseShape", "IdOnly");
            if content {
                writer.text("t:IncludeMimeContent", "true");
            }
            if self != Self::NONE {
                writer.nest("t:AdditionalProperties", |writer| {
                    let wanted =
                        Property::ALL.into_iter().filter(|property| self.0 & 1 << *property as u16 != 0);
                    wanted.for_each(|property| property.write(writer));
                });
            }
        });
    }
}

/// Writes the two marks of an operation as extended properties of a new item.
pub(super) fn write_operation_marks(writer: &mut Writer<'_>, operation_id: &str) {
    writer.nest("t:ExtendedProperty", |writer| {
        write_operation_uri(writer);
        writer.text("t:Value", operation_id);
    });
    writer.nest("t:ExtendedProperty", |writer| {
        writer.empty(
            "t:ExtendedFieldURI",
            &[
                ("DistinguishedPropertySetId", "InternetHeaders"),
                ("PropertyName", OPERATION_HEADER),
                ("PropertyType", "String"),
            ],
        );
        writer.text("t:Value", operation_id);
    });
}

/// Reads an `ExtendedProperty`; names are compared without regard to case, since servers write them in their own way.
pub(super) fn read_extended(reader: &mut Reader<'_>) -> Result<Extended, Malformed> {
    let (mut name, mut value) = (None, Box::default());
    reader.children(|reader, element| {
        match element.name() {
            "ExtendedFieldURI" => name = read_name(element)?,
            "Value" => value = reader.text()?.trim().into(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match name {
        Some(Property::SearchKey) => Extended::SearchKey(value),
        Some(Property::OperationId) => Extended::OperationId(value),
        _ => Extended::Other,
    })
}

fn read_name(element: &Element<'_>) -> Result<Option<Property>, Malformed> {
    let is = |key, expected: &str| {
        Ok(element.attribute(key)?.is_some_and(|text| text.eq_ignore_ascii_case(expected)))
    };
    if is("PropertyTag", SEARCH_KEY)? {
        return Ok(Some(Property::SearchKey));
    }
    let ours = is("PropertySetId", PROPERTY_SET)? && is("PropertyName", OPERATION_ID)?;
    Ok(ours.then_some(Property::OperationId))
}

fn write_operation_uri(writer: &mut Writer<'_>) {
    writer.empty(
        "t:ExtendedFieldURI",
        &[("PropertySetId", PROPERTY_SET), ("PropertyName", OPERATION_ID), ("PropertyType", "String")],
    );
}
