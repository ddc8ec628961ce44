//! A plan in the making: what stays, what is given away, and what moves because people say so.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Action, Held, Memory, Placed, Plan, Rules, Step, View, Why,
    bins::{Bin, Bins},
    memory::Fate,
};
use crate::id::{ShardId, WorkerId};

pub(super) struct Draft<'a> {
    pub(super) rules: &'a Rules,
    pub(super) view: &'a View<'a>,
    pub(super) memory: Memory,
    pub(super) bins: Bins<'a>,
    /// Shards that may be asked back yet, for what is on the move at once.
    in_flight: usize,
    pub(super) asked: BTreeSet<ShardId>,
    steps: Vec<Step>,
    waiting: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rules: &'a Rules, view: &'a View<'a>, memory: Memory, bins: Bins<'a>) -> Self {
        let revoking = view.shards.iter().filter(|shard| shard.owner.is_some() && shard.revoking).count();
        Self {
            rules,
            view,
            memory,
            bins,
            in_flight: rules.in_flight.saturating_sub(revoking),
            asked: BTreeSet::new(),
            steps: Vec::new(),
            waiting: 0,
        }
    }

    /// What was asked back stays with an owner that may have it, if it is pinned there or was not released in time.
    /// A move is never forced.
    pub(super) fn keep_where_they_are(&mut self) {
        for shard in self.view.shards.iter().filter(|shard| shard.revoking) {
            let Some(at) = shard.owner.and_then(|owner| self.bins.of(owner)) else { continue };
            let bin = &self.bins.list[at];
            let asked = self.memory.last(shard.shard).map_or(self.view.now, |last| last.at);
            let why = if !bin.takes {
                continue;
            } else if self.view.switches.pins.get(&shard.shard) == Some(&bin.candidate.worker) {
                Why::Pinned
            } else if self.view.now.since(asked) >= self.rules.patience {
                Why::Unreleased
            } else {
                continue;
            };
            let (worker, to) = (bin.candidate.worker.clone(), bin.candidate.incarnation);
            if let Some(to) = self.memory.destination(shard.shard).and_then(|to| self.bins.taker(to)) {
                self.bins.list[to].load -= u64::from(shard.weight);
            }
            self.bins.list[at].load += u64::from(shard.weight);
            self.memory.stay(shard.shard, self.view.now);
            self.step(shard, Action::Return { worker, to }, why);
        }
    }

    /// Gives away what is free: first what belongs somewhere, so that the rest finds the room that is left.
    pub(super) fn give_away(&mut self) {
        let mut free: Vec<&Placed> = self.view.shards.iter().filter(|shard| shard.owner.is_none()).collect();
        free.sort_by_key(|shard| (Reverse(shard.weight), shard.shard));
        let mut rest = Vec::new();
        for shard in free {
            match self.belongs(shard) {
                Some((at, why)) => self.grant(shard, at, why),
                None if self.bins.is_kept(self.rules, self.view, shard) => self.waiting += 1,
                None => rest.push(shard),
            }
        }
        for shard in rest {
            match self.bins.best(self.rules, shard) {
                Some(at) => self.grant(shard, at, Why::Free),
                None => self.waiting += 1,
            }
        }
    }

    /// What is not given away although somebody could have it is kept for a worker that is away.
    pub(super) fn is_somebody_away(&self) -> Option<Held> {
        (self.waiting > 0).then_some(Held::Away)
    }

    /// Who is to have a free shard, whatever the loads are.
    fn belongs(&self, shard: &Placed) -> Option<(usize, Why)> {
        let taker = |worker: &WorkerId| self.bins.taker(worker);
        let pinned = self.view.switches.pins.get(&shard.shard).and_then(taker);
        let reserved = shard.reserved.as_ref().filter(|reserved| reserved.until > self.view.now);
        let back = || reserved.and_then(|reserved| taker(&reserved.worker));
        let moved = || self.memory.destination(shard.shard).and_then(taker);
        let pinned = pinned.map(|at| (at, Why::Pinned));
        pinned.or_else(|| back().map(|at| (at, Why::Back))).or_else(|| moved().map(|at| (at, Why::Moved)))
    }

    fn grant(&mut self, shard: &Placed, at: usize, why: Why) {
        let bin = &mut self.bins.list[at];
        bin.load += u64::from(shard.weight);
        let (worker, to) = (bin.candidate.worker.clone(), bin.candidate.incarnation);
        self.step(shard, Action::Grant { worker, to }, why);
    }

    /// The moves that people ask for. A drain is waited for: only what is on the move at once bounds it.
    pub(super) fn move_as_told(&mut self) {
        for at in 0..self.bins.list.len() {
            if self.view.switches.drained.contains(&self.bins.list[at].candidate.worker) {
                self.empty(at, Why::Drained);
            }
        }
        for at in 0..self.bins.list.len() {
            let worker = &self.bins.list[at].candidate.worker;
            if self.view.switches.quarantined.contains(worker) && !self.view.switches.drained.contains(worker)
            {
                self.empty(at, Why::Quarantined);
            }
        }
        self.move_to_pins();
    }

    /// Asks for everything that a worker holds, the heaviest first: for one that has just come, or for many.
    fn empty(&mut self, at: usize, why: Why) {
        let mut held = self.bins.list[at].held.clone();
        held.sort_by_key(|shard| (Reverse(shard.weight), shard.shard));
        let swap = if why == Why::Drained && !held.is_empty() { self.swap(at) } else { None };
        for shard in held {
            let room = |to: &usize| self.bins.list[*to].stands_with(self.rules, shard.weight);
            let pinned = self.view.switches.pins.get(&shard.shard).and_then(|to| self.bins.taker(to));
            let (to, why) = match (pinned, swap.filter(room)) {
                (Some(to), _) => (Some(to), why),
                (None, Some(to)) => (Some(to), Why::Swapped),
                (None, None) => (self.bins.best(self.rules, shard), why),
            };
            let Some(to) = to else { return };
            if !self.revoke(shard, at, to, why) {
                return;
            }
        }
    }

    /// Who takes over everything from a drained worker: once chosen, for as long as both are here.
    fn swap(&mut self, at: usize) -> Option<usize> {
        let from = &self.bins.list[at].candidate.worker;
        if let Some(to) = self.memory.swaps.get(from).and_then(|to| self.bins.taker(to)) {
            return Some(to);
        }
        let to = self.bins.fresh(&self.memory.swaps.values().collect())?;
        self.memory.swaps.insert(from.clone(), self.bins.list[to].candidate.worker.clone());
        Some(to)
    }

    fn move_to_pins(&mut self) {
        let placed: BTreeMap<ShardId, &Placed> =
            self.view.shards.iter().map(|shard| (shard.shard, shard)).collect();
        for (shard, to) in &self.view.switches.pins {
            let Some(shard) = placed.get(shard).filter(|shard| !shard.revoking) else { continue };
            let from = shard.owner.and_then(|owner| self.bins.of(owner));
            let (Some(from), Some(to)) = (from, self.bins.taker(to)) else { continue };
            let stayed = self.memory.last(shard.shard).is_some_and(|last| last.fate == Fate::Stayed);
            if from != to && !stayed && !self.asked.contains(&shard.shard) {
                self.revoke(shard, from, to, Why::Pinned);
            }
        }
    }

    /// Asks a shard back if the budget of moves allows it.
    pub(super) fn revoke(&mut self, shard: &Placed, from: usize, to: usize, why: Why) -> bool {
        let drains = matches!(why, Why::Drained | Why::Swapped);
        let spent = !drains && self.memory.asked_in_a_minute() >= self.rules.per_minute;
        if self.in_flight == 0 || spent {
            return false;
        }
        self.in_flight -= 1;
        let weight = u64::from(shard.weight);
        self.bins.list[from].load -= weight;
        self.bins.list[to].load += weight;
        let worker = |at: usize| self.bins.list[at].candidate.worker.clone();
        let (from, to) = (worker(from), worker(to));
        self.memory.begin(shard.shard, &to, self.view.now);
        self.asked.insert(shard.shard);
        self.step(shard, Action::Revoke { from, to }, why);
        true
    }

    fn step(&mut self, shard: &Placed, action: Action, why: Why) {
        self.steps.push(Step { shard: shard.shard, seen: shard.epoch, action, why });
    }

    pub(super) fn finish(self, held: Option<Held>) -> (Plan, Memory) {
        (Plan { steps: self.steps, held, waiting: self.waiting }, self.memory)
    }
}

impl Bin<'_> {
    /// True if levelling would leave it alone with a shard more.
    fn stands_with(&self, rules: &Rules, weight: u32) -> bool {
        (self.load + u64::from(weight)) * 100 <= self.target * u64::from(100 + rules.tolerance_percent)
    }
}
