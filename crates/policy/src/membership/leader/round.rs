//! A round: look how things stand, write what shall be otherwise, look again, and tell everybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Ask, Effect, Lead, Leader, Pending, Round, Session};
use crate::{
    id::{Incarnation, Term, WorkerId},
    membership::{Desired, Grant, Leadership, Process, Shard, Survey, ToMember, WorkerState},
    placement::{
        self, Candidate, Placed, Standing, View,
        silence::{self, Seen},
    },
    time::{BootTime, Timestamp},
};

impl Leader {
    pub(super) fn look(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let Some(Lead { leadership, .. }) = self.lead.filter(|_| !self.round.runs) else { return };
        self.round = Round { runs: true, looks: 1, next: now + self.rules.look, ..Round::default() };
        self.ask(Ask::Look(leadership), Pending::Look, effects);
    }

    pub(super) fn end_round(&mut self, now: BootTime) {
        self.round.runs = false;
        self.round.next = self.round.next.max(now);
    }

    pub(super) fn found(&mut self, survey: &Survey, now: BootTime, effects: &mut Vec<Effect>) {
        let Some(Lead { leadership, .. }) = self.lead else { return };
        // It is planned once; the last look of a round finds what is told.
        let planned = self.round.planned || self.round.looks >= self.rules.looks;
        self.round.writes = if planned { VecDeque::new() } else { self.writes(leadership, survey, now) };
        if self.round.writes.is_empty() {
            self.tell(leadership.term, survey, effects);
            return self.end_round(now);
        }
        self.write(now, effects);
    }

    /// The next write; after the last one it is looked again.
    pub(super) fn write(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let Some(Lead { leadership, .. }) = self.lead else { return self.end_round(now) };
        match self.round.writes.pop_front() {
            Some(write) => self.ask(write, Pending::Write, effects),
            None => {
                self.round.looks += 1;
                self.ask(Ask::Look(leadership), Pending::Look, effects);
            }
        }
    }

    /// What shall be otherwise than it stands. Of the dead first: a plan that counts on them is worth nothing.
    fn writes(&mut self, lead: Leadership, survey: &Survey, now: BootTime) -> VecDeque<Ask> {
        self.guard(survey, now);
        let dead = self.dead(survey);
        if !dead.is_empty() {
            return VecDeque::from([Ask::DeclareDead(lead, dead)]);
        }
        self.round.planned = true;
        let workers: Vec<Candidate> =
            survey.workers.iter().map(|process| self.candidate(process, survey.now)).collect();
        let placed: Vec<Placed> = survey.shards.iter().map(Placed::from).collect();
        let mut switches = survey.switches.clone();
        switches.quarantined.extend(self.stuck(now));
        let view = View {
            now: survey.now,
            workers: &workers,
            shards: &placed,
            switches: &switches,
            silent: self.silence.is_frozen(),
        };
        let (plan, memory) = placement::plan(&self.rules.placement, std::mem::take(&mut self.memory), &view);
        self.memory = memory;
        let worker = |of: Incarnation| workers.iter().find(|worker| worker.incarnation == of);
        let mut writes = VecDeque::new();
        for (incarnation, shards) in plan.grants() {
            writes.extend(
                worker(incarnation).map(|to| Ask::Grant(lead, to.worker.clone(), incarnation, shards)),
            );
        }
        let (revokes, returns) = (plan.revokes(), plan.returns());
        writes.extend((!revokes.is_empty()).then_some(Ask::Revoke(lead, revokes)));
        writes.extend((!returns.is_empty()).then_some(Ask::Return(lead, returns)));
        writes
    }

