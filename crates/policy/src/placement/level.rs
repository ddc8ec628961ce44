//! Levelling: a shard goes from a worker with too much to one with too little, once that has lasted.

use std::cmp::Reverse;

use super::{Held, Placed, Why, bins::Bin, draft::Draft};

impl<'a> Draft<'a> {
    /// Counts how long each worker has been out of the tolerance, on the same side. While nothing is levelled, nothing
    /// is counted.
    pub(super) fn tilt(&mut self, held: Option<Held>) {
        let before = std::mem::take(&mut self.memory.tilts);
        if held.is_some() {
            return;
        }
        for bin in self.bins.list.iter().filter(|bin| bin.takes) {
            let (now, worker) = (bin.tilt(self.rules), &bin.candidate.worker);
            let lasted = before.get(worker).copied().unwrap_or_default();
            let limit = self.rules.looks as i32;
            let next = if lasted.signum() == now { (lasted + now).clamp(-limit, limit) } else { now };
            if next != 0 {
                self.memory.tilts.insert(worker.clone(), next);
            }
        }
    }

    /// As long as there is a move that relieves somebody and the budget allows it.
    pub(super) fn level(&mut self) {
        while let Some((shard, from, to)) = self.next_move() {
            if !self.revoke(shard, from, to, Why::Levelled) {
                return;
            }
        }
    }

    /// From the most to the least loaded worker the heaviest shard that overshoots neither side. One of the two has
    /// been out of the tolerance for long enough. Of those with too little the newest build comes first.
    fn next_move(&self) -> Option<(&'a Placed, usize, usize)> {
        let takers = || (0..self.bins.list.len()).filter(|at| self.bins.list[*at].takes);
        let bin = |at: &usize| &self.bins.list[*at];
        let mut givers: Vec<usize> = takers().filter(|at| bin(at).load > bin(at).target).collect();
        givers.sort_by_key(|at| (Reverse(bin(at).ratio()), *at));
        let mut takers: Vec<usize> = takers().filter(|at| bin(at).load < bin(at).target).collect();
        takers.sort_by_key(|at| {
            let low = bin(at).tilt(self.rules) < 0;
            (Reverse(low), Reverse(low && bin(at).newest), bin(at).ratio(), *at)
        });
        let pairs = givers.iter().flat_map(|from| takers.iter().map(move |to| (*from, *to)));
        let mut wanted = pairs.filter(|(from, to)| self.lasts(bin(from)) || self.lasts(bin(to)));
        wanted.find_map(|(from, to)| Some((self.movable(bin(&from), bin(&to))?, from, to)))
    }

    fn lasts(&self, bin: &Bin<'_>) -> bool {
        let tilt = bin.tilt(self.rules);
        let lasted = self.memory.tilts.get(&bin.candidate.worker).copied().unwrap_or_default();
        tilt != 0 && lasted == tilt * self.rules.looks as i32
    }

    fn movable(&self, from: &Bin<'a>, to: &Bin<'_>) -> Option<&'a Placed> {
        let most = (from.load - from.target).min(to.target - to.load);
        let fits = |shard: &&&Placed| {
            u64::from(shard.weight) <= most
                && !self.asked.contains(&shard.shard)
                && !self.view.switches.pins.contains_key(&shard.shard)
                && self.memory.last(shard.shard).is_none()
        };
        let shards = from.held.iter().filter(fits);
        shards.max_by_key(|shard| (shard.weight, Reverse(shard.shard))).copied()
    }
}
