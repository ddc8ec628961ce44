//! A worker's process in the cluster: it keeps its lease, keeps a session with the coordinator that leads, carries out
//! what it shall hold, and goes away in order.
//!
//! Nobody's opinion but the store's is needed to go on, and nobody's silence matters: while no coordinator answers, it
//! works as long as it can renew its lease.

use std::{collections::BTreeMap, time::Duration};

use super::{Desired, Grant, Hello, Progress, SessionId, ToLeader, ToMember};
use crate::{
    id::{Epoch, ShardId, Term},
    lease::{self, Lease},
    reason::Reason,
    time::BootTime,
};

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The lease's.
    pub lease: lease::Rules,
    /// Coordinators that may be asked, one after the other.
    pub coordinators: usize,
    /// A coordinator that says nothing for so long is left.
    pub silence: Duration,
    /// The wait before a session is opened anew; it doubles with each that came to nothing.
    pub reopened: Duration,
    /// It grows to this.
    pub reopened_max: Duration,
    /// Between two attempts at something that the store did not do.
    pub again: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lease: lease::Rules::default(),
            coordinators: 1,
            silence: Duration::from_secs(10),
            reopened: Duration::from_millis(200),
            reopened_max: Duration::from_secs(5),
            again: Duration::from_secs(1),
        }
    }
}

/// What the store said to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts on.
    Accepted,
    /// This process was declared dead, or is not known.
    Dead,
    /// Nothing that can be relied on.
    Unknown,
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The path that schedules polls told how it fares.
    Progress(Progress),
    /// The coordinator said something on this session.
    Heard(SessionId, ToMember),
    /// This session cannot be opened, or has ended.
    Ended(SessionId),
    /// The store answered the renewal that was sent at this moment.
    Renewed(BootTime, Renewal),
    /// The clocks show that the host was stopped for a while.
    ClockJumped,
    /// Nothing of this grant runs here any more.
    Drained(Epoch),
    /// The store was told to release this grant: true if it did, or had done so.
    Released(Epoch, bool),
    /// The process shall end.
    Leave,
    /// The store was told that it goes away: true if it knows now.
    Departed(bool),
}

/// What a member wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open a session with this one of the coordinators.
    Open {
        /// The session's number.
        session: SessionId,
        /// The coordinator's place in the list.
        coordinator: usize,
        /// The first message.
        hello: Hello,
    },
    /// Say something on a session.
    Say(SessionId, ToLeader),
    /// Let a session go.
    Close(SessionId),
    /// Renew the lease in the store; the answer tells this moment.
    Renew(BootTime),
    /// There is something new to be claimed.
    Claim,
    /// Let the mailboxes of this grant finish what is under way, and stop.
    Drain(ShardId, Epoch),
    /// Give this grant back in the store.
    Release(ShardId, Epoch),
    /// Tell the store that this process goes away and is expected back.
    Depart,
    /// It has gone in order: the process may end.
    Gone,
    /// It was declared dead: whatever it holds stops now, and only as a new process it may come back.
    Lost,
    /// The coordinator does not take it, for this reason; it is asked again.
    Refused(Reason, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Closed { until: BootTime },
    Opening { id: SessionId, since: BootTime },
    Open { id: SessionId, heard: BootTime },
}

/// How far the giving back of a grant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Draining,
    Releasing,
    /// The store did not answer: it is told again then.
    Again(BootTime),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    /// It stays.
    No,
    Telling,
    /// The store did not answer: it is told again then.
    Again(BootTime),
    Told,
    Gone,
}

/// The state of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    rules: Rules,
    hello: Hello,
    lease: Lease,
    /// The store knows it: it was welcomed once.
    registered: bool,
    renew: BootTime,
    session: Session,
    sessions: u64,
    coordinator: usize,
    wait: Duration,
    version: u64,
    beats: u64,
    held: BTreeMap<ShardId, Grant>,
    leaving: BTreeMap<Epoch, (ShardId, Stage)>,
    departure: Departure,
}

impl Member {
    /// A process that nobody knows yet.
    pub fn new(rules: Rules, hello: Hello, now: BootTime) -> Self {
        Self {
            rules,
            hello,
            lease: Lease::default(),
            registered: false,
            renew: now,
            session: Session::Closed { until: now },
            sessions: 0,
            coordinator: 0,
            wait: rules.reopened,
            version: 0,
            beats: 0,
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            departure: Departure::No,
        }
    }

    /// Its lease: what may be begun, and until when.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// The highest term it has heard of.
    pub fn max_term(&self) -> Term {
        self.hello.max_term
    }

