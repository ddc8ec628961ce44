//! The breaker: opens for what is the server's fault and nothing else, asks gently, closes when it is proven well.

use std::time::Duration;

use mailyard_policy::{
    Reason, Timestamp,
    breaker::{Admission, Answer, Breaker, Effect, Event, Rules},
    id::{Attempt, MailboxId},
};
use proptest::prelude::*;

const DOWN: Reason = Reason::ProfileConnectFailed;
const REFUSED: Reason = Reason::ProfileAuthRejected;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_772_366_400_000 + seconds * 1000)
}

fn mailbox(number: u128) -> MailboxId {
    MailboxId::new(number)
}

struct Lane {
    breaker: Breaker,
    rules: Rules,
}

impl Lane {
    fn new(eligible: u32) -> Self {
        let mut lane = Self { breaker: Breaker::new(at(0)), rules: Rules::default() };
        lane.step(Event::Eligible(eligible), 0);
        lane
    }

    fn step(&mut self, event: Event, now: i64) -> Option<Effect> {
        self.breaker.step(&self.rules, event, at(now))
    }

    fn ended(&mut self, number: u128, answer: Answer, begun: i64, now: i64) -> Option<Effect> {
        self.step(Event::Ended { mailbox: mailbox(number), begun: at(begun), answer }, now)
    }

    fn admit(&mut self, number: u128, now: i64) -> Admission {
        self.breaker.admit(&self.rules, mailbox(number), at(now))
    }

    fn canary(&mut self, number: u128, answer: Answer, now: i64) -> Option<Effect> {
        match self.admit(number, now) {
            Admission::Canary(attempt) => self.step(Event::CanaryEnded { attempt, answer }, now),
            other => panic!("{number} at {now}: {other:?}"),
        }
    }

    fn opened(eligible: u32) -> Self {
        let mut lane = Self::new(eligible);
        let effects: Vec<_> = (1..=5)
            .filter_map(|number| lane.ended(number % u128::from(eligible), Answer::Fault(DOWN), 1, 2))
            .collect();
        assert_eq!(effects, [Effect::Opened(DOWN)]);
        lane
    }
}

#[test]
fn opens_after_five_faults_in_a_row_of_three_mailboxes() {
    /// What came from whom, how many mailboxes there are, whether it is open then.
    type Case<'a> = (&'a [(u128, Answer)], u32, bool);
    let cases: [Case<'_>; 7] = [
        (&[(1, Answer::Fault(DOWN)); 5], 9, false),
        (&[(1, Answer::Fault(DOWN)); 5], 1, true),
        (
            &[
                (1, Answer::Fault(DOWN)),
                (2, Answer::Fault(DOWN)),
                (3, Answer::Fault(DOWN)),
                (1, Answer::Fault(DOWN)),
            ],
            9,
            false,
        ),
        (
            &[
                (1, Answer::Fault(DOWN)),
                (2, Answer::Fault(DOWN)),
                (3, Answer::Fault(DOWN)),
                (1, Answer::Fault(DOWN)),
                (1, Answer::Fault(DOWN)),
            ],
            9,
            true,
        ),
        (
            &[
                (1, Answer::Fault(DOWN)),
                (2, Answer::Fault(DOWN)),
                (3, Answer::Fault(DOWN)),
                (4, Answer::Answered),
                (5, Answer::Fault(DOWN)),
                (6, Answer::Fault(DOWN)),
            ],
            9,
            false,
        ),
        (
            &[
                (1, Answer::Fault(DOWN)),
                (2, Answer::Fault(DOWN)),
                (3, Answer::Throttled),
                (4, Answer::Fault(DOWN)),
                (5, Answer::Throttled),
                (5, Answer::Fault(DOWN)),
                (6, Answer::Fault(DOWN)),
            ],
            9,
            true,
        ),
        (&[(1, Answer::Throttled); 50], 1, false),
    ];
    for (results, eligible, open) in cases {
        let mut lane = Lane::new(eligible);
        for (number, answer) in results {
            lane.ended(*number, *answer, 1, 2);
        }
        assert_eq!(lane.breaker.open().is_some(), open, "{results:?} of {eligible}");
    }
}

#[test]
fn canaries_go_after_5_10_20_40_60_60_seconds_one_at_a_time() {
    let mut lane = Lane::opened(9);
    let mut now = 2;
    for wait in [5, 10, 20, 40, 60, 60, 60] {
        assert_eq!(lane.admit(7, now + wait - 1), Admission::Held { reason: DOWN }, "{wait}");
        let Admission::Canary(attempt) = lane.admit(7, now + wait) else { panic!("no canary after {wait}") };
        now += wait;
        assert_eq!(lane.admit(8, now), Admission::Held { reason: DOWN }, "one at a time");
        let late = Attempt(attempt.0 - 1);
        assert_eq!(lane.step(Event::CanaryEnded { attempt: late, answer: Answer::Answered }, now), None);
        assert_eq!(lane.step(Event::CanaryEnded { attempt, answer: Answer::Fault(DOWN) }, now), None);
        let twice = lane.step(Event::CanaryEnded { attempt, answer: Answer::Answered }, now);
        assert_eq!((twice, lane.breaker.open()), (None, Some(DOWN)), "a result twice counts once");
    }
}

