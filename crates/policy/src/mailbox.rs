//! The machine of one mailbox: when it polls, backs off, retries, is disabled, tested and enabled.
//!
//! A mailbox has at most one thing under way: a turn of an operation, a test, or the writing of what came of it.
//! Results name their attempt; one that is late, doubled or of somebody else's changes nothing.

use std::time::Duration;

use crate::{
    id::{self, Attempt, MailboxId, OperationId},
    operation::{Health, Kind, Method, NextRun, Operation, Pace, State, Status, Why},
    reason::{Nature, Reason, Scope},
    time::{Timestamp, millis},
};

/// Numbers of the deployment and of the mailbox's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The usual period of an enabled operation.
    pub active_period: Duration,
    /// The period while there is much to do.
    pub active_min: Duration,
    /// The first period while there is nothing to do.
    pub active_max: Duration,
    /// How long the period may grow while nothing happens.
    pub idle_max: Duration,
    /// The wait after a failure.
    pub retry_gap: Duration,
    /// The failure in a row that disables.
    pub retry_attempts: u8,
    /// The wait after the first failed test; it doubles.
    pub test_gap: Duration,
    /// Failed tests that are tried again.
    pub test_tries: u8,
    /// The wait after throttling without a hint.
    pub back_off: Duration,
    /// No hint of the server makes the mailbox wait longer.
    pub back_off_max: Duration,
    /// The profile's minimum polling interval; zero: no floor.
    pub minimum_interval: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            active_period: minutes(5),
            active_min: minutes(2),
            active_max: minutes(12),
            idle_max: minutes(60),
            retry_gap: minutes(5),
            retry_attempts: 10,
            test_gap: minutes(1),
            test_tries: 3,
            back_off: Duration::from_secs(30),
            back_off_max: minutes(10),
            minimum_interval: Duration::ZERO,
        }
    }
}

/// A wait after something on our own side failed, such as the database; it is not stored.
const OWN_GAP: Duration = Duration::from_secs(10);

/// Empty cycles in a row after which the period grows by one step.
const QUIET_CYCLES: u8 = 3;

impl Rules {
    /// What bounds every wait under these rules.
    pub fn pace(&self) -> Pace {
        let longest =
            [self.active_period, self.idle_max, self.minimum_interval, self.retry_gap, self.back_off_max];
        Pace {
            minimum_interval: self.minimum_interval,
            longest_wait: longest.into_iter().max().unwrap_or(self.active_period),
        }
    }

    /// The next longer period: 2, 5, 12 minutes, then doubling up to the ceiling of idle mailboxes.
    fn slower(&self, period: Duration) -> Duration {
        let ceiling = self.idle_max.max(self.active_max);
        let longer =
            [self.active_min, self.active_period, self.active_max].into_iter().find(|step| *step > period);
        longer.unwrap_or(period * 2).min(ceiling)
    }

    /// The next shorter period: an idle mailbox is active again at once, an active one goes faster.
    fn faster(&self, period: Duration) -> Duration {
        if period > self.active_period { self.active_period } else { self.active_min.min(period) }
    }
}

