//! Budgets that are spread over workers: never more in use than there is, nothing lost, fair.

use std::collections::{BTreeMap, BTreeSet};

use mailyard_policy::{
    id::Incarnation,
    quota::{Block, Effects, Event, Held, Ledger, Report, Row},
};
use proptest::prelude::*;

/// A lease and the grace after it, in seconds.
const DEAD_AFTER: u64 = 51;

fn process(number: u32) -> Incarnation {
    Incarnation::new(u128::from(number) + 1)
}

/// Chance that is the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

#[derive(Debug)]
struct Process {
    held: Held,
    in_flight: u32,
    /// How much it would like to have in flight.
    wants: u32,
    serves: bool,
    /// When nothing of it runs any more; `None`: it is alive.
    dead_at: Option<u64>,
}

enum Message {
    Told(Incarnation, Block),
    Reported(Incarnation, Report),
}

/// Workers, a leader, what is stored, and a network that loses, doubles and reorders.
struct World {
    chance: Chance,
    now: u64,
    budget: u32,
    /// What may be in use: the budget, or what was given out before it was made smaller.
    allowed: u64,
    ledger: Ledger,
    rows: BTreeMap<Incarnation, Row>,
    processes: BTreeMap<Incarnation, Process>,
    network: Vec<(u64, Message)>,
    started: u32,
    faulty: bool,
    lanes: Option<u16>,
    /// How often a block was made smaller while all of it was in use.
    shrunk_in_use: usize,
}

impl World {
    fn new(seed: u64, budget: u32, workers: u32) -> Self {
        let mut world = Self {
            chance: Chance(seed),
            now: 0,
            budget,
            allowed: budget.into(),
            ledger: Ledger::new(budget, []),
            rows: BTreeMap::new(),
            processes: BTreeMap::new(),
            network: Vec::new(),
            started: 0,
            faulty: true,
            lanes: None,
            shrunk_in_use: 0,
        };
        // Before it was spread, its owner had everything.
        world.start(true);
        let owner = process(0);
        let row = Ledger::whole(budget, owner);
        world.rows.insert(owner, row);
        world.ledger = Ledger::new(budget, [row]);
        world.processes.entry(owner).and_modify(|found| found.held = Held::whole(budget));
        (1..workers).for_each(|_| world.start(true));
        world
    }

    fn start(&mut self, serves: bool) {
        let wants = self.chance.below(20) as u32;
        let fresh = Process { held: Held::default(), in_flight: 0, wants, serves, dead_at: None };
        self.processes.insert(process(self.started), fresh);
        self.started += 1;
    }

    fn send(&mut self, message: impl Fn() -> Message) {
        let copies = match self.chance.below(100) {
            _ if !self.faulty => 1,
            0..20 => 0,
            20..35 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = if self.faulty { self.chance.below(9) } else { 0 };
            self.network.push((self.now + delay, message()));
        }
    }

    /// The leader takes an event. It may end before it wrote what follows, or before it told anybody.
    fn step(&mut self, event: Event) {
        let Effects { write, remove, tell, lanes } = self.ledger.step(event);
        let ends = if self.faulty { self.chance.below(300) } else { 300 };
        if ends == 0 {
            return self.fail_over();
        }
        for row in write {
            let old = self.rows.insert(row.worker, row);
            self.shrunk_in_use += usize::from(old.is_some_and(|old| {
                row.new < old.new
                    && self.processes.get(&row.worker).is_some_and(|found| found.in_flight > row.new)
            }));
        }
        for gone in remove {
            self.rows.remove(&gone);
        }
        self.lanes = lanes;
        if ends == 1 {
            return self.fail_over();
        }
        for (to, block) in tell {
            self.send(|| Message::Told(to, block));
        }
    }

    fn fail_over(&mut self) {
        self.ledger = Ledger::new(self.budget, self.rows.values().copied());
        self.step(Event::Serving(self.serving()));
    }

    fn serving(&self) -> BTreeSet<Incarnation> {
        let serves =
            |(id, found): (&Incarnation, &Process)| (found.serves && found.dead_at.is_none()).then_some(*id);
        self.processes.iter().filter_map(serves).collect()
    }

    fn second(&mut self) {
        self.now += 1;
        self.deliver();
        if self.faulty {
            self.accident();
        }
        self.work();
        self.bury();
        if self.now.is_multiple_of(5) {
            self.step(Event::Tick);
        }
        self.check();
    }

