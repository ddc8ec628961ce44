//! Questions that lists answer: a filter over named fields, and a page.

use std::{fmt, str::FromStr};

use mailyard_policy::{Reason, Timestamp};

use crate::{Error, Result};

/// One page of a list that is ordered by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The key of the last row of the page before; `None`: the first page.
    pub after: Option<String>,
    /// How many rows at the most.
    pub limit: u32,
}

/// A place in a list that is ordered by time, newest first; equal times by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: Timestamp,
    pub(crate) id: u128,
}

/// Milliseconds, a colon, and the id in 32 hexadecimal digits.
impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{:032x}", self.at.as_millis(), self.id)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(at, id)| {
            let at = Timestamp::from_millis(at.parse().ok()?);
            Some(Self { at, id: u128::from_str_radix(id, 16).ok()? })
        });
        parsed.ok_or_else(invalid_position)
    }
}

pub(crate) fn invalid_position() -> Error {
    Error::refused_field(Reason::PageTokenInvalid, "page_token", "it is no place in this list")
}

/// A text as it is compared where case does not matter: every letter folded by itself, so that a part of a text folds
/// to a part of the folded text.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A condition over the fields of a list. Which fields a list has, and of what kind, is said by its `FIELDS`.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every row.
    All,
    /// Rows that match each of these.
    And(Vec<Filter>),
    /// Rows that match at least one of these.
    Or(Vec<Filter>),
    /// Rows that do not match.
    Not(Box<Filter>),
    /// Rows whose field compares so with the value.
    Compare {
        /// The field, one of the list's.
        field: &'static str,
        /// How.
        operator: Operator,
        /// With what.
        value: Value,
    },
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`: equal; texts ignore case.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `:`: the text contains the value, ignoring case.
    Contains,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text or a word.
    Text(String),
    /// A number.
    Number(i64),
    /// A moment.
    Time(Timestamp),
    /// True or false.
    Flag(bool),
}

/// What kind of values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Free text.
    Text,
    /// One word out of these.
    Word(&'static [&'static str]),
    /// A number.
    Number,
    /// A moment.
    Time,
    /// True or false.
    Flag,
}

/// A field of a list.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in filters.
    pub name: &'static str,
    /// Its values.
    pub kind: FieldKind,
}

const STATES: FieldKind = FieldKind::Word(&["off", "untested", "testing", "enabled", "retrying", "disabled"]);

const fn field(name: &'static str, kind: FieldKind) -> Field {
    Field { name, kind }
}

/// Fields of the list of mailboxes. `profile` compares the profile's display name; `reason` matches if any operation
/// has it; `operation_state` if any operation is in it.
pub const MAILBOX_FIELDS: &[Field] = &[
    field("address", FieldKind::Text),
    field("display_name", FieldKind::Text),
    field("kind", FieldKind::Word(&["user", "queue", "forward"])),
    field("profile", FieldKind::Text),
    field("approval", FieldKind::Word(&["pending", "approved", "rejected"])),
    field("state", FieldKind::Word(&["not_eligible", "ok", "failing"])),
    field("incoming", STATES),
    field("outgoing", STATES),
    field("act", STATES),
    field("operation_state", STATES),
    field("reason", FieldKind::Text),
    field("crm_id", FieldKind::Text),
    field("owner_email", FieldKind::Text),
    field("create_time", FieldKind::Time),
];

/// Fields of the list of emails. `mailbox` matches if the record was sighted in (or is sent from) that address.
pub const EMAIL_FIELDS: &[Field] = &[
    field("mailbox", FieldKind::Text),
    field("direction", FieldKind::Word(&["incoming", "outgoing"])),
    field(
        "state",
        FieldKind::Word(&[
            "received",
            "draft",
            "pending_send",
            "sending",
            "sent",
            "failed",
            "canceled",
            "expired",
            "needs_person",
        ]),
    ),
    field("internet_message_id", FieldKind::Text),
    field("subject", FieldKind::Text),
    field("from", FieldKind::Text),
    field("to", FieldKind::Text),
    field("received_time", FieldKind::Time),
    field("create_time", FieldKind::Time),
    field("size", FieldKind::Number),
    field("reason", FieldKind::Text),
];

/// Fields of the list of alerts. `regarding` is an address, a profile's name or an email's id; `profile` a name.
pub const ALERT_FIELDS: &[Field] = &[
    field("reason", FieldKind::Text),
    field("level", FieldKind::Word(&["information", "warning", "error"])),
    field("scope", FieldKind::Word(&["item", "mailbox", "profile"])),
    field("state", FieldKind::Word(&["open", "resolved"])),
    field("regarding", FieldKind::Text),
    field("profile", FieldKind::Text),
    field("count", FieldKind::Number),
    field("first_time", FieldKind::Time),
    field("last_time", FieldKind::Time),
];
