//! How much moves when workers come, go and are replaced, with costs as mailboxes have them.

use std::time::Duration;

use mailyard_policy::{
    id::{self, Incarnation},
    placement::Candidate,
};

use crate::stage::{Stage, name, worker};

/// Between 0 and 1, by chance that is always the same.
fn chance(seed: u64) -> f64 {
    ((id::hash(&seed.to_be_bytes()) >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// What 4,096 shards cost that hold a million mailboxes: log-normal (sigma 1.2), one in 20,000 costs 200 times as
/// much.
fn weights() -> Vec<u32> {
    let mut weights = vec![0.0; usize::from(id::SHARDS)];
    for mailbox in 0..1_000_000_u64 {
        let normal = (-2.0 * chance(3 * mailbox).ln()).sqrt()
            * (std::f64::consts::TAU * chance(3 * mailbox + 1)).cos();
        let hot = if mailbox % 20_000 == 7 { 200.0 } else { 1.0 };
        weights[id::hash(&mailbox.to_le_bytes()) as usize % usize::from(id::SHARDS)] +=
            (1.2 * normal).exp() * hot;
    }
    weights.into_iter().map(|weight| (weight * 10.0) as u32 + 1).collect()
}

/// The process after `number` restarts of all, with a newer build.
fn restarted(number: u32) -> Candidate {
    Candidate {
        incarnation: Incarnation::new(u128::from(number) + 100_000),
        build: "1.0.10".to_owned(),
        ..worker(number)
    }
}

#[test]
fn what_leaves_and_what_joins_moves_no_more_than_it_must() {
    let weights = weights();
    for count in [20, 50, 200] {
        let settled = Stage::settled(count, &weights);
        let uneven = settled.unevenness();
        assert!(uneven <= 1.10, "{count} workers: the most loaded has {uneven:.3} of the mean");

        let mut left = settled.clone();
        let orphans = left.dies(3);
        left.settle();
        let (moved, uneven) = (left.moved, left.unevenness());
        assert!(moved * 100 <= orphans * 105, "{count} workers: {moved} moved for {orphans}");
        assert!(uneven <= 1.10, "{count} workers: the most loaded has {uneven:.3} of the mean");

        let mut joined = settled;
        joined.workers.push(worker(count));
        joined.settle();
        let (share, moved, uneven) =
            (weights.len() / (count as usize + 1), joined.moved, joined.unevenness());
        assert!(moved <= share, "{count} workers: {moved} moved, the fair share is {share}");
        assert!(moved * 2 >= share, "{count} workers: {moved} moved, the fair share is {share}");
        assert!(uneven <= 1.10, "{count} workers: the most loaded has {uneven:.3} of the mean");
    }
}

#[test]
fn a_rolling_restart_in_place_moves_nothing() {
    let mut stage = Stage::settled(20, &weights());
    for number in 0..20 {
        stage.leaves(number, Duration::from_secs(90));
        for _ in 0..5 {
            assert_eq!(stage.tick().steps, [], "what is kept for a worker stays");
            stage.now = stage.now + Duration::from_secs(10);
        }
        stage.workers.push(restarted(number));
        (0..5).for_each(|_| _ = stage.tick());
        assert_eq!(stage.loads().get(&None), None);
    }
    assert_eq!(stage.moved, 0);
}

#[test]
fn a_rolling_replacement_moves_each_shard_once() {
    for (count, lasts) in [(20, 25), (50, 5)] {
        let mut stage = Stage::settled(count, &weights());
        for number in 0..count {
            // The new one is there for a while before the old one is drained.
            stage.workers.push(Candidate { worker: name(1000 + number), ..restarted(1000 + number) });
            for _ in 0..lasts {
                stage.tick();
            }
            stage.switches.drained.insert(name(number));
            for _ in 0..10 {
                stage.tick();
            }
            assert_eq!(stage.load(number), 0, "worker {number} of {count}");
            stage.dies(number);
        }
        let (moved, all) = (stage.moved, stage.shards.len());
        assert_eq!(stage.loads().get(&None), None);
        assert!(moved * 100 <= all * 105, "{count} workers: {moved} moves of {all} shards");
        stage.settle();
        assert!(stage.unevenness() <= 1.11, "{:.3}", stage.unevenness());
    }
}