    fn deliver(&mut self) {
        let mut due: Vec<(u64, Message)> = self.network.extract_if(.., |(at, _)| *at <= self.now).collect();
        while !due.is_empty() {
            let next = self.chance.below(due.len() as u64) as usize;
            match due.swap_remove(next).1 {
                Message::Told(to, block) => {
                    if let Some(found) = self.processes.get_mut(&to).filter(|found| found.dead_at.is_none()) {
                        found.held = found.held.told(block);
                    }
                }
                Message::Reported(from, report) => self.step(Event::Reported(from, report)),
            }
            self.check();
        }
    }

    fn accident(&mut self) {
        let ids: Vec<Incarnation> = self.processes.keys().copied().collect();
        let id = ids[self.chance.below(ids.len() as u64) as usize];
        match self.chance.below(200) {
            0..2 => {
                let dead_at = self.now + DEAD_AFTER;
                self.processes.entry(id).and_modify(|found| _ = found.dead_at.get_or_insert(dead_at));
                self.start(true);
                self.step(Event::Serving(self.serving()));
            }
            2..5 => {
                self.processes.entry(id).and_modify(|found| found.serves = !found.serves);
                self.step(Event::Serving(self.serving()));
            }
            5..6 => self.fail_over(),
            6..8 => {
                self.budget = 1 + self.chance.below(60) as u32;
                self.step(Event::Budget(self.budget));
            }
            8..20 => {
                let wants = self.chance.below(30) as u32;
                self.processes.entry(id).and_modify(|found| found.wants = wants);
            }
            _ => {}
        }
    }

    fn work(&mut self) {
        let ids: Vec<Incarnation> = self.processes.keys().copied().collect();
        for id in ids {
            let Some(found) = self.processes.get_mut(&id).filter(|found| found.dead_at.is_none()) else {
                continue;
            };
            let wants = if found.serves { found.wants } else { 0 };
            let ended = if self.faulty {
                self.chance.below(u64::from(found.in_flight) + 1) as u32
            } else {
                found.in_flight
            };
            found.in_flight -= ended;
            while found.in_flight < wants && found.held.allows(found.in_flight) {
                found.in_flight += 1;
            }
            let report = found.held.report(found.in_flight, wants.saturating_sub(found.in_flight));
            if self.now.is_multiple_of(2) {
                self.send(|| Message::Reported(id, report));
            }
        }
    }

