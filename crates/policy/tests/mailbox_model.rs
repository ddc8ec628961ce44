//! The mailbox machine against a slow and obvious model: whatever arrives, in whatever order, twice, late or never.

use std::time::Duration;

use mailyard_policy::{
    breaker::Road,
    id::{Attempt, MailboxId, OperationId},
    mailbox::{Effect, Event, Kept, Mailbox, Outcome, Rules, Tested, Wanted, Work},
    operation::{Method, Operation, State, Status},
    reason::Reason,
    time::Timestamp,
};
use proptest::prelude::*;

const START: i64 = 1_772_366_400_000;

/// What the world does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// Time passes, up to so many seconds, and a tick comes.
    Tick(u32),
    /// The result of what is under way, if anything is.
    Answer(Result),
    /// A result of this many attempts ago, or of one that never was.
    Stray(u8, Result),
    /// What was to be written is written.
    Settled,
    /// A confirmation of a writing of long ago.
    StraySettled(u8),
    /// People want something new (or, late, what they wanted before).
    Wanted {
        late: bool,
        methods: [bool; 2],
        approved: bool,
        test: bool,
        move_away: bool,
        poll: bool,
    },
    OutgoingDue,
    Canary,
    Reopened,
    Notified,
    Watched,
}

#[derive(Clone, Copy, Debug)]
enum Result {
    Completed(u32),
    More,
    Held,
    OursFailed,
    Failed(usize),
}

/// The reasons that the world gives, and what each means to a mailbox.
const REASONS: [(Reason, Meaning); 4] = [
    (Reason::MailboxUnavailable, Meaning::Counts),
    (Reason::ExchangeServerBusy, Meaning::Waits),
    (Reason::ProfileConnectFailed, Meaning::ServerFault),
    (Reason::ImpersonationDenied, Meaning::Disables),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Counts,
    Waits,
    ServerFault,
    Disables,
}

/// One line of the history of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    MethodSet(bool),
    Unapproved,
    Moved,
    TestBegan,
    TestTakenBack,
    TestWorked,
    TestFailed(Meaning),
    Completed,
    Failed(Meaning),
}

/// The model: the history of each operation, read from its beginning whenever its state is asked for.
#[derive(Debug)]
struct Model {
    history: [Vec<Line>; 2],
    tries: u8,
    attempts: u8,
}

impl Model {
    fn state(&self, kind: usize) -> State {
        let mut state = State::Off;
        for (at, line) in self.history[kind].iter().enumerate() {
            state = match (line, state) {
                (Line::MethodSet(true) | Line::Unapproved | Line::Moved, _)
                    if self.has_method_at(kind, at) =>
                {
                    State::Untested
                }
                (Line::MethodSet(_) | Line::Unapproved | Line::Moved, _) => State::Off,
                (Line::TestTakenBack, State::Testing { was, .. }) => back(was),
                (
                    Line::TestTakenBack
                    | Line::TestFailed(Meaning::ServerFault)
                    | Line::Failed(Meaning::Waits),
                    before,
                ) => before,
                (Line::TestBegan, before) => State::Testing { tries: 0, was: status(before) },
                (Line::TestFailed(Meaning::Counts | Meaning::Waits), State::Testing { tries, was })
                    if tries < self.tries =>
                {
                    State::Testing { tries: tries + 1, was }
                }
                (Line::TestWorked | Line::Completed, _) => State::Enabled,
                (Line::Failed(Meaning::ServerFault), before) => State::Retrying { failures: counted(before) },
                (Line::Failed(Meaning::Counts), before) if counted(before) + 1 < self.attempts => {
                    State::Retrying { failures: counted(before) + 1 }
                }
                (Line::TestFailed(_) | Line::Failed(_), _) => State::Disabled,
            }
        }
        state
    }

    /// True if the operation has a method after this line of its history.
    fn has_method_at(&self, kind: usize, at: usize) -> bool {
        self.history[kind]
            .iter()
            .take(at + 1)
            .rev()
            .find_map(|line| if let Line::MethodSet(on) = line { Some(*on) } else { None })
            .unwrap_or(false)
    }
}

fn counted(state: State) -> u8 {
    if let State::Retrying { failures } = state { failures } else { 0 }
}

fn status(state: State) -> Status {
    Operation { state, ..Operation::default() }.status()
}

fn back(was: Status) -> State {
    match was {
        Status::NotRun => State::Untested,
        Status::Success => State::Enabled,
        Status::Failure => State::Disabled,
    }
}

/// Machine, model, and what is under way between them.
struct Run {
    rules: Rules,
    now: i64,
    mailbox: Mailbox,
    model: Model,
    wanted: Wanted,
    older: Wanted,
    applied: Wanted,
    waiting: Option<Wanted>,
    running: Option<(Attempt, Work)>,
    settling: Option<Attempt>,
    last: Attempt,
    settles: u32,
}

