//! The machine of one stream: who is subscribed, when the connection is opened, and how long nothing is tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Rules;
use crate::{id::MailboxId, time::Timestamp};

/// What shall be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Subscribe this mailbox.
    Subscribe(MailboxId),
    /// End the subscription of a mailbox that has left.
    Unsubscribe(MailboxId),
    /// Open a connection for all that are subscribed, instead of the one that is open. This mailbox leads to the server
    /// and is charged.
    Read {
        /// It.
        anchor: MailboxId,
    },
    /// Nothing before this moment; `None`: before something happens.
    Wait(Option<Timestamp>),
}

/// Why something did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The subscription is not there any more: it expired, or the server lost it or what it had to tell.
    Gone,
    /// There are as many subscriptions as the server allows.
    Full,
    /// The server does not do this.
    Never,
    /// The mailbox in whose name it was asked cannot be reached.
    Mailbox,
    /// The server or the road to it; with how long the server asked to be left alone.
    Server(Option<Duration>),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A mailbox is subscribed.
    Subscribed(MailboxId),
    /// It could not be.
    Refused(MailboxId, Trouble),
    /// The subscription of a mailbox that left has ended, or is left to end by itself.
    Unsubscribed(MailboxId),
    /// A connection is being opened for all that are subscribed.
    Reading,
    /// A connection tells of one mailbox no more.
    Lost(MailboxId, Trouble),
    /// The connection ended.
    Ended {
        /// It stood before.
        stood: bool,
        /// `None`: the server ended it in order, and keeps what happens for the next one.
        trouble: Option<Trouble>,
    },
}

/// One stream at the holder of its mailboxes. Nothing of it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    members: BTreeMap<MailboxId, Member>,
    /// They left and are still subscribed.
    leaving: BTreeSet<MailboxId>,
    anchor: Option<MailboxId>,
    reading: Option<Reading>,
    trials: Trials,
    /// Since when somebody is subscribed and not read.
    unread_since: Option<Timestamp>,
    /// Nothing is asked of the server before.
    not_before: Option<Timestamp>,
    subscribed_last: Option<Timestamp>,
}

