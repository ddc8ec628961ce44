//! The actor of one mailbox: it tells its machine what happened, does what the machine says, and keeps what both need.
//!
//! It waits for nothing but the next message: what takes time runs in tasks of its own, whose results name their
//! attempt.

mod settle;
mod task;

use std::{collections::VecDeque, future::ready, sync::Arc, time::Duration};

use mailyard_policy::{
    Reason, Timestamp,
    alert::Fact,
    breaker::Road,
    id::{Attempt, MailboxId},
    mailbox::{self as machine, CYCLES, Effect, Event, Kept, Note, Outcome, TestEnd, Work},
    operation::{Health, Kind, NextRun},
};
use mailyard_store::holder::{Claimed, Cycle, Fence, Wanted};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::{Instrument as _, Span, field};

pub use self::task::Ended;
use self::{
    settle::Writing,
    task::{Task, TaskResult, word, word_of},
};
use crate::{
    holding::Holding,
    lane::{Counts, Lane, Target},
    shared::Shared,
};

/// The actor.
pub struct MailboxActor;

/// What a mailbox is told.
pub enum Message {
    /// Something may be due.
    Tick,
    /// What people want of it, and what caused that, if it is traced.
    Wanted(Box<Wanted>, Span),
    /// Emails wait to be sent; what caused that, if it is traced.
    OutgoingDue(Span),
    /// A breaker of the profile wants it to try the server, by this road.
    Canary(Road),
    /// The profile's breaker closed.
    Reopened,
    /// Mail came.
    Notified,
    /// It is watched from now on: what came before may have come unsaid.
    Watched,
    /// A task ended.
    Ended(Box<Ended>),
    /// What was to be written is written.
    Settled(Box<Settled>),
    /// Tells what will be written of its state once this attempt ends so; `None`: not that alone.
    Foretell(Attempt, Outcome, RpcReplyPort<Option<Box<Kept>>>),
    /// Tells everything about itself.
    Explain(RpcReplyPort<Explained>),
    /// Finishes what is under way and stops.
    Stop,
}

/// What a writing came to.
pub struct Settled {
    attempt: Attempt,
    /// `None`: somebody else holds the mailbox now, or nobody can say what is stored.
    holding: Option<Holding>,
}

/// Everything about a mailbox that its holder knows.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What is kept.
    pub kept: Kept,
    /// The next run of each operation, and why then.
    pub next_runs: [Option<NextRun>; 3],
    /// What it is at.
    pub work: Option<Work>,
    /// The last cycles, oldest first.
    pub cycles: Vec<Cycle>,
}

/// What a mailbox begins with.
pub struct Arguments {
    /// What all mailboxes share.
    pub shared: Arc<Shared>,
    /// Its lane.
    pub lane: Arc<Lane>,
    /// Which mailbox, as it was claimed.
    pub claimed: Claimed,
}

/// What the actor keeps.
pub struct State {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    id: MailboxId,
    machine: machine::Mailbox,
    wanted: Arc<Wanted>,
    /// With the task or the writing, while one is under way; none also after one that lost it: it is read anew.
    holding: Option<Holding>,
    /// A task or a writing is under way.
    busy: bool,
    /// What was held last, to ask the store by.
    last_fence: Fence,
    cycles: VecDeque<Past>,
    /// The cycle that ended last and is worth keeping.
    unsaved_cycle: Option<Box<Cycle>>,
    /// What the turn that ended just now has written of the machine already.
    written: Option<Box<Kept>>,
    known: KnownToLane,
    stopping: bool,
    /// What caused the next task, if that is traced.
    cause: Option<Box<Span>>,
    /// When the next task was due.
    due: Option<Timestamp>,
}

/// What its lane was told of it.
#[derive(Default)]
struct KnownToLane {
    counted: Counts,
    watched: bool,
}

