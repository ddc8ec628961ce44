//! What holds for any cluster.

use std::{cmp::Reverse, time::Duration};

use mailyard_policy::placement::{Candidate, Plan, Standing};
use proptest::prelude::*;

use crate::stage::{Stage, name, shard, worker};

fn even(count: usize) -> Vec<u32> {
    vec![1; count]
}

/// True if no single shard could go from a worker with too much to one with too little.
fn is_level_or_justified(stage: &Stage) -> bool {
    let capacity: u64 = stage.workers.iter().map(|found| u64::from(found.capacity)).sum();
    let weight: u64 = stage.shards.iter().map(|placed| u64::from(placed.weight)).sum();
    let target = |found: &Candidate| (weight * u64::from(found.capacity)).div_ceil(capacity);
    let loads = stage.loads();
    let load = |found: &Candidate| loads[&Some(found.worker.clone())];
    let lightest = |found: &Candidate| {
        let own = stage.shards.iter().filter(|placed| placed.owner == Some(found.incarnation));
        own.map(|placed| u64::from(placed.weight)).min()
    };
    stage.workers.iter().filter(|found| load(found) * 100 > target(found) * 110).all(|from| {
        let surplus = load(from) - target(from);
        let fits = |to: &Candidate| target(to).saturating_sub(load(to)).min(surplus);
        stage.workers.iter().all(|to| lightest(from).is_none_or(|lightest| lightest > fits(to)))
    })
}

/// The smallest possible load of the most loaded worker, by trying everything.
fn optimum(weights: &[u32], workers: usize) -> u64 {
    fn place(weights: &[u32], loads: &mut Vec<u64>, best: u64) -> u64 {
        let Some((first, rest)) = weights.split_first() else {
            return loads.iter().copied().max().unwrap_or(0);
        };
        (0..loads.len()).fold(best, |best, at| {
            loads[at] += u64::from(*first);
            let found = if loads[at] < best { place(rest, loads, best) } else { best };
            loads[at] -= u64::from(*first);
            best.min(found)
        })
    }
    place(weights, &mut vec![0; workers], u64::MAX)
}

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
enum Happens {
    Joins(u32),
    Dies(u32),
    Leaves(u32),
    Returns(u32),
    Suspect(u32, bool),
    Pin(u16, u32),
    Quarantine(u32, bool),
    Drain(u32, bool),
    Freeze(bool),
    Silence(bool),
    Forgets,
    Weight(u16, u32),
    Ticks(u8),
    Looks(u8),
    Passes(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    let number = 0_u32..6;
    prop_oneof![
        number.clone().prop_map(Happens::Joins),
        number.clone().prop_map(Happens::Dies),
        number.clone().prop_map(Happens::Leaves),
        number.clone().prop_map(Happens::Returns),
        (number.clone(), any::<bool>()).prop_map(|(number, on)| Happens::Suspect(number, on)),
        (0_u16..200, number.clone()).prop_map(|(shard, to)| Happens::Pin(shard, to)),
        (number.clone(), any::<bool>()).prop_map(|(number, on)| Happens::Quarantine(number, on)),
        (number, any::<bool>()).prop_map(|(number, on)| Happens::Drain(number, on)),
        any::<bool>().prop_map(Happens::Freeze),
        any::<bool>().prop_map(Happens::Silence),
        Just(Happens::Forgets),
        (0_u16..200, 1_u32..50).prop_map(|(shard, weight)| Happens::Weight(shard, weight)),
        (1_u8..20).prop_map(Happens::Ticks),
        (1_u8..20).prop_map(Happens::Looks),
        (1_u16..700).prop_map(Happens::Passes),
    ]
}

impl Stage {
    fn happens(&mut self, what: &Happens, number_of_processes: u128) {
        let fresh = |number: u32| Candidate {
            incarnation: mailyard_policy::id::Incarnation::new(number_of_processes + 5000),
            ..worker(number)
        };
        let set = |set: &mut std::collections::BTreeSet<_>, number: u32, on: bool| {
            if on { set.insert(name(number)) } else { set.remove(&name(number)) }
        };
        match *what {
            Happens::Joins(number) | Happens::Returns(number) => {
                if !self.workers.iter().any(|found| found.worker == name(number)) {
                    self.workers.push(fresh(number));
                }
            }
            Happens::Dies(number) => _ = self.dies(number),
            Happens::Leaves(number) => _ = self.leaves(number, Duration::from_secs(90)),
            Happens::Suspect(number, on) => {
                for found in self.workers.iter_mut().filter(|found| found.worker == name(number)) {
                    found.standing = if on { Standing::Suspect } else { Standing::Live };
                }
            }
            Happens::Pin(number, to) => _ = self.switches.pins.insert(shard(number), name(to)),
            Happens::Quarantine(number, on) => _ = set(&mut self.switches.quarantined, number, on),
            Happens::Drain(number, on) => _ = set(&mut self.switches.drained, number, on),
            Happens::Freeze(on) => self.switches.frozen = on,
            Happens::Silence(on) => self.silent = on,
            Happens::Forgets => self.forgets(),
            Happens::Weight(number, weight) => self.shards[usize::from(number)].weight = weight,
            Happens::Ticks(count) => (0..count).for_each(|_| _ = self.tick()),
            Happens::Looks(count) => (0..count).for_each(|_| _ = self.look()),
            Happens::Passes(seconds) => self.now = self.now + Duration::from_secs(seconds.into()),
        }
    }

