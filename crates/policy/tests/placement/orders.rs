//! What people order, what is kept for whom, and what stops everything.

use std::{collections::BTreeSet, time::Duration};

use mailyard_policy::{
    id::{Incarnation, ShardId},
    placement::{Action, Candidate, Held, Plan, Reservation, Standing, Why},
};

use crate::stage::{Stage, name, shard, worker};

fn even(count: usize) -> Vec<u32> {
    vec![1; count]
}

fn whys(plan: &Plan) -> BTreeSet<Why> {
    plan.steps.iter().map(|step| step.why).collect()
}

fn granted(plan: &Plan, to: u32) -> Vec<ShardId> {
    let to = name(to);
    let mut shards: Vec<ShardId> = plan
        .steps
        .iter()
        .filter(|step| matches!(&step.action, Action::Grant { worker, .. } if *worker == to))
        .map(|step| step.shard)
        .collect();
    shards.sort();
    shards
}

fn newer(number: u32) -> Candidate {
    Candidate { incarnation: Incarnation::new(u128::from(number) + 9000), ..worker(number) }
}

#[test]
fn nobody_there_means_no_plan_and_one_worker_gets_everything() {
    let mut stage = Stage::new([], &even(4096));
    assert_eq!(stage.tick().waiting, 4096);
    stage.workers.push(Candidate { capacity: 0, ..worker(1) });
    assert_eq!(stage.tick().steps, []);
    stage.workers = vec![worker(1)];
    assert_eq!(stage.tick().steps.len(), 4096);
    assert_eq!(stage.load(1), 4096);
    stage.settle();
    assert_eq!(stage.moved, 0);
}

#[test]
fn levelling_waits_for_three_looks_and_keeps_to_its_budgets() {
    let mut stage = Stage::settled(1, &even(4096));
    stage.workers.push(worker(1));
    let asked: Vec<usize> = (0..8).map(|_| stage.tick().revokes().len()).collect();
    assert_eq!(asked, [0, 0, 81, 81, 42, 0, 0, 0], "2 % at once, 5 % a minute");
    stage.now = stage.now + Duration::from_mins(1);
    assert_eq!(stage.look().revokes().len(), 81);
    assert_eq!(stage.look().revokes().len(), 0, "all that may move at once is on the move");
    stage.settle();
    assert!(stage.load(1) >= 1843, "{:?}", stage.loads());
}

#[test]
fn unevenness_that_comes_and_goes_moves_nothing() {
    let mut stage = Stage::settled(2, &even(400));
    for look in 0..20 {
        let heavy = stage.held_by(look % 2);
        let before = stage.shards.clone();
        for placed in stage.shards.iter_mut().filter(|placed| heavy.contains(&placed.shard)) {
            placed.weight = 2;
        }
        for _ in 0..2 {
            assert_eq!(stage.tick().steps, []);
        }
        stage.shards = before;
    }
}

#[test]
fn a_levelled_shard_rests() {
    let mut stage = Stage::settled(2, &even(40));
    stage.workers.push(worker(2));
    stage.settle();
    let moved = stage.held_by(2);
    // The newcomer alone has too much now, but what it holds has just come.
    for placed in stage.shards.iter_mut().filter(|placed| moved.contains(&placed.shard)) {
        placed.weight = 10;
    }
    for _ in 0..50 {
        assert_eq!(stage.tick().steps, []);
    }
    stage.now = stage.now + Duration::from_mins(10);
    assert_eq!(whys(&stage.tick()), BTreeSet::from([Why::Levelled]));
}

#[test]
fn what_is_kept_for_a_worker_waits_for_it_and_for_nobody_else() {
    let mut stage = Stage::settled(3, &even(300));
    let had = stage.held_by(1);
    stage.leaves(1, Duration::from_secs(90));
    let plan = stage.tick();
    assert_eq!((plan.steps, plan.waiting), (vec![], had.len()));
    // Another worker comes: it gets none of them.
    stage.workers.push(worker(7));
    assert_eq!(granted(&stage.tick(), 7), []);
    stage.workers.push(newer(1));
    let plan = stage.tick();
    assert_eq!(granted(&plan, 1), had, "exactly those");
    assert_eq!(whys(&plan), BTreeSet::from([Why::Back]));
}