impl Actor for MailboxActor {
    type Msg = Message;
    // Boxed: the tasks around an actor have room for each of them more than once.
    type State = Box<State>;
    type Arguments = Box<Arguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Box<Arguments>,
    ) -> Result<Box<State>, ActorProcessingErr> {
        let Arguments { shared, lane, claimed } = *arguments;
        let id = claimed.fence.mailbox;
        let rules = lane.current().rules;
        let machine = machine::Mailbox::claimed(id, claimed.kept, &rules, shared.now());
        let mut state = Box::new(State {
            shared,
            lane,
            id,
            machine,
            wanted: Arc::new(claimed.wanted),
            last_fence: claimed.fence,
            holding: Some(Holding {
                fence: claimed.fence,
                cursor: claimed.cursor,
                start: claimed.start,
                has_inbound: claimed.has_inbound,
                place: None,
            }),
            busy: false,
            written: None,
            // All at once: growing would leave holes of every size behind.
            cycles: VecDeque::with_capacity(CYCLES),
            unsaved_cycle: None,
            known: KnownToLane::default(),
            stopping: false,
            cause: None,
            due: None,
        });
        let event = Event::Wanted(state.wish());
        state.step(&myself, event);
        Ok(state)
    }

    // Not an async function: it waits for nothing, and what it holds would be held by every idle mailbox.
    fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut Box<State>,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        state.told(&myself, message);
        ready(Ok(()))
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        state: &mut Box<State>,
    ) -> Result<(), ActorProcessingErr> {
        state.shared.scheduler.set(state.id, None);
        state.count(Counts::default());
        state.watch(false);
        state.lane.forget(state.id);
        Ok(())
    }
}

impl State {
    fn told(&mut self, myself: &ActorRef<Message>, message: Message) {
        match message {
            Message::Tick => self.step(myself, Event::Tick),
            Message::OutgoingDue(cause) => {
                self.caused_by(cause);
                self.step(myself, Event::OutgoingDue);
            }
            Message::Canary(road) => self.step(myself, Event::Canary(road)),
            Message::Reopened => self.step(myself, Event::Reopened),
            Message::Notified => self.step(myself, Event::Notified),
            Message::Watched => self.step(myself, Event::Watched),
            Message::Wanted(wanted, cause) => {
                self.caused_by(cause);
                self.wanted = Arc::new(*wanted);
                let event = Event::Wanted(self.wish());
                self.step(myself, event);
            }
            Message::Ended(ended) => self.ended(myself, *ended),
            Message::Settled(settled) => self.settled(myself, *settled),
            Message::Foretell(attempt, outcome, reply) => {
                let rules = self.lane.current().rules;
                let foretold = self.machine.foretell(&rules, attempt, outcome, self.shared.now());
                // Who asked may have been given up.
                let _gone = reply.send(foretold.map(Box::new));
            }
            Message::Explain(reply) => {
                // Who asked may have gone away.
                let _gone = reply.send(self.explain());
            }
            Message::Stop => {
                self.stopping = true;
                self.stop_if_idle(myself);
            }
        }
    }

    fn caused_by(&mut self, cause: Span) {
        self.cause = (!cause.is_none()).then(|| Box::new(cause));
    }

    fn wish(&self) -> machine::Wanted {
        let Wanted { revision, address, profile, methods, barred, test, polls, .. } = &*self.wanted;
        let subject =
            format!("{} {}", profile.map_or_else(String::new, |id| id.to_string()), address.to_lowercase());
        machine::Wanted {
            revision: *revision,
            // Zero means that nothing was applied yet.
            subject: mailyard_policy::id::hash(subject.as_bytes()).max(1),
            methods: *methods,
            barred: *barred,
            test: *test,
            polls: *polls,
        }
    }

    fn stop_if_idle(&self, myself: &ActorRef<Message>) {
        if self.stopping && !self.busy {
            myself.stop(None);
        }
    }

    fn step(&mut self, myself: &ActorRef<Message>, event: Event) {
        let rules = self.lane.current().rules;
        let now = self.shared.now();
        match self.machine.step(&rules, event, now) {
            // What is to be written is written; nothing new begins.
            Some(Effect::Run { .. }) if self.stopping => {}
            Some(Effect::Run { attempt, work }) => self.run(myself, attempt, work),
            Some(Effect::Settle { attempt, notes, test, forget_cursor }) => {
                self.settle(myself, attempt, &notes, test, forget_cursor);
            }
            None => {}
        }
        let wake = if self.stopping { None } else { self.machine.wake_at() };
        self.due = wake;
        self.shared.scheduler.set(self.id, wake);
        self.count(self.counts());
        let polled = self.machine.kept().operations[Kind::Incoming as usize].is_enabled();
        self.watch(polled && !self.stopping);
        self.stop_if_idle(myself);
    }