/// A connection that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    members: BTreeSet<MailboxId>,
    since: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Member {
    subscribed: bool,
    /// It is not subscribed before.
    not_before: Option<Timestamp>,
    trials: Trials,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trials {
    failures: u32,
    well_since: Option<Timestamp>,
}

impl Trials {
    fn worked(&mut self, now: Timestamp) {
        self.well_since.get_or_insert(now);
    }

    /// When it is tried again.
    fn failed(&mut self, rules: &Rules, now: Timestamp) -> Timestamp {
        if self.well_since.take().is_some_and(|since| now.since(since) >= rules.back_off_max) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        now + rules.wait(self.failures)
    }
}

impl Member {
    fn failed(&mut self, rules: &Rules, trouble: Trouble, now: Timestamp) {
        self.subscribed = false;
        self.not_before = match trouble {
            Trouble::Never => Some(now + rules.refused),
            Trouble::Full => Some(now + rules.back_off_max),
            Trouble::Gone | Trouble::Mailbox => Some(self.trials.failed(rules, now)),
            // The whole stream waits.
            Trouble::Server(_) => None,
        };
    }
}

impl Stream {
    /// These are its mailboxes from now on.
    pub fn set_members(&mut self, wanted: &BTreeSet<MailboxId>) {
        let left = self.members.extract_if(.., |member, _| !wanted.contains(member));
        self.leaving.extend(left.filter(|(_, member)| member.subscribed).map(|(id, _)| id));
        for id in wanted {
            self.members.entry(*id).or_default();
        }
    }

    /// Who is told of by the connection that is open.
    pub fn read(&self) -> impl Iterator<Item = MailboxId> {
        let members = self.reading.iter().flat_map(|reading| &reading.members);
        members.copied().filter(|id| self.is_subscribed(*id))
    }

    /// Who is subscribed.
    pub fn subscribed(&self) -> impl Iterator<Item = MailboxId> {
        self.members.iter().filter(|(_, member)| member.subscribed).map(|(id, _)| *id)
    }

    /// What is to be done now.
    pub fn next(&self, rules: &Rules, now: Timestamp) -> Step {
        // What is further away was planned before the clock was set back: it is not waited for.
        let waits = |until: Option<Timestamp>, longest: Duration| {
            until.filter(|until| *until > now && *until <= now + longest)
        };
        if let Some(until) = waits(self.not_before, rules.refused) {
            return Step::Wait(Some(until));
        }
        if let Some(id) = self.leaving.first() {
            return Step::Unsubscribe(*id);
        }
        let unsubscribed = self.members.iter().filter(|(_, member)| !member.subscribed);
        let (mut ready, mut later) = (None, None::<Timestamp>);
        for (id, member) in unsubscribed {
            match waits(member.not_before, rules.refused) {
                None => ready = ready.or(Some(*id)),
                Some(until) => later = Some(later.map_or(until, |later| later.min(until))),
            }
        }
        if let Some(id) = ready {
            let paced = self.subscribed_last.map(|last| last + rules.pace);
            return waits(paced, rules.pace).map_or(Step::Subscribe(id), |until| Step::Wait(Some(until)));
        }
        match (self.unread_since, self.anchor()) {
            (Some(since), Some(anchor)) => {
                let gathers = self.reading.as_ref().map(|_| since + rules.gather);
                match waits(gathers, rules.gather) {
                    None => Step::Read { anchor },
                    Some(until) => Step::Wait(Some(later.map_or(until, |later| later.min(until)))),
                }
            }
            (None, _) | (_, None) => Step::Wait(later),
        }
    }

    /// What follows from what happened.
    pub fn step(&mut self, rules: &Rules, event: Event, now: Timestamp) {
        match event {
            Event::Subscribed(id) => {
                self.subscribed_last = Some(now);
                match self.members.get_mut(&id) {
                    Some(member) => {
                        *member = Member { subscribed: true, not_before: None, trials: member.trials };
                        member.trials.worked(now);
                        self.unread_since.get_or_insert(now);
                    }
                    // It left meanwhile.
                    None => {
                        self.leaving.insert(id);
                    }
                }
            }
            Event::Refused(id, trouble) => {
                self.subscribed_last = Some(now);
                self.member_failed(rules, id, trouble, now);
            }
            Event::Unsubscribed(id) => {
                self.leaving.remove(&id);
            }
            Event::Reading => {
                self.anchor = self.anchor();
                self.reading = Some(Reading { members: self.subscribed().collect(), since: now });
                self.unread_since = None;
                self.trials.worked(now);
            }
            Event::Lost(id, trouble) => {
                self.leaving.remove(&id);
                // The connection goes on for the others, or ends by itself.
                let own = if matches!(trouble, Trouble::Server(_)) { Trouble::Gone } else { trouble };
                self.member_failed(rules, id, own, now);
            }
            Event::Ended { stood, trouble } => self.ended(rules, stood, trouble, now),
        }
    }

    fn member_failed(&mut self, rules: &Rules, id: MailboxId, trouble: Trouble, now: Timestamp) {
        if let Trouble::Server(hint) = trouble {
            self.failed(rules, hint, now);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.failed(rules, trouble, now);
        }
    }

    fn ended(&mut self, rules: &Rules, stood: bool, trouble: Option<Trouble>, now: Timestamp) {
        let Some(reading) = self.reading.take() else { return };
        self.unread_since = Some(now);
        match trouble {
            // One that ends as soon as it is opened would be opened without end.
            None => {
                if now.since(reading.since) < rules.back_off {
                    self.failed(rules, None, now);
                }
            }
            Some(Trouble::Never) => self.not_before = Some(now + rules.refused),
            Some(Trouble::Full) => self.not_before = Some(now + rules.back_off_max),
            // Another one may lead to the server.
            Some(Trouble::Mailbox) if !stood => {
                if let Some(anchor) = self.anchor.take() {
                    self.member_failed(rules, anchor, Trouble::Mailbox, now);
                }
            }
            Some(Trouble::Server(hint)) => self.failed(rules, hint, now),
            Some(Trouble::Gone | Trouble::Mailbox) => self.failed(rules, None, now),
        }
        if stood && trouble.is_some() {
            // What was told on its last moments did not arrive: subscribed anew, and polled then.
            self.members.values_mut().for_each(|member| member.subscribed = false);
            self.leaving.clear();
        }
    }

    fn failed(&mut self, rules: &Rules, hint: Option<Duration>, now: Timestamp) {
        let again = self.trials.failed(rules, now);
        let asked = hint.map_or(again, |hint| now + hint.min(rules.back_off_max));
        self.not_before = Some(again.max(asked));
    }

    /// Who leads to the server: the same one for as long as it can.
    fn anchor(&self) -> Option<MailboxId> {
        self.anchor.filter(|id| self.is_subscribed(*id)).or_else(|| self.subscribed().next())
    }

    fn is_subscribed(&self, id: MailboxId) -> bool {
        self.members.get(&id).is_some_and(|member| member.subscribed)
    }
}