/// What people want of the mailbox, as far as its machine is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Raised by each change.
    pub revision: u64,
    /// A hash over profile and address: another one means another mailbox behind the same row.
    pub subject: u64,
    /// The methods in the order of [`Kind::ALL`].
    pub methods: [Method; 3],
    /// True if it is approved or needs no approval.
    pub approved: bool,
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
    /// The profile's breaker wants this mailbox to try the server.
    Canary,
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
    waiting: Option<Wanted>,
    canary: bool,
    unsaved: bool,
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
            Event::Wanted(wanted) => self.waiting = Some(wanted),
            Event::OutgoingDue => self.outgoing_is_due(now),
            Event::Canary => self.hurry_canary(now),
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

    fn settle(&mut self, changes: Changes) -> Effect {
        let attempt = self.next_attempt();
        self.under_way = UnderWay::Settling(attempt);
        self.unsaved = false;
        let Changes { notes, test, forget_cursor, cycle: _ } = changes;
        Effect::Settle { attempt, notes, test, forget_cursor }
    }

    fn next_attempt(&mut self) -> Attempt {
        self.attempt = Attempt(self.attempt.0 + 1);
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
                    Kind::Incoming => break Work::Incoming,
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
        self.due[kind as usize] = self.operation(kind).next_run(self.id, &rules.pace(), now);
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

    /// The breaker asks for one request at once: of whatever would run next.
    fn hurry_canary(&mut self, now: Timestamp) {
        let next = Kind::ALL
            .into_iter()
            .filter_map(|kind| self.due[kind as usize].map(|next| (next.at, kind)))
            .min();
        if let Some((_, kind)) = next
            && let Some(next) = &mut self.due[kind as usize]
        {
            *next = NextRun { at: now, why: Why::Breaker };
            self.canary = true;
        }
    }

    // ---- what people want ---------------------------------------------------------------------------------------

    fn apply(&mut self, rules: &Rules, wanted: &Wanted, now: Timestamp, changes: &mut Changes) {
        self.polls_wanted = self.polls_wanted.max(wanted.polls);
        if self.kept.subject != 0 && wanted.revision <= self.kept.wanted_seen {
            return self.want_polls(now);
        }
        let moved = self.kept.subject != 0 && self.kept.subject != wanted.subject;
        changes.forget_cursor |= moved;
        self.kept.subject = wanted.subject;
        self.kept.wanted_seen = wanted.revision;
        for kind in Kind::ALL {
            self.want_method(kind, wanted.methods[kind as usize], moved, wanted.approved, changes);
        }
        self.want_test(wanted, changes);
        self.plan_all(rules, now);
        self.want_polls(now);
    }

    fn want_method(
        &mut self,
        kind: Kind,
        method: Method,
        moved: bool,
        approved: bool,
        changes: &mut Changes,
    ) {
        let operation = &mut self.kept.operations[kind as usize];
        let known = operation.method == method && !moved;
        let allowed = approved || matches!(operation.state, State::Off | State::Untested);
        let reason = (method != Method::None && !approved).then_some(Reason::MailboxNotApproved);
        if known && allowed {
            if operation.state == State::Untested {
                operation.reason = reason;
            }
            return;
        }
        if operation.is_failing() {
            changes.notes.push(Note::Recovered { operation: kind });
        }
        let state = if method == Method::None { State::Off } else { State::Untested };
        *operation = Operation { method, state, reason, ..Operation::default() };
        self.due[kind as usize] = None;
    }

    fn want_test(&mut self, wanted: &Wanted, changes: &mut Changes) {
        if self.kept.test.is_some() && self.kept.test != wanted.test {
            self.take_test_back();
        }
        let Some(test) = wanted.test.filter(|test| self.kept.test_done != Some(*test)) else { return };
        if self.kept.test == Some(test) {
            return;
        }
        for operation in &mut self.kept.operations {
            if operation.method == Method::ServerSide && wanted.approved {
                let was = operation.status();
                *operation = Operation {
                    state: State::Testing { tries: 0, was },
                    not_before: None,
                    period: operation.period,
                    ..*operation
                };
            }
        }
        self.kept.test = Some(test);
        self.end_test(changes);
    }

    /// The test was canceled: what had not ended is as it was.
    fn take_test_back(&mut self) {
        for operation in &mut self.kept.operations {
            if let State::Testing { was, .. } = operation.state {
                operation.state = match was {
                    Status::NotRun => State::Untested,
                    Status::Success => State::Enabled,
                    Status::Failure => State::Disabled,
                };
                operation.not_before = None;
            }
        }
        self.kept.test = None;
    }

    fn want_polls(&mut self, now: Timestamp) {
        if self.polls_wanted == self.kept.polls_done {
            return;
        }
        self.polled = Kind::ALL.map(|kind| !self.is_running_well(kind));
        for kind in Kind::ALL {
            if self.is_running_well(kind) {
                self.due[kind as usize] = Some(NextRun { at: now, why: Why::PollWanted });
                self.outgoing_due |= kind == Kind::Outgoing;
            }
        }
    }

    fn finish_polls(&mut self) {
        let done =
            Kind::ALL.into_iter().all(|kind| self.polled[kind as usize] || !self.is_running_well(kind));
        if self.polls_wanted != self.kept.polls_done && done {
            self.kept.polls_done = self.polls_wanted;
        }
    }

    // ---- results ------------------------------------------------------------------------------------------------

    fn ended(&mut self, rules: &Rules, work: Work, outcome: Outcome, now: Timestamp, changes: &mut Changes) {
        let kind = match work {
            Work::Incoming => Kind::Incoming,
            Work::Outgoing { .. } => Kind::Outgoing,
            Work::Test(_) => return self.test_did_not_run(rules, outcome, now),
        };
        self.polled[kind as usize] = true;
        match outcome {
            Outcome::Completed { items } => {
                changes.cycle = items > 0;
                self.completed(rules, kind, items, changes);
                self.plan(rules, kind, now);
            }
            Outcome::More { items } => {
                changes.cycle = items > 0;
                self.completed(rules, kind, items, changes);
                self.due[kind as usize] = Some(NextRun { at: now, why: Why::Backlog });
                self.outgoing_due |= kind == Kind::Outgoing;
            }
            Outcome::Failed { reason, hint } => {
                changes.cycle = true;
                self.outgoing_due |= kind == Kind::Outgoing;
                self.failed(rules, kind, reason, hint, now, changes);
                self.plan(rules, kind, now);
            }
            Outcome::Held => {
                self.outgoing_due |= kind == Kind::Outgoing;
                self.hold(rules, kind, now);
            }
            Outcome::OursFailed => {
                self.outgoing_due |= kind == Kind::Outgoing;
                self.due[kind as usize] = Some(NextRun { at: now + OWN_GAP, why: Why::RetryGap });
            }
        }
    }

    fn completed(&mut self, rules: &Rules, kind: Kind, items: u32, changes: &mut Changes) {
        if self.operation(kind).is_failing() {
            changes.notes.push(Note::Recovered { operation: kind });
        }
        let period = self.paced(rules, kind, items);
        let operation = &mut self.kept.operations[kind as usize];
        *operation = Operation {
            method: operation.method,
            state: State::Enabled,
            period,
            not_before: None,
            reason: None,
        };
    }

    /// The period after a cycle: shorter while there is work, longer after several empty cycles.
    fn paced(&mut self, rules: &Rules, kind: Kind, items: u32) -> Duration {
        let at = kind as usize;
        let ceiling = rules.idle_max.max(rules.active_max);
        let period = self.operation(kind).period.clamp(rules.active_min.min(ceiling), ceiling);
        if items > 0 {
            let again = std::mem::replace(&mut self.busy[at], true);
            self.quiet[at] = 0;
            return if again || period > rules.active_period { rules.faster(period) } else { period };
        }
        self.busy[at] = false;
        self.quiet[at] += 1;
        if self.quiet[at] < QUIET_CYCLES {
            return period;
        }
        self.quiet[at] = 0;
        rules.slower(period)
    }

    fn failed(
        &mut self,
        rules: &Rules,
        kind: Kind,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let jitter = self.jitter();
        let operation = &mut self.kept.operations[kind as usize];
        let failures = operation.failures();
        operation.reason = Some(reason);
        match Verdict::of(reason) {
            Verdict::Throttled => operation.not_before = Some(now + rules.wait(hint, jitter)),
            Verdict::ServerFault => {
                operation.state = State::Retrying { failures };
                operation.not_before = Some(now + rules.retry_gap);
            }
            Verdict::Transient if failures + 1 < rules.retry_attempts => {
                operation.state = State::Retrying { failures: failures + 1 };
                operation.not_before = Some(now + rules.retry_gap);
                changes.notes.push(Note::Failing { operation: kind, reason, failures: failures + 1 });
            }
            verdict @ (Verdict::Transient | Verdict::Permanent) => {
                operation.state = State::Disabled;
                operation.not_before = None;
                let after_retries = verdict == Verdict::Transient;
                changes.notes.push(Note::Disabled { operation: kind, reason, after_retries });
            }
        }
    }

    fn hold(&mut self, rules: &Rules, kind: Kind, now: Timestamp) {
        let pace = rules.pace();
        let operation = Operation { not_before: None, reason: None, ..*self.operation(kind) };
        let well = Operation { state: State::Enabled, ..operation };
        self.due[kind as usize] =
            well.next_run(self.id, &pace, now).map(|next| NextRun { why: Why::Breaker, ..next });
    }

    fn jitter(&self) -> u64 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.id.to_bytes());
        bytes[16..].copy_from_slice(&self.attempt.0.to_be_bytes());
        id::hash(&bytes)
    }

    // ---- tests --------------------------------------------------------------------------------------------------

    /// The breaker or our own side kept the test from running: what is not tested stays untested, and it comes again.
    fn test_did_not_run(&mut self, rules: &Rules, outcome: Outcome, now: Timestamp) {
        let why = if outcome == Outcome::Held { Why::Breaker } else { Why::TestRetry };
        let gap = if outcome == Outcome::Held { rules.retry_gap } else { OWN_GAP };
        for kind in Kind::ALL {
            if matches!(self.operation(kind).state, State::Testing { .. }) {
                self.due[kind as usize] = Some(NextRun { at: now + gap, why });
            }
        }
    }

    fn tested(
        &mut self,
        rules: &Rules,
        results: &[Option<Tested>; 3],
        now: Timestamp,
        changes: &mut Changes,
    ) {
        for kind in Kind::ALL {
            if let (Some(result), State::Testing { tries, was }) =
                (results[kind as usize], self.operation(kind).state)
            {
                self.operation_tested(rules, kind, (tries, was), result, now, changes);
                self.plan(rules, kind, now);
            }
        }
        self.end_test(changes);
    }

    fn operation_tested(
        &mut self,
        rules: &Rules,
        kind: Kind,
        (tries, was): (u8, Status),
        result: Tested,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let jitter = self.jitter();
        let operation = &mut self.kept.operations[kind as usize];
        match result {
            Tested::Works => {
                if was == Status::Failure || operation.reason.is_some() {
                    changes.notes.push(Note::Recovered { operation: kind });
                }
                *operation = Operation {
                    method: operation.method,
                    state: State::Enabled,
                    period: rules.active_period,
                    not_before: None,
                    reason: None,
                };
                self.outgoing_due |= kind == Kind::Outgoing;
            }
            Tested::Fails { reason, hint } => {
                operation.reason = Some(reason);
                match Verdict::of(reason) {
                    Verdict::ServerFault => operation.not_before = Some(now + rules.retry_gap),
                    verdict @ (Verdict::Transient | Verdict::Throttled) if tries < rules.test_tries => {
                        let gap = rules.test_gap * (1 << tries.min(10));
                        let asked =
                            if verdict == Verdict::Throttled { rules.wait(hint, jitter) } else { gap };
                        operation.state = State::Testing { tries: tries + 1, was };
                        operation.not_before = Some(now + gap.max(asked).min(rules.pace().longest_wait));
                    }
                    Verdict::Transient | Verdict::Throttled | Verdict::Permanent => {
                        operation.state = State::Disabled;
                        operation.not_before = None;
                        changes.notes.push(Note::Disabled { operation: kind, reason, after_retries: false });
                    }
                }
            }
        }
    }

    /// Ends the test that was asked for, once no operation is testing any more.
    fn end_test(&mut self, changes: &mut Changes) {
        let testing = |operation: &Operation| matches!(operation.state, State::Testing { .. });
        let Some(test) = self.kept.test.filter(|_| !self.kept.operations.iter().any(testing)) else { return };
        let disabled = |operation: Operation| {
            if operation.state == State::Disabled { operation.reason } else { None }
        };
        let skipped = !self.kept.operations.iter().any(|operation| {
            matches!(operation.state, State::Enabled | State::Retrying { .. } | State::Disabled)
        });
        let reasons = if skipped {
            self.kept.operations.map(|operation| operation.reason)
        } else {
            self.kept.operations.map(disabled)
        };
        if !skipped && reasons == [None; 3] {
            changes.notes.push(Note::Connected);
        }
        self.kept.test = None;
        self.kept.test_done = Some(test);
        changes.test = Some(TestEnd { test, reasons, skipped });
    }
}

impl Rules {
    /// How long to wait because the server asked to: floor one second, ceiling, up to a fifth more by jitter.
    fn wait(&self, hint: Option<Duration>, jitter: u64) -> Duration {
        let asked = hint.filter(|hint| !hint.is_zero()).unwrap_or(self.back_off);
        let asked = asked.clamp(Duration::from_secs(1).min(self.back_off_max), self.back_off_max);
        let fifth = (millis(asked) / 5).max(1) as u64;
        (asked + Duration::from_millis(jitter % fifth)).min(self.back_off_max)
    }
}

/// What a failure means to the one operation that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Wait; it never counts.
    Throttled,
    /// The server's fault: it never counts against the mailbox.
    ServerFault,
    /// It counts, and is tried again.
    Transient,
    /// It disables at once.
    Permanent,
}

impl Verdict {
    fn of(reason: Reason) -> Self {
        match (reason.is_server_fault(), reason.nature(), reason.scope()) {
            (true, ..) => Self::ServerFault,
            (_, Nature::Throttled, _) => Self::Throttled,
            (_, Nature::Transient, _) | (_, _, Scope::Item) => Self::Transient,
            (_, Nature::Permanent | Nature::Configuration, _) => Self::Permanent,
        }
    }
}
