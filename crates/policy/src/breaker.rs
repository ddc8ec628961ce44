//! The breaker of a profile: a fault of the server is one fact about the profile and not thousands about its mailboxes.
//!
//! While it is open only canaries ask the server, one at a time; a refused credential is tried at most three times
//! more with the same secret, so that no account is locked by us.

mod roads;
mod text;

use std::{collections::BTreeSet, time::Duration};

pub use self::roads::{Breakers, Road};
use crate::{
    id::{Attempt, MailboxId},
    reason::Reason,
    time::Timestamp,
};

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Faults in a row that open it.
    pub faults: u8,
    /// From how many different mailboxes they must come, if the profile has as many.
    pub mailboxes: u8,
    /// The first canary goes this long after the opening; the wait doubles.
    pub canary_first: Duration,
    /// The wait between canaries grows to this.
    pub canary_max: Duration,
    /// The second canary of a refused credential goes this long after the first; later ones only when asked for.
    pub credential_canary: Duration,
    /// Canaries with one refused secret.
    pub credential_tries: u8,
    /// Successes of different mailboxes that close it.
    pub successes: u8,
    /// A canary of which nothing is heard for so long is given up.
    pub canary_deadline: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            faults: 5,
            mailboxes: 3,
            canary_first: Duration::from_secs(5),
            canary_max: Duration::from_mins(1),
            credential_canary: Duration::from_mins(1),
            credential_tries: 3,
            successes: 3,
            canary_deadline: Duration::from_mins(2),
        }
    }
}

/// A breaker of one lane of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How many mailboxes of the lane would run. Not stored.
    eligible: u32,
    /// Number of the last canary.
    attempt: Attempt,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed(Closed),
    Open(Open),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Closed {
    since: Timestamp,
    faults: u8,
    mailboxes: BTreeSet<MailboxId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    /// When it opened, or when the last canary went.
    last: Timestamp,
    reason: Reason,
    /// One refusal only: everybody waits for one canary, and nobody is told yet.
    suspected_by: Option<MailboxId>,
    /// When the next canary may go; `None`: not by itself.
    next: Option<Timestamp>,
    gap: Duration,
    /// Canaries with the refused secret so far.
    tries: u8,
    canary: Option<Canary>,
    successes: BTreeSet<MailboxId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Canary {
    attempt: Attempt,
    mailbox: MailboxId,
    begun: Timestamp,
}

/// What the server's side made of one run of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answered, be it with a failure of that mailbox.
    Answered,
    /// It asked to wait: says nothing about its health.
    Throttled,
    /// A fault of the server, or a refused credential.
    Fault(Reason),
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The result of a run that was begun while it was closed.
    Ended {
        /// Whose run.
        mailbox: MailboxId,
        /// When it was begun.
        begun: Timestamp,
        /// What came of it.
        answer: Answer,
    },
    /// The result of a canary.
    CanaryEnded {
        /// Which.
        attempt: Attempt,
        /// What came of it.
        answer: Answer,
    },
    /// The profile's secret, user or URL changed.
    Changed,
    /// A person wants to know now.
    Asked,
    /// So many mailboxes of the lane would run.
    Eligible(u32),
}

/// Whether a mailbox may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// Yes, as the canary with this number.
    Canary(Attempt),
    /// No: the breaker is open for this reason.
    Held {
        /// Why it is open.
        reason: Reason,
    },
}

/// What a step changed, for the alert book and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It opened.
    Opened(Reason),
    /// It closed.
    Closed,
}

impl Breaker {
    /// Closed, nothing known.
    pub fn new(now: Timestamp) -> Self {
        let closed = Closed { since: now, ..Closed::default() };
        Self { eligible: 0, attempt: Attempt(0), state: State::Closed(closed) }
    }

    /// Why it is open; `None`: it is closed, or waits for the canary of a mere suspicion.
    pub fn open(&self) -> Option<Reason> {
        match &self.state {
            State::Closed(_) => None,
            State::Open(open) => open.suspected_by.is_none().then_some(open.reason),
        }
    }

    /// When it wants some mailbox to be a canary; `None`: not by itself, or one is under way.
    pub fn canary_at(&self, rules: &Rules, now: Timestamp) -> Option<Timestamp> {
        match &self.state {
            State::Closed(_) => None,
            State::Open(open) => match open.canary {
                Some(canary) => Some((canary.begun + rules.canary_deadline).min(now + rules.canary_deadline)),
                None => open.next.map(|next| next.min(now + rules.longest_wait())),
            },
        }
    }

    /// Whether a mailbox may run. The answer [`Admission::Canary`] is given to one at a time.
    pub fn admit(&mut self, rules: &Rules, mailbox: MailboxId, now: Timestamp) -> Admission {
        let due = self.canary_at(rules, now).is_some_and(|at| at <= now);
        match &mut self.state {
            State::Closed(_) => Admission::Go,
            State::Open(open) => {
                // More successes must come from other mailboxes, if there are others.
                let has_proven =
                    open.successes.contains(&mailbox) && (open.successes.len() as u32) < self.eligible;
                if !due || has_proven {
                    return Admission::Held { reason: open.reason };
                }
                self.attempt = self.attempt.next();
                open.canary = Some(Canary { attempt: self.attempt, mailbox, begun: now });
                open.last = now;
                open.tries = open.tries.saturating_add(1);
                Admission::Canary(self.attempt)
            }
        }
    }

