//! A coordinator in the cluster: it stands for leader, and while it leads it registers workers, looks how things stand,
//! writes what shall be otherwise, and tells each worker everything it shall hold.
//!
//! It looks, decides, writes, and looks again until there is nothing to write. What it believes need not be true: each
//! write is judged again by the store, under its term.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Desired, Grant, Hello, Leadership, Process, Progress, SessionId, Survey, ToLeader, ToMember, WorkerState,
};
use crate::{
    id::{Attempt, Epoch, Incarnation, ShardId, Term, WorkerId},
    lease,
    placement::{
        self, Candidate, Memory, Placed, Standing, View,
        silence::{self, Seen, Silence},
    },
    reason::Reason,
    time::{BootTime, Timestamp},
};

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A leadership lasts so long,
    pub term: Duration,
    /// and is renewed so often.
    pub renew: Duration,
    /// Between two looks without a nudge,
    pub look: Duration,
    /// and with nudges, of which several are answered by one look.
    pub nudged: Duration,
    /// Looks of one round at the most: the next one goes on.
    pub looks: u32,
    /// A worker that said nothing for so long does not count as reachable.
    pub silent: Duration,
    /// A worker with work to do that makes no progress for so long is given nothing more.
    pub stuck: Duration,
    /// The oldest and the newest protocol that is spoken.
    pub protocol: (u32, u32),
    /// Those of workers' leases.
    pub lease: lease::Rules,
    /// What bounds a plan.
    pub placement: placement::Rules,
    /// Those of the guard against mass silence.
    pub silence: silence::Rules,
}

/// Something that the store is asked. Whatever it changes it changes only under the leadership that stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Lead, if nobody does.
    Stand,
    /// Lead on.
    Keep(Leadership),
    /// Lead no more: somebody else may at once.
    StepDown(Leadership),
    /// Make a process known, or renew its lease.
    Register(Leadership, Hello),
    /// How things stand.
    Look(Leadership),
    /// These may hold nothing any more, if their leases ended long enough ago or they went away in order.
    DeclareDead(Leadership, Vec<Incarnation>),
    /// Free shards for a process, with the grants that were seen last.
    Grant(Leadership, WorkerId, Incarnation, Vec<(ShardId, Epoch)>),
    /// Shards that are asked back.
    Revoke(Leadership, Vec<(ShardId, Epoch)>),
    /// Shards that were asked back stay with their owners, under new grants.
    Return(Leadership, Vec<(ShardId, Epoch)>),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This coordinator leads; `None`: another one does.
    Leads(Option<Leadership>),
    /// It was done, as far as it could be.
    Done,
    /// How things stand.
    Stands(Box<Survey>),
    /// The process is not taken, for this reason: it was declared dead, or another one has its id.
    Refused(Reason, String),
    /// Another coordinator leads.
    Deposed,
    /// Nothing that can be relied on.
    Unknown,
}

/// What happens to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// Something was written that concerns the plan.
    Nudge,
    /// A worker said something; its first message opens the session.
    Heard(SessionId, ToLeader),
    /// A session has ended.
    Ended(SessionId),
    /// The store answered.
    Answered(Attempt, Answer),
    /// The process shall end.
    Leave,
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store.
    Ask(Attempt, Ask),
    /// Say something on a session.
    Say(SessionId, ToMember),
    /// End a session.
    Close(SessionId),
    /// It leads under this leadership; `None`: it leads no more.
    Leads(Option<Leadership>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lead {
    leadership: Leadership,
    /// Nothing is relied on after this.
    until: BootTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    hello: Hello,
    progress: Progress,
    /// When it said something last.
    heard: BootTime,
    /// When it made progress last, or had nothing to do.
    progressed: BootTime,
    /// What it was told last, and under which version.
    told: Option<(u64, Vec<Grant>)>,
}

/// What is asked of the store and not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pending {
    Lead { asked: BootTime },
    Register(SessionId, Hello),
    Look,
    Write,
}

/// A round of looking and writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Round {
    runs: bool,
    looks: u32,
    planned: bool,
    writes: VecDeque<Ask>,
    /// Something happened since its last look.
    wanted: bool,
    next: BootTime,
}

/// The state of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    rules: Rules,
    lead: Option<Lead>,
    keep: BootTime,
    /// It shall not stand again.
    leaves: bool,
    sessions: BTreeMap<SessionId, Session>,
    round: Round,
    attempts: u64,
    pending: BTreeMap<Attempt, Pending>,
    version: u64,
    /// What the planner remembers.
    memory: Memory,
    silence: Silence,
    /// The store left something unanswered since the last look.
    unanswered: bool,
}

