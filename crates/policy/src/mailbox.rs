//! The machine of one mailbox: when it polls, backs off, retries, is disabled, tested and enabled.
//!
//! A mailbox has at most one thing under way: a turn of an operation, a test, or the writing of what came of it.
//! Results name their attempt; one that is late, doubled or of somebody else's changes nothing.

mod notices;
mod results;
mod rules;
mod text;
mod wanted;

use std::time::Duration;

pub use rules::Rules;

use self::notices::Notices;
use crate::{
    breaker::Road,
    id::{Attempt, MailboxId, OperationId},
    operation::{Health, Kind, Method, NextRun, Operation, State, Why},
    reason::Reason,
    time::Timestamp,
};

/// A wait after something on our own side failed, such as the database; it is not stored.
const OWN_GAP: Duration = Duration::from_secs(10);

/// So many cycles of a mailbox are remembered, stored and told.
pub const CYCLES: usize = 16;
/// Empty cycles in a row after which the period grows by one step.
const QUIET_CYCLES: u8 = 3;

/// What people want of the mailbox, as far as its machine is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Raised by each change.
    pub revision: u64,
    /// A hash over profile and address: another one means another mailbox behind the same row.
    pub subject: u64,
    /// The methods in the order of [`Kind::ALL`].
    pub methods: [Method; 3],
    /// Why it may not run, such as that it is not approved; `None`: it may.
    pub barred: Option<Reason>,
    /// The test asked for and not yet done.
    pub test: Option<OperationId>,
    /// Polls asked for by people so far.
    pub polls: u64,
}

/// What is stored of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The revision of [`Wanted`] that was applied last.
    pub wanted_seen: u64,
    /// The subject that was applied last; 0: none yet.
    pub subject: u64,
    /// The operations in the order of [`Kind::ALL`].
    pub operations: [Operation; 3],
    /// The test under way.
    pub test: Option<OperationId>,
    /// The test that ended last.
    pub test_done: Option<OperationId>,
    /// Polls asked for by people that were done.
    pub polls_done: u64,
}

impl Kept {
    /// The health that follows.
    pub fn health(&self) -> Health {
        Health::of(&self.operations)
    }
}

/// What a task shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One turn of reading the Inbox.
    Incoming,
    /// Send what is due; with `check` ask the server something even if nothing is.
    Outgoing {
        /// True while the operation is retrying: its outcome must be learnt.
        check: bool,
    },
    /// Test these operations, in the order of [`Kind::ALL`].
    Test([bool; 3]),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was due is done; failures of single items are recorded and do not matter here.
    Completed {
        /// Items tracked or sent.
        items: u32,
    },
    /// The turn is over and more is waiting.
    More {
        /// Items tracked or sent.
        items: u32,
    },
    /// A failure of mailbox scope, throttling or a fault of the server; the catalogue says which.
    Failed {
        /// Why.
        reason: Reason,
        /// How long the server asked to wait.
        hint: Option<Duration>,
    },
    /// The profile's breaker did not let it begin.
    Held,
    /// Something on our own side failed; nothing is known of Exchange.
    OursFailed,
}

/// How the test of one operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tested {
    /// It works.
    Works,
    /// It does not.
    Fails {
        /// Why.
        reason: Reason,
        /// How long the server asked to wait.
        hint: Option<Duration>,
    },
}

/// What happens to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The scheduler's tick: something may be due.
    Tick,
    /// What people want.
    Wanted(Wanted),
    /// Emails wait to be sent.
    OutgoingDue,
    /// A breaker of the profile wants this mailbox to try this road.
    Canary(Road),
    /// The profile's breaker closed: what waited for the server and is waited for by people goes on.
    Reopened,
    /// The server said that mail came.
    Notified,
    /// The server says it from now on; what came before may have come unsaid.
    Watched,
    /// A turn ended.
    Ended(Attempt, Outcome),
    /// A test ended, for each operation that was tested.
    TestEnded(Attempt, [Option<Tested>; 3]),
    /// What was to be written is written.
    Settled(Attempt),
}

/// What happened, for the alert book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An operation failed and is tried again.
    Failing {
        /// Which.
        operation: Kind,
        /// Why.
        reason: Reason,
        /// Failures in a row.
        failures: u8,
    },
    /// An operation was disabled.
    Disabled {
        /// Which.
        operation: Kind,
        /// Why.
        reason: Reason,
        /// True if it was one failure too many, false if the failure was permanent.
        after_retries: bool,
    },
    /// An operation that had failed or was disabled works again, or was switched off.
    Recovered {
        /// Which.
        operation: Kind,
    },
    /// A test ended well.
    Connected,
}

/// How the test of a mailbox ended, for the operation that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestEnd {
    /// Which test.
    pub test: OperationId,
    /// For each operation: why it failed.
    pub reasons: [Option<Reason>; 3],
    /// True if it could not be run at all.
    pub skipped: bool,
}

