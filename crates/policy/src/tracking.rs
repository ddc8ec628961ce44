//! What one email is, which items are tracked, and in which portions their bodies are fetched.

use std::{fmt, str::FromStr, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    id::MailboxId,
    operation::UnknownWord,
    reason::{Nature, Reason},
    time::Timestamp,
};

/// What was read from a message's head: it decides on tracking and stands on the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its Message-ID as it stands there, with angle brackets.
    pub message_id: Option<String>,
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// The copy recipients' addresses.
    pub cc: Vec<String>,
    /// The subject.
    pub subject: String,
    /// Its own Date header.
    pub sent: Option<Timestamp>,
    /// The Message-ID it answers.
    pub in_reply_to: Option<String>,
    /// The Message-IDs of its thread, oldest first.
    pub references: Vec<String>,
    /// The operation id that it carries, if it came from us.
    pub operation_id: Option<String>,
}

/// What a record is found by, together with its organization and direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey([u8; 32]);

/// No Message-ID is longer than this, in bytes (RFC 5322 2.1.1: a line has at most 998).
const LONGEST_MESSAGE_ID: usize = 998;

impl MessageKey {
    /// The key of a usable Message-ID: what stands between the angle brackets, without white space, its domain in
    /// lower case. Not usable is what is empty, endless, has no `@` or has control characters.
    pub fn of_message_id(message_id: &str) -> Option<Self> {
        let inner = match (message_id.find('<'), message_id.rfind('>')) {
            (Some(open), Some(close)) if open < close => &message_id[open + 1..close],
            _ => message_id,
        };
        let text: String = inner.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (local, domain) = text.rsplit_once('@')?;
        let usable = !local.is_empty()
            && !domain.is_empty()
            && text.len() <= LONGEST_MESSAGE_ID
            && !text.chars().any(char::is_control);
        usable.then(|| Self::hash(&[b"message-id", local.as_bytes(), domain.to_lowercase().as_bytes()]))
    }

    /// The key of a message without a usable Message-ID: only the same message in the same mailbox has it again.
    pub fn of_content(mailbox: MailboxId, head: &Head, size: u64, body: &[u8; 32]) -> Self {
        let sent = head.sent.map_or(i64::MIN, Timestamp::as_millis);
        Self::hash(&[
            b"content",
            &mailbox.to_bytes(),
            head.from.to_lowercase().as_bytes(),
            &sent.to_be_bytes(),
            head.subject.as_bytes(),
            &size.to_be_bytes(),
            body,
        ])
    }

    /// From its 32 bytes as stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for MessageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MessageKey({self})")
    }
}

impl FromStr for MessageKey {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { text: text.to_owned(), known: "64 hexadecimal digits" };
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(unknown)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        bytes.try_into().map(Self).map_err(|_| unknown())
    }
}

/// A stored record of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which of several different messages with this key it is; 0: the first.
    pub discriminator: u32,
    /// Its sender's address.
    pub from: String,
    /// Its own Date header.
    pub sent: Option<Timestamp>,
}

/// Which record a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The one with this discriminator.
    Same(u32),
    /// A new one with this discriminator; other than 0 means that a Message-ID was used for different messages.
    New(u32),
}

/// Finds the record of a message among those stored with its key: the same From and the same Date.
pub fn identify(known: &[Known], head: &Head) -> Identity {
    let same = known
        .iter()
        .find(|known| known.sent == head.sent && known.from.to_lowercase() == head.from.to_lowercase());
    match same {
        Some(known) => Identity::Same(known.discriminator),
        None => Identity::New(known.iter().map(|known| known.discriminator + 1).max().unwrap_or_default()),
    }
}

/// What becomes of an item that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// It is tracked.
    Track,
    /// It was received before the mailbox's start.
    TooOld,
    /// It is a message of one of our own tests.
    OwnTest,
}

/// Selects with the filter "all": every message that reaches the Inbox at or after the start. An item whose time
/// Exchange does not tell is tracked: nothing is lost.
pub fn select(start: Timestamp, received: Option<Timestamp>, own_test: bool) -> Selection {
    match received {
        _ if own_test => Selection::OwnTest,
        Some(received) if received < start => Selection::TooOld,
        Some(_) | None => Selection::Track,
    }
}

/// What a start date that people set means for a mailbox that began with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Nothing: it is the same one, or none is set.
    No,
    /// A later one: it holds from now on.
    Later(Timestamp),
    /// An earlier one: the folder is read anew from there.
    Anew(Timestamp),
}

/// Compares the start that counts with the one that people set; without a start nothing has begun yet.
pub fn restart(start: Option<Timestamp>, wished: Option<Timestamp>) -> Restart {
    match start.zip(wished) {
        Some((start, wished)) if wished < start => Restart::Anew(wished),
        Some((start, wished)) if wished > start => Restart::Later(wished),
        Some(_) | None => Restart::No,
    }
}

/// What becomes of an item at which an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not there any more.
    Gone,
    /// It was not attempted, and stays as it is.
    Untouched,
    /// It is tried again.
    Again,
    /// It is put aside for people.
    GivenUp,
}

/// How long an item is tried whose failures may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Attempts at least.
    pub attempts: u32,
    /// Since it was seen, at least: an outage is longer than a few polls, and afterwards nobody shall have to lend a hand.
    pub wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, wait: Duration::from_hours(24) }
    }
}

impl Patience {
    /// What becomes of an item that failed for this reason, after so many failed attempts before, so long after it was
    /// seen.
    pub fn after_failure(&self, reason: Reason, before: u32, waited: Duration) -> Fate {
        let passing = matches!(reason.nature(), Nature::Transient | Nature::Throttled);
        match reason {
            Reason::ItemNotFound => Fate::Gone,
            Reason::ItemNotAttempted => Fate::Untouched,
            _ if passing && (before + 1 < self.attempts || waited < self.wait) => Fate::Again,
            _ => Fate::GivenUp,
        }
    }
}

/// How large portions may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portions {
    /// Items of one request at the most.
    pub items: usize,
    /// Bytes of one request at the most, unless a single item has more.
    pub bytes: u64,
    /// An item of more bytes than this is fetched alone and streamed.
    pub alone_above: u64,
    /// An item of more bytes is not fetched at all.
    pub largest: u64,
}

impl Default for Portions {
    fn default() -> Self {
        Self { items: 10, bytes: 5 << 20, alone_above: 256 << 10, largest: 64 << 20 }
    }
}

/// One request's worth of items, by their places in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portion {
    /// These together.
    Together(Vec<usize>),
    /// This one alone, streamed.
    Alone(usize),
    /// This one is too large to be fetched.
    TooLarge(usize),
}

/// Divides items of these sizes into portions, in their order as far as they are fetched together.
pub fn portions(rules: &Portions, sizes: &[u64]) -> Vec<Portion> {
    let mut portions = Vec::new();
    let (mut together, mut bytes) = (Vec::new(), 0_u64);
    for (place, size) in sizes.iter().copied().enumerate() {
        if size > rules.largest {
            portions.push(Portion::TooLarge(place));
        } else if size > rules.alone_above {
            portions.push(Portion::Alone(place));
        } else {
            let full = together.len() >= rules.items.max(1) || bytes.saturating_add(size) > rules.bytes;
            if full && !together.is_empty() {
                portions.push(Portion::Together(std::mem::take(&mut together)));
                bytes = 0;
            }
            together.push(place);
            bytes += size;
        }
    }
    if !together.is_empty() {
        portions.push(Portion::Together(together));
    }
    portions
}
