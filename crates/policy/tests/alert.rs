//! The alert book and the failure ratio: few alerts, each true as long as it stands open.

use std::collections::{BTreeMap, BTreeSet};

use mailyard_policy::{
    Reason, Timestamp,
    alert::{
        Alert, Book, Fact, Level, Regarding, What,
        ratio::{Counts, Rules, State},
    },
    breaker::Road,
    id::{AlertId, MailboxId, ProfileId},
    operation::Kind,
};
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_772_366_400_000 + seconds * 1000)
}

fn mailbox(number: u128) -> Regarding {
    Regarding::Mailbox(MailboxId::new(number))
}

type Open = (Level, Reason, u64, [bool; 3]);

/// What is shown, the facts, and what stands open after them.
type Case<'a> = (&'a str, &'a [(Regarding, What)], &'a [Open]);

/// Books facts a second apart and shows the alerts that stand open: level, reason, count, operations.
fn open_after(facts: &[(Regarding, What)]) -> Vec<Open> {
    let mut book = Book::default();
    for (number, (regarding, what)) in facts.iter().enumerate() {
        let fact = Fact { regarding: *regarding, what: *what, at: at(number as i64) };
        assert_eq!(fact.to_string().parse(), Ok(fact));
        book.step(fact, AlertId::new(number as u128 + 1));
    }
    book.open().map(|alert| (alert.level, alert.key.reason, alert.count, alert.operations)).collect()
}

#[test]
fn facts_become_few_alerts() {
    use Kind::{Incoming, Outgoing};
    use What::{
        BreakerClosed, BreakerOpened, Connected, Disabled, Failing, InDoubt, Recovered, Settled, TestHalted,
        TestResumed,
    };
    let (one, two) = (mailbox(1), mailbox(2));
    let profile = Regarding::Profile(ProfileId::new(1));
    let (down, moving) = (Reason::MailboxUnavailable, Reason::MailboxMoving);
    let (warning, error) = (Level::Warning, Level::Error);
    let (incoming, both) = ([true, false, false], [true, true, false]);
    let cases: &[Case<'_>] = &[
        ("it joins", &[(one, Failing(Incoming, down)); 3], &[(warning, down, 3, incoming)]),
        (
            "mailboxes by themselves",
            &[(one, Failing(Incoming, down)), (two, Failing(Incoming, down))],
            &[(warning, down, 1, incoming), (warning, down, 1, incoming)],
        ),
        (
            "it escalates",
            &[(one, Failing(Incoming, down)), (one, Disabled(Incoming, down))],
            &[(error, down, 2, incoming)],
        ),
        (
            "an error stays one",
            &[(one, Disabled(Incoming, down)), (one, Failing(Outgoing, down))],
            &[(error, down, 2, both)],
        ),
        ("it resolves", &[(one, Failing(Incoming, down)), (one, Recovered(Incoming))], &[]),
        (
            "of two operations one recovers",
            &[(one, Failing(Incoming, down)), (one, Failing(Outgoing, down)), (one, Recovered(Outgoing))],
            &[(warning, down, 2, incoming)],
        ),
        (
            "another reason takes its place",
            &[(one, Failing(Incoming, down)), (one, Failing(Incoming, moving))],
            &[(warning, moving, 1, incoming)],
        ),
        ("news stand not open", &[(one, Connected)], &[]),
        (
            "a recovery of nothing",
            &[(one, Recovered(Incoming)), (one, Settled), (profile, BreakerClosed(Road::Both))],
            &[],
        ),
        (
            "breaker",
            &[(profile, BreakerOpened(Road::Both, Reason::ProfileDnsFailed))],
            &[(error, Reason::ProfileDnsFailed, 1, both)],
        ),
        (
            "of two roads one is well again",
            &[
                (profile, BreakerOpened(Road::Incoming, Reason::ProfileDnsFailed)),
                (profile, BreakerOpened(Road::Outgoing, Reason::ProfileDnsFailed)),
                (profile, BreakerClosed(Road::Outgoing)),
            ],
            &[(error, Reason::ProfileDnsFailed, 2, incoming)],
        ),
        (
            "roads that became one end together",
            &[
                (profile, BreakerOpened(Road::Outgoing, Reason::ProfileAuthRejected)),
                (profile, BreakerClosed(Road::Both)),
            ],
            &[],
        ),
        (
            "breaker closes",
            &[
                (profile, BreakerOpened(Road::Both, Reason::ProfileDnsFailed)),
                (profile, TestHalted),
                (profile, BreakerClosed(Road::Both)),
            ],
            &[(warning, Reason::ProfileTestHalted, 1, [false; 3])],
        ),
        ("test resumed", &[(profile, TestHalted), (profile, TestResumed)], &[]),
        ("doubt", &[(one, InDoubt)], &[(error, Reason::EmailOutcomeUnknown, 1, [false; 3])]),
        ("settled", &[(one, InDoubt), (one, Settled)], &[]),
    ];
    for (what, facts, open) in cases {
        assert_eq!(open_after(facts), *open, "{what}");
    }
}

#[test]
fn a_book_that_is_loaded_again_goes_on_where_it_stood() {
    let mut book = Book::default();
    let failing = What::Failing(Kind::Incoming, Reason::MailboxUnavailable);
    let fact = Fact { regarding: mailbox(1), what: failing, at: at(0) };
    let stored: Vec<Alert> = book.step(fact, AlertId::new(1));
    let mut again = Book::new(stored);
    assert_eq!(again, book);
    let recovered = Fact { what: What::Recovered(Kind::Incoming), at: at(9), ..fact };
    let changed = again.step(recovered, AlertId::new(2));
    assert_eq!(
        changed.iter().map(|alert| (alert.id, alert.resolved)).collect::<Vec<_>>(),
        [(AlertId::new(1), Some(at(9)))]
    );
}