#[test]
fn what_is_kept_in_vain_is_given_away() {
    for (kept, passes, waits) in [(90, 89, true), (90, 91, false), (600, 1, false)] {
        let mut stage = Stage::settled(3, &even(300));
        stage.leaves(1, Duration::from_secs(kept));
        stage.now = stage.now + Duration::from_secs(passes);
        let plan = stage.tick();
        assert_eq!(plan.waiting > 0, waits, "kept for {kept} s, after {passes} s");
        assert_eq!(plan.steps.is_empty(), waits, "kept for {kept} s, after {passes} s");
    }
    let mut stage = Stage::settled(3, &even(300));
    stage.leaves(1, Duration::from_secs(90));
    stage.switches.quarantined.insert(name(1));
    assert_eq!(stage.tick().waiting, 0, "nothing is kept for a worker that may hold nothing");
}

#[test]
fn a_worker_that_ends_by_itself_is_asked_for_nothing_and_given_nothing() {
    let mut stage = Stage::settled(3, &even(300));
    stage.workers[1].standing = Standing::Leaving;
    for _ in 0..10 {
        assert_eq!(stage.tick().steps, []);
    }
    let freed = stage.held_by(1);
    for placed in stage.shards.iter_mut().filter(|placed| freed[..10].contains(&placed.shard)) {
        placed.owner = None;
        placed.reserved = Some(Reservation { worker: name(1), until: stage.now + Duration::from_secs(80) });
    }
    assert_eq!(stage.tick().waiting, 10);
}

#[test]
fn while_somebody_is_suspect_nothing_is_levelled_but_orphans_are_placed() {
    let mut stage = Stage::settled(4, &even(400));
    stage.workers[0].standing = Standing::Suspect;
    let kept = stage.held_by(0);
    let orphans = stage.dies(3);
    stage.workers.push(worker(9));
    let plan = stage.tick();
    assert_eq!((plan.steps.len(), plan.held), (orphans, Some(Held::Suspect)));
    for _ in 0..20 {
        assert_eq!(stage.tick().steps, []);
    }
    assert_eq!(stage.held_by(0), kept);
    stage.workers[0].standing = Standing::Live;
    stage.settle();
    assert!(stage.unevenness() <= 1.1);
}

#[test]
fn new_workers_of_the_newest_build_are_preferred() {
    let mut stage = Stage::settled(5, &even(500));
    stage.workers[2].build = "1.0.10".to_owned();
    stage.workers[3].build = "1.0.9".to_owned();
    let orphans = stage.dies(4);
    let plan = stage.tick();
    let to_newest = granted(&plan, 2).len();
    assert_eq!((orphans, plan.held), (plan.steps.len(), Some(Held::Deploy)));
    assert!(stage.load(2) >= 130 && stage.load(2) <= 132, "{to_newest}: filled to half the tolerance");
}

#[test]
fn a_frozen_cluster_stays_as_it_is() {
    for (frozen, silent, held) in [(true, false, Held::Frozen), (false, true, Held::Silence)] {
        let mut stage = Stage::settled(4, &even(400));
        let orphans = stage.dies(3);
        (stage.switches.frozen, stage.silent) = (frozen, silent);
        stage.switches.drained.insert(name(2));
        stage.switches.pins.insert(shard(0), name(1));
        for _ in 0..5 {
            let plan = stage.tick();
            assert_eq!((plan.steps, plan.held, plan.waiting), (vec![], Some(held), orphans));
        }
        (stage.switches.frozen, stage.silent) = (false, false);
        assert_eq!(stage.tick().grants().values().map(Vec::len).sum::<usize>(), orphans);
    }
}

