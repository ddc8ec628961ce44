//! What the holder of a mailbox reads and writes. Every write is one fenced transaction on one mailbox: it begins
//! with the conditional update of the mailbox row and raises its commit version, whatever else it changes.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    alert::Fact,
    discovery::Location,
    id::{
        Epoch, Incarnation, MailboxId, Nonce, OperationId, Org, OutgoingId, ProfileId, RecordId, Revision,
        UploadId,
    },
    operation::{Kind, Method},
    outbox::{Capabilities, Delivery},
    profile::Account,
    tracking::{Head, MessageKey},
};

use crate::{Result, people::TestOutcome, records::OutgoingContent};

/// The right to write to one mailbox: what every write shows and every successful write renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The grant under which it was claimed.
    pub epoch: Epoch,
    /// The claim's word: no other claim has it, not even one under the same grant.
    pub nonce: Nonce,
    /// How many fenced transactions the mailbox has seen.
    pub commit_ver: u64,
}

/// What people want of a mailbox, as its holder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Raised by each change of what is wanted, tests and polls included. The holder stores the one it has applied.
    pub revision: u64,
    /// Where it belongs.
    pub org: Org,
    /// Its address.
    pub address: String,
    /// Its profile.
    pub profile: Option<ProfileId>,
    /// Its methods in the order of [`Kind::ALL`].
    pub methods: [Method; 3],
    /// Why it may not run: it is not approved, or lacks the credentials that its profile leaves to it. `None`: it may.
    pub barred: Option<Reason>,
    /// Whom it signs in as itself, if its profile leaves that to mailboxes.
    pub account: Option<Account>,
    /// The test asked for and not yet done.
    pub test: Option<OperationId>,
    /// Polls asked for by people so far.
    pub polls: u64,
    /// Mail received before this is left alone: the mailbox's own date.
    pub process_email_from: Option<Timestamp>,
    /// When it was made.
    pub create_time: Timestamp,
}

pub use mailyard_policy::mailbox::Kept;

/// A mailbox as its new holder finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The right to write.
    pub fence: Fence,
    /// What people want.
    pub wanted: Wanted,
    /// What the last holder kept.
    pub kept: Kept,
    /// The position in the Inbox, as Exchange gave it; `None`: never read.
    pub cursor: Option<Bytes>,
    /// Mail received before this is not tracked; `None`: not decided yet (it needs Exchange's clock once).
    pub start: Option<Timestamp>,
    /// True if rows of `inbound` wait.
    pub has_inbound: bool,
}

/// What a claim took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Mailboxes that can be held.
    pub mailboxes: Vec<Claimed>,
    /// Mailboxes whose rows cannot be understood. They are set aside: what people see of them says so, and they are
    /// read again when they are claimed again.
    pub unreadable: Vec<Unreadable>,
}

/// A mailbox whose row cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which.
    pub mailbox: MailboxId,
    /// What cannot be understood.
    pub detail: String,
}

/// A claim of this process as it stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// Its profile.
    pub profile: ProfileId,
    /// The grant under which it was claimed.
    pub epoch: Epoch,
    /// The claim's word.
    pub nonce: Nonce,
}

/// An item of which only the id is known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenItem {
    /// Its id in Exchange, compared byte by byte.
    pub item_id: String,
    /// When Exchange received it, if it was asked for.
    pub received: Option<Timestamp>,
}

/// A row of `inbound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Its id in Exchange as it was seen (after a move into the Undeliverable folder: the new one).
    pub item_id: String,
    /// When it was seen.
    pub seen: Timestamp,
    /// Attempts that failed.
    pub attempts: u32,
    /// What shall be done with it.
    pub state: InboundState,
}

/// The state of an item that was seen and is not tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundState {
    /// Its body waits to be fetched.
    Seen,
    /// It failed for good; it stays so until it is replayed.
    Quarantined(Reason),
    /// It failed for good and is being moved to the Undeliverable folder; found there by its search key after a crash.
    Moving {
        /// Why it failed.
        reason: Reason,
        /// `PR_SEARCH_KEY`, which survives moves.
        search_key: Bytes,
    },
}

/// The body of an item.
#[derive(Clone, Debug)]
pub enum Body {
    /// The whole MIME, at most 256 KiB.
    Whole(Bytes),
    /// It was written in chunks before, under this upload.
    Uploaded {
        /// The upload.
        upload: UploadId,
        /// SHA-256 of the MIME.
        hash: [u8; 32],
        /// Its bytes.
        size: u64,
    },
}

