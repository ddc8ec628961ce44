//! The guard against mass silence: when it freezes, and what thaws it.

use std::time::Duration;

use mailyard_policy::{
    Timestamp,
    id::Incarnation,
    placement::silence::{Event, Rules, Seen, Silence},
};
use proptest::prelude::*;

struct Stage {
    guard: Silence,
    now: Timestamp,
    workers: Vec<Seen>,
    database_is_well: bool,
}

fn process(number: usize) -> Incarnation {
    Incarnation::new(number as u128 + 1)
}

impl Stage {
    fn new(workers: usize) -> Self {
        let now = Timestamp::from_millis(50_000_000);
        let seen = |number| Seen { incarnation: process(number), lease_until: now + TTL, reachable: true };
        let workers = (0..workers).map(seen).collect();
        let mut stage = Self { guard: Silence::default(), now, workers, database_is_well: true };
        stage.looks(1, &[]);
        stage
    }

    /// So many seconds, in which all but some renew their leases.
    fn looks(&mut self, seconds: usize, silent: &[usize]) -> bool {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            for (number, worker) in self.workers.iter_mut().enumerate() {
                worker.reachable = !silent.contains(&number);
                if worker.reachable {
                    worker.lease_until = self.now + TTL;
                }
            }
            self.look();
        }
        self.guard.is_frozen()
    }

    fn look(&mut self) {
        let event = Event::Looked { workers: &self.workers, database_is_well: self.database_is_well };
        self.guard = std::mem::take(&mut self.guard).step(&Rules::default(), event, self.now);
        let text = self.guard.to_string();
        assert_eq!(text.parse::<Silence>().as_ref(), Ok(&self.guard), "{text}");
    }

    fn tell(&mut self, event: Event<'_>) -> bool {
        self.guard = std::mem::take(&mut self.guard).step(&Rules::default(), event, self.now);
        self.guard.is_frozen()
    }
}

const TTL: Duration = Duration::from_secs(30);

#[test]
fn many_at_once_freeze_and_few_do_not() {
    for (workers, silent, frozen) in [
        (1, 1, false),
        (2, 1, false),
        (2, 2, true),
        (3, 2, true),
        (10, 2, false),
        (10, 3, true),
        (200, 40, false),
        (200, 41, true),
    ] {
        let mut stage = Stage::new(workers);
        let silent: Vec<usize> = (0..silent).collect();
        assert!(!stage.looks(29, &silent), "leases run");
        assert_eq!(stage.looks(3, &silent), frozen, "{} of {workers}", silent.len());
    }
}

#[test]
fn those_that_fall_silent_one_after_the_other_do_not_freeze() {
    let mut stage = Stage::new(10);
    let mut silent = Vec::new();
    for number in 0..5 {
        silent.push(number);
        assert!(!stage.looks(35, &silent), "{number}");
    }
    // Those that are declared dead meanwhile count as well.
    let mut stage = Stage::new(10);
    let mut frozen = false;
    for number in 0..4 {
        frozen |= stage.looks(9, &(0..=number).collect::<Vec<_>>());
        frozen |= stage.looks(0, &[]);
    }
    frozen |= stage.looks(30, &[0, 1, 2, 3]);
    assert!(frozen, "within one lease");
}

#[test]
fn the_dead_count_for_as_long_as_a_lease_lasts() {
    let mut stage = Stage::new(10);
    stage.looks(32, &[0, 1]);
    stage.workers.drain(..2);
    assert!(!stage.looks(1, &[]), "two of ten");
    for worker in &mut stage.workers[..1] {
        worker.lease_until = stage.now;
    }
    stage.look();
    assert!(stage.guard.is_frozen(), "a third one in half a minute");
}

#[test]
fn an_outage_of_the_database_freezes_until_everybody_renewed() {
    let mut stage = Stage::new(20);
    // A minute in which the database answered nothing, so nobody looked.
    stage.now = stage.now + Duration::from_mins(1);
    stage.look();
    assert!(stage.guard.is_frozen());
    assert_eq!(stage.guard.silent().count(), 20);
    let last: Vec<usize> = vec![19];
    assert!(stage.looks(60, &last), "one is still silent");
    assert!(!stage.looks(1, &[]));
}

#[test]
fn proof_and_an_operators_word_thaw() {
    let frozen = || {
        let mut stage = Stage::new(4);
        assert!(stage.looks(32, &[0, 1]));
        stage
    };
    let mut stage = frozen();
    assert!(stage.tell(Event::ProvenDead(process(0))), "one is silent yet");
    assert!(!stage.tell(Event::ProvenDead(process(1))));
    let mut stage = frozen();
    assert!(!stage.tell(Event::Dismissed));
    assert!(!stage.looks(20, &[0, 1]), "who is given up freezes nothing again");
    assert!(stage.looks(35, &[0, 1, 2]) || stage.guard.silent().count() == 1);
    let mut stage = frozen();
    stage.workers.drain(..2);
    assert!(!stage.looks(1, &[]), "they ended by themselves");
}

#[test]
fn three_minutes_of_health_thaw_and_anything_else_does_not() {
    let silent = [0, 1, 2];
    let mut stage = Stage::new(6);
    assert!(stage.looks(32, &silent));
    assert!(stage.looks(170, &silent));
    stage.database_is_well = false;
    assert!(stage.looks(1, &silent));
    stage.database_is_well = true;
    assert!(stage.looks(179, &silent), "the minutes begin anew");
    stage.now = stage.now + Duration::from_secs(11);
    assert!(stage.looks(179, &silent), "nobody looked for a while");
    assert!(stage.looks(1, &[0, 1, 2, 3]), "another one cannot be reached");
    assert!(stage.looks(180, &silent));
    assert!(!stage.looks(2, &silent));
    assert!(!stage.looks(60, &silent), "they are given up");
    // If everybody is silent, nobody is there to say that it is not us.
    let all = [0, 1, 2, 3, 4, 5];
    let mut stage = Stage::new(6);
    assert!(stage.looks(32, &all) && stage.looks(600, &all));
}

proptest! {
    /// Whatever happens, once everybody renews and the database is well, it thaws; and while it is frozen somebody is silent.
    #[test]
    fn it_always_thaws(
        story in prop::collection::vec((0_u32..256, 1_usize..60, any::<bool>(), 0_u64..100), 1..20),
        back in any::<bool>(),
    ) {
        let mut stage = Stage::new(8);
        for (mask, seconds, well, gap) in story {
            let silent: Vec<usize> = (0..8).filter(|number| mask >> number & 1 == 1).collect();
            stage.database_is_well = well;
            stage.looks(seconds, &silent);
            prop_assert!(!stage.guard.is_frozen() || stage.guard.silent().count() > 0);
            stage.now = if back && gap > 90 { stage.now - Duration::from_mins(gap) } else { stage.now + Duration::from_secs(gap) };
        }
        stage.database_is_well = true;
        prop_assert!(!stage.looks(2, &[]));
        prop_assert!(!stage.looks(100, &[3]));
    }
}

#[test]
fn text_that_nobody_wrote_is_refused() {
    for text in ["", "calm", "calm 1 - - -", "frozen 1 2 3 4 5", "calm x - -", "frozen 1 - 2 a@b -"] {
        let read = text.parse::<Silence>();
        assert!(
            read.as_ref().is_err_and(|error| error.to_string().contains("calm LOOKED")),
            "{text:?}: {read:?}"
        );
    }
}