#[test]
fn a_cold_cluster_waits_for_its_workers_and_a_warm_one_for_nobody() {
    let mut stage = Stage::new([worker(0)], &even(100));
    stage.rules.min_workers = 3;
    for _ in 0..30 {
        assert_eq!(stage.tick().held, Some(Held::ColdStart));
    }
    assert_eq!(stage.tick().steps.len(), 100, "after half a minute it begins with who is there");
    stage.forgets();
    stage.dies(0);
    stage.workers.push(worker(1));
    assert_eq!(stage.tick().held, Some(Held::ColdStart), "nobody holds anything");
    stage.workers.extend([worker(2), worker(3)]);
    assert_eq!(stage.tick().steps.len(), 100, "enough are there");
    stage.forgets();
    stage.workers.truncate(2);
    assert_eq!(stage.tick().held, None, "a new leader of a running cluster does not wait");
}

#[test]
fn a_pinned_shard_goes_to_its_worker_and_stays_there() {
    let mut stage = Stage::settled(3, &even(300));
    let strangers = stage.held_by(0);
    for shard in &strangers[..20] {
        stage.switches.pins.insert(*shard, name(2));
    }
    let plan = stage.tick();
    assert_eq!((plan.revokes().len(), whys(&plan)), (20, BTreeSet::from([Why::Pinned])));
    assert_eq!(granted(&stage.tick(), 2), strangers[..20]);
    stage.settle();
    let keeps = |stage: &Stage| strangers[..20].iter().all(|shard| stage.held_by(2).contains(shard));
    assert!(keeps(&stage), "levelling takes others");
    assert!(stage.load(2) <= 110);
    // While its worker is away another one holds it.
    stage.dies(2);
    stage.settle();
    assert_eq!(stage.loads().get(&None), None);
    stage.workers.push(newer(2));
    stage.settle();
    assert!(keeps(&stage));
}

#[test]
fn a_quarantined_worker_is_emptied_within_the_budget_and_given_nothing() {
    let mut stage = Stage::settled(2, &even(1000));
    stage.switches.quarantined.insert(name(0));
    stage.switches.pins.insert(stage.held_by(0)[0], name(0));
    let asked: Vec<usize> = (0..5).map(|_| stage.tick().revokes().len()).collect();
    assert_eq!(asked, [81, 81, 42, 0, 0]);
    stage.settle();
    assert_eq!((stage.load(0), stage.load(1)), (0, 1000));
    // The last worker keeps what nobody else could have.
    stage.switches.quarantined.insert(name(1));
    assert_eq!(stage.tick().steps, []);
    stage.switches.quarantined.clear();
    stage.settle();
    assert!(stage.load(0) >= 450);
}

#[test]
fn a_drained_worker_is_emptied_without_waiting_for_the_minute() {
    let mut stage = Stage::settled(3, &even(999));
    stage.switches.drained.insert(name(0));
    let asked: Vec<usize> = (0..6).map(|_| stage.tick().revokes().len()).collect();
    let held: usize = asked.iter().sum();
    assert_eq!(asked[..4], [81; 4]);
    stage.tick();
    assert_eq!((stage.load(0), stage.moved), (0, held));
    assert!(stage.unevenness() * 2.0 / 3.0 <= 1.06, "spread over the two others: {:?}", stage.loads());
}

#[test]
fn a_drained_worker_gives_everything_to_one_that_has_just_come() {
    let mut stage = Stage::settled(3, &even(999));
    let had = stage.held_by(0);
    stage.workers.push(worker(5));
    stage.switches.drained.insert(name(0));
    let plan = stage.tick();
    assert_eq!(whys(&plan), BTreeSet::from([Why::Swapped]));
    (0..8).for_each(|_| _ = stage.tick());
    assert_eq!((stage.held_by(5), stage.moved), (had.clone(), had.len()));
    stage.dies(0);
    stage.settle();
    assert_eq!(stage.moved, had.len());
}

