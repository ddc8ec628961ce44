//! The workers as bins: what each holds, what it should hold, and which of them a shard belongs into.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Candidate, Memory, Placed, Rules, Standing, View};
use crate::id::{self, Incarnation, ShardId, WorkerId};

/// A worker's process with what is planned for it.
#[derive(Debug)]
pub(super) struct Bin<'a> {
    pub(super) candidate: &'a Candidate,
    /// It may be given shards.
    pub(super) takes: bool,
    /// It runs the newest build of those that take.
    pub(super) newest: bool,
    /// What it will hold, as planned so far.
    pub(super) load: u64,
    /// What it should hold.
    pub(super) target: u64,
    /// What it holds and was not asked for.
    pub(super) held: Vec<&'a Placed>,
    name: u64,
}

impl Bin<'_> {
    /// Its load beside its target; for comparisons.
    pub(super) fn ratio(&self) -> u64 {
        self.load.saturating_mul(1_000_000) / self.target.max(1)
    }

    /// How far its load is out of the tolerance: 1 too much, -1 too little, 0 neither.
    pub(super) fn tilt(&self, rules: &Rules) -> i32 {
        let (load, percent) = (self.load * 100, u64::from(rules.tolerance_percent));
        if load > self.target * (100 + percent) {
            1
        } else if load < self.target * 100_u64.saturating_sub(percent) {
            -1
        } else {
            0
        }
    }

    /// A free shard may fill it half as far as levelling would let it stand.
    fn has_room(&self, rules: &Rules, weight: u32) -> bool {
        (self.load + u64::from(weight)) * 200 <= self.target * (200 + u64::from(rules.tolerance_percent))
    }

    /// Weighted rendezvous (the logarithmic method): each shard prefers workers by their capacity, and a worker that
    /// comes back attracts what it had.
    fn score(&self, shard: ShardId) -> f64 {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.name.to_be_bytes());
        bytes[8..].copy_from_slice(&shard.get().to_be_bytes());
        let uniform = ((id::hash(&bytes) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -f64::from(self.candidate.capacity) / uniform.ln()
    }
}

/// All bins.
#[derive(Debug)]
pub(super) struct Bins<'a> {
    pub(super) list: Vec<Bin<'a>>,
    by_incarnation: BTreeMap<Incarnation, usize>,
    takers: BTreeMap<&'a WorkerId, usize>,
}

impl<'a> Bins<'a> {
    pub(super) fn new(rules: &Rules, memory: &Memory, view: &View<'a>) -> Self {
        let mut bins = Self::empty(view);
        bins.fill(rules, memory, view);
        bins
    }

    /// Without what they hold. The order of the candidates does not matter.
    fn empty(view: &View<'a>) -> Self {
        let mut candidates: Vec<&Candidate> = view.workers.iter().collect();
        candidates.sort();
        candidates.dedup_by_key(|candidate| candidate.incarnation);
        let live = |candidate: &&&Candidate| candidate.standing == Standing::Live;
        let newest: BTreeMap<&WorkerId, Incarnation> =
            candidates.iter().filter(live).map(|found| (&found.worker, found.incarnation)).collect();
        let takes = |candidate: &Candidate| {
            candidate.capacity > 0
                && newest.get(&candidate.worker) == Some(&candidate.incarnation)
                && !is_emptied(view, &candidate.worker)
        };
        let build = candidates.iter().filter(|found| takes(found)).map(|found| build(&found.build)).max();
        let list: Vec<Bin<'_>> = candidates
            .iter()
            .map(|candidate| Bin {
                candidate,
                takes: takes(candidate),
                newest: Some(self::build(&candidate.build)) == build,
                load: 0,
                target: 0,
                held: Vec::new(),
                name: id::hash(candidate.worker.0.as_bytes()),
            })
            .collect();
        let by_incarnation =
            list.iter().enumerate().map(|(at, bin)| (bin.candidate.incarnation, at)).collect();
        let takers = list.iter().enumerate().filter(|(_, bin)| bin.takes);
        let takers = takers.map(|(at, bin)| (&bin.candidate.worker, at)).collect();
        Self { list, by_incarnation, takers }
    }

