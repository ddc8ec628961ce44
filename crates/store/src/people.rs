//! What people want: organizations, settings, profiles, mailboxes, approval, tests. Written by the coordinator.

use std::time::Duration;

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    connection_test::Step,
    id::{MailboxId, OperationId, Org, ProfileId, Revision, ShardId, WorkerId},
    operation::{Direction, Health, Kind, Method, Operation},
    outbox::Capabilities,
    profile::{Account, CredentialSource, Credentials},
    words,
};
use secrecy::SecretString;

use crate::{
    Result,
    holder::Cycle,
    query::{Filter, Page, Position, fold},
};

/// Settings of an organization (the seed's "Email settings").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The profile of new mailboxes that name none.
    pub default_profile: Option<ProfileId>,
    /// Methods of new mailboxes, in the order of [`Kind::ALL`].
    pub default_methods: [Method; 3],
    /// Only approved mailboxes of users are processed. Default true.
    pub approve_users: bool,
    /// Only approved mailboxes of queues are processed. Default true.
    pub approve_queues: bool,
    /// How often it was changed.
    pub revision: Revision,
}

/// An email server profile without its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its id; made by the caller of `create_profile`.
    pub id: ProfileId,
    /// Where it belongs.
    pub org: Org,
    /// Its name for people, unique in the organization ignoring case.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// The EWS URL for reading; `None` only with autodiscover.
    pub incoming_url: Option<String>,
    /// The EWS URL for sending; `None` only with autodiscover.
    pub outgoing_url: Option<String>,
    /// Whose credentials open its mailboxes. If the mailboxes have their own, those here say by which scheme, and no
    /// more: there is neither a user nor a secret.
    pub credential_source: CredentialSource,
    /// How mail is read.
    pub credentials: Credentials,
    /// How mail is sent; `None`: as it is read.
    pub outgoing_credentials: Option<Credentials>,
    /// Certificates of authorities to trust, as PEM; `None`: the system's.
    pub ca_pem: Option<String>,
    /// Mail received before this moment is left alone.
    pub process_email_from: Option<Timestamp>,
    /// No polling more often than this; zero: no floor.
    pub minimum_interval: Duration,
    /// How many connections to the server at once, 1–300.
    pub max_connections: u16,
    /// How long the period of an idle mailbox may grow.
    pub idle_max: Duration,
    /// Failed mail is moved to the Undeliverable folder.
    pub move_failed: bool,
    /// The owner is mailed on major events.
    pub alert_owner: bool,
    /// The owner's address.
    pub owner_email: Option<String>,
    /// One request ends after this; may only shorten the deployment's.
    pub request_deadline: Option<Duration>,
    /// The server is asked to tell when mail comes.
    pub streaming: bool,
    /// Into how many lanes its mailboxes are divided.
    pub lanes: u16,
    /// What sending does on its server, as probed. Written by the holder of its lane.
    pub capabilities: Capabilities,
    /// When it was made.
    pub create_time: Timestamp,
    /// How often people changed it; its etag.
    pub revision: Revision,
}

impl Profile {
    /// What a direction is done by.
    pub fn credentials(&self, direction: Direction) -> &Credentials {
        match (direction, &self.outgoing_credentials) {
            (Direction::Outgoing, Some(own)) => own,
            _ => &self.credentials,
        }
    }

    /// True if mail is sent by another server than it is read from, or as somebody else.
    pub fn sends_apart(&self) -> bool {
        self.outgoing_url != self.incoming_url || self.outgoing_credentials.is_some()
    }

    /// True if its servers are found by Autodiscover, for each mailbox.
    pub fn autodiscovers(&self) -> bool {
        self.incoming_url.is_none() && self.outgoing_url.is_none()
    }

    /// Where a direction leads; `None` with autodiscover.
    pub fn url(&self, direction: Direction) -> Option<&str> {
        match direction {
            Direction::Incoming => self.incoming_url.as_deref(),
            Direction::Outgoing => self.outgoing_url.as_deref(),
        }
    }
}

/// New secrets of a profile, each for the credentials of its direction; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Of `credentials`.
    pub incoming: Option<SecretString>,
    /// Of `outgoing_credentials`.
    pub outgoing: Option<SecretString>,
}