proptest! {
    /// The obvious model: an alert is open exactly while some operation's last word is its reason.
    #[test]
    fn what_stands_open_is_what_is_wrong(
        facts in prop::collection::vec((0u128..3, 0usize..3, 0usize..3, 0usize..3), 1..120),
    ) {
        let reasons = [Reason::MailboxUnavailable, Reason::MailboxMoving, Reason::ImpersonationDenied];
        let mut book = Book::default();
        let mut stored: BTreeMap<AlertId, Alert> = BTreeMap::new();
        let mut last: BTreeMap<(u128, Kind), Option<(Reason, Level)>> = BTreeMap::new();
        for (number, (who, kind, reason, what)) in facts.into_iter().enumerate() {
            let (kind, reason) = (Kind::ALL[kind], reasons[reason]);
            let (what, word) = match what {
                0 => (What::Failing(kind, reason), Some((reason, Level::Warning))),
                1 => (What::Disabled(kind, reason), Some((reason, Level::Error))),
                _ => (What::Recovered(kind), None),
            };
            last.insert((who, kind), word);
            let fact = Fact { regarding: mailbox(who), what, at: at(number as i64) };
            for alert in book.step(fact, AlertId::new(number as u128 + 1)) {
                stored.insert(alert.id, alert);
            }
            let open: BTreeSet<(Regarding, Reason)> =
                book.open().map(|alert| (alert.key.regarding, alert.key.reason)).collect();
            let wrong: BTreeSet<(Regarding, Reason)> = last
                .iter()
                .filter_map(|((who, _), word)| word.map(|(reason, _)| (mailbox(*who), reason)))
                .collect();
            prop_assert_eq!(&open, &wrong);
            let in_store: BTreeSet<(Regarding, Reason)> = stored
                .values()
                .filter(|alert| alert.resolved.is_none())
                .map(|alert| (alert.key.regarding, alert.key.reason))
                .collect();
            prop_assert_eq!(&in_store, &wrong, "what was told to the store is what the book says");
        }
    }
}

fn counts(failing: u64, eligible: u64) -> Counts {
    Counts { eligible, failing, held_back: false }
}

#[test]
fn fires_strictly_above_the_threshold() {
    let rules = Rules::default();
    for (failing, eligible, fires) in [
        (50, 100, false),
        (51, 100, true),
        (1, 2, false),
        (2, 3, true),
        (0, 0, false),
        (1, 1, true),
        (9_999, 20_000, false),
        (10_001, 20_000, true),
    ] {
        let (state, _) = State::Normal.step(&rules, counts(failing, eligible), at(0));
        let (_, effects) = state.step(&rules, counts(failing, eligible), at(60));
        assert_eq!((effects.open, effects.notify), (fires, fires), "{failing} of {eligible}");
    }
    let held = Counts { eligible: 3, failing: 0, held_back: true };
    let (state, _) = State::Normal.step(&rules, held, at(0));
    assert!(state.step(&rules, held, at(60)).1.open, "the breaker holds all of them back");
    let few = Rules { minimum_population: 10, ..rules };
    let (state, _) = State::Normal.step(&few, counts(9, 9), at(0));
    assert!(!state.step(&few, counts(9, 9), at(60)).1.open, "too few to speak of");
}

#[test]
fn holds_clears_and_notifies_as_stated() {
    let rules = Rules::default();
    // When, failing of 100, what happens: o(pen) n(otify) r(esolve).
    let story = [
        (0, 60, ""),
        (59, 60, ""),
        (60, 40, ""),
        (61, 60, ""),
        (120, 60, ""),
        (121, 60, "on"),
        (200, 46, ""),
        (300, 45, ""),
        (899, 45, ""),
        (899, 46, ""),
        (900, 45, ""),
        (1499, 45, ""),
        (1500, 45, "r"),
        (1501, 51, ""),
        (1561, 51, "on"),
        (1561 + 86_399, 51, ""),
        (1561 + 86_400, 51, "n"),
        (1562 + 2 * 86_400, 51, "n"),
    ];
    let mut state = State::Normal;
    for (when, failing, expected) in story {
        let (next, effects) = state.step(&rules, counts(failing, 100), at(when));
        let told: String = [(effects.open, 'o'), (effects.notify, 'n'), (effects.resolve, 'r')]
            .into_iter()
            .filter_map(|(told, letter)| told.then_some(letter))
            .collect();
        assert_eq!(told, expected, "at {when}: {next}");
        assert_eq!(next.to_string().parse(), Ok(next));
        state = next;
    }
}

proptest! {
    #[test]
    fn opening_and_resolving_alternate_and_no_wait_is_forgotten(
        steps in prop::collection::vec((-100i64..4000, 0u64..101, 0u64..101, any::<bool>()), 1..200),
    ) {
        let rules = Rules::default();
        let (mut state, mut open, mut now) = (State::Normal, false, 0);
        for (passes, failing, eligible, held_back) in steps {
            now += passes;
            let counts = Counts { eligible, failing, held_back };
            let (next, effects) = state.step(&rules, counts, at(now));
            prop_assert!(!(if open { effects.open } else { effects.resolve }), "told twice");
            open = (open || effects.open) && !effects.resolve;
            prop_assert_eq!(open, matches!(next, State::High { .. }));
            let (again, nothing) = next.step(&rules, counts, at(now));
            prop_assert_eq!((again, nothing.open, nothing.resolve), (next, false, false), "the same once more");
            prop_assert!(next == State::Normal || next.wake_at(&rules).is_some());
            state = next;
        }
    }
}