    fn count(&mut self, counts: Counts) {
        if self.known.counted != counts {
            let before = std::mem::replace(&mut self.known.counted, counts);
            self.lane.count(before, counts);
        }
    }

    /// For which breakers it counts: both, incoming, outgoing.
    fn counts(&self) -> Counts {
        let kept = self.machine.kept();
        let runs = |kind: Kind| {
            let operation = &kept.operations[kind as usize];
            operation.is_enabled() || operation.is_failing()
        };
        [kept.health() != Health::NotEligible, runs(Kind::Incoming), runs(Kind::Outgoing)]
    }

    /// Who is polled is watched, if the profile wishes it and it is known where.
    fn watch(&mut self, polled: bool) {
        let current = self.lane.current();
        if !(polled && current.profile.streaming) {
            if self.known.watched {
                self.watch_at(None);
            }
        } else if let Some(holding) = &self.holding {
            let autodiscovers = current.profile.autodiscovers();
            let place = holding.place.as_ref().filter(|_| autodiscovers);
            let url: Option<Arc<str>> = place.and_then(|place| place.location.url()).map(Arc::from);
            let is_found = url.is_some() || !autodiscovers;
            self.watch_at(is_found.then(|| Target { address: self.wanted.address.as_str().into(), url }));
        }
        // Else a task has it, and it stays where it was.
    }

    fn watch_at(&mut self, target: Option<Target>) {
        self.known.watched = target.is_some();
        self.lane.watch(self.id, target);
    }

    fn run(&mut self, myself: &ActorRef<Message>, attempt: Attempt, work: Work) {
        self.busy = true;
        // Who asked for a poll may have put items back that were in quarantine.
        let asked = self.wanted.polls > self.machine.kept().polls_done;
        if let Some(holding) = self.holding.as_mut().filter(|_| asked) {
            holding.has_inbound = true;
        }
        let task = Task {
            shared: self.shared.clone(),
            lane: self.lane.clone(),
            mailbox: self.id,
            wanted: self.wanted.clone(),
            holding: self.holding.take(),
            fence: self.last_fence,
            actor: myself.clone(),
            attempt,
            work,
            due: self.due.take().unwrap_or_else(|| self.shared.now()),
        };
        let cause = self.cause.take().map_or_else(Span::none, |cause| *cause);
        let span = tracing::debug_span!(
            parent: &cause,
            "turn",
            profile = %self.lane.profile(),
            mailbox = %self.id,
            operation = word_of(work),
            attempt = attempt.0,
            epoch = self.last_fence.epoch.0,
            reason = field::Empty,
        );
        let result = TaskResult::Turn(Outcome::OursFailed);
        let lost = Ended { attempt, result, cycle: None, holding: None, written: None };
        let answer = Answer::new(myself, Message::Ended(Box::new(lost)));
        let running = async move {
            let ended = task.run().await;
            answer.give(Message::Ended(Box::new(ended)));
        };
        tokio::spawn(running.instrument(span));
    }

    fn ended(&mut self, myself: &ActorRef<Message>, ended: Ended) {
        let Ended { attempt, result, cycle, holding, written } = ended;
        self.busy = false;
        if let Some(holding) = holding {
            self.last_fence = holding.fence;
            self.holding = Some(holding);
        }
        if let Some(cycle) = cycle {
            if self.cycles.len() == CYCLES {
                self.cycles.pop_front();
            }
            let keep = written.is_none() && (cycle.items > 0 || cycle.reason.is_some());
            self.cycles.push_back(Past::of(&cycle));
            self.unsaved_cycle = keep.then_some(Box::new(cycle));
        }
        self.written = written.map(Box::new);
        match result {
            TaskResult::Fenced => {
                tracing::info!(mailbox = %self.id, "somebody else holds the mailbox now");
                myself.stop(None);
            }
            TaskResult::Turn(outcome) => self.step(myself, Event::Ended(attempt, outcome)),
            TaskResult::Test(tested) => self.step(myself, Event::TestEnded(attempt, tested)),
        }
        self.written = None;
    }