    /// Who fell silent, and whether that is believed.
    fn guard(&mut self, survey: &Survey, now: BootTime) {
        let rules = &self.rules.silence;
        let reachable = |incarnation| {
            let mut sessions = self.sessions.values();
            let session = sessions.find(|session| session.hello.incarnation == incarnation);
            session.is_some_and(|session| now.since(session.heard) < self.rules.silent)
        };
        let seen: Vec<Seen> = survey
            .workers
            .iter()
            .filter(|process| process.state == WorkerState::Live)
            .map(|Process { incarnation, lease_until, .. }| Seen {
                incarnation: *incarnation,
                lease_until: *lease_until,
                reachable: reachable(*incarnation),
            })
            .collect();
        let database_is_well = !std::mem::take(&mut self.unanswered);
        let looked = silence::Event::Looked { workers: &seen, database_is_well };
        let mut silence = std::mem::take(&mut self.silence).step(rules, looked, survey.now);
        for process in &survey.workers {
            let back = |session: &Session| {
                session.hello.worker == process.worker && session.hello.incarnation != process.incarnation
            };
            if self.sessions.values().any(back) {
                // Its successor was taken, so that it has ended or was silent for as long as its lease.
                let proven = silence::Event::ProvenDead(process.incarnation);
                silence = silence.step(rules, proven, survey.now);
            }
        }
        self.silence = silence;
    }

    fn candidate(&self, process: &Process, now: Timestamp) -> Candidate {
        let mut sessions = self.sessions.values().map(|session| &session.hello);
        let hello = sessions.find(|hello| hello.incarnation == process.incarnation);
        let standing = match process.state {
            WorkerState::Draining => Standing::Leaving,
            WorkerState::Live if hello.is_some() && process.lease_until > now => Standing::Live,
            WorkerState::Live | WorkerState::Dead => Standing::Suspect,
        };
        Candidate {
            worker: process.worker.clone(),
            incarnation: process.incarnation,
            capacity: hello.map_or(1, |hello| hello.capacity),
            build: hello.map(|hello| hello.build.clone()).unwrap_or_default(),
            standing,
        }
    }

    /// Workers that have work to do and make no progress.
    fn stuck(&self, now: BootTime) -> impl Iterator<Item = WorkerId> {
        let stuck =
            self.sessions.values().filter(move |session| now.since(session.progressed) >= self.rules.stuck);
        stuck.map(|session| session.hello.worker.clone())
    }

    /// Those whose leases ended long enough ago, unless too many did so together, and those that went away in order.
    fn dead(&self, survey: &Survey) -> Vec<Incarnation> {
        let owners: BTreeSet<Incarnation> = survey.shards.iter().filter_map(|shard| shard.owner).collect();
        let open = |incarnation| self.sessions.values().any(|open| open.hello.incarnation == incarnation);
        let back = |process: &Process| {
            let mut others = self.sessions.values().map(|session| &session.hello);
            others.any(|other| other.worker == process.worker && other.incarnation != process.incarnation)
        };
        let dead = survey.workers.iter().filter(|process| {
            let ended = process.lease_until + self.rules.lease.grace() < survey.now;
            let believed = !self.silence.is_frozen() || back(process);
            let gone = process.state == WorkerState::Draining && !owners.contains(&process.incarnation);
            ended && believed || gone && !open(process.incarnation)
        });
        dead.map(|process| process.incarnation).collect()
    }

    /// Tells each worker what it shall hold, if that is not what it was told last.
    fn tell(&mut self, term: Term, survey: &Survey, effects: &mut Vec<Effect>) {
        let mut owned: BTreeMap<Incarnation, Vec<Grant>> = BTreeMap::new();
        for shard in &survey.shards {
            if let Some(owner) = shard.owner {
                let (epoch, nonce, revoking) = (shard.epoch, shard.nonce, shard.revoking);
                owned.entry(owner).or_default().push(Grant { shard: shard.shard, epoch, nonce, revoking });
            }
        }
        for (id, session) in &mut self.sessions {
            let mut grants = owned.remove(&session.hello.incarnation).unwrap_or_default();
            grants.sort_by_key(|grant| grant.shard);
            if session.told.as_ref().is_some_and(|(_, told)| *told == grants) {
                continue;
            }
            self.version += 1;
            session.told = Some((self.version, grants.clone()));
            let desired = Desired { term, version: self.version, grants };
            effects.push(Effect::Say(*id, ToMember::Desired(desired)));
        }
    }
}

impl From<&Shard> for Placed {
    fn from(shard: &Shard) -> Self {
        Self {
            shard: shard.shard,
            epoch: shard.epoch,
            owner: shard.owner,
            revoking: shard.revoking,
            reserved: shard.reserved.clone(),
            weight: 1,
        }
    }
}
