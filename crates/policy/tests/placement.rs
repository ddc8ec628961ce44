//! Plans: complete, repeatable, sticky, and idle once they were carried out.

use std::collections::BTreeMap;

use mailyard_policy::{
    id::{Epoch, Incarnation, ShardId, WorkerId},
    placement::{Candidate, Placed, Plan, Rules, plan},
};
use proptest::prelude::*;

fn worker(number: u32) -> Candidate {
    Candidate {
        worker: WorkerId(format!("worker-{number}")),
        incarnation: Incarnation::new(u128::from(number) + 1000),
        capacity: 1,
    }
}

fn free(count: u16, weight: impl Fn(u16) -> u32) -> Vec<Placed> {
    (0..count)
        .filter_map(ShardId::new)
        .map(|shard| Placed {
            shard,
            epoch: Epoch(0),
            owner: None,
            revoking: false,
            weight: weight(shard.get()),
        })
        .collect()
}

/// Carries a plan out, as the store would: revoked shards are released and stand free.
fn carry_out(shards: &mut [Placed], plan: &Plan) -> usize {
    for (incarnation, granted) in &plan.grants {
        for (shard, epoch) in granted {
            for placed in shards.iter_mut().filter(|placed| placed.shard == *shard) {
                assert_eq!(
                    (placed.owner, placed.epoch),
                    (None, *epoch),
                    "only what is free is granted, once"
                );
                (placed.owner, placed.epoch) = (Some(*incarnation), Epoch(placed.epoch.0 + 1));
            }
        }
    }
    for (shard, _) in &plan.revokes {
        for placed in shards.iter_mut().filter(|placed| placed.shard == *shard) {
            assert!(placed.owner.is_some(), "only what is owned is asked back");
            placed.owner = None;
        }
    }
    plan.revokes.len()
}

fn settle(rules: &Rules, workers: &[Candidate], shards: &mut [Placed]) -> usize {
    let mut moved = 0;
    for _ in 0..400 {
        let next = plan(rules, workers, shards);
        if next == Plan::default() {
            return moved;
        }
        moved += carry_out(shards, &next);
    }
    panic!("the plan never comes to rest");
}

fn loads(shards: &[Placed]) -> BTreeMap<Option<Incarnation>, u64> {
    let mut loads = BTreeMap::new();
    for shard in shards {
        *loads.entry(shard.owner).or_default() += u64::from(shard.weight);
    }
    loads
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_shard_finds_an_owner_and_the_loads_are_even(
        workers in 1u32..9,
        weights in prop::collection::vec(1u32..5, 300..600),
    ) {
        let workers: Vec<Candidate> = (0..workers).map(worker).collect();
        let mut shards = free(weights.len() as u16, |shard| weights[usize::from(shard)]);
        settle(&Rules::default(), &workers, &mut shards);
        let loads = loads(&shards);
        prop_assert_eq!(loads.get(&None), None);
        let total: u64 = loads.values().sum();
        for (owner, load) in &loads {
            let share = load * workers.len() as u64 * 100 / total;
            prop_assert!((85..=115).contains(&share), "{owner:?} has {share} % of its share");
        }
    }

    #[test]
    fn a_worker_that_leaves_moves_only_its_own(workers in 2u32..9, leaver in 0u32..9) {
        let mut all: Vec<Candidate> = (0..workers).map(worker).collect();
        let mut shards = free(1024, |_| 1);
        settle(&Rules::default(), &all, &mut shards);
        let gone = all.remove((leaver % workers) as usize);
        let before = shards.clone();
        for shard in shards.iter_mut().filter(|shard| shard.owner == Some(gone.incarnation)) {
            shard.owner = None;
        }
        settle(&Rules::default(), &all, &mut shards);
        let lost = before.iter().filter(|shard| shard.owner == Some(gone.incarnation)).count();
        let moved = before.iter().zip(&shards).filter(|(old, new)| old.owner != new.owner).count();
        prop_assert!(moved * 100 <= lost * 105, "{moved} moved for {lost}");
    }

    #[test]
    fn a_worker_that_joins_takes_at_most_its_share(workers in 1u32..9) {
        let mut all: Vec<Candidate> = (0..workers).map(worker).collect();
        let mut shards = free(1024, |_| 1);
        settle(&Rules::default(), &all, &mut shards);
        all.push(worker(workers));
        let moved = settle(&Rules::default(), &all, &mut shards);
        let share = 1024 / all.len();
        prop_assert!(moved <= share + 1, "{moved} moved, the fair share is {share}");
        prop_assert!(moved * 100 >= share * 85, "{moved} moved, the fair share is {share}");
    }
}

#[test]
fn nobody_there_means_no_plan_and_one_worker_gets_everything() {
    let mut shards = free(4096, |_| 1);
    assert_eq!(plan(&Rules::default(), &[], &shards), Plan::default());
    let none = Candidate { capacity: 0, ..worker(1) };
    assert_eq!(plan(&Rules::default(), &[none], &shards), Plan::default());
    settle(&Rules::default(), &[worker(1)], &mut shards);
    assert_eq!(loads(&shards), BTreeMap::from([(Some(Incarnation::new(1001)), 4096)]));
}

#[test]
fn a_plan_stays_within_its_budget_of_moves() {
    let mut shards = free(4096, |_| 1);
    settle(&Rules::default(), &[worker(1)], &mut shards);
    let first = plan(&Rules::default(), &[worker(1), worker(2)], &shards);
    assert_eq!(first.revokes.len(), 81);
    for shard in shards.iter_mut().filter(|shard| first.revokes.contains(&(shard.shard, shard.epoch))) {
        shard.revoking = true;
    }
    assert_eq!(
        plan(&Rules::default(), &[worker(1), worker(2)], &shards),
        Plan::default(),
        "the budget is in use"
    );
}

#[test]
fn two_coordinators_with_the_same_view_plan_the_same() {
    let workers: Vec<Candidate> = (0..5).map(worker).collect();
    let mut turned = workers.clone();
    turned.reverse();
    let shards = free(512, |shard| u32::from(shard % 7) + 1);
    assert_eq!(plan(&Rules::default(), &workers, &shards), plan(&Rules::default(), &turned, &shards));
}
