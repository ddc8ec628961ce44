//! The throttle: never more than the profile allows, never silent for longer than the ceiling, fair to late results.

use std::time::Duration;

use mailyard_policy::{
    Reason, Timestamp,
    id::ProfileId,
    throttle::{Admission, Event, Rules, State},
};
use proptest::prelude::*;

const BUSY: Reason = Reason::ExchangeServerBusy;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_772_366_400_000 + seconds * 1000)
}

fn throttled(begun: i64, hint: Option<u64>) -> Event {
    Event::Throttled { begun: at(begun), reason: BUSY, hint: hint.map(Duration::from_millis) }
}

fn pause_after(hint: Option<u64>) -> Duration {
    let rules = Rules::new(ProfileId::new(1), 10);
    let state = State::new(&rules, at(0)).step(&rules, throttled(0, hint), at(0));
    state.paused_until(&rules, at(0)).map(|until| until.since(at(0))).unwrap_or_default()
}

#[test]
fn hints_are_obeyed_within_floor_and_ceiling_with_a_fifth_of_jitter() {
    for (hint, least, most) in [
        (Some(0), 1000, 1200),
        (Some(1), 1000, 1200),
        (Some(30_000), 30_000, 36_000),
        (Some(36_000_000), 600_000, 720_000),
        (None, 5000, 6000),
    ] {
        let pause = pause_after(hint).as_millis();
        assert!((least..=most).contains(&pause), "hint {hint:?}: {pause} ms");
    }
}

#[test]
fn what_was_in_flight_when_the_pause_began_counts_once() {
    let rules = Rules::new(ProfileId::new(1), 100);
    let first = State::new(&rules, at(0)).step(&rules, throttled(0, None), at(1));
    let more = (0..9).fold(first, |state, _| state.step(&rules, throttled(0, None), at(2)));
    assert_eq!((first.limit, more.limit, more.strikes), (70, 70, 1));
    assert_eq!(first.pause, more.pause);
    let longer = more.step(&rules, throttled(0, Some(60_000)), at(2));
    assert!(longer.paused_until(&rules, at(2)) > more.paused_until(&rules, at(2)), "a longer hint is news");
    let again = more.step(&rules, throttled(8, None), at(9));
    assert_eq!((again.limit, again.strikes), (49, 2));
}

#[test]
fn without_hints_the_pause_doubles_until_a_success() {
    let rules = Rules::new(ProfileId::new(1), 10);
    let mut state = State::new(&rules, at(0));
    let mut pauses = Vec::new();
    for round in 0..10 {
        let now = round * 1000;
        state = state.step(&rules, throttled(now, None), at(now));
        pauses.push(state.paused_until(&rules, at(now)).map_or(0, |until| until.since(at(now)).as_secs()));
    }
    assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0].min(600)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| (5..=720).contains(pause)), "{pauses:?}");
    assert_eq!(state.limit, 1);
    let state = state.step(&rules, Event::Succeeded { begun: at(10_800) }, at(10_800));
    let state = state.step(&rules, throttled(10_900, None), at(10_900));
    assert!(state.paused_until(&rules, at(10_900)) <= Some(at(10_906)), "a success begins anew");
}

#[test]
fn the_limit_grows_by_one_each_thirty_seconds_of_content() {
    let rules = Rules::new(ProfileId::new(1), 10);
    let mut state = State::new(&rules, at(0)).step(&rules, Event::TooManyConnections { begun: at(0) }, at(0));
    assert_eq!((state.limit, state.admits(&rules, 6, at(0))), (7, Admission::Now), "no pause");
    assert_eq!(state.admits(&rules, 7, at(0)), Admission::WhenReturned);
    for second in 0..=90 {
        state = state.step(&rules, Event::Succeeded { begun: at(second) }, at(second));
    }
    assert_eq!(state.limit, 10);
    let state = state.step(&Rules::new(ProfileId::new(1), 3), Event::RulesChanged, at(91));
    assert_eq!(state.limit, 3);
}

fn events() -> impl Strategy<Value = (u8, i64, i64, Option<u64>, u16)> {
    (0u8..4, 0i64..60, -100i64..100, prop::option::of(0u64..90_000_000), 1u16..301)
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold(events in prop::collection::vec(events(), 1..200)) {
        let mut rules = Rules::new(ProfileId::new(9), 10);
        let mut state = State::new(&rules, at(0));
        let mut now = 0;
        for (kind, ago, passes, hint, max) in events {
            now += passes; // The clock also jumps back.
            let begun = at(now - ago);
            let event = match kind {
                0 => Event::Throttled { begun, reason: BUSY, hint: hint.map(Duration::from_millis) },
                1 => Event::TooManyConnections { begun },
                2 => Event::Succeeded { begun },
                _ => {
                    rules.max_connections = max;
                    Event::RulesChanged
                }
            };
            state = state.step(&rules, event, at(now));
            prop_assert!((1..=rules.max_connections).contains(&state.limit));
            prop_assert_eq!(state.to_string().parse::<State>(), Ok(state));
            match state.admits(&rules, 0, at(now)) {
                Admission::Now => {}
                Admission::At(until) => prop_assert!(until.since(at(now)) <= Duration::from_mins(12)),
                Admission::WhenReturned => prop_assert!(false, "nothing is under way, and yet it waits for it"),
            }
            prop_assert_ne!(state.admits(&rules, rules.max_connections, at(now)), Admission::Now);
        }
    }
}