    fn bury(&mut self) {
        let dead = self.processes.iter().filter(|(_, found)| found.dead_at.is_some_and(|at| at <= self.now));
        for id in dead.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.processes.remove(&id);
            self.step(Event::Gone(id));
            // The word that it is gone may have been lost with a leader; the next one looks again.
            if self.rows.contains_key(&id) {
                self.step(Event::Gone(id));
            }
        }
    }

    /// What may be in use at this moment: what a living worker goes by, and what may be running yet at Exchange.
    fn check(&mut self) {
        let usable: u64 = self
            .processes
            .values()
            .map(|found| match found.dead_at {
                None => u64::from(found.held.permits().max(found.in_flight)),
                Some(_) => u64::from(found.in_flight),
            })
            .sum();
        let stored: u64 = self.rows.values().map(|row| u64::from(row.old.max(row.new))).sum();
        self.allowed = u64::from(self.budget).max(self.allowed.min(stored));
        assert!(usable <= self.allowed, "second {}: {usable} of {} in use: {self:?}", self.now, self.allowed);
    }

    /// Nothing goes wrong for so long that whoever was silent is dead, everybody has reported and demands are known.
    fn calms_down(&mut self) {
        self.faulty = false;
        if self.serving().is_empty() {
            self.start(true);
        }
        self.fail_over();
        for _ in 0..DEAD_AFTER + 240 {
            self.second();
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "budget {}, {:?}", self.budget, self.rows)?;
        self.processes.iter().try_for_each(|(id, found)| writeln!(out, "{id}: {found:?}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// At every instant no more is in use than there is; when it calms down everything is in use again, fairly.
    #[test]
    fn never_too_much_and_nothing_lost(seed: u64, budget in 1_u32..60, workers in 1_u32..9) {
        let mut world = World::new(seed, budget, workers);
        world.step(Event::Serving(world.serving()));
        for _ in 0..400 {
            world.second();
        }
        world.calms_down();
        let serving = world.serving();
        let held = |id: &Incarnation| world.processes[id].held.permits();
        let sum: u32 = world.processes.keys().map(held).sum();
        prop_assert_eq!(sum, world.budget, "a permit is lost: {:?}", world);
        prop_assert!(world.rows.values().all(|row| row.old == row.new), "{:?}", world);
        if serving.len() <= world.budget as usize {
            prop_assert_eq!(world.lanes, None);
            let wants = |id: &Incarnation| world.processes[id].wants;
            for poor in serving.iter().filter(|id| held(id) < wants(id)) {
                for rich in &serving {
                    prop_assert!(held(rich) <= held(poor) + 1, "{} and {} in {:?}", poor, rich, world);
                }
            }
            prop_assert!(serving.iter().all(|id| held(id) >= 1));
        } else {
            let few = (world.budget / 4).max(1) as usize;
            prop_assert!(serving.iter().filter(|id| held(id) > 0).count() <= few);
            prop_assert!(world.lanes.is_some_and(|lanes| usize::from(lanes) <= few && lanes.is_power_of_two()));
        }
        let quiet = world.ledger.clone();
        for _ in 0..20 {
            world.second();
        }
        prop_assert!(quiet.rows().eq(world.ledger.rows()), "it comes to rest");
    }
}

/// The story above would be worth little if nothing of it ever happened.
#[test]
fn blocks_do_shrink_while_they_are_in_use() {
    let shrunk: usize = (0..40)
        .map(|seed| {
            let mut world = World::new(seed, 20, 5);
            world.step(Event::Serving(world.serving()));
            (0..400).for_each(|_| world.second());
            world.shrunk_in_use
        })
        .sum();
    assert!(shrunk > 40, "{shrunk}");
}

fn serving(numbers: impl IntoIterator<Item = u32>) -> Event {
    Event::Serving(numbers.into_iter().map(process).collect())
}

fn told(effects: &Effects) -> Vec<(u32, u64, u32)> {
    effects.tell.iter().map(|(to, block)| (to.get() as u32 - 1, block.version, block.permits)).collect()
}

fn reported(number: u32, version: u64, in_flight: u32, queued: u32) -> Event {
    Event::Reported(process(number), Report { version, in_flight, queued })
}

#[test]
fn a_block_grows_only_by_what_another_cannot_be_using() {
    let mut ledger = Ledger::new(10, [Ledger::whole(10, process(0))]);
    assert_eq!(told(&ledger.step(serving([0, 1]))), [(0, 2, 5)]);
    assert_eq!(told(&ledger.step(reported(0, 1, 3, 0))), [], "it does not know yet");
    assert_eq!(told(&ledger.step(reported(0, 2, 7, 0))), [], "it has more in flight than it shall have");
    assert_eq!(told(&ledger.step(Event::Tick)), [], "it knows already");
    let effects = ledger.step(reported(0, 2, 5, 0));
    assert_eq!(told(&effects), [(1, 1, 5)]);
    let rows = [
        Row { worker: process(0), old: 5, new: 5, version: 2 },
        Row { worker: process(1), old: 0, new: 5, version: 1 },
    ];
    assert_eq!(effects.write, rows);
    assert_eq!(told(&ledger.step(Event::Tick)), [(1, 1, 5)], "it is told until it says that it knows");
    assert_eq!(ledger.outstanding(), 10);
}

#[test]
fn a_new_leader_counts_what_may_be_in_use() {
    let rows = [
        Row { worker: process(0), old: 8, new: 2, version: 4 },
        Row { worker: process(1), old: 1, new: 2, version: 9 },
    ];
    let mut ledger = Ledger::new(10, rows);
    assert_eq!(ledger.step(Event::Tick).write, [], "without knowing who serves it changes nothing");
    assert_eq!(told(&ledger.step(serving([0, 1]))), [(0, 5, 5)], "of its own 8 it gets some back");
    assert_eq!(told(&ledger.step(reported(0, 4, 0, 0))), [], "the older version says nothing");
    assert_eq!(told(&ledger.step(reported(0, 5, 5, 0))), [(1, 10, 5)]);
}

#[test]
fn a_dead_workers_permits_come_back_at_once() {
    let mut ledger = Ledger::new(12, [Ledger::whole(12, process(0))]);
    let _told = ledger.step(serving([0, 1, 2]));
    let effects = ledger.step(Event::Gone(process(0)));
    assert_eq!((effects.remove.clone(), told(&effects)), (vec![process(0)], vec![(1, 1, 6), (2, 1, 6)]));
    assert_eq!(told(&ledger.step(reported(0, 2, 0, 9))), [], "what it said before it died is late");
    assert_eq!(ledger.outstanding(), 12);
}

#[test]
fn who_serves_no_more_gives_everything_back() {
    let mut ledger = Ledger::new(6, [Ledger::whole(6, process(0))]);
    assert_eq!(told(&ledger.step(serving([1]))), [(0, 2, 0)]);
    assert_eq!(told(&ledger.step(reported(0, 2, 1, 0))), []);
    assert_eq!(told(&ledger.step(reported(0, 2, 0, 0))), [(1, 1, 6)], "one worker has everything");
    // Its row stays, so that it is never told an older version.
    assert_eq!(told(&ledger.step(serving([0, 1]))), [(1, 2, 3)]);
    assert_eq!(told(&ledger.step(reported(1, 2, 0, 0))), [(0, 3, 3)]);
}

#[test]
fn a_smaller_budget_holds_once_the_blocks_have_shrunk() {
    let mut ledger = Ledger::new(12, [Ledger::whole(12, process(0))]);
    let _told = ledger.step(serving([0, 1]));
    let _told = ledger.step(reported(0, 2, 6, 0));
    let _told = ledger.step(reported(1, 1, 6, 0));
    assert_eq!(told(&ledger.step(Event::Budget(4))), [(0, 3, 2), (1, 2, 2)]);
    assert_eq!(told(&ledger.step(serving([0, 1, 2]))), [(1, 3, 1)], "nothing grows before it has shrunk");
    assert_eq!(ledger.outstanding(), 12);
    let _told = ledger.step(reported(0, 3, 2, 0));
    assert_eq!(ledger.outstanding(), 8);
    assert_eq!(told(&ledger.step(reported(1, 3, 1, 0))), [(2, 1, 1)]);
    assert_eq!(ledger.outstanding(), 4);
}

#[test]
fn fewer_permits_than_workers_are_few_workers() {
    for (budget, workers, lanes, served) in [
        (8, 8, None, 8),
        (8, 9, Some(2), 2),
        (3, 4, Some(1), 1),
        (1, 1, None, 1),
        (1, 2, Some(1), 1),
        (15, 20, Some(2), 3),
    ] {
        let mut ledger = Ledger::new(budget, []);
        let effects = ledger.step(serving(0..workers));
        assert_eq!((effects.lanes, effects.tell.len()), (lanes, served), "{budget} for {workers}");
        assert_eq!(ledger.outstanding(), u64::from(budget));
    }
}

#[test]
fn shares_follow_demand_and_waver_no_more_than_they_must() {
    let mut ledger = Ledger::new(30, []);
    let _told = ledger.step(serving([0, 1, 2]));
    let mut settle = |demands: [u32; 3]| {
        let mut changes = 0;
        for _ in 0..40 {
            for (number, demand) in demands.into_iter().enumerate() {
                let row = ledger.rows().find(|row| row.worker == process(number as u32));
                let row = row.unwrap_or_else(|| panic!("{number} has no row"));
                let in_flight = demand.min(row.new);
                changes += ledger
                    .step(reported(number as u32, row.version, in_flight, demand - in_flight))
                    .tell
                    .len();
            }
            changes += ledger.step(Event::Tick).tell.len();
        }
        let permits: Vec<u32> = ledger.rows().map(|row| row.new).collect();
        (permits, changes)
    };
    assert_eq!(settle([5, 5, 5]), (vec![10, 10, 10], 0));
    assert_eq!(settle([9, 2, 10]), (vec![10, 10, 10], 0), "everybody has what it wants");
    let (permits, changes) = settle([100, 4, 2]);
    assert_eq!(permits, [24, 4, 2]);
    assert!(changes <= 30, "{changes}");
    assert_eq!(settle([100, 100, 2]).0, [14, 14, 2]);
    assert_eq!(settle([100, 100, 100]).0, [10, 10, 10]);
    assert_eq!(settle([0, 0, 100]).0, [1, 1, 28]);
}

#[test]
fn a_worker_goes_by_the_newest_word() {
    let held = Held::whole(9).told(Block { version: 3, permits: 4 });
    assert_eq!(held.told(Block { version: 2, permits: 8 }), held);
    assert_eq!(held.told(Block { version: 3, permits: 8 }), held);
    assert!(held.allows(3) && !held.allows(4));
    assert_eq!(held.report(2, 1), Report { version: 3, in_flight: 2, queued: 1 });
    assert!(!Held::default().allows(0), "who was told nothing begins nothing");
}
