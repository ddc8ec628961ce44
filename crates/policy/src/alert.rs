//! The alert book: what happened becomes few alerts that open, join, escalate and resolve.
//!
//! One alert per reason and object. A mailbox that retries raises a warning, a disabled one an error of the same
//! reason; a fault of the server speaks through the profile's breaker alone.

pub mod ratio;
mod text;

use std::collections::BTreeMap;

use crate::{
    breaker::Road,
    id::{AlertId, MailboxId, OutgoingId, ProfileId, RecordId},
    mailbox::Note,
    operation::Kind,
    reason::{Reason, Scope},
    time::Timestamp,
    words,
};

/// Something that happened, written together with what it tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// What it is about.
    pub regarding: Regarding,
    /// What happened.
    pub what: What,
    /// When.
    pub at: Timestamp,
}

/// Whom or what a fact or an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regarding {
    /// A mailbox.
    Mailbox(MailboxId),
    /// A profile.
    Profile(ProfileId),
    /// An email.
    Email(RecordId),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// An operation failed and is tried again.
    Failing(Kind, Reason),
    /// An operation was disabled.
    Disabled(Kind, Reason),
    /// An operation works again, or was switched off.
    Recovered(Kind),
    /// A test ended well.
    Connected,
    /// An item could not be tracked and waits for a person.
    Quarantined(Reason),
    /// An email was refused for good.
    SendFailed(Reason),
    /// Nobody can say whether an email was sent.
    InDoubt,
    /// A person settled the doubt.
    Settled,
    /// Two different messages carry the same Message-ID.
    MessageIdReused,
    /// The breaker of a road opened.
    BreakerOpened(Road, Reason),
    /// It closed.
    BreakerClosed(Road),
    /// A test of many mailboxes waits for the profile.
    TestHalted,
    /// It goes on.
    TestResumed,
}

impl Fact {
    /// What the machine of a mailbox noted.
    pub fn of_mailbox(mailbox: MailboxId, note: Note, at: Timestamp) -> Self {
        let what = match note {
            Note::Failing { operation, reason, failures: _ } => What::Failing(operation, reason),
            Note::Disabled { operation, reason, after_retries: _ } => What::Disabled(operation, reason),
            Note::Recovered { operation } => What::Recovered(operation),
            Note::Connected => What::Connected,
        };
        Self { regarding: Regarding::Mailbox(mailbox), what, at }
    }

    /// What happened to a sending.
    pub fn of_email(email: OutgoingId, what: What, at: Timestamp) -> Self {
        Self { regarding: Regarding::Email(RecordId::new(email.get())), what, at }
    }
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Good to know.
    Information,
    /// It may need somebody.
    Warning,
    /// It needs somebody.
    Error,
}

words! {
    Level: Information = "information", Warning = "warning", Error = "error";
}

/// What an alert is known by: at most one with this key is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is about.
    pub regarding: Regarding,
    /// Why.
    pub reason: Reason,
}

/// An alert as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// What it is known by.
    pub key: Key,
    /// How much it matters.
    pub level: Level,
    /// How often it happened.
    pub count: u64,
    /// Which operations of the mailbox, or by which roads of the profile, keep it open, in the order of [`Kind::ALL`].
    pub operations: [bool; 3],
    /// When it happened first.
    pub first: Timestamp,
    /// When it happened last.
    pub last: Timestamp,
    /// When it ended; `None`: it is open.
    pub resolved: Option<Timestamp>,
}

impl Alert {
    /// Whom it strikes.
    pub fn scope(&self) -> Scope {
        match (self.key.regarding, self.key.reason.scope()) {
            (_, Scope::Item) | (Regarding::Email(_), _) => Scope::Item,
            (Regarding::Profile(_), _) => Scope::Profile,
            (Regarding::Mailbox(_), _) => Scope::Mailbox,
        }
    }
}

/// The open alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    open: BTreeMap<Key, Alert>,
}

impl Book {
    /// A book with the alerts that stand open.
    pub fn new(open: impl IntoIterator<Item = Alert>) -> Self {
        let open = open.into_iter().filter(|alert| alert.resolved.is_none());
        Self { open: open.map(|alert| (alert.key, alert)).collect() }
    }