#[test]
fn what_is_not_released_stays_under_a_new_grant() {
    let mut stage = Stage::settled(2, &even(400));
    stage.workers.push(worker(2));
    let mut asked: Vec<(ShardId, _)> = (0..3).flat_map(|_| stage.look().revokes()).collect();
    asked.sort();
    assert_eq!(asked.len(), 81);
    stage.now = stage.now + Duration::from_secs(57);
    assert_eq!(stage.look().steps, [], "its owner still has time");
    stage.now = stage.now + Duration::from_secs(2);
    let plan = stage.look();
    assert_eq!((plan.returns(), whys(&plan)), (asked.clone(), BTreeSet::from([Why::Unreleased])));
    for (shard, epoch) in &asked {
        let placed = &stage.shards[usize::from(shard.get())];
        assert!(placed.epoch > *epoch && !placed.revoking, "the old grant is not there any more");
    }
}

#[test]
fn a_drained_worker_keeps_nothing_for_being_slow_and_a_pin_takes_back_what_is_asked_for() {
    let mut stage = Stage::settled(2, &even(400));
    stage.switches.drained.insert(name(0));
    let asked = stage.look().revokes();
    stage.now = stage.now + Duration::from_mins(5);
    assert_eq!(stage.look().returns(), []);
    stage.switches.drained.clear();
    stage.switches.pins.insert(asked[0].0, name(0));
    stage.forgets();
    let plan = stage.look();
    assert_eq!((plan.returns(), whys(&plan)), (vec![asked[0]], BTreeSet::from([Why::Pinned])));
}

#[test]
fn the_older_of_two_processes_of_a_worker_is_given_nothing() {
    let mut stage = Stage::settled(2, &even(200));
    stage.workers.push(newer(1));
    stage.settle();
    let older = stage.workers[1].incarnation;
    let held = |incarnation| stage.shards.iter().filter(|placed| placed.owner == Some(incarnation)).count();
    assert_eq!(held(older) + held(newer(1).incarnation) + held(worker(0).incarnation), 200);
    assert!(held(newer(1).incarnation) == 0 || held(older) <= 100);
    let orphans = stage.dies(0);
    let plan = stage.tick();
    assert!(plan.grants().keys().all(|to| *to == newer(1).incarnation), "{orphans}");
}

#[test]
fn what_unknown_processes_hold_is_left_alone() {
    let mut stage = Stage::settled(4, &even(400));
    // A new leader: two of four have opened a session so far.
    stage.workers.truncate(2);
    stage.forgets();
    for _ in 0..20 {
        assert_eq!(stage.tick().steps, []);
    }
}

#[test]
fn a_clock_that_jumped_back_stops_nothing() {
    let mut stage = Stage::settled(1, &even(400));
    stage.workers.push(worker(1));
    (0..6).for_each(|_| _ = stage.tick());
    stage.now = stage.now - Duration::from_hours(1);
    stage.settle();
    stage.now = stage.now + Duration::from_mins(10);
    stage.settle();
    assert!(stage.load(1) >= 180, "{:?}", stage.loads());
}

#[test]
fn a_plan_can_be_read() {
    let mut stage = Stage::settled(2, &[5, 5, 5]);
    stage.switches.pins.insert(shard(0), name(0));
    stage.switches.pins.insert(shard(1), name(0));
    stage.switches.pins.insert(shard(2), name(1));
    stage.settle();
    stage.switches.drained.insert(name(1));
    let moved = stage.look().to_string();
    assert_eq!(moved, "shard 2: asked back from worker-1 for worker-0 (drained: its owner is drained)\n");
    stage.switches.drained.clear();
    let kept = stage.look().to_string();
    assert_eq!(kept, "shard 2: stays with worker-1, granted anew (pinned: it is pinned there)\n");
    stage.leaves(0, Duration::from_secs(30));
    assert_eq!(stage.look().to_string(), "2 free shards wait\nheld: away\n");
    stage.now = stage.now + Duration::from_secs(30);
    stage.switches.pins.clear();
    let free = "shard 0: granted to worker-1 (free: nobody holds it)\n\
                shard 1: granted to worker-1 (free: nobody holds it)\n";
    assert_eq!(stage.look().to_string(), free);
    stage.switches.frozen = true;
    assert_eq!(stage.look().to_string(), "held: frozen\n");
}
