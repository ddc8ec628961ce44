//! A coordinator in the cluster: it stands for leader, and while it leads it registers workers, looks how things stand,
//! writes what shall be otherwise, and tells each worker everything it shall hold.
//!
//! It looks, decides, writes, and looks again until there is nothing to write. What it believes need not be true: each
//! write is judged again by the store, under its term.

mod round;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Desired, Grant, Hello, Leadership, Progress, SessionId, Survey, ToLeader, ToMember};
use crate::{
    id::{Attempt, Epoch, Incarnation, ShardId, WorkerId},
    lease,
    placement::{
        self, Memory,
        silence::{self, Silence},
    },
    reason::Reason,
    time::BootTime,
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
                    self.step_down(lead.leadership, &mut effects);
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

    /// Nothing depends on the answer: without it the leadership ends by itself.
    fn step_down(&mut self, leadership: Leadership, effects: &mut Vec<Effect>) {
        self.attempts += 1;
        effects.push(Effect::Ask(Attempt(self.attempts), Ask::StepDown(leadership)));
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
            return self.step_down(leadership, effects);
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