    /// What processes hold that are not among the candidates, or that their owner brings back by itself, is no load
    /// to share out.
    fn fill(&mut self, rules: &Rules, memory: &Memory, view: &View<'a>) {
        let mut weight = 0;
        for shard in view.shards {
            let cost = u64::from(shard.weight);
            let Some(owner) = shard.owner else {
                weight += if self.is_kept(rules, view, shard) { 0 } else { cost };
                continue;
            };
            let Some(at) = self.by_incarnation.get(&owner).copied() else { continue };
            if self.list[at].candidate.standing == Standing::Leaving {
                continue;
            }
            weight += cost;
            if !shard.revoking {
                self.list[at].load += cost;
                self.list[at].held.push(shard);
            } else if let Some(to) = memory.destination(shard.shard).and_then(|to| self.taker(to)) {
                self.list[to].load += cost;
            }
        }
        let shares = |bin: &&mut Bin<'_>| bin.takes || bin.candidate.standing == Standing::Suspect;
        let capacity = |bin: &Bin<'_>| u64::from(bin.candidate.capacity);
        let all: u64 = self.list.iter_mut().filter(shares).map(|bin| capacity(bin)).sum();
        for bin in self.list.iter_mut().filter(shares) {
            bin.target = (weight * capacity(bin)).div_ceil(all.max(1));
        }
    }

    /// True if a free shard is to wait for its last owner, which is not back.
    pub(super) fn is_kept(&self, rules: &Rules, view: &View<'_>, shard: &Placed) -> bool {
        let Some(reserved) = &shard.reserved else { return false };
        let pinned = view.switches.pins.get(&shard.shard);
        reserved.until > view.now
            && reserved.until <= view.now + rules.reservation
            && !is_emptied(view, &reserved.worker)
            && self.taker(&reserved.worker).is_none()
            && pinned.is_none_or(|to| self.taker(to).is_none())
    }

    /// The bin of a worker that may be given shards.
    pub(super) fn taker(&self, worker: &WorkerId) -> Option<usize> {
        self.takers.get(worker).copied()
    }

    /// The bin of a process.
    pub(super) fn of(&self, incarnation: Incarnation) -> Option<usize> {
        self.by_incarnation.get(&incarnation).copied()
    }

    /// Where a shard belongs: among the bins with room one of the newest build, of these one that has too little, of
    /// these the one with the highest score; without room the least loaded. What has too little comes first because
    /// levelling would have to fill it up otherwise.
    pub(super) fn best(&self, rules: &Rules, shard: &Placed) -> Option<usize> {
        let takers = || self.takers.values().map(|at| (*at, &self.list[*at]));
        let roomy = takers().filter(|(_, bin)| bin.has_room(rules, shard.weight));
        let score = |bin: &Bin<'_>| ((bin.newest, bin.tilt(rules) < 0), bin.score(shard.shard));
        let best = roomy.map(|(at, bin)| (score(bin), at)).max_by(|((first, score), at), (other, than)| {
            first.cmp(&other.0).then(score.total_cmp(&other.1)).then(than.cmp(at))
        });
        let least = || takers().min_by_key(|(at, bin)| (bin.ratio(), Reverse(bin.newest), *at));
        best.map(|(_, at)| at).or_else(|| least().map(|(at, _)| at))
    }

    /// A worker that holds nothing and to which nothing is planned: one that has just come. The newest build first.
    pub(super) fn fresh(&self, but: &BTreeSet<&WorkerId>) -> Option<usize> {
        let free = self.takers.iter().filter(|(worker, _)| !but.contains(*worker));
        let fresh = free.map(|(_, at)| *at).filter(|at| self.list[*at].load == 0);
        fresh.min_by_key(|at| (Reverse(self.list[*at].newest), *at))
    }
}

/// True if a worker is given nothing and loses what it has.
pub(super) fn is_emptied(view: &View<'_>, worker: &WorkerId) -> bool {
    view.switches.quarantined.contains(worker) || view.switches.drained.contains(worker)
}

/// What a build is compared by: its numbers as numbers, so that 0.10 is newer than 0.9, and what stands between them.
fn build(text: &str) -> Vec<(u64, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|next: char| next.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(if digits { (part.parse().unwrap_or(u64::MAX), "") } else { (0, part) });
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_compared_by_their_numbers() {
        let sorted = ["", "0.9.3", "0.9.10", "0.10.0", "1.0", "1.0.1", "99999999999999999999999"];
        assert!(sorted.is_sorted_by_key(|text| build(text)), "{:?}", sorted.map(build));
        assert_ne!(build("1.0-a"), build("1.0-b"));
    }
}
