//! What the CRM reads and writes: tracked emails, emails to send, and the events that tell of their changes.

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, Org, OutgoingId, RecordId},
    outbox,
};

pub use mailyard_policy::operation::Direction;

use crate::{
    Result,
    fleet::Leadership,
    query::{Filter, Page, Position, fold},
};

/// The state of an email, whatever its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmailState {
    /// An incoming one is always this.
    Received,
    /// An outgoing one stands in one of these.
    Outgoing(outbox::State),
}

impl EmailState {
    /// The word that stands for it in every text form.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Outgoing(state) => state.word(),
        }
    }
}

/// An email as the CRM sees it, without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Email {
    /// Its id; an outgoing email's is its operation id too.
    pub id: RecordId,
    /// Where it belongs.
    pub org: Org,
    /// Came in or went out.
    pub direction: Direction,
    /// Where it stands.
    pub state: EmailState,
    /// The inner step of a sending, for people.
    pub step: Option<String>,
    /// Why a sending failed, waits or is in doubt.
    pub reason: Option<Reason>,
    /// The address of the mailbox that sends it, or that saw it first.
    pub mailbox: String,
    /// Addresses of all mailboxes that hold it.
    pub mailboxes: Vec<String>,
    /// Its Message-ID, with angle brackets, as far as it is known.
    pub internet_message_id: Option<String>,
    /// Its subject.
    pub subject: String,
    /// Its sender's address.
    pub from: String,
    /// Its recipients' addresses.
    pub to: Vec<String>,
    /// Its copy recipients' addresses.
    pub cc: Vec<String>,
    /// When it was sent, by its own Date header.
    pub sent_time: Option<Timestamp>,
    /// When the first mailbox received it.
    pub received_time: Option<Timestamp>,
    /// Its bytes.
    pub size: u64,
    /// When the record was made.
    pub create_time: Timestamp,
    /// When its sending is looked at again.
    pub next_attempt: Option<Timestamp>,
    /// The incoming record that is a copy of this sending, or the sending of which this is a copy.
    pub linked: Option<RecordId>,
}

impl Email {
    /// Its key in the list: what [`Page::after`] takes to go on behind it.
    pub fn page_key(&self) -> String {
        Position { at: self.create_time, id: self.id.get() }.to_string()
    }
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingContent {
    /// The sender: the mailbox's address.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Copy recipients.
    pub cc: Vec<String>,
    /// Blind copy recipients.
    pub bcc: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The body.
    pub body: OutgoingBody,
    /// Files.
    pub attachments: Vec<Attachment>,
}

/// A body to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingBody {
    /// Plain text.
    Text(String),
    /// HTML.
    Html(String),
}

/// A file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub content: Bytes,
}

/// A new email to send.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutgoing {
    /// Its id and operation id; made by the caller.
    pub id: OutgoingId,
    /// The mailbox that sends it.
    pub mailbox: MailboxId,
    /// The caller's key: the same key with the same content is the same email; another content is refused with
    /// `REQUEST_ID_REUSED`.
    pub idempotency_key: Option<String>,
    /// What to send.
    pub content: OutgoingContent,
    /// Not to be sent after this.
    pub expires: Option<Timestamp>,
    /// When it was enqueued.
    pub at: Timestamp,
}

/// An incoming item that stands in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its address.
    pub address: String,
    /// Its id in Exchange.
    pub item_id: String,
    /// Why.
    pub reason: Reason,
    /// Attempts that failed.
    pub attempts: u32,
    /// True if it lies in the Undeliverable folder.
    pub moved: bool,
    /// When it was seen first.
    pub seen: Timestamp,
}

impl Quarantined {
    /// Its key in the list: what [`Page::after`] takes to go on behind it.
    pub fn page_key(&self) -> String {
        format!("{}\n{}", fold(&self.address), self.item_id)
    }
}

/// A change of a record, as the change feed tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its position: gapless per organization.
    pub position: u64,
    /// The record.
    pub record: RecordId,
    /// created, sighted, state, linked …
    pub change: String,
    /// When it was made.
    pub at: Timestamp,
}

/// The CRM's side.
#[async_trait]
pub trait Records: Send + Sync {
    /// Emails that match, newest first; at most `page.limit`, after `page.after`.
    async fn emails(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Email>>;

    /// One email.
    async fn email(&self, id: RecordId) -> Result<Option<Email>>;

    /// A part of an email's MIME, from `offset`, at most 256 KiB; `None` if it has none or ends before.
    async fn email_content(&self, id: RecordId, offset: u64) -> Result<Option<Bytes>>;

    /// Takes an email to be sent, in state PENDING_SEND; returns it, and whether it is new. With a key that was used
    /// before, returns the email of that time.
    async fn enqueue(&self, org: &Org, email: &NewOutgoing) -> Result<(Email, bool)>;

    /// The email for which the key of this one was used before; `None`: it has no key or a new one. `REQUEST_ID_REUSED`
    /// if that email has another content.
    async fn enqueued(&self, org: &Org, email: &NewOutgoing) -> Result<Option<Email>>;

    /// Cancels an email that waits to be sent; `EMAIL_NOT_CANCELABLE` if it does not any more.
    async fn cancel(&self, id: RecordId, at: Timestamp) -> Result<Email>;

    /// A person's word on an email in NEEDS_PERSON: it was sent, or it is given up. `EMAIL_NOT_CANCELABLE` otherwise.
    async fn settle_doubt(&self, id: RecordId, sent: bool, at: Timestamp) -> Result<Email>;

    /// Items in quarantine, by mailbox address and item id.
    async fn quarantined(
        &self,
        org: &Org,
        mailbox: Option<MailboxId>,
        page: &Page,
    ) -> Result<Vec<Quarantined>>;

    /// Lets quarantined items be tried anew; returns how many. They stand in `inbound` as seen again, with no failed
    /// attempts, and a poll of the mailbox is wanted so that its holder looks there now.
    async fn replay(&self, mailbox: MailboxId, item_ids: &[String]) -> Result<u64>;

    /// Gives positions to up to `limit` events that have none yet; returns how many. Written by the leader.
    async fn publish(&self, lead: &Leadership, limit: u32) -> Result<u64>;

    /// What positions are counted in: an id of this database that another one does not have.
    async fn feed_incarnation(&self) -> Result<u128>;

    /// Events of an organization after a position, at most `limit`.
    async fn events(&self, org: &Org, after: u64, limit: u32) -> Result<Vec<Event>>;
}