/// A result of Test Connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionTest {
    /// When it was begun.
    pub at: Timestamp,
    /// The mailbox whose Inbox was read; `None`: the service account's own.
    pub address: Option<String>,
    /// Its steps in order; with the direction that each is about, if the directions take different roads.
    pub steps: Vec<(Option<Direction>, Step)>,
}

/// What people set on a new mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMailbox {
    /// Its id; made by the caller.
    pub id: MailboxId,
    /// Its primary address, unique in the organization ignoring case.
    pub address: String,
    /// Its name for people.
    pub display_name: String,
    /// user, queue or forward.
    pub kind: MailboxKind,
    /// Its profile.
    pub profile: Option<ProfileId>,
    /// Its methods in the order of [`Kind::ALL`].
    pub methods: [Method; 3],
    /// Whom its alerts concern.
    pub owner_email: Option<String>,
    /// The CRM's key of the user or queue.
    pub crm_id: Option<String>,
    /// Mail received before this moment is left alone.
    pub process_email_from: Option<Timestamp>,
}

/// What becomes of the account that a mailbox signs in as itself.
#[derive(Clone, Debug, Default)]
pub enum AccountChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none any more.
    Forget,
    /// It is this one.
    Set {
        /// A UPN or `DOMAIN\user`.
        user: String,
        /// Its password.
        password: SecretString,
    },
}

/// Whose mailbox it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailboxKind {
    /// A user's.
    User,
    /// A queue's.
    Queue,
    /// One that collects forwarded mail.
    Forward,
}

/// Whether an administrator let the mailbox take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Approval {
    /// Nobody decided yet.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Rejected,
}

/// A mailbox as people see it: what is wanted and what is.
#[derive(Clone, Debug, PartialEq)]
pub struct Mailbox {
    /// What was set on it.
    pub set: NewMailbox,
    /// Where it belongs.
    pub org: Org,
    /// Whom it signs in as itself, if its profile leaves that to mailboxes.
    pub account: Option<Account>,
    /// Whether it was approved.
    pub approval: Approval,
    /// How it fares.
    pub health: Health,
    /// Its operations in the order of [`Kind::ALL`].
    pub operations: [Operation; 3],
    /// Its shard.
    pub shard: ShardId,
    /// The worker that owns the shard.
    pub worker: Option<WorkerId>,
    /// The test that was asked for last.
    pub test_wanted: Option<OperationId>,
    /// The test that ended last.
    pub test_done: Option<OperationId>,
    /// Polls asked for by people so far, and how many of them the holder has done.
    pub polls_wanted: u64,
    /// See `polls_wanted`.
    pub polls_done: u64,
    /// When it was made.
    pub create_time: Timestamp,
    /// How often people changed it; its etag.
    pub revision: Revision,
}

impl Mailbox {
    /// Its key in the list: what [`Page::after`] takes to go on behind it.
    pub fn page_key(&self) -> String {
        fold(&self.set.address)
    }
}

/// Which mailboxes a call is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// These addresses.
    Addresses(Vec<String>),
    /// Those that match.
    Matching(Filter),
}

/// One row of a test & enable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestItem {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its address.
    pub address: String,
    /// How it ended; `None`: it has not.
    pub outcome: Option<TestOutcome>,
}

/// How the test of one mailbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// success, failure or skipped.
    pub result: TestResult,
    /// For each operation: why it failed; `None`: it did not, or was not tested.
    pub reasons: [Option<Reason>; 3],
    /// When.
    pub at: Timestamp,
}

/// The word for the end of a mailbox's test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestResult {
    /// Every tested operation works.
    Success,
    /// At least one does not.
    Failure,
    /// It was not tested; the first reason says why.
    Skipped,
}

/// Mailboxes of a profile whose tests have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnendedTests {
    /// The profile.
    pub profile: ProfileId,
    /// Those that their holders have been handed.
    pub running: u64,
    /// Those that are handed out later.
    pub waiting: u64,
}

/// A long-running operation: test & enable of many mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongOperation {
    /// Its id.
    pub id: OperationId,
    /// Where it belongs.
    pub org: Org,
    /// What was selected, for people.
    pub selection: String,
    /// running, paused, done or canceled.
    pub state: LongState,
    /// Why it is paused.
    pub reason: Option<Reason>,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// How many mailboxes in all.
    pub total: u64,
    /// How many were handed to their holders and have not ended.
    pub running: u64,
    /// How many ended well.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were not tested.
    pub skipped: u64,
}