    /// The grants that it was told to hold and does not give back.
    pub fn held(&self) -> impl Iterator<Item = &Grant> {
        self.held.values().filter(|grant| !self.leaving.contains_key(&grant.epoch))
    }

    /// What follows from an event. After [`Effect::Lost`] nothing does.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.lease.is_lost() {
            return effects;
        }
        match event {
            Event::Tick => self.tick(now, &mut effects),
            Event::Progress(progress) => self.beat(progress, &mut effects),
            Event::Heard(session, message) if self.session.id() == Some(session) => {
                self.heard(session, message, now, &mut effects);
            }
            Event::Ended(session) if self.session.id() == Some(session) => self.reopen(now),
            Event::Heard(..) | Event::Ended(_) => {}
            Event::Renewed(sent, renewal) => self.renewed(sent, renewal, &mut effects),
            Event::ClockJumped => {
                self.lease = self.lease.step(&self.rules.lease, lease::Event::ClockJumped);
                self.renew(now, &mut effects);
            }
            Event::Drained(epoch) => self.release(epoch, &mut effects),
            Event::Released(epoch, true) => {
                self.leaving.remove(&epoch);
                self.held.retain(|_, grant| grant.epoch != epoch);
                effects.extend(self.session.open().map(|session| Effect::Say(session, ToLeader::Nudge)));
                self.end_if_gone(&mut effects);
            }
            Event::Released(epoch, false) => {
                if let Some((_, stage)) = self.leaving.get_mut(&epoch) {
                    *stage = Stage::Again(now + self.rules.again);
                }
            }
            Event::Leave => self.leave(&mut effects),
            Event::Departed(true) => {
                self.departure = Departure::Told;
                let held: Vec<Grant> = self.held.values().copied().collect();
                held.iter().for_each(|grant| self.give_back(grant.shard, grant.epoch, &mut effects));
                self.end_if_gone(&mut effects);
            }
            Event::Departed(false) => self.departure = Departure::Again(now + self.rules.again),
        }
        effects
    }

    fn tick(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if self.registered && now >= self.renew {
            self.renew(now, effects);
        }
        match self.session {
            Session::Closed { until } if now >= until && self.departure != Departure::Gone => {
                self.open(now, effects);
            }
            Session::Opening { id, since: last } | Session::Open { id, heard: last }
                if now.since(last) >= self.rules.silence =>
            {
                effects.push(Effect::Close(id));
                self.reopen(now);
            }
            Session::Closed { .. } | Session::Opening { .. } | Session::Open { .. } => {}
        }
        let due = |(epoch, (_, stage)): (&Epoch, &(ShardId, Stage))| {
            matches!(stage, Stage::Again(at) if now >= *at).then_some(*epoch)
        };
        let due: Vec<Epoch> = self.leaving.iter().filter_map(due).collect();
        due.into_iter().for_each(|epoch| self.release(epoch, effects));
        if matches!(self.departure, Departure::Again(at) if now >= at) {
            self.leave(effects);
        }
    }

    fn renew(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.renew = now + self.rules.lease.renew;
        effects.push(Effect::Renew(now));
    }

    fn renewed(&mut self, sent: BootTime, renewal: Renewal, effects: &mut Vec<Effect>) {
        match renewal {
            Renewal::Accepted => {
                self.lease = self.lease.step(&self.rules.lease, lease::Event::Renewed { sent });
            }
            Renewal::Dead => self.lose(effects),
            Renewal::Unknown => {}
        }
    }

    fn lose(&mut self, effects: &mut Vec<Effect>) {
        self.lease = self.lease.step(&self.rules.lease, lease::Event::Lost);
        effects.push(Effect::Lost);
        effects.extend(self.session.id().map(Effect::Close));
    }

    fn open(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.session = Session::Opening { id: session, since: now };
        effects.push(Effect::Open { session, coordinator: self.coordinator, hello: self.hello.clone() });
    }

    /// Another coordinator may lead: the next one is asked.
    fn reopen(&mut self, now: BootTime) {
        self.session = Session::Closed { until: now + self.wait };
        self.wait = (self.wait * 2).min(self.rules.reopened_max);
        self.coordinator = (self.coordinator + 1) % self.rules.coordinators.max(1);
    }

    fn beat(&mut self, progress: Progress, effects: &mut Vec<Effect>) {
        if let Some(session) = self.session.open() {
            self.beats += 1;
            let beat = ToLeader::Beat { sequence: self.beats, version: self.version, progress };
            effects.push(Effect::Say(session, beat));
        }
    }

    fn heard(&mut self, session: SessionId, message: ToMember, now: BootTime, effects: &mut Vec<Effect>) {
        match message {
            ToMember::Welcome { term, .. } => self.welcome(session, term, now, effects),
            ToMember::Refused { reason, detail } => self.refused(session, reason, detail, now, effects),
            ToMember::BeatAck { term, .. } if term >= self.hello.max_term => {
                self.hello.max_term = term;
                self.session.hear(now);
            }
            ToMember::Desired(desired) if desired.term >= self.hello.max_term => {
                self.session.hear(now);
                self.desired(desired, effects);
            }
            // Of a leader that is none any more: its silence ends the session.
            ToMember::BeatAck { .. } | ToMember::Desired(_) => {}
        }
    }

    fn welcome(&mut self, session: SessionId, term: Term, now: BootTime, effects: &mut Vec<Effect>) {
        let Session::Opening { since, .. } = self.session else { return };
        if term < self.hello.max_term {
            effects.push(Effect::Close(session));
            return self.reopen(now);
        }
        self.hello.max_term = term;
        self.session = Session::Open { id: session, heard: now };
        (self.version, self.wait) = (0, self.rules.reopened);
        // It was registered after it asked for that: its lease counts from then.
        self.lease = self.lease.step(&self.rules.lease, lease::Event::Renewed { sent: since });
        if !self.registered {
            (self.registered, self.renew) = (true, now + self.rules.lease.renew);
        }
    }

    fn refused(
        &mut self,
        session: SessionId,
        reason: Reason,
        detail: String,
        now: BootTime,
        effects: &mut Vec<Effect>,
    ) {
        if reason == Reason::WorkerUnreachable {
            return self.lose(effects);
        }
        effects.push(Effect::Close(session));
        if reason != Reason::ClusterNoLeader {
            effects.push(Effect::Refused(reason, detail));
        }
        self.reopen(now);
    }

    fn desired(&mut self, desired: Desired, effects: &mut Vec<Effect>) {
        if desired.version <= self.version {
            return;
        }
        (self.hello.max_term, self.version) = (desired.term, desired.version);
        let told: BTreeMap<ShardId, Grant> =
            desired.grants.into_iter().map(|grant| (grant.shard, grant)).collect();
        let before = std::mem::replace(&mut self.held, told);
        let news: Vec<Grant> = self.held.values().copied().collect();
        let stands = |grant: &Grant| self.held.get(&grant.shard).is_some_and(|now| now.epoch == grant.epoch);
        let gone: Vec<Grant> = before.values().filter(|grant| !stands(grant)).copied().collect();
        let known = |grant: &Grant| before.get(&grant.shard).is_some_and(|was| was.epoch == grant.epoch);
        if news.iter().any(|grant| !grant.revoking && !known(grant)) {
            effects.push(Effect::Claim);
        }
        let leaves = self.departure != Departure::No;
        let revoked = news.iter().filter(|grant| grant.revoking || leaves);
        for grant in gone.iter().chain(revoked) {
            self.give_back(grant.shard, grant.epoch, effects);
        }
    }

    fn give_back(&mut self, shard: ShardId, epoch: Epoch, effects: &mut Vec<Effect>) {
        self.leaving.entry(epoch).or_insert_with(|| {
            effects.push(Effect::Drain(shard, epoch));
            (shard, Stage::Draining)
        });
    }

    fn release(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if let Some((shard, stage)) = self.leaving.get_mut(&epoch)
            && *stage != Stage::Releasing
        {
            *stage = Stage::Releasing;
            effects.push(Effect::Release(*shard, epoch));
        }
    }

    /// The store is told before anything is given back: else it would be given away, or here again.
    fn leave(&mut self, effects: &mut Vec<Effect>) {
        match self.departure {
            Departure::No if !self.registered => {
                self.departure = Departure::Told;
                self.end_if_gone(effects);
            }
            Departure::No | Departure::Again(_) => {
                self.departure = Departure::Telling;
                effects.push(Effect::Depart);
            }
            Departure::Telling | Departure::Told | Departure::Gone => {}
        }
    }

    fn end_if_gone(&mut self, effects: &mut Vec<Effect>) {
        if self.departure == Departure::Told && self.leaving.is_empty() {
            self.departure = Departure::Gone;
            effects.extend(self.session.id().map(Effect::Close));
            effects.push(Effect::Gone);
        }
    }
}

impl Session {
    fn id(self) -> Option<SessionId> {
        match self {
            Self::Closed { .. } => None,
            Self::Opening { id, .. } | Self::Open { id, .. } => Some(id),
        }
    }

    fn open(self) -> Option<SessionId> {
        match self {
            Self::Open { id, .. } => Some(id),
            Self::Closed { .. } | Self::Opening { .. } => None,
        }
    }

    fn hear(&mut self, now: BootTime) {
        if let Self::Open { heard, .. } = self {
            *heard = now;
        }
    }
}