#[test]
fn three_successes_of_different_mailboxes_close_it_and_follow_at_once() {
    let mut lane = Lane::opened(9);
    assert_eq!(lane.canary(1, Answer::Answered, 7), None);
    assert_eq!(lane.admit(1, 7), Admission::Held { reason: DOWN }, "it has proven what it can prove");
    assert_eq!(lane.canary(2, Answer::Answered, 7), None);
    assert_eq!(lane.canary(3, Answer::Answered, 7), Some(Effect::Closed));
    assert_eq!(lane.admit(1, 7), Admission::Go);
    for number in 1..=9 {
        assert_eq!(lane.ended(number, Answer::Fault(DOWN), 5, 8), None, "begun before it closed: late");
    }
    assert_eq!(lane.breaker.open(), None);

    let mut small = Lane::opened(1);
    assert_eq!(small.canary(0, Answer::Answered, 7), Some(Effect::Closed), "all, if fewer");
}

#[test]
fn a_failed_canary_begins_the_proof_anew_and_a_throttled_one_proves_nothing() {
    let mut lane = Lane::opened(9);
    assert_eq!(lane.canary(1, Answer::Answered, 7), None);
    assert_eq!(lane.canary(2, Answer::Answered, 7), None);
    assert_eq!(lane.canary(3, Answer::Throttled, 7), None);
    assert!(matches!(lane.admit(3, 11), Admission::Held { .. }));
    assert_eq!(lane.canary(3, Answer::Fault(DOWN), 30), None);
    for number in 1..=2 {
        assert_eq!(lane.canary(number, Answer::Answered, 200), None);
    }
    assert_eq!(lane.canary(3, Answer::Answered, 200), Some(Effect::Closed));
}

#[test]
fn a_canary_that_is_never_heard_of_is_replaced() {
    let mut lane = Lane::opened(9);
    let Admission::Canary(lost) = lane.admit(1, 7) else { panic!("no canary") };
    assert!(matches!(lane.admit(2, 126), Admission::Held { .. }));
    assert!(matches!(lane.admit(2, 127), Admission::Canary(_)));
    assert_eq!(lane.step(Event::CanaryEnded { attempt: lost, answer: Answer::Answered }, 128), None);
}

#[test]
fn a_refused_credential_is_confirmed_by_a_second_mailbox_or_by_one_canary() {
    let mut two = Lane::new(9);
    assert_eq!(two.ended(1, Answer::Fault(REFUSED), 1, 2), None);
    assert_eq!(two.breaker.open(), None, "a suspicion is no alert");
    assert_eq!(two.ended(1, Answer::Fault(REFUSED), 1, 2), None, "the same mailbox again confirms nothing");
    assert_eq!(two.ended(2, Answer::Fault(REFUSED), 1, 2), Some(Effect::Opened(REFUSED)));

    let mut one = Lane::new(9);
    one.ended(1, Answer::Fault(REFUSED), 1, 2);
    let Admission::Canary(attempt) = one.admit(2, 2) else { panic!("the canary goes at once") };
    assert!(matches!(one.admit(3, 2), Admission::Held { .. }), "everybody else waits for it");
    let answer = Answer::Fault(REFUSED);
    assert_eq!(one.step(Event::CanaryEnded { attempt, answer }, 3), Some(Effect::Opened(REFUSED)));

    let mut wrong = Lane::new(9);
    wrong.ended(1, Answer::Fault(REFUSED), 1, 2);
    assert_eq!(wrong.canary(2, Answer::Answered, 2), None, "nobody was told, nobody is told");
    assert_eq!(wrong.admit(3, 3), Admission::Go);
}

#[test]
fn however_many_ask_canaries_keep_their_distance() {
    let mut lane = Lane::opened(9);
    for asked in 2..7 {
        lane.step(Event::Asked, asked);
        assert!(matches!(lane.admit(6, asked), Admission::Held { .. }), "asked {asked}, opened at 2");
    }
    lane.canary(6, Answer::Fault(DOWN), 7);
    lane.step(Event::Asked, 8);
    assert!(matches!(lane.admit(7, 11), Admission::Held { .. }), "the last one went at 7");
    lane.canary(7, Answer::Fault(DOWN), 12);
    assert!(matches!(lane.admit(8, 17), Admission::Held { .. }), "nobody asked: the wait has grown");
}