/// An item that becomes, or joins, a record.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The id the record gets if it is new.
    pub record: RecordId,
    /// Its id in Exchange.
    pub item_id: String,
    /// Its change key.
    pub change_key: String,
    /// When Exchange received it.
    pub received: Timestamp,
    /// What the record is found by.
    pub key: MessageKey,
    /// What was read from its head.
    pub head: Head,
    /// Its size in Exchange, in bytes.
    pub size: u64,
    /// Its body.
    pub body: Body,
    /// The sending whose copy it is, if it carries one's operation id; it only links.
    pub sending: Option<OutgoingId>,
}

/// What happens to a row of `inbound`.
#[derive(Clone, Debug)]
pub enum Item {
    /// It becomes a sighting of a record.
    Track(Box<Tracked>),
    /// It is left alone for good (too old, gone, one of our own tests).
    Drop {
        /// Its id.
        item_id: String,
    },
    /// It, or its move, failed and is tried again.
    Again {
        /// Its id.
        item_id: String,
        /// Why.
        reason: Reason,
    },
    /// It failed for good. It stays as it is if that is known of it already.
    Quarantine {
        /// Its id.
        item_id: String,
        /// Why.
        reason: Reason,
    },
    /// It failed for good and will be moved.
    Move {
        /// Its id.
        item_id: String,
        /// Why.
        reason: Reason,
        /// `PR_SEARCH_KEY`.
        search_key: Bytes,
    },
    /// It was moved and is quarantined there.
    Moved {
        /// Its id before.
        item_id: String,
        /// Its id now.
        moved_id: String,
    },
}

/// A cycle that committed something or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Which operation.
    pub operation: Kind,
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Items tracked or sent.
    pub items: u32,
    /// success, transient, throttled, permanent, server_fault or fenced.
    pub outcome: &'static str,
    /// Why it did not succeed.
    pub reason: Option<Reason>,
}

/// Where Autodiscover found a mailbox, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is known.
    pub location: Location,
    /// The profile that was looked for with, and its revision.
    pub profile: (ProfileId, Revision),
    /// The password of the mailbox's own account that was looked for with; 0: its profile's account did it.
    pub account: Revision,
}

/// A place that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The place.
    pub place: Place,
    /// Whoever was asked, one line each, for people; `None`: as before.
    pub attempts: Option<Vec<String>>,
}

/// One fenced transaction: everything in it happens, or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    /// The new position in the Inbox.
    pub cursor: Option<Bytes>,
    /// Forget the position and the start date, unless this gives one: the folder is read anew from there.
    pub forget_cursor: bool,
    /// The start date, once it is decided.
    pub start: Option<Timestamp>,
    /// Items seen; one that is there already, or was sighted already, is not added again.
    pub seen: Vec<SeenItem>,
    /// What happens to items. Those that have failed for good just now are told to the alert book.
    pub items: Vec<Item>,
    /// A sending's new state, and the state it must have had.
    pub delivery: Option<DeliveryChange>,
    /// The mailbox machine's new stored part; the health that follows from it is stored and counted with it.
    pub kept: Option<Kept>,
    /// The end of a test: which, and how.
    pub test: Option<(OperationId, TestOutcome)>,
    /// Where the mailbox was found, or was not.
    pub located: Option<Located>,
    /// What else happened, for the alert book.
    pub facts: Vec<Fact>,
    /// The cycle that ended.
    pub cycle: Option<Cycle>,
    /// When, by the holder's clock: stands on rows that this makes.
    pub at: Timestamp,
}

impl Commit {
    /// True if the alert book is told something.
    pub fn tells(&self) -> bool {
        let fails = |item: &Item| matches!(item, Item::Quarantine { .. } | Item::Move { .. });
        !self.facts.is_empty() || self.items.iter().any(fails)
    }

    /// True if rows of `inbound` that come of this wait for their holder afterwards.
    pub fn leaves_inbound(&self) -> bool {
        let mut ended = HashSet::new();
        for item in &self.items {
            let item_id = match item {
                Item::Track(tracked) => &tracked.item_id,
                Item::Drop { item_id } | Item::Quarantine { item_id, .. } | Item::Moved { item_id, .. } => {
                    item_id
                }
                Item::Again { .. } | Item::Move { .. } => return true,
            };
            ended.insert(item_id.as_str());
        }
        self.seen.iter().any(|seen| !ended.contains(seen.item_id.as_str()))
    }
}

/// A step of a sending.
#[derive(Clone, Debug)]
pub struct DeliveryChange {
    /// Which email.
    pub id: OutgoingId,
    /// Its state as it was read; another one in the store means that it was canceled meanwhile or that we are late.
    pub from: Delivery,
    /// Its new state.
    pub to: Delivery,
    /// When it is to be looked at again ([`Delivery::due`]); `None`: never.
    pub due: Option<Timestamp>,
    /// Its Message-ID, once it is known.
    pub internet_message_id: Option<String>,
}

