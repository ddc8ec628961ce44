//! Facts, alerts and what people were told of them: written by the leader's Aggregator, except the facts, which are
//! written together with what they tell of.

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Level, Regarding},
    id::{AlertId, Org, ProfileId},
    reason::Scope,
};

use crate::{
    Result,
    fleet::Leadership,
    query::{Filter, Page, Position},
};

/// A fact that no alert book has taken up yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Unbooked {
    /// Its number; in the order of making, not of commit.
    pub number: u64,
    /// Where it belongs.
    pub org: Org,
    /// What happened; or what of it cannot be understood.
    pub fact: Result<Fact, String>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Where it belongs.
    pub org: Org,
    /// The reason.
    pub reason: Reason,
    /// How much it matters.
    pub level: Level,
    /// Whom it strikes.
    pub scope: Scope,
    /// What it is about.
    pub regarding: Regarding,
    /// The same for people: an address, a profile's name or an email's id. Filled when it is read.
    pub regarding_name: String,
    /// The profile it belongs to.
    pub profile: Option<ProfileId>,
    /// How often it happened.
    pub count: u64,
    /// Which operations of its mailbox keep it open, in the order of `Kind::ALL`.
    pub operations: [bool; 3],
    /// One sentence with numbers.
    pub summary: String,
    /// When it happened first.
    pub first_time: Timestamp,
    /// When it happened last.
    pub last_time: Timestamp,
    /// When it ended; `None`: it is open.
    pub resolved_time: Option<Timestamp>,
    /// What became of its mail: sent, waiting, or the reason why there is none. In a booking, `None` leaves what is
    /// stored.
    pub notice: Option<String>,
}

impl Alert {
    /// Its key in the list: what [`Page::after`] takes to go on behind it.
    pub fn page_key(&self) -> String {
        Position { at: self.first_time, id: self.id.get() }.to_string()
    }
}

/// The Aggregator's state of a profile: the ratio machine, in its one-line text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatioState {
    /// The profile.
    pub profile: ProfileId,
    /// The state.
    pub state: String,
}

/// A mail that shall be sent to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number.
    pub number: u64,
    /// The alert.
    pub alert: AlertId,
    /// To whom.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// Attempts that failed.
    pub attempts: u32,
}

/// One booking: everything in it happens in one transaction, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Booking {
    /// Facts that are taken up by this.
    pub facts: Vec<u64>,
    /// Alerts as they shall stand: new ones and changed ones.
    pub alerts: Vec<Alert>,
    /// States of ratio machines as they shall stand.
    pub ratios: Vec<RatioState>,
    /// Mails that shall be sent (number and attempts are not read).
    pub notices: Vec<Notice>,
}

/// The alert book.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Facts not taken up yet, oldest first.
    async fn unbooked(&self, limit: u32) -> Result<Vec<Unbooked>>;

    /// Takes facts up and changes alerts. Written by the leader.
    async fn book(&self, lead: &Leadership, booking: &Booking) -> Result<()>;

    /// Open alerts, all of them that can be understood, for a leader that begins.
    async fn open_alerts(&self) -> Result<Vec<Alert>>;

    /// States of ratio machines, for a leader that begins.
    async fn ratio_states(&self) -> Result<Vec<RatioState>>;

    /// Alerts that match, newest first; at most `page.limit`, after `page.after`.
    async fn alerts(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Alert>>;

    /// One alert.
    async fn alert(&self, id: AlertId) -> Result<Option<Alert>>;

    /// Mails that are due at `now`.
    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>>;

    /// What became of an attempt to send a mail: `Ok`: it was accepted; otherwise it is due again at `again`
    /// (`None`: given up), and the alert says why.
    async fn notice_attempted(
        &self,
        lead: &Leadership,
        number: u64,
        result: Result<(), Reason>,
        again: Option<Timestamp>,
    ) -> Result<()>;

    /// Facts that the coordinator itself raises, such as a halted test.
    async fn raise(&self, lead: &Leadership, org: &Org, facts: &[Fact]) -> Result<()>;

    /// Removes alerts that were resolved before `before`, and facts that were taken up before it.
    async fn forget(&self, lead: &Leadership, before: Timestamp) -> Result<u64>;
}