/// What shall be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Begin a task; its result names the attempt.
    Run {
        /// The attempt.
        attempt: Attempt,
        /// What to do.
        work: Work,
    },
    /// Write the stored part with what goes with it, then say [`Event::Settled`]; never give up, unless fenced.
    Settle {
        /// The attempt.
        attempt: Attempt,
        /// What happened.
        notes: Vec<Note>,
        /// The end of a test.
        test: Option<TestEnd>,
        /// The position in the Inbox belongs to another mailbox.
        forget_cursor: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    Run(Attempt, Work),
    Settling(Attempt),
}

/// One mailbox at its holder: what is stored, and what need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    id: MailboxId,
    kept: Kept,
    attempt: Attempt,
    under_way: UnderWay,
    due: [Option<NextRun>; 3],
    quiet: [u8; 3],
    busy: [bool; 3],
    outgoing_due: bool,
    polls_wanted: u64,
    polled: [bool; 3],
    /// Boxed: it is there for a moment only.
    waiting: Option<Box<Wanted>>,
    canary: bool,
    unsaved: bool,
    notices: Notices,
}

/// What a step has gathered for the store.
#[derive(Default)]
struct Changes {
    notes: Vec<Note>,
    test: Option<TestEnd>,
    forget_cursor: bool,
    cycle: bool,
}

impl Changes {
    fn is_worth_writing(&self) -> bool {
        self.cycle || self.forget_cursor || !self.notes.is_empty() || self.test.is_some()
    }
}

impl Mailbox {
    /// A mailbox as its new holder finds it.
    pub fn claimed(id: MailboxId, kept: Kept, rules: &Rules, now: Timestamp) -> Self {
        let mut mailbox = Self {
            id,
            kept,
            attempt: Attempt(0),
            under_way: UnderWay::Nothing,
            due: [None; 3],
            quiet: [0; 3],
            busy: [false; 3],
            outgoing_due: true,
            polls_wanted: kept.polls_done,
            polled: [false; 3],
            waiting: None,
            canary: false,
            unsaved: false,
            notices: Notices::default(),
        };
        mailbox.plan_all(rules, now);
        mailbox
    }

    /// What is stored of it.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The next run of each operation, as this holder will do it.
    pub fn next_runs(&self) -> [Option<NextRun>; 3] {
        self.due
    }