impl Leader {
    /// A coordinator that does not lead.
    pub fn new(rules: Rules, now: BootTime) -> Self {
        Self {
            rules,
            lead: None,
            keep: now,
            leaves: false,
            sessions: BTreeMap::new(),
            round: Round { next: now, ..Round::default() },
            attempts: 0,
            pending: BTreeMap::new(),
            version: 0,
            memory: Memory::default(),
            silence: Silence::default(),
            unanswered: false,
        }
    }

    /// Its leadership; `None`: another one leads, or nobody.
    pub fn leadership(&self) -> Option<Leadership> {
        self.lead.map(|lead| lead.leadership)
    }

    /// True while so many fell silent together that nobody is declared dead for it.
    pub fn is_frozen(&self) -> bool {
        self.silence.is_frozen()
    }

    /// The workers whose sessions are open, and how they fare.
    pub fn members(&self) -> impl Iterator<Item = (&Hello, &Progress)> {
        self.sessions.values().map(|session| (&session.hello, &session.progress))
    }

    /// What follows from an event.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => self.tick(now, &mut effects),
            Event::Nudge => self.nudge(now, &mut effects),
            Event::Heard(session, ToLeader::Hello(hello)) => self.hello(session, hello, &mut effects),
            Event::Heard(session, ToLeader::Beat { sequence, version, progress }) => {
                self.beat(session, sequence, version, progress, now, &mut effects);
            }
            Event::Heard(session, ToLeader::Nudge) if self.sessions.contains_key(&session) => {
                self.nudge(now, &mut effects);
            }
            Event::Heard(_, ToLeader::Nudge) => {}
            Event::Ended(session) => {
                self.sessions.remove(&session);
            }
            Event::Answered(attempt, answer) => {
                if let Some(pending) = self.pending.remove(&attempt) {
                    self.answered(pending, answer, now, &mut effects);
                }
            }
            Event::Leave => {
                self.leaves = true;
                if let Some(lead) = self.lead {
                    self.lose(&mut effects);
                    self.attempts += 1;
                    effects.push(Effect::Ask(Attempt(self.attempts), Ask::StepDown(lead.leadership)));
                }
            }
        }
        effects
    }

    fn tick(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if self.lead.is_some_and(|lead| now >= lead.until) {
            // Whoever reaches the store may lead now.
            self.lose(effects);
        }
        if now >= self.keep && !self.leaves {
            self.keep = now + self.rules.renew;
            let ask = self.lead.map_or(Ask::Stand, |lead| Ask::Keep(lead.leadership));
            self.ask(ask, Pending::Lead { asked: now }, effects);
        }
        if now >= self.round.next || self.round.wanted {
            self.look(now, effects);
        }
    }

    fn nudge(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.round.wanted = true;
        if now + self.rules.look >= self.round.next + self.rules.nudged {
            self.look(now, effects);
        }
    }

    fn ask(&mut self, ask: Ask, pending: Pending, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        self.pending.insert(attempt, pending);
        effects.push(Effect::Ask(attempt, ask));
    }

    fn hello(&mut self, session: SessionId, hello: Hello, effects: &mut Vec<Effect>) {
        let (oldest, newest) = self.rules.protocol;
        let refused = |reason, detail: String| {
            [Effect::Say(session, ToMember::Refused { reason, detail }), Effect::Close(session)]
        };
        let Some(Lead { leadership, .. }) = self.lead.filter(|lead| lead.leadership.term >= hello.max_term)
        else {
            effects.extend(refused(Reason::ClusterNoLeader, "this coordinator does not lead".to_owned()));
            // It has heard of a later term: ours is over.
            self.lose(effects);
            return;
        };
        if hello.protocol.1.min(newest) < oldest.max(hello.protocol.0) {
            let detail = format!(
                "this coordinator speaks versions {oldest} to {newest} of the session protocol, the worker {} to {}",
                hello.protocol.0, hello.protocol.1
            );
            effects.extend(refused(Reason::WorkerProtocol, detail));
            return;
        }
        self.ask(Ask::Register(leadership, hello.clone()), Pending::Register(session, hello), effects);
    }

    fn beat(
        &mut self,
        id: SessionId,
        sequence: u64,
        version: u64,
        progress: Progress,
        now: BootTime,
        effects: &mut Vec<Effect>,
    ) {
        let Some(term) = self.lead.map(|lead| lead.leadership.term) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if progress.turns_done > session.progress.turns_done || progress.oldest_due < self.rules.stuck {
            session.progressed = now;
        }
        (session.progress, session.heard) = (progress, now);
        effects.push(Effect::Say(id, ToMember::BeatAck { term, sequence }));
        if let Some((told, grants)) = session.told.as_ref().filter(|(told, _)| version < *told) {
            // It was lost, or is on its way: told twice it does no harm.
            let desired = Desired { term, version: *told, grants: grants.clone() };
            effects.push(Effect::Say(id, ToMember::Desired(desired)));
        }
    }

    fn answered(&mut self, pending: Pending, answer: Answer, now: BootTime, effects: &mut Vec<Effect>) {
        self.unanswered |= answer == Answer::Unknown;
        match (pending, answer) {
            (_, Answer::Deposed) => self.lose(effects),
            (Pending::Lead { asked }, Answer::Leads(Some(leadership))) => {
                self.leads(leadership, asked, now, effects);
            }
            (Pending::Lead { asked }, Answer::Done) => {
                if let Some(lead) = &mut self.lead {
                    lead.until = lead.until.max(asked + self.rules.relied_on());
                }
            }
            (Pending::Register(session, hello), Answer::Done) => {
                self.welcome(session, hello, now, effects);
            }
            (Pending::Register(session, _), Answer::Refused(reason, detail)) => {
                effects.push(Effect::Say(session, ToMember::Refused { reason, detail }));
                effects.push(Effect::Close(session));
            }
            (Pending::Register(session, _), _) => effects.push(Effect::Close(session)),
            (Pending::Look, Answer::Stands(survey)) => self.found(&survey, now, effects),
            (Pending::Write, Answer::Done) => self.write(now, effects),
            (Pending::Look | Pending::Write, _) => self.end_round(now),
            (Pending::Lead { .. }, _) => {}
        }
    }

    fn leads(&mut self, leadership: Leadership, asked: BootTime, now: BootTime, effects: &mut Vec<Effect>) {
        let until = asked + self.rules.relied_on();
        if now >= until || self.leaves {
            self.attempts += 1;
            effects.push(Effect::Ask(Attempt(self.attempts), Ask::StepDown(leadership)));
            return;
        }
        self.lead = Some(Lead { leadership, until });
        // What another leader remembered is not known: nothing moves for a while, and many who are silent are believed
        // to be so together.
        (self.memory, self.silence) = (Memory::default(), Silence::default());
        self.round = Round { next: now, ..Round::default() };
        effects.push(Effect::Leads(Some(leadership)));
        self.look(now, effects);
    }

    fn lose(&mut self, effects: &mut Vec<Effect>) {
        if self.lead.take().is_some() {
            effects.push(Effect::Leads(None));
        }
        effects.extend(std::mem::take(&mut self.sessions).into_keys().map(Effect::Close));
        // Answers to what was asked under that term are of no use any more.
        self.pending.retain(|_, pending| matches!(pending, Pending::Lead { .. }));
        self.round.runs = false;
    }

    fn welcome(&mut self, session: SessionId, hello: Hello, now: BootTime, effects: &mut Vec<Effect>) {
        let Some(Lead { leadership, .. }) = self.lead else {
            effects.push(Effect::Close(session));
            return;
        };
        let former = self.sessions.iter().filter(|(_, known)| known.hello.incarnation == hello.incarnation);
        for former in former.map(|(former, _)| *former).collect::<Vec<_>>() {
            self.sessions.remove(&former);
            effects.push(Effect::Close(former));
        }
        let protocol = hello.protocol.1.min(self.rules.protocol.1);
        let known = Session { hello, progress: Progress::default(), heard: now, progressed: now, told: None };
        self.sessions.insert(session, known);
        effects.push(Effect::Say(session, ToMember::Welcome { term: leadership.term, protocol }));
        self.nudge(now, effects);
    }

    fn look(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        let Some(Lead { leadership, .. }) = self.lead.filter(|_| !self.round.runs) else { return };
        self.round = Round { runs: true, looks: 1, next: now + self.rules.look, ..Round::default() };
        self.ask(Ask::Look(leadership), Pending::Look, effects);
    }

    fn end_round(&mut self, now: BootTime) {
        self.round.runs = false;
        self.round.next = self.round.next.max(now);
    }

    fn found(&mut self, survey: &Survey, now: BootTime, effects: &mut Vec<Effect>) {
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
    fn write(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
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

impl Rules {
    /// The share of a leadership that is relied on.
    fn relied_on(&self) -> Duration {
        self.lease.relied_on(self.term)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            term: Duration::from_secs(10),
            renew: Duration::from_secs(2),
            look: Duration::from_secs(1),
            nudged: Duration::from_millis(250),
            looks: 4,
            silent: Duration::from_secs(10),
            stuck: Duration::from_mins(1),
            protocol: (1, 1),
            lease: lease::Rules::default(),
            placement: placement::Rules::default(),
            silence: silence::Rules::default(),
        }
    }
}

impl From<&super::Shard> for Placed {
    fn from(shard: &super::Shard) -> Self {
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