    fn settle(
        &mut self,
        myself: &ActorRef<Message>,
        attempt: Attempt,
        notes: &[Note],
        test: Option<TestEnd>,
        forget_cursor: bool,
    ) {
        let nothing_else = notes.is_empty() && test.is_none() && !forget_cursor;
        if nothing_else && self.written.take().as_deref() == Some(self.machine.kept()) {
            // It went with the turn's last commit.
            return self.step(myself, Event::Settled(attempt));
        }
        self.busy = true;
        let now = self.shared.now();
        let told = (!notes.is_empty() || test.is_some()).then(|| self.shared.clone());
        let writing = Writing {
            store: self.shared.store.clone(),
            now: self.shared.clocks.now,
            holding: self.holding.take(),
            fence: self.last_fence,
            kept: *self.machine.kept(),
            facts: notes.iter().map(|note| Fact::of_mailbox(self.id, *note, now)).collect(),
            test,
            cycle: self.unsaved_cycle.take().map(|cycle| *cycle),
            forget_cursor,
        };
        // Its actor stops, and begins anew from what is stored.
        let lost = Settled { attempt, holding: None };
        let answer = Answer::new(myself, Message::Settled(Box::new(lost)));
        let cause = self.cause.as_deref().cloned().unwrap_or_else(Span::none);
        let span = tracing::debug_span!(parent: &cause, "settle", mailbox = %self.id, attempt = attempt.0);
        tokio::spawn(async move {
            let holding = writing.run().instrument(span).await;
            if let Some(shared) = told.filter(|_| holding.is_some()) {
                shared.tell_facts();
            }
            answer.give(Message::Settled(Box::new(Settled { attempt, holding })));
        });
    }

    fn settled(&mut self, myself: &ActorRef<Message>, settled: Settled) {
        let Some(holding) = settled.holding else {
            tracing::info!(mailbox = %self.id, "somebody else holds the mailbox now");
            return myself.stop(None);
        };
        self.busy = false;
        self.last_fence = holding.fence;
        self.holding = Some(holding);
        self.step(myself, Event::Settled(settled.attempt));
    }

    fn explain(&self) -> Explained {
        Explained {
            kept: *self.machine.kept(),
            next_runs: self.machine.next_runs(),
            work: self.machine.work(),
            cycles: self.cycles.iter().map(Past::cycle).collect(),
        }
    }
}

/// A cycle as it is remembered: there are many of them.
#[derive(Clone, Copy)]
struct Past {
    start: Timestamp,
    millis: u32,
    items: u32,
    operation: Kind,
    reason: Option<Reason>,
}

impl Past {
    fn of(cycle: &Cycle) -> Self {
        let Cycle { operation, start, duration, items, outcome: _, reason } = *cycle;
        let millis = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self { start, millis, items, operation, reason }
    }

    fn cycle(&self) -> Cycle {
        let Self { start, millis, items, operation, reason } = *self;
        let duration = Duration::from_millis(millis.into());
        Cycle { operation, start, duration, items, outcome: word(reason), reason }
    }
}

/// What the actor waits for: it gets one, also from a task that panics.
struct Answer {
    mailbox: ActorRef<Message>,
    otherwise: Option<Message>,
}

impl Answer {
    fn new(mailbox: &ActorRef<Message>, otherwise: Message) -> Self {
        Self { mailbox: mailbox.clone(), otherwise: Some(otherwise) }
    }

    fn give(mut self, message: Message) {
        self.otherwise = None;
        // The mailbox may have been stopped meanwhile: what was written is written.
        let _stopped = self.mailbox.cast(message);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(message) = self.otherwise.take() else { return };
        // Tasks are also dropped with the process.
        if std::thread::panicking() {
            tracing::error!("a task of a mailbox came to an unforeseen end");
        }
        let _stopped = self.mailbox.cast(message);
    }
}