    /// When it wants its next [`Event::Tick`]; `None`: not before something else happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.under_way {
            UnderWay::Nothing => self.due.iter().flatten().map(|next| next.at).min(),
            UnderWay::Run(..) | UnderWay::Settling(_) => None,
        }
    }

    /// What it is at; `None`: it waits.
    pub fn work(&self) -> Option<Work> {
        match self.under_way {
            UnderWay::Run(_, work) => Some(work),
            UnderWay::Nothing | UnderWay::Settling(_) => None,
        }
    }

    /// The next state, and what shall be done.
    pub fn step(&mut self, rules: &Rules, event: Event, now: Timestamp) -> Option<Effect> {
        let before = self.kept;
        let mut changes = Changes::default();
        match event {
            Event::Tick => {}
            Event::Wanted(wanted) => {
                if self.waiting.as_ref().is_none_or(|waiting| waiting.revision <= wanted.revision) {
                    self.waiting = Some(Box::new(wanted));
                }
            }
            Event::OutgoingDue => self.outgoing_is_due(now),
            Event::Canary(road) => self.hurry_canary(road, now),
            Event::Reopened => self.resume_tests(now),
            Event::Notified => self.notices.mail_came(),
            Event::Watched => self.notices.watched(rules, self.id, now),
            Event::Ended(attempt, outcome) => match self.under_way {
                UnderWay::Run(current, work) if current == attempt => {
                    self.under_way = UnderWay::Nothing;
                    self.ended(rules, work, outcome, now, &mut changes);
                }
                UnderWay::Run(..) | UnderWay::Nothing | UnderWay::Settling(_) => return None,
            },
            Event::TestEnded(attempt, results) => match self.under_way {
                UnderWay::Run(current, Work::Test(_)) if current == attempt => {
                    self.under_way = UnderWay::Nothing;
                    self.tested(rules, &results, now, &mut changes);
                }
                UnderWay::Run(..) | UnderWay::Nothing | UnderWay::Settling(_) => return None,
            },
            Event::Settled(attempt) => match self.under_way {
                UnderWay::Settling(current) if current == attempt => self.under_way = UnderWay::Nothing,
                UnderWay::Run(..) | UnderWay::Nothing | UnderWay::Settling(_) => return None,
            },
        }
        if self.under_way != UnderWay::Nothing {
            return None;
        }
        if let Some(wanted) = self.waiting.take() {
            self.apply(rules, &wanted, now, &mut changes);
        }
        self.finish_polls();
        self.notices.bring_forward(rules, &mut self.due[Kind::Incoming as usize], now);
        let mut effect = None;
        if self.kept == before && !changes.is_worth_writing() {
            effect = self.run_due(rules, now);
        }
        self.unsaved |= self.kept != before;
        if effect.is_none() && (self.unsaved || changes.is_worth_writing()) {
            effect = Some(self.settle(changes));
        }
        effect
    }

    /// What will be to be written once the turn under way ends so and nothing else happens before: if it is the stored
    /// part alone, and no notes with it. Nothing changes.
    pub fn foretell(
        &self,
        rules: &Rules,
        attempt: Attempt,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Kept> {
        let mut then = self.clone();
        match then.step(rules, Event::Ended(attempt, outcome), now)? {
            Effect::Settle { notes, test: None, forget_cursor: false, .. } if notes.is_empty() => {
                Some(then.kept)
            }
            Effect::Settle { .. } | Effect::Run { .. } => None,
        }
    }

    fn settle(&mut self, changes: Changes) -> Effect {
        let attempt = self.next_attempt();
        self.under_way = UnderWay::Settling(attempt);
        self.unsaved = false;
        let Changes { notes, test, forget_cursor, cycle: _ } = changes;
        Effect::Settle { attempt, notes, test, forget_cursor }
    }

    fn next_attempt(&mut self) -> Attempt {
        self.attempt = self.attempt.next();
        self.attempt
    }

    // ---- choosing what to do ------------------------------------------------------------------------------------

    fn run_due(&mut self, rules: &Rules, now: Timestamp) -> Option<Effect> {
        let testing = self.testing(now);
        let work = if testing.contains(&true) {
            Work::Test(testing)
        } else {
            loop {
                let kind = self.most_due(now)?;
                match kind {
                    Kind::Incoming => {
                        self.notices.poll_begins(self.due[Kind::Incoming as usize], now);
                        break Work::Incoming;
                    }
                    Kind::Outgoing => {
                        let retrying = matches!(self.operation(kind).state, State::Retrying { .. });
                        let check = retrying || self.canary;
                        if self.outgoing_due || check {
                            self.outgoing_due = false;
                            break Work::Outgoing { check };
                        }
                        // Nothing to send: complete without a word to the server.
                        self.completed(rules, kind, 0, &mut Changes::default());
                        self.plan(rules, kind, now);
                    }
                    Kind::Act => {
                        self.due[kind as usize] = None;
                    }
                }
            }
        };
        let attempt = self.next_attempt();
        self.canary = false;
        self.under_way = UnderWay::Run(attempt, work);
        Some(Effect::Run { attempt, work })
    }

    fn testing(&self, now: Timestamp) -> [bool; 3] {
        Kind::ALL.map(|kind| {
            matches!(self.operation(kind).state, State::Testing { .. })
                && self.due[kind as usize].is_some_and(|next| next.at <= now)
        })
    }

    fn most_due(&self, now: Timestamp) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| self.due[kind as usize].map(|next| (next.at, kind)))
            .filter(|(at, _)| *at <= now)
            .min()
            .map(|(_, kind)| kind)
    }

    fn operation(&self, kind: Kind) -> &Operation {
        &self.kept.operations[kind as usize]
    }

    fn plan_all(&mut self, rules: &Rules, now: Timestamp) {
        for kind in Kind::ALL {
            self.plan(rules, kind, now);
        }
    }

    fn plan(&mut self, rules: &Rules, kind: Kind, now: Timestamp) {
        let from = match kind {
            Kind::Incoming => self.notices.plan_from(rules, now),
            Kind::Outgoing | Kind::Act => now,
        };
        let pace = rules.pace();
        let next = self.operation(kind).next_run(self.id, &pace, from);
        self.due[kind as usize] =
            next.map(|next| NextRun { at: next.at.min(now + pace.longest_wait), ..next });
    }

    fn is_running_well(&self, kind: Kind) -> bool {
        matches!(self.operation(kind).state, State::Enabled | State::Retrying { .. })
    }

    fn outgoing_is_due(&mut self, now: Timestamp) {
        self.outgoing_due = true;
        let kind = Kind::Outgoing;
        let waits = self.operation(kind).not_before.is_some_and(|stored| stored > now);
        if self.is_running_well(kind) && !waits {
            self.due[kind as usize] = Some(NextRun { at: now, why: Why::Backlog });
        }
    }

    /// Tests that waited for the server go on; polls keep to their phases, so that the load stays spread.
    fn resume_tests(&mut self, now: Timestamp) {
        for kind in Kind::ALL {
            let operation = self.operation(kind);
            let waits = operation.reason.is_some_and(Reason::is_server_fault)
                || self.due[kind as usize].is_some_and(|next| next.why == Why::Breaker);
            if waits && matches!(operation.state, State::Testing { .. }) {
                self.due[kind as usize] = Some(NextRun { at: now, why: Why::TestWanted });
            }
        }
    }

    /// The breaker asks for one request at once: of whatever would run next by this road.
    fn hurry_canary(&mut self, road: Road, now: Timestamp) {
        let next = Kind::ALL
            .into_iter()
            .filter(|kind| road.kinds()[*kind as usize])
            .filter_map(|kind| self.due[kind as usize].map(|next| (next.at, kind)))
            .min();
        if let Some((_, kind)) = next
            && let Some(next) = &mut self.due[kind as usize]
        {
            *next = NextRun { at: now, why: Why::Breaker };
            self.canary = true;
        }
    }
}