    /// The next state.
    pub fn step(&mut self, rules: &Rules, event: Event, now: Timestamp) -> Option<Effect> {
        match event {
            Event::Eligible(count) => {
                self.eligible = count;
                None
            }
            Event::Ended { mailbox, begun, answer } => match &mut self.state {
                State::Closed(closed) if begun >= closed.since || begun > now => {
                    let eligible = self.eligible;
                    self.closed_ended(rules, eligible, mailbox, answer, now)
                }
                State::Open(_) => self.open_ended(mailbox, answer),
                State::Closed(_) => None,
            },
            Event::CanaryEnded { attempt, answer } => match &self.state {
                State::Open(open) if open.canary.is_some_and(|canary| canary.attempt == attempt) => {
                    self.canary_ended(rules, answer, now)
                }
                State::Open(_) | State::Closed(_) => None,
            },
            Event::Changed => {
                if let State::Open(open) = &mut self.state {
                    (open.tries, open.next, open.canary, open.gap) = (0, Some(now), None, rules.canary_first);
                    open.successes.clear();
                }
                None
            }
            Event::Asked => {
                if let State::Open(open) = &mut self.state
                    && open.canary.is_none()
                    && (!open.reason.is_credential_fault() || open.tries < rules.credential_tries)
                {
                    // However many ask, a server that is not well is asked no more often than at first.
                    let soonest = if open.reason.is_credential_fault() {
                        now
                    } else {
                        (open.last + rules.canary_first).clamp(now, now + rules.canary_first)
                    };
                    open.next = Some(open.next.map_or(soonest, |next| next.min(soonest)));
                }
                None
            }
        }
    }

    fn closed_ended(
        &mut self,
        rules: &Rules,
        eligible: u32,
        mailbox: MailboxId,
        answer: Answer,
        now: Timestamp,
    ) -> Option<Effect> {
        let State::Closed(closed) = &mut self.state else { return None };
        let reason = match answer {
            Answer::Answered => {
                (closed.faults, closed.mailboxes) = (0, BTreeSet::new());
                return None;
            }
            Answer::Throttled => return None,
            Answer::Fault(reason) => reason,
        };
        if reason.is_credential_fault() {
            self.state = State::Open(Open {
                suspected_by: Some(mailbox),
                next: Some(now),
                ..Open::new(rules, reason, now)
            });
            return None;
        }
        closed.faults = closed.faults.saturating_add(1);
        closed.mailboxes.insert(mailbox);
        let enough = u32::from(rules.mailboxes).min(eligible.max(1));
        if closed.faults < rules.faults || (closed.mailboxes.len() as u32) < enough {
            return None;
        }
        self.state = State::Open(Open::new(rules, reason, now));
        Some(Effect::Opened(reason))
    }

    /// Runs begun before the opening say nothing new, save that a second mailbox confirms a suspicion.
    fn open_ended(&mut self, mailbox: MailboxId, answer: Answer) -> Option<Effect> {
        let State::Open(open) = &mut self.state else { return None };
        let (Some(first), Answer::Fault(reason)) = (open.suspected_by, answer) else { return None };
        if first == mailbox || !reason.is_credential_fault() {
            return None;
        }
        open.suspected_by = None;
        Some(Effect::Opened(open.reason))
    }

    fn canary_ended(&mut self, rules: &Rules, answer: Answer, now: Timestamp) -> Option<Effect> {
        let eligible = self.eligible;
        let State::Open(open) = &mut self.state else { return None };
        let canary = open.canary.take()?;
        match answer {
            Answer::Answered => {
                open.successes.insert(canary.mailbox);
                let enough = u32::from(rules.successes).min(eligible.max(1));
                let suspected = open.suspected_by.is_some();
                if suspected || open.successes.len() as u32 >= enough {
                    self.state = State::Closed(Closed { since: now, ..Closed::default() });
                    return (!suspected).then_some(Effect::Closed);
                }
                (open.tries, open.next, open.gap) = (0, Some(now), rules.canary_first);
                None
            }
            Answer::Throttled => {
                open.tries = open.tries.saturating_sub(1);
                open.next = Some(now + open.gap);
                None
            }
            Answer::Fault(reason) => {
                let opened = open.suspected_by.take().map(|_| Effect::Opened(reason));
                open.reason = reason;
                open.successes.clear();
                if reason.is_credential_fault() {
                    open.next = (open.tries < 2).then(|| now + rules.credential_canary);
                } else {
                    open.tries = 0;
                    open.next = Some(now + open.gap);
                    open.gap = (open.gap * 2).min(rules.canary_max);
                }
                opened
            }
        }
    }
}

impl Open {
    fn new(rules: &Rules, reason: Reason, now: Timestamp) -> Self {
        Self {
            last: now,
            reason,
            suspected_by: None,
            next: Some(now + rules.canary_first),
            gap: (rules.canary_first * 2).min(rules.canary_max),
            tries: 0,
            canary: None,
            successes: BTreeSet::new(),
        }
    }
}

impl Rules {
    fn longest_wait(&self) -> Duration {
        self.canary_max.max(self.credential_canary).max(self.canary_first)
    }
}
