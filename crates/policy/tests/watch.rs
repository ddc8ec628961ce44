//! Watching mailboxes: tables of what a stream does, and what holds whatever happens.

use std::{collections::BTreeSet, time::Duration};

use mailyard_policy::{
    Timestamp,
    id::MailboxId,
    watch::{Event, Groups, Rules, Step, Stream, Trouble},
};
use proptest::prelude::*;

const START: i64 = 1_772_366_400_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn set(ids: impl IntoIterator<Item = u128>) -> BTreeSet<MailboxId> {
    ids.into_iter().map(MailboxId::new).collect()
}

fn sizes(groups: &Groups) -> Vec<usize> {
    groups.iter().map(|(_, group)| group.len()).collect()
}

#[test]
fn mailboxes_stay_where_they_are() {
    let (rules, mut groups) = (Rules::default(), Groups::default());
    groups.set(&rules, &set(0..250));
    assert_eq!(sizes(&groups), [200, 50]);
    let second: BTreeSet<_> = groups.iter().nth(1).map(|(_, group)| group.clone()).unwrap_or_default();
    // Some of the first leave; others join in their place.
    groups.set(&rules, &set((0..250).filter(|id| id % 10 != 0 || *id >= 200)));
    assert_eq!(sizes(&groups), [180, 50]);
    groups.set(&rules, &set((0..400).filter(|id| id % 10 != 0 || *id >= 200)));
    assert_eq!(sizes(&groups), [200, 180]);
    let now: BTreeSet<_> = groups.iter().nth(1).map(|(_, group)| group.clone()).unwrap_or_default();
    assert!(second.is_subset(&now));
    groups.set(&rules, &second);
    assert_eq!(groups.iter().map(|(number, group)| (number, group.len())).collect::<Vec<_>>(), [(1, 50)]);
    groups.set(&rules, &BTreeSet::new());
    assert_eq!(groups, Groups::default());
}

proptest! {
    #[test]
    fn groups_are_small_and_few_and_nobody_moves(
        wishes in proptest::collection::vec(proptest::collection::btree_set(0_u128..40, 0..40), 1..12),
        most in 1_usize..9,
    ) {
        let rules = Rules { most, ..Rules::default() };
        let mut groups = Groups::default();
        let mut before: Vec<(MailboxId, u32)> = Vec::new();
        for wish in wishes {
            let wanted = set(wish);
            groups.set(&rules, &wanted);
            let places: Vec<_> =
                groups.iter().flat_map(|(number, group)| group.iter().map(move |id| (*id, number))).collect();
            prop_assert_eq!(places.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), wanted);
            prop_assert!(groups.iter().all(|(_, group)| (1..=most).contains(&group.len())));
            let mut stayed = before.iter().filter(|(id, _)| places.iter().any(|(now, _)| now == id));
            prop_assert!(stayed.all(|place| places.contains(place)));
            // A new group is begun only when all others are full.
            let begun = groups.iter().filter(|(number, _)| before.iter().all(|(_, known)| known != number)).count();
            let room = groups.iter().filter(|(_, group)| group.len() < most).count();
            prop_assert!(begun == 0 || room <= 1);
            before = places;
        }
    }
}

/// A stream, its clock, and what came of it.
struct Play {
    rules: Rules,
    stream: Stream,
    now: i64,
}

impl Play {
    /// With so many members, all of them subscribed and read.
    fn reading(members: u128) -> Self {
        let mut play = Self { rules: Rules::default(), stream: Stream::default(), now: 0 };
        play.stream.set_members(&set(0..members));
        play.work();
        play
    }

    fn told(&mut self, event: Event) {
        self.stream.step(&self.rules, event, at(self.now));
    }

    fn next(&self) -> Step {
        self.stream.next(&self.rules, at(self.now))
    }

    /// Does what is to be done, well, until there is nothing but to wait while a connection is open. Returns what was
    /// done: `s1 u2 r0`, and `+5000` for waits.
    fn work(&mut self) -> String {
        let mut done = Vec::new();
        for _ in 0..2000 {
            match self.next() {
                Step::Subscribe(id) => {
                    done.push(format!("s{}", id.to_bytes()[15]));
                    self.told(Event::Subscribed(id));
                }
                Step::Unsubscribe(id) => {
                    done.push(format!("u{}", id.to_bytes()[15]));
                    self.told(Event::Unsubscribed(id));
                }
                Step::Read { anchor } => {
                    done.push(format!("r{}", anchor.to_bytes()[15]));
                    self.told(Event::Reading);
                }
                Step::Wait(Some(until)) => {
                    let wait = until.since(at(self.now)).as_millis();
                    if wait != 50 {
                        done.push(format!("+{wait}"));
                    }
                    self.now = until.as_millis() - START;
                }
                Step::Wait(None) => return done.join(" "),
            }
        }
        panic!("it comes to no rest: {done:?}");
    }
}