/// What a fenced transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The right to write on.
    pub fence: Fence,
    /// How many items made a new record.
    pub new_records: u32,
    /// How many items joined an existing record.
    pub joined: u32,
}

/// An email on its way out, as its holder reads it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its id, which is also the operation id that its draft carries.
    pub id: OutgoingId,
    /// What to send.
    pub content: OutgoingContent,
    /// Where its sending stands.
    pub delivery: Delivery,
}

/// What the holder of a profile's lane keeps: breaker and throttle, each in its one-line text form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The breaker's state.
    pub breaker: String,
    /// Whether the breaker is open, and why.
    pub open: Option<Reason>,
    /// The throttle's state.
    pub throttle: String,
}

/// The data plane.
#[async_trait]
pub trait Holder: Send + Sync {
    /// Claims up to `limit` mailboxes, in shards that this process owns, whose fence is older than their shard's
    /// grant. Claiming reads and fences in one transaction. An empty answer means that everything is claimed.
    async fn claim(&self, incarnation: Incarnation, limit: u32) -> Result<Claims>;

    /// Claims these mailboxes, in shards that this process owns, whoever of this process has claimed them before: it
    /// can write no more.
    async fn claim_again(&self, incarnation: Incarnation, mailboxes: &[MailboxId]) -> Result<Claims>;

    /// Everything that this process has claimed under grants that it has now, without mailboxes that have no profile:
    /// what it should hold.
    async fn standing(&self, incarnation: Incarnation) -> Result<Vec<Standing>>;

    /// Mailboxes that this process has claimed and of which people want something that no holder has applied yet.
    async fn unapplied(&self, incarnation: Incarnation, limit: u32) -> Result<Vec<(MailboxId, Wanted)>>;

    /// The fence and what was kept, read under the row's lock: after a commit whose outcome is unknown.
    /// [`crate::Error::Fenced`]: somebody else holds it now.
    async fn reload(&self, fence: &Fence) -> Result<Claimed>;

    /// One fenced transaction. [`crate::Error::Fenced`]: somebody else holds the mailbox, drop it.
    /// A [`DeliveryChange`] whose `from` is not the stored state (it was canceled meanwhile, or we are late) is
    /// [`crate::Error::Refused`] with `ETAG_MISMATCH`, and nothing is changed.
    async fn commit(&self, fence: &Fence, commit: Commit) -> Result<Committed>;

    /// Rows of `inbound` in state seen or moving, oldest first.
    async fn inbound(&self, mailbox: MailboxId, limit: u32) -> Result<Vec<Inbound>>;

    /// Where a mailbox was found; `None`: it was not looked for yet. Its attempts are always there.
    async fn located(&self, mailbox: MailboxId) -> Result<Option<Located>>;

    /// Which of these operation ids (32 hexadecimal digits) belong to a test of ours that the store knows.
    async fn known_tests(&self, ids: &[OutgoingId]) -> Result<Vec<OutgoingId>>;

    /// Makes the operation id of a test message known, before the message can exist.
    async fn know_test(&self, mailbox: MailboxId, id: OutgoingId, at: Timestamp) -> Result<()>;

    /// Writes one chunk (at most 256 KiB) of a large body. Chunks without a blob are swept.
    async fn upload(&self, upload: UploadId, number: u32, chunk: Bytes, at: Timestamp) -> Result<()>;

    /// Removes chunks of uploads begun before `before` that belong to no blob. Returns how many uploads.
    async fn sweep_uploads(&self, before: Timestamp) -> Result<u64>;

    /// Mailboxes that this process has claimed, whose outgoing operation is enabled or retrying, with an email whose
    /// sending is due at `now`.
    async fn due_outgoing(
        &self,
        incarnation: Incarnation,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<MailboxId>>;

    /// Emails of a mailbox that are due at `now`, oldest first.
    async fn outgoing(&self, mailbox: MailboxId, now: Timestamp, limit: u32) -> Result<Vec<Outgoing>>;

    /// What the last holder of a profile's lane kept.
    async fn lane(&self, profile: ProfileId, lane: u16) -> Result<Option<Lane>>;

    /// Keeps the state of a profile's lane, with facts, if no later grant has written it.
    async fn keep_lane(
        &self,
        profile: ProfileId,
        lane: u16,
        epoch: Epoch,
        kept: &Lane,
        facts: &[Fact],
    ) -> Result<()>;

    /// Keeps what was learnt of the sending of the server at this URL. `Fenced` if a later grant has written the lane 0
    /// of the profile, or if the profile sends by another server now.
    async fn keep_capabilities(
        &self,
        profile: ProfileId,
        epoch: Epoch,
        outgoing_url: Option<&str>,
        capabilities: &Capabilities,
    ) -> Result<()>;
}