impl LongOperation {
    /// Its key in the list: what [`Page::after`] takes to go on behind it.
    pub fn page_key(&self) -> String {
        Position { at: self.create_time, id: self.id.get() }.to_string()
    }
}

/// The state of a long-running operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LongState {
    /// It goes on.
    Running,
    /// It waits for something that is said in its reason, and goes on by itself.
    Paused,
    /// Every mailbox ended.
    Done,
    /// A person stopped it; what had ended stays.
    Canceled,
}

/// What came of asking for polls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedPolls {
    /// Mailboxes that will be polled.
    pub wanted: Vec<MailboxId>,
    /// Mailboxes that nobody can hold as they are.
    pub refused: Vec<Hindered>,
}

/// A mailbox that nobody can hold as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindered {
    /// Which.
    pub mailbox: MailboxId,
    /// Its address.
    pub address: String,
    /// Why: `PROFILE_NOT_SET` or `MAILBOX_STATE_UNREADABLE`.
    pub reason: Reason,
}

/// Mailboxes of a profile by health: what the failure ratio is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCount {
    /// The profile.
    pub profile: ProfileId,
    /// Not eligible.
    pub not_eligible: u64,
    /// Eligible and well.
    pub ok: u64,
    /// Eligible and failing.
    pub failing: u64,
}

words! {
    MailboxKind: User = "user", Queue = "queue", Forward = "forward";
    Approval: Pending = "pending", Approved = "approved", Rejected = "rejected";
    TestResult: Success = "success", Failure = "failure", Skipped = "skipped";
    LongState: Running = "running", Paused = "paused", Done = "done", Canceled = "canceled";
}

/// What administrators write and read.
#[async_trait]
pub trait People: Send + Sync {
    /// The settings of an organization.
    async fn settings(&self, org: &Org) -> Result<Settings>;

    /// Changes the settings if `settings.revision` is still theirs; returns them with the new revision.
    async fn update_settings(&self, org: &Org, settings: &Settings) -> Result<Settings>;

    /// Makes a profile, with `set_default` that of new mailboxes too. Refused with `RESOURCE_ALREADY_EXISTS` if its
    /// name is taken.
    async fn create_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile>;

    /// Changes a profile if its revision is still `profile.revision` (`ETAG_MISMATCH` otherwise), and those secrets
    /// that are given; with `set_default` it becomes that of new mailboxes too. Creation time stays as it is; capabilities too, unless mail goes by another URL: they are then to be found out anew.
    async fn update_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile>;

    /// One profile.
    async fn profile(&self, id: ProfileId) -> Result<Option<Profile>>;

    /// One profile by its name, ignoring case.
    async fn profile_named(&self, org: &Org, name: &str) -> Result<Option<Profile>>;

    /// All profiles of an organization by name (`None`: of all organizations).
    async fn profiles(&self, org: Option<&Org>) -> Result<Vec<Profile>>;

    /// The secret of the credentials that a direction of this profile is done by, for the process that signs in with
    /// it. No API hands it on. Refused with `ETAG_MISMATCH` if the credentials are others by now: a secret is never
    /// given out for an account or a scheme that it does not belong to.
    async fn secret(&self, profile: &Profile, direction: Direction) -> Result<Option<SecretString>>;

    /// Keeps the result of Test Connection in place of the last one.
    async fn keep_connection_test(&self, profile: ProfileId, test: &ConnectionTest) -> Result<()>;

    /// The last result of Test Connection.
    async fn connection_test(&self, profile: ProfileId) -> Result<Option<ConnectionTest>>;

    /// Makes mailboxes, all or none. Refused with `RESOURCE_ALREADY_EXISTS` and the field `rows[N].address` for the
    /// first address that is taken (in the store or twice in `rows`, ignoring case).
    async fn create_mailboxes(&self, org: &Org, rows: &[NewMailbox], at: Timestamp) -> Result<()>;