impl Run {
    fn new() -> Self {
        let rules = Rules { retry_attempts: 4, ..Rules::default() };
        let now = START;
        let mailbox =
            Mailbox::claimed(MailboxId::new(5), Kept::default(), &rules, Timestamp::from_millis(now));
        Self {
            rules,
            now,
            mailbox,
            model: Model {
                history: [vec![], vec![]],
                tries: rules.test_tries,
                attempts: rules.retry_attempts,
            },
            wanted: Wanted::default(),
            older: Wanted::default(),
            applied: Wanted::default(),
            waiting: None,
            running: None,
            settling: None,
            last: Attempt(0),
            settles: 0,
        }
    }

    fn step(&mut self, event: Event) {
        let text = event.to_string();
        assert_eq!(text.parse::<Event>(), Ok(event), "the text form of an event reads back");
        let before = self.mailbox.clone();
        let now = Timestamp::from_millis(self.now);
        let foretold = match event {
            Event::Ended(attempt, outcome) => before.foretell(&self.rules, attempt, outcome, now),
            _ => None,
        };
        let effect = self.mailbox.step(&self.rules, event, now);
        let kept = *self.mailbox.kept();
        assert_eq!(kept.to_string().parse::<Kept>(), Ok(kept), "the text form of what is kept reads back");
        let current = match event {
            Event::Ended(attempt, _) | Event::TestEnded(attempt, _) => {
                self.running.is_some_and(|(running, _)| running == attempt)
            }
            Event::Settled(attempt) => self.settling == Some(attempt),
            Event::Tick
            | Event::Wanted(_)
            | Event::OutgoingDue
            | Event::Canary(_)
            | Event::Reopened
            | Event::Notified
            | Event::Watched => true,
        };
        if matches!(event, Event::Ended(..)) {
            let alone = matches!(&effect, Some(Effect::Settle { notes, test: None, forget_cursor: false, .. }) if notes.is_empty());
            assert_eq!(
                foretold,
                alone.then_some(kept),
                "{event}: what was foretold is what is to be written"
            );
        }
        if !current {
            assert_eq!(effect, None, "{event}: a stray result has no effect");
            assert_eq!(self.mailbox, before, "{event}: a stray result changes nothing");
            return;
        }
        self.tell_the_model(event);
        if self.running.is_none() && self.settling.is_none() {
            self.apply_wanted();
        }
        match effect {
            Some(Effect::Run { attempt, work }) => {
                assert!(self.running.is_none() && self.settling.is_none(), "{event}: one thing at a time");
                assert!(attempt > self.last, "{event}: attempts rise");
                // An outgoing operation with nothing to send completes without a word: what that changes of its
                // schedule may wait to be written; a state may not.
                let states = |kept: &Kept| kept.operations.map(|operation| operation.state);
                let rest = |kept: &Kept| Kept { operations: Default::default(), ..*kept };
                assert_eq!(
                    states(&kept),
                    states(before.kept()),
                    "{event}: states are written before anything runs"
                );
                assert_eq!(
                    rest(&kept),
                    rest(before.kept()),
                    "{event}: wishes are written before anything runs"
                );
                (self.running, self.last) = (Some((attempt, work)), attempt);
                self.check_work(work);
            }
            Some(Effect::Settle { attempt, .. }) => {
                assert!(self.running.is_none() && self.settling.is_none(), "{event}: one thing at a time");
                assert!(attempt > self.last, "{event}: attempts rise");
                (self.settling, self.last) = (Some(attempt), attempt);
                self.settles += 1;
            }
            None => {
                if self.running.is_none() && self.settling.is_none() {
                    assert_eq!(kept, *before.kept(), "{event}: what is kept changes only with a writing");
                }
            }
        }
        self.compare(event);
    }