    /// The open alerts.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.open.values()
    }

    /// Books a fact. Returns the alerts that changed, as they stand now. `id` is the id of the one that may open.
    pub fn step(&mut self, fact: Fact, id: AlertId) -> Vec<Alert> {
        let Fact { regarding, what, at } = fact;
        let mut changed = Vec::new();
        match what {
            What::Failing(kind, reason) => {
                self.leave(regarding, kind, Some(reason), at, &mut changed);
                changed.push(self.join(Key { regarding, reason }, Level::Warning, Some(kind), at, id));
            }
            What::Disabled(kind, reason) => {
                self.leave(regarding, kind, Some(reason), at, &mut changed);
                changed.push(self.join(Key { regarding, reason }, Level::Error, Some(kind), at, id));
            }
            What::Recovered(kind) => self.leave(regarding, kind, None, at, &mut changed),
            What::Connected => {
                // News that nobody has to end.
                let key = Key { regarding, reason: Reason::MailboxConnected };
                self.join(key, Level::Information, None, at, id);
                changed.extend(self.resolve(key, at));
            }
            What::Quarantined(reason) => {
                changed.push(self.join(Key { regarding, reason }, Level::Warning, None, at, id));
            }
            What::SendFailed(reason) => {
                changed.push(self.join(Key { regarding, reason }, Level::Error, None, at, id));
            }
            What::InDoubt => {
                let reason = Reason::EmailOutcomeUnknown;
                changed.push(self.join(Key { regarding, reason }, Level::Error, None, at, id));
            }
            What::Settled => {
                changed.extend(self.resolve(Key { regarding, reason: Reason::EmailOutcomeUnknown }, at));
            }
            What::MessageIdReused => {
                let reason = Reason::MessageIdReused;
                changed.push(self.join(Key { regarding, reason }, Level::Information, None, at, id));
            }
            What::BreakerOpened(road, reason) => {
                let kinds = || kinds_of(road);
                kinds().for_each(|kind| self.leave(regarding, kind, Some(reason), at, &mut changed));
                let mut alert = self.join(Key { regarding, reason }, Level::Error, None, at, id);
                kinds().for_each(|kind| alert.operations[kind as usize] = true);
                self.open.insert(alert.key, alert);
                changed.push(alert);
            }
            What::BreakerClosed(road) => {
                kinds_of(road).for_each(|kind| self.leave(regarding, kind, None, at, &mut changed));
            }
            What::TestHalted => {
                let reason = Reason::ProfileTestHalted;
                changed.push(self.join(Key { regarding, reason }, Level::Warning, None, at, id));
            }
            What::TestResumed => {
                changed.extend(self.resolve(Key { regarding, reason: Reason::ProfileTestHalted }, at));
            }
        }
        changed
    }

    /// Opens an alert of the ratio machine.
    pub fn ratio_high(&mut self, profile: ProfileId, at: Timestamp, id: AlertId) -> Alert {
        let key = Key { regarding: Regarding::Profile(profile), reason: Reason::ProfileFailureRatioHigh };
        self.join(key, Level::Error, None, at, id)
    }

    /// Resolves it; `None`: there was none.
    pub fn ratio_normal(&mut self, profile: ProfileId, at: Timestamp) -> Option<Alert> {
        let key = Key { regarding: Regarding::Profile(profile), reason: Reason::ProfileFailureRatioHigh };
        self.resolve(key, at)
    }

    fn join(&mut self, key: Key, level: Level, kind: Option<Kind>, at: Timestamp, id: AlertId) -> Alert {
        let alert = self.open.entry(key).or_insert(Alert {
            id,
            key,
            level,
            count: 0,
            operations: [false; 3],
            first: at,
            last: at,
            resolved: None,
        });
        alert.count += 1;
        alert.last = alert.last.max(at);
        alert.level = alert.level.max(level);
        if let Some(kind) = kind {
            alert.operations[kind as usize] = true;
        }
        *alert
    }

    fn resolve(&mut self, key: Key, at: Timestamp) -> Option<Alert> {
        let alert = self.open.remove(&key)?;
        Some(Alert { resolved: Some(at), operations: [false; 3], ..alert })
    }

    /// The operation has nothing more to do with the mailbox's alerts, except with the one of reason `but`.
    fn leave(
        &mut self,
        regarding: Regarding,
        kind: Kind,
        but: Option<Reason>,
        at: Timestamp,
        changed: &mut Vec<Alert>,
    ) {
        let keys: Vec<Key> = self
            .of(regarding)
            .filter(|alert| alert.operations[kind as usize] && Some(alert.key.reason) != but)
            .map(|alert| alert.key)
            .collect();
        for key in keys {
            let Some(alert) = self.open.get_mut(&key) else { continue };
            alert.operations[kind as usize] = false;
            if alert.operations == [false; 3] {
                changed.extend(self.resolve(key, at));
            } else {
                changed.push(*alert);
            }
        }
    }

    fn of(&self, regarding: Regarding) -> impl Iterator<Item = &Alert> {
        let first = Key { regarding, reason: Reason::catalogue()[0].reason };
        self.open
            .range(first..)
            .take_while(move |(key, _)| key.regarding == regarding)
            .map(|(_, alert)| alert)
    }
}

/// The directions that a road leads.
fn kinds_of(road: Road) -> impl Iterator<Item = Kind> {
    [Kind::Incoming, Kind::Outgoing].into_iter().filter(move |kind| road.kinds()[*kind as usize])
}