    /// Changes what people set on a mailbox, and its account, if its revision is still `revision`. Another profile
    /// takes it from its holder; without one, tests and polls that were asked for end.
    async fn update_mailbox(
        &self,
        set: &NewMailbox,
        account: &AccountChange,
        revision: Revision,
    ) -> Result<Mailbox>;

    /// The password of a mailbox's account, for the process that signs in with it. No API hands it on. Refused with
    /// `ETAG_MISMATCH` if the account is another by now.
    async fn account_secret(&self, mailbox: MailboxId, account: &Account) -> Result<SecretString>;

    /// One mailbox.
    async fn mailbox(&self, id: MailboxId) -> Result<Option<Mailbox>>;

    /// One mailbox by its address, ignoring case.
    async fn mailbox_at(&self, org: &Org, address: &str) -> Result<Option<Mailbox>>;

    /// Mailboxes that match, by address; at most `page.limit`, after `page.after`.
    async fn mailboxes(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Mailbox>>;

    /// How many mailboxes match.
    async fn count_mailboxes(&self, org: &Org, filter: &Filter) -> Result<u64>;

    /// Decides on the approval of mailboxes; returns how many changed. `RESOURCE_NOT_FOUND` names the first address
    /// that does not exist, and nothing changes.
    async fn decide_approval(
        &self,
        org: &Org,
        selection: &Selection,
        approval: Approval,
        at: Timestamp,
    ) -> Result<u64>;

    /// Cycles of a mailbox that committed something or failed, newest first; the last 16 are kept.
    async fn cycles(&self, mailbox: MailboxId) -> Result<Vec<Cycle>>;

    /// Asks for a poll of mailboxes, without those that nobody can hold.
    async fn want_polls(&self, org: &Org, selection: &Selection) -> Result<WantedPolls>;

    /// Starts a test & enable: the operation and one row per selected mailbox, all or nothing.
    /// `SELECTION_EMPTY` if nothing is selected. Rows that cannot be tested (no method, no profile, unreadable, not
    /// approved where the settings demand approval) end at once as skipped with their reason.
    async fn start_test(
        &self,
        org: &Org,
        id: OperationId,
        selection: &Selection,
        description: &str,
        at: Timestamp,
    ) -> Result<LongOperation>;

    /// One long-running operation.
    async fn operation(&self, id: OperationId) -> Result<Option<LongOperation>>;

    /// Long-running operations, newest first, with `live` only those that have not ended; at most `page.limit`, after
    /// `page.after`.
    async fn operations(&self, org: &Org, live: bool, page: &Page) -> Result<Vec<LongOperation>>;

    /// Long-running operations of all organizations that have not ended, the oldest first.
    async fn live_operations(&self, limit: u32) -> Result<Vec<LongOperation>>;

    /// Rows of a long-running operation that ended after the first `skip` to end, in the order in which they ended.
    async fn operation_results(&self, id: OperationId, skip: u64, limit: u32) -> Result<Vec<TestItem>>;

    /// Hands up to `limit` more mailboxes of the operation to their holders, none of the profiles in `held`; returns
    /// how many. Written by the leader.
    async fn advance_test(
        &self,
        lead: &crate::fleet::Leadership,
        id: OperationId,
        limit: u32,
        held: &[ProfileId],
    ) -> Result<u64>;

    /// Mailboxes of the operation whose tests have not ended, by profile.
    async fn unended_tests(&self, id: OperationId) -> Result<Vec<UnendedTests>>;

    /// Sets the state of a long-running operation. Written by the leader. Canceling takes back the tests that their
    /// holders have not ended.
    async fn set_operation_state(
        &self,
        lead: &crate::fleet::Leadership,
        id: OperationId,
        state: LongState,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<()>;

    /// Mailboxes by health for every profile.
    async fn health_counts(&self) -> Result<Vec<HealthCount>>;

    /// The same, counted anew from the mailboxes: must always equal [`Self::health_counts`].
    async fn recount_health(&self) -> Result<Vec<HealthCount>>;

    /// Why mailboxes of a profile are failing, and how many for each reason; the most frequent first.
    async fn failing_reasons(&self, profile: ProfileId) -> Result<Vec<(Reason, u64)>>;

    /// Mailboxes of an organization by operation, state word and reason.
    async fn operation_counts(&self, org: &Org) -> Result<Vec<(Kind, String, Option<Reason>, u64)>>;
}