    fn tell_the_model(&mut self, event: Event) {
        match event {
            Event::Ended(_, outcome) => {
                let Some((_, work)) = self.running.take() else { return };
                let kind = match work {
                    Work::Incoming => 0,
                    Work::Outgoing { .. } => 1,
                    Work::Test(kinds) => {
                        let Outcome::Failed { reason, .. } = outcome else { return };
                        for kind in (0..2).filter(|kind| kinds[*kind]) {
                            self.model.history[kind].push(Line::TestFailed(meaning(reason)));
                        }
                        return;
                    }
                };
                self.model.history[kind].extend(match outcome {
                    Outcome::Completed { .. } | Outcome::More { .. } => Some(Line::Completed),
                    Outcome::Failed { reason, .. } => Some(Line::Failed(meaning(reason))),
                    Outcome::Held | Outcome::OursFailed => None,
                });
            }
            Event::TestEnded(_, results) => {
                self.running = None;
                for (kind, result) in results.iter().take(2).enumerate() {
                    self.model.history[kind].extend(result.map(|result| match result {
                        Tested::Works => Line::TestWorked,
                        Tested::Fails { reason, .. } => Line::TestFailed(meaning(reason)),
                    }));
                }
            }
            Event::Settled(_) => self.settling = None,
            Event::Wanted(wanted) => {
                self.waiting = self.waiting.into_iter().chain([wanted]).max_by_key(|wanted| wanted.revision);
            }
            Event::Tick
            | Event::OutgoingDue
            | Event::Canary(_)
            | Event::Reopened
            | Event::Notified
            | Event::Watched => {}
        }
    }

    fn apply_wanted(&mut self) {
        let Some(wanted) = self.waiting.take() else { return };
        let first = self.applied.subject == 0;
        if !first && wanted.revision <= self.applied.revision {
            return;
        }
        let moved = !first && wanted.subject != self.applied.subject;
        for kind in 0..2 {
            let on = wanted.methods[kind] == Method::ServerSide;
            let was = self.applied.methods[kind] == Method::ServerSide;
            let history = &mut self.model.history[kind];
            if on != was {
                history.push(Line::MethodSet(on));
            } else if moved {
                history.push(Line::Moved);
            } else if wanted.barred.is_some() && on {
                history.push(Line::Unapproved);
            }
        }
        let testing = [0, 1].map(|kind| matches!(self.model.state(kind), State::Testing { .. }));
        if wanted.test != self.applied.test {
            for kind in (0..2).filter(|kind| testing[*kind]) {
                self.model.history[kind].push(Line::TestTakenBack);
            }
            for kind in 0..2 {
                if wanted.test.is_some()
                    && wanted.barred.is_none()
                    && wanted.methods[kind] == Method::ServerSide
                {
                    self.model.history[kind].push(Line::TestBegan);
                }
            }
        }
        self.applied = wanted;
    }

    fn check_work(&self, work: Work) {
        let state = |kind| self.model.state(kind);
        let runs = |kind| matches!(state(kind), State::Enabled | State::Retrying { .. });
        match work {
            Work::Incoming => assert!(runs(0), "incoming polls only while enabled"),
            Work::Outgoing { .. } => assert!(runs(1), "outgoing sends only while enabled"),
            Work::Test(kinds) => {
                for (kind, asked) in kinds.into_iter().take(2).enumerate() {
                    assert!(
                        !asked || matches!(state(kind), State::Testing { .. }),
                        "only what is testing is tested"
                    );
                }
            }
        }
    }

    fn compare(&self, event: Event) {
        for kind in 0..2 {
            let machine = self.mailbox.kept().operations[kind].state;
            assert_eq!(machine, self.model.state(kind), "{event}: {:?}", self.model.history[kind]);
        }
        if self.running.is_some() || self.settling.is_some() {
            return;
        }
        let lives = (0..2).any(|kind| {
            matches!(self.model.state(kind), State::Enabled | State::Retrying { .. } | State::Testing { .. })
        });
        let longest = self.rules.pace().longest_wait;
        let latest = Timestamp::from_millis(self.now) + longest;
        match self.mailbox.wake_at() {
            Some(at) => assert!(at <= latest, "{event}: no wait is longer than {longest:?}"),
            None => assert!(!lives, "{event}: what is enabled or tested has a next run"),
        }
    }

    fn play(&mut self, next: Move) {
        match next {
            Move::Tick(seconds) => {
                self.now += i64::from(seconds) * 1000;
                self.step(Event::Tick);
            }
            Move::Answer(result) => {
                if let Some((attempt, work)) = self.running {
                    self.step(answer(attempt, work, result));
                }
            }
            Move::Stray(ago, result) => {
                let attempt = Attempt(self.last.0.wrapping_sub(u64::from(ago)).min(self.last.0 + 9));
                if self.running.is_none_or(|(running, _)| running != attempt) {
                    self.step(answer(attempt, Work::Incoming, result));
                    self.step(answer(attempt, Work::Test([true, true, false]), result));
                }
            }
            Move::Settled => {
                if let Some(attempt) = self.settling {
                    self.step(Event::Settled(attempt));
                }
            }
            Move::StraySettled(ago) => {
                let attempt = Attempt(self.last.0.saturating_sub(u64::from(ago)));
                if self.settling != Some(attempt) {
                    self.step(Event::Settled(attempt));
                }
            }
            Move::Wanted { late, methods, approved, test, move_away, poll } => {
                if late && self.older.revision > 0 {
                    return self.step(Event::Wanted(self.older));
                }
                self.older = self.wanted;
                let method = |on: bool| if on { Method::ServerSide } else { Method::None };
                self.wanted.revision += 1;
                self.wanted.subject = self.wanted.subject.max(1) + u64::from(move_away);
                self.wanted.methods = [method(methods[0]), method(methods[1]), Method::None];
                self.wanted.barred = (!approved).then_some(Reason::MailboxNotApproved);
                self.wanted.test = test.then(|| OperationId::new(u128::from(self.wanted.revision) + 100));
                self.wanted.polls += u64::from(poll);
                self.step(Event::Wanted(self.wanted));
            }
            Move::OutgoingDue => self.step(Event::OutgoingDue),
            Move::Canary => self.step(Event::Canary(Road::Both)),
            Move::Reopened => self.step(Event::Reopened),
            Move::Notified => self.step(Event::Notified),
            Move::Watched => self.step(Event::Watched),
        }
    }
}