#[test]
fn one_secret_is_tried_three_times_and_never_more() {
    let mut lane = Lane::new(9);
    lane.ended(1, Answer::Fault(REFUSED), 1, 2);
    assert!(lane.canary(2, Answer::Fault(REFUSED), 2).is_some());
    assert!(matches!(lane.admit(3, 61), Admission::Held { .. }));
    lane.canary(3, Answer::Fault(REFUSED), 62);
    assert!(matches!(lane.admit(4, 100_000), Admission::Held { .. }), "not by itself");
    lane.step(Event::Asked, 100_000);
    lane.canary(4, Answer::Fault(REFUSED), 100_000);
    lane.step(Event::Asked, 200_000);
    assert!(matches!(lane.admit(5, 200_000), Admission::Held { .. }), "not even when asked");
    lane.step(Event::Changed, 200_001);
    for number in 1..=2 {
        assert_eq!(lane.canary(number, Answer::Answered, 200_001), None);
    }
    assert_eq!(lane.canary(3, Answer::Answered, 200_001), Some(Effect::Closed));
}

#[test]
fn what_is_open_stays_open_over_a_restart() {
    let mut lane = Lane::opened(9);
    lane.canary(1, Answer::Answered, 7);
    let _under_way = lane.admit(2, 7);
    let mut after: Breaker = lane.breaker.to_string().parse().unwrap_or_else(|error| panic!("{error}"));
    after.step(&lane.rules, Event::Eligible(9), at(8));
    assert_eq!(after.open(), Some(DOWN));
    assert!(
        matches!(after.admit(&lane.rules, mailbox(3), at(9)), Admission::Canary(_)),
        "the lost canary is replaced"
    );
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Begin(u128),
    End(usize, u8),
    Wait(i64),
    Changed,
    Asked,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0u128..6).prop_map(Move::Begin),
        6 => (0usize..8, 0u8..5).prop_map(|(which, answer)| Move::End(which, answer)),
        3 => (-30i64..90).prop_map(Move::Wait),
        1 => Just(Move::Changed),
        1 => Just(Move::Asked),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Results come in any order, twice (they stay in the list) or never; the clock jumps back.
    #[test]
    fn opened_and_closed_alternate_and_canaries_are_few(moves in prop::collection::vec(moves(), 1..200)) {
        let mut lane = Lane::new(6);
        let mut now = 0_i64;
        let mut under_way: Vec<(u128, i64, Option<Attempt>)> = Vec::new();
        let mut open = false;
        let mut refused_since_change = 0;
        for next in moves {
            let effect = match next {
                Move::Begin(number) => {
                    match lane.admit(number, now) {
                        Admission::Go => under_way.push((number, now, None)),
                        Admission::Canary(attempt) => {
                            under_way.push((number, now, Some(attempt)));
                        }
                        Admission::Held { .. } => {}
                    }
                    None
                }
                Move::End(which, answer) => {
                    let answer = match answer {
                        0 => Answer::Answered,
                        1 => Answer::Throttled,
                        2 => Answer::Fault(REFUSED),
                        _ => Answer::Fault(DOWN),
                    };
                    match under_way.get(which).copied() {
                        Some((_, _, Some(attempt))) => {
                            let before = lane.breaker.to_string();
                            let effect = lane.step(Event::CanaryEnded { attempt, answer }, now);
                            let counted = lane.breaker.to_string() != before;
                            refused_since_change += u32::from(counted && answer == Answer::Fault(REFUSED));
                            if counted && answer == Answer::Answered {
                                refused_since_change = 0;
                            }
                            effect
                        }
                        Some((number, begun, None)) => lane.ended(number, answer, begun, now),
                        None => None,
                    }
                }
                Move::Wait(seconds) => {
                    now += seconds;
                    None
                }
                Move::Changed => lane.step(Event::Changed, now),
                Move::Asked => lane.step(Event::Asked, now),
            };
            match effect {
                Some(Effect::Opened(_)) => {
                    prop_assert!(!open, "opened twice");
                    open = true;
                }
                Some(Effect::Closed) => {
                    prop_assert!(open, "closed and was not open");
                    open = false;
                }
                None => {}
            }
            prop_assert_eq!(lane.breaker.open().is_some(), open);
            if lane.breaker.open() != Some(REFUSED) || matches!(next, Move::Changed) {
                refused_since_change = 0;
            }
            prop_assert!(refused_since_change <= 3, "a refused secret was tried {} times", refused_since_change);
            let text = lane.breaker.to_string();
            let back = text.parse::<Breaker>().map(|breaker| breaker.to_string());
            prop_assert_eq!(back.as_ref(), Ok(&text));
            let longest = Duration::from_mins(2);
            if let Some(canary) = lane.breaker.canary_at(&lane.rules, at(now)) {
                prop_assert!(canary <= at(now) + longest, "the next canary waits {}", canary);
            } else if open {
                prop_assert_eq!(lane.breaker.open(), Some(REFUSED), "only a refused secret waits for a person");
            }
        }
    }
}