    /// Everything is well again.
    fn recovers(&mut self) {
        self.switches = mailyard_policy::placement::Switches::default();
        self.silent = false;
        self.workers.iter_mut().for_each(|found| found.standing = Standing::Live);
        if self.workers.is_empty() {
            self.workers.push(worker(0));
        }
        self.release();
        self.now = self.now + Duration::from_mins(11);
        self.settle();
        self.now = self.now + Duration::from_mins(11);
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Each plan on the way is checked by the stage; in the end every shard is held and the loads are level, and
    /// nothing more is planned.
    #[test]
    fn whatever_happens_every_shard_finds_its_place(
        weights in prop::collection::vec(1_u32..50, 200),
        story in prop::collection::vec(happens(), 1..40),
    ) {
        let mut stage = Stage::new((0..3).map(worker), &weights);
        stage.rules.in_flight = 8;
        stage.rules.per_minute = 20;
        for (what, number) in story.iter().zip(0..) {
            stage.happens(what, number);
        }
        stage.recovers();
        prop_assert!(!stage.loads().contains_key(&None), "a shard is left over");
        prop_assert!(is_level_or_justified(&stage), "{:?}", stage.loads());
        let before = stage.shards.clone();
        stage.now = stage.now + Duration::from_mins(11);
        for _ in 0..5 {
            prop_assert_eq!(stage.tick().steps, []);
        }
        prop_assert_eq!(before, stage.shards);
    }

    #[test]
    fn equal_views_give_equal_plans(
        weights in prop::collection::vec(1_u32..50, 200),
        story in prop::collection::vec(happens(), 1..20),
    ) {
        let mut stage = Stage::new((0..4).map(worker), &weights);
        for (what, number) in story.iter().zip(0..) {
            stage.happens(what, number);
        }
        let mut turned = stage.clone();
        turned.workers.reverse();
        turned.shards.sort_by_key(|placed| Reverse(mailyard_policy::id::hash(&placed.shard.get().to_be_bytes())));
        let sorted = |(mut plan, memory): (Plan, _)| {
            plan.steps.sort_by_key(|step| step.shard);
            (plan, memory)
        };
        prop_assert_eq!(sorted(stage.plan()), sorted(turned.plan()));
    }

    #[test]
    fn one_worker_more_increases_nobodys_load(
        workers in 1_u32..7,
        weights in prop::collection::vec(1_u32..8, 300..500),
        capacity in 1_u32..3,
    ) {
        let mut stage = Stage::settled(workers, &weights);
        let before = stage.loads();
        stage.workers.push(Candidate { capacity, ..worker(workers) });
        stage.settle();
        for (owner, load) in stage.loads().into_iter().filter(|(owner, _)| *owner != Some(name(workers))) {
            prop_assert!(load <= before[&owner], "{owner:?} has {load} after {}", before[&owner]);
        }
        prop_assert!(is_level_or_justified(&stage));
        prop_assert!(stage.load(workers) > 0);
    }

    /// What is tried one after the other is not far from what trying everything finds.
    #[test]
    fn small_clusters_are_near_the_optimum(
        workers in 1_u32..4,
        weights in prop::collection::vec(1_u32..30, 1..9),
    ) {
        let stage = Stage::settled(workers, &weights);
        let best = optimum(&weights, workers as usize);
        let most = stage.loads().into_values().max().unwrap_or(0);
        prop_assert!(most >= best);
        prop_assert!(most * 2 <= best * 3, "{most} where {best} is possible: {:?}", stage.loads());
        prop_assert!(is_level_or_justified(&stage));
    }

    #[test]
    fn loads_follow_capacities(capacities in prop::collection::vec(1_u32..5, 2..8)) {
        let workers = capacities.iter().zip(0..).map(|(capacity, number)| Candidate { capacity: *capacity, ..worker(number) });
        let mut stage = Stage::new(workers, &even(600));
        stage.settle();
        let all: u32 = capacities.iter().sum();
        for (capacity, number) in capacities.iter().zip(0..) {
            let share = stage.load(number) * u64::from(all) * 100 / (600 * u64::from(*capacity));
            prop_assert!((88..=111).contains(&share), "{share} %");
        }
    }
}
