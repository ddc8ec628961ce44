//! What a planner remembers between two looks. The leader keeps it in memory only.
//!
//! A new leader begins without it, and that is safe: what is on the move at once is counted in the rows, so the bound
//! on it always holds. What is lost: the moves of the last minute (once more as many may begin), the rest of moved
//! shards (one may move twice), where shards on the move were to go (they go wherever there is room), how long owners
//! have had to release them (they are given the whole time again) and for how long loads were uneven (levelling waits
//! for its looks). Nothing of it decides who may do something: grants do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Held, Rules, Standing, View};
use crate::{
    id::{Incarnation, ShardId, WorkerId},
    time::Timestamp,
};

/// How a move goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The shard was asked back and not granted since.
    UnderWay,
    /// It was granted.
    Arrived,
    /// Its owner did not release it: it stayed.
    Stayed,
}

/// The last move of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// When it was asked back, or stayed.
    pub(super) at: Timestamp,
    /// Where it goes; `None`: another leader knew.
    pub(super) to: Option<WorkerId>,
    pub(super) fate: Fate,
}

/// What is remembered. It comes out of each plan and goes into the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Looks in a row that found a worker above (positive) or below (negative) its target by more than is tolerated.
    pub(super) tilts: BTreeMap<WorkerId, i32>,
    moves: BTreeMap<ShardId, Move>,
    /// When how many shards were asked back.
    asked: Vec<(Timestamp, usize)>,
    /// Who takes over everything from whom.
    pub(super) swaps: BTreeMap<WorkerId, WorkerId>,
    /// Since when nobody holds anything.
    cold_since: Option<Timestamp>,
    /// The processes that were there, and since when just these.
    crew: BTreeSet<Incarnation>,
    crew_since: Timestamp,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Memory {
    /// Forgets what is over, and takes note of how moves went. What is dated after now was written before a clock
    /// jumped back: it counts from now.
    pub(super) fn look(&mut self, rules: &Rules, view: &View<'_>) {
        let now = view.now;
        self.asked.retain_mut(|(at, _)| {
            *at = now.min(*at);
            now.since(*at) < MINUTE
        });
        for shard in view.shards.iter().filter(|shard| shard.owner.is_some()) {
            match self.moves.get_mut(&shard.shard) {
                Some(last) if shard.revoking && last.fate == Fate::UnderWay => {}
                Some(last) if !shard.revoking && last.fate == Fate::UnderWay => last.fate = Fate::Arrived,
                Some(_) | None if !shard.revoking => {}
                Some(_) | None => {
                    let unknown = Move { at: now, to: None, fate: Fate::UnderWay };
                    self.moves.insert(shard.shard, unknown);
                }
            }
        }
        self.moves.retain(|_, last| {
            last.at = now.min(last.at);
            last.fate == Fate::UnderWay || now.since(last.at) < rules.rest
        });
        self.swaps.retain(|from, _| view.switches.drained.contains(from));
        let cold = view.shards.iter().all(|shard| shard.owner.is_none() && shard.reserved.is_none());
        since(&mut self.cold_since, cold, now);
        let crew = view.workers.iter().map(|worker| worker.incarnation).collect();
        self.crew_since = if self.crew == crew { self.crew_since.min(now) } else { now };
        self.crew = crew;
    }

    /// Why nothing is planned at all.
    pub(super) fn stopped(&mut self, rules: &Rules, view: &View<'_>) -> Option<Held> {
        let live = view.workers.iter().filter(|worker| worker.standing == Standing::Live).count();
        let cold = |since: Timestamp| live < rules.min_workers && view.now.since(since) < rules.cold_start;
        let held = if view.switches.frozen {
            Held::Frozen
        } else if view.silent {
            Held::Silence
        } else if self.cold_since.is_some_and(cold) {
            Held::ColdStart
        } else {
            return None;
        };
        self.tilts.clear();
        Some(held)
    }

    /// Why nothing is levelled.
    pub(super) fn unlevelled(&self, rules: &Rules, view: &View<'_>) -> Option<Held> {
        if view.workers.iter().any(|worker| worker.standing == Standing::Suspect) {
            return Some(Held::Suspect);
        }
        let first = view.workers.first().map(|worker| &worker.build);
        let mixed = view.workers.iter().any(|worker| Some(&worker.build) != first);
        (mixed && view.now.since(self.crew_since) < rules.deploy).then_some(Held::Deploy)
    }

    /// The last move of a shard, if it is remembered.
    pub(super) fn last(&self, shard: ShardId) -> Option<&Move> {
        self.moves.get(&shard)
    }

    /// Where a shard on the move goes.
    pub(super) fn destination(&self, shard: ShardId) -> Option<&WorkerId> {
        let last = self.moves.get(&shard).filter(|last| last.fate == Fate::UnderWay)?;
        last.to.as_ref()
    }

    /// A shard is asked back.
    pub(super) fn begin(&mut self, shard: ShardId, to: &WorkerId, now: Timestamp) {
        self.moves.insert(shard, Move { at: now, to: Some(to.clone()), fate: Fate::UnderWay });
        match self.asked.last_mut() {
            Some((at, count)) if *at == now => *count += 1,
            Some(_) | None => self.asked.push((now, 1)),
        }
    }

    /// A shard stays where it is.
    pub(super) fn stay(&mut self, shard: ShardId, now: Timestamp) {
        self.moves.insert(shard, Move { at: now, to: None, fate: Fate::Stayed });
    }

    /// Shards that were asked back in the last minute.
    pub(super) fn asked_in_a_minute(&self) -> usize {
        self.asked.iter().map(|(_, count)| count).sum()
    }
}

/// Keeps since when something holds.
fn since(slot: &mut Option<Timestamp>, holds: bool, now: Timestamp) {
    *slot = holds.then(|| slot.map_or(now, |since| since.min(now)));
}