fn meaning(reason: Reason) -> Meaning {
    REASONS.iter().find(|(known, _)| *known == reason).map_or(Meaning::Counts, |(_, meaning)| *meaning)
}

fn answer(attempt: Attempt, work: Work, result: Result) -> Event {
    let reason = |number: usize| REASONS[number % REASONS.len()].0;
    let hint = Some(Duration::from_hours(9));
    match work {
        Work::Incoming | Work::Outgoing { .. } => Event::Ended(
            attempt,
            match result {
                Result::Completed(items) => Outcome::Completed { items },
                Result::More => Outcome::More { items: 7 },
                Result::Held => Outcome::Held,
                Result::OursFailed => Outcome::OursFailed,
                Result::Failed(number) => Outcome::Failed { reason: reason(number), hint },
            },
        ),
        Work::Test(kinds) => {
            let tested = match result {
                Result::Completed(_) => Tested::Works,
                Result::Failed(number) => Tested::Fails { reason: reason(number), hint: None },
                Result::More => {
                    let reason = Reason::MailboxCycleDeadline;
                    return Event::Ended(attempt, Outcome::Failed { reason, hint: None });
                }
                Result::Held => return Event::Ended(attempt, Outcome::Held),
                Result::OursFailed => return Event::Ended(attempt, Outcome::OursFailed),
            };
            Event::TestEnded(attempt, kinds.map(|asked| asked.then_some(tested)))
        }
    }
}

fn results() -> impl Strategy<Value = Result> {
    prop_oneof![
        4 => (0u32..3).prop_map(Result::Completed),
        1 => Just(Result::More),
        1 => Just(Result::Held),
        1 => Just(Result::OursFailed),
        6 => prop_oneof![4 => Just(0), 4 => 0usize..3, 1 => Just(3)].prop_map(Result::Failed),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0u32..4000).prop_map(Move::Tick),
        8 => results().prop_map(Move::Answer),
        2 => (0u8..4, results()).prop_map(|(ago, result)| Move::Stray(ago, result)),
        6 => Just(Move::Settled),
        1 => (0u8..4).prop_map(Move::StraySettled),
        1 => Just(Move::OutgoingDue),
        1 => Just(Move::Canary),
        1 => Just(Move::Reopened),
        2 => Just(Move::Notified),
        1 => Just(Move::Watched),
        3 => (
            prop::bool::weighted(0.2),
            prop::array::uniform2(prop::bool::weighted(0.9)),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.6),
            prop::bool::weighted(0.1),
            any::<bool>(),
        )
            .prop_map(|(late, methods, approved, test, move_away, poll)| Move::Wanted {
                late, methods, approved, test, move_away, poll
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_says(moves in prop::collection::vec(moves(), 1..120)) {
        let mut run = Run::new();
        for next in moves {
            run.play(next);
        }
    }
}

/// A generator that never reaches the interesting states would prove nothing.
#[test]
fn the_generator_reaches_what_matters() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut seen = [false; 6];
    for _ in 0..500 {
        let moves = prop::collection::vec(moves(), 60..120).new_tree(&mut runner).map(|tree| tree.current());
        let mut run = Run::new();
        for next in moves.unwrap_or_default() {
            run.play(next);
            for operation in run.mailbox.kept().operations {
                seen[match operation.state {
                    State::Off => 0,
                    State::Untested => 1,
                    State::Testing { tries, .. } => {
                        if tries > 1 {
                            2
                        } else {
                            1
                        }
                    }
                    State::Enabled => 3,
                    State::Retrying { failures } => {
                        if failures > 2 {
                            4
                        } else {
                            3
                        }
                    }
                    State::Disabled => 5,
                }] = true;
            }
        }
    }
    assert_eq!(seen, [true; 6]);
}