fn id(id: u128) -> MailboxId {
    MailboxId::new(id)
}

const CUT: Event = Event::Ended { stood: true, trouble: Some(Trouble::Server(None)) };
const CLOSED: Event = Event::Ended { stood: true, trouble: None };

fn not_opened(trouble: Trouble) -> Event {
    Event::Ended { stood: false, trouble: Some(trouble) }
}

#[test]
fn what_follows_from_what_happens() {
    const MINUTE: i64 = 60_000;
    let lost = |of| Event::Lost(id(of), Trouble::Gone);
    // After so long: what happens, and what is done then until all are read again.
    let cases: [(&str, i64, Vec<Event>, &str); 12] = [
        ("its time is over: the subscriptions go on", 29 * MINUTE, vec![CLOSED], "r0"),
        ("it ends as soon as it is opened", 100, vec![CLOSED], "+5000 r0"),
        ("it breaks off", MINUTE, vec![CUT], "+5000 s0 s1 s2 r0"),
        ("one expired", MINUTE, vec![lost(1)], "+5000 s1 +5000 r0"),
        (
            "it tells of none for a reason of its own",
            MINUTE,
            vec![
                Event::Lost(id(0), Trouble::Server(None)),
                Event::Lost(id(1), Trouble::Server(None)),
                Event::Lost(id(2), Trouble::Server(None)),
                CLOSED,
            ],
            "+5000 s0 s1 s2 r0",
        ),
        ("the server lost all", MINUTE, vec![lost(0), lost(1), lost(2)], "+5000 s0 s1 s2 +4900 r0"),
        (
            "the server asks to be left alone",
            MINUTE,
            vec![Event::Ended { stood: true, trouble: Some(Trouble::Server(Some(Duration::from_secs(77)))) }],
            "+77000 s0 s1 s2 r0",
        ),
        ("it takes no more", 0, vec![not_opened(Trouble::Full)], "+1800000 r0"),
        ("it was not opened: nothing is lost", 0, vec![not_opened(Trouble::Server(None))], "+5000 r0"),
        ("it does not do this", 0, vec![not_opened(Trouble::Never)], "+21600000 r0"),
        (
            "the anchor cannot be reached: another one leads",
            0,
            vec![not_opened(Trouble::Mailbox)],
            "r1 +5000 s0 +5000 r1",
        ),
        (
            "what ended before",
            MINUTE,
            vec![CUT, CUT, Event::Ended { stood: false, trouble: None }],
            "+5000 s0 s1 s2 r0",
        ),
    ];
    for (what, after, events, expected) in cases {
        let mut play = Play::reading(3);
        play.now += after;
        events.into_iter().for_each(|event| play.told(event));
        assert_eq!(play.work(), expected, "{what}");
        assert_eq!(play.stream.read().collect::<BTreeSet<_>>(), set(0..3), "{what}");
    }
}

#[test]
fn refused_mailboxes_are_polled_and_asked_for_again_later() {
    let cases = [
        (Trouble::Never, "r0 +21600000 s1 +5000 r0"),
        (Trouble::Full, "r0 +1800000 s1 +5000 r0"),
        (Trouble::Mailbox, "r0 +5000 s1 +5000 r0"),
        (Trouble::Server(None), "+5000 s1 r0"),
        (Trouble::Server(Some(Duration::from_hours(5))), "+1800000 s1 r0"),
    ];
    for (trouble, expected) in cases {
        let mut play = Play { rules: Rules::default(), stream: Stream::default(), now: 0 };
        play.stream.set_members(&set(0..2));
        assert_eq!(play.next(), Step::Subscribe(id(0)));
        play.told(Event::Subscribed(id(0)));
        play.now += 50;
        assert_eq!(play.next(), Step::Subscribe(id(1)));
        play.told(Event::Refused(id(1), trouble));
        assert_eq!(play.work(), expected, "{trouble:?}");
    }
}

#[test]
fn failures_in_a_row_wait_longer_and_what_works_is_forgiven() {
    let mut play = Play::reading(1);
    let waits: Vec<String> = (0..9)
        .map(|_| {
            play.now += 1000;
            play.told(CUT);
            play.work()
        })
        .collect();
    let expected = [5, 30, 60, 120, 240, 480, 960, 1800, 1800].map(|wait| format!("+{wait}000 s0 r0"));
    assert_eq!(waits, expected);
    play.now += 30 * 60_000;
    play.told(CUT);
    assert_eq!(play.work(), "+5000 s0 r0");
}

#[test]
fn who_joins_and_who_leaves() {
    let mut play = Play::reading(2);
    play.now += 60_000;
    play.stream.set_members(&set([1, 2]));
    assert_eq!(play.work(), "u0 s2 +5000 r1", "the one that led has left");
    play.stream.set_members(&set([0, 1, 2]));
    assert_eq!(play.work(), "s0 +5000 r1", "the one that leads goes on");
    // One that leaves while it is being subscribed.
    play.stream.set_members(&set([0, 1, 2, 3]));
    assert_eq!(play.next(), Step::Subscribe(id(3)));
    play.stream.set_members(&set([0, 1, 2]));
    play.told(Event::Subscribed(id(3)));
    assert_eq!(play.work(), "u3");
    // A clock that is set back keeps nobody waiting.
    play.told(not_opened(Trouble::Never));
    play.now -= 24 * 3_600_000;
    assert_eq!(play.work(), "r1");
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Works,
    Fails(Trouble),
    Passes(u32),
    Back(u32),
    Joins(u128),
    Leaves(u128),
    Lost(u128, Trouble),
    Ended(bool, Option<Trouble>),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::Gone),
        Just(Trouble::Full),
        Just(Trouble::Never),
        Just(Trouble::Mailbox),
        Just(Trouble::Server(None)),
        (0_u64..100_000).prop_map(|seconds| Trouble::Server(Some(Duration::from_secs(seconds)))),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Works),
        1 => trouble().prop_map(Move::Fails),
        4 => (0_u32..4_000_000).prop_map(Move::Passes),
        1 => (0_u32..4_000_000).prop_map(Move::Back),
        2 => (0_u128..6).prop_map(Move::Joins),
        1 => (0_u128..6).prop_map(Move::Leaves),
        1 => (0_u128..6, trouble()).prop_map(|(id, trouble)| Move::Lost(id, trouble)),
        1 => (any::<bool>(), proptest::option::of(trouble())).prop_map(|(stood, trouble)| Move::Ended(stood, trouble)),
    ];
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_all_are_read_again_once_things_go_well(moves in moves()) {
        let mut play = Play::reading(2);
        let mut members = set(0..2);
        let mut last = None;
        for one in moves {
            let now = at(play.now);
            let next = play.next();
            match (one, next) {
                (Move::Works, Step::Subscribe(id)) => play.told(Event::Subscribed(id)),
                (Move::Fails(trouble), Step::Subscribe(id)) => play.told(Event::Refused(id, trouble)),
                (Move::Works | Move::Fails(_), Step::Unsubscribe(id)) => play.told(Event::Unsubscribed(id)),
                (Move::Works, Step::Read { .. }) => play.told(Event::Reading),
                (Move::Works | Move::Fails(_), _) => {}
                (Move::Passes(millis), _) => play.now += i64::from(millis),
                (Move::Back(millis), _) => {
                    play.now -= i64::from(millis);
                    last = None;
                }
                (Move::Joins(id), _) => {
                    members.insert(MailboxId::new(id));
                    play.stream.set_members(&members);
                }
                (Move::Leaves(id), _) => {
                    members.remove(&MailboxId::new(id));
                    play.stream.set_members(&members);
                }
                (Move::Lost(id, trouble), _) => play.told(Event::Lost(MailboxId::new(id), trouble)),
                (Move::Ended(stood, trouble), _) => play.told(Event::Ended { stood, trouble }),
            }
            let subscribed: BTreeSet<_> = play.stream.subscribed().collect();
            prop_assert!(subscribed.is_subset(&members));
            prop_assert!(play.stream.read().collect::<BTreeSet<_>>().is_subset(&subscribed));
            match next {
                Step::Subscribe(id) => {
                    prop_assert!(last.is_none_or(|last: Timestamp| last + play.rules.pace <= now), "paced");
                    if matches!(one, Move::Works | Move::Fails(_)) {
                        last = Some(now);
                        prop_assert!(members.contains(&id));
                    }
                }
                Step::Wait(Some(until)) => {
                    prop_assert!(until > now && until <= now + play.rules.refused, "{until}");
                }
                Step::Unsubscribe(_) | Step::Read { .. } | Step::Wait(None) => {}
            }
        }
        play.work();
        prop_assert_eq!(play.stream.read().collect::<BTreeSet<_>>(), members);
    }
}
