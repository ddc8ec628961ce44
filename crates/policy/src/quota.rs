//! The connection budget of an email server profile across the cluster: who may have how many requests in flight.
//!
//! A profile in one lane needs nothing of this: who holds its shard has the whole budget, because a shard is released
//! only when nothing of it runs any more and is taken over only when nothing of it can be running. A profile that is
//! spread over workers has a [`Ledger`]: one block of permits for each worker's process, each with its version.
//!
//! The sum of what may be in use never exceeds the budget. A block that grows takes permits that nobody can be using;
//! a block that shrinks gives its permits back only once its worker reported, under the block's version, no more
//! requests in flight than the block has, or once the process is dead: its lease and the grace ended. The row of a
//! block says what may be in use (`old`) and what shall be (`new`); the larger counts. A row is written before its
//! worker is told, so a new leader, which reads the rows, never counts too little; what it does not know costs another
//! report. Nothing leaks: a block ends with its process.
//!
//! Its row stays while the process lives, also with no permits in it, because the process remembers its version. A
//! profile that had a ledger once keeps it when it is in one lane again: then one worker has everything.

mod held;
mod share;

use std::collections::{BTreeMap, BTreeSet};

pub use self::held::{Held, Report};
use self::share::share;
use crate::id::Incarnation;

/// One block of permits as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose block it is.
    pub worker: Incarnation,
    /// What may be in use under an older version.
    pub old: u32,
    /// What the worker is told.
    pub new: u32,
    /// The version of `new`; raised by each change of it.
    pub version: u64,
}

impl Row {
    /// Permits that may be in use.
    pub fn outstanding(&self) -> u32 {
        self.old.max(self.new)
    }

    /// Of a process that was never given anything; it is not written.
    fn nothing(worker: Incarnation) -> Self {
        Self { worker, old: 0, new: 0, version: 0 }
    }
}

/// What a worker is told: it may use so many permits from now on, unless it knows a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The version.
    pub version: u64,
    /// The permits.
    pub permits: u32,
}

/// What happens to a ledger.
#[derive(Clone, Debug)]
pub enum Event {
    /// Some seconds are over: demands are averaged, blocks are divided anew, and who has not reported its block's
    /// version is told again.
    Tick,
    /// These processes hold lanes of the profile, and nobody else does.
    Serving(BTreeSet<Incarnation>),
    /// A worker says what it knows and uses. Late, doubled and lost reports do no harm.
    Reported(Incarnation, Report),
    /// A process is dead, or ended after it gave everything back: nothing of it runs any more.
    Gone(Incarnation),
    /// People changed the budget. A smaller one holds once the blocks have shrunk to it; until then nothing grows.
    Budget(u32),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Rows to be written in one transaction, under the leader's guard. If that fails or its outcome is unknown,
    /// nobody is told anything and the ledger is read anew.
    pub write: Vec<Row>,
    /// Rows to be removed in the same transaction: their processes are dead.
    pub remove: Vec<Incarnation>,
    /// Who is told what once the rows are written.
    pub tell: Vec<(Incarnation, Block)>,
    /// There are more workers than permits: the profile shall have no more than so many lanes, a power of two, so that
    /// no more workers serve it. Whoever owns the profile's row writes it, and its mailboxes move to their new shards,
    /// each by a fenced move; until then workers without a permit wait.
    pub lanes: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    row: Row,
    /// The version it reported last.
    known: u64,
    /// Requests in flight and waiting, averaged, in thousandths; `None`: it never said.
    demand: Option<u64>,
    /// The same as it said last.
    said: Option<u32>,
}

/// The blocks of one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    budget: u32,
    entries: BTreeMap<Incarnation, Entry>,
    /// `None`: a new leader does not know it yet, and changes nothing.
    serving: Option<BTreeSet<Incarnation>>,
}

impl Ledger {
    /// From its rows, as a new leader finds them. Without rows nothing is in use.
    pub fn new(budget: u32, rows: impl IntoIterator<Item = Row>) -> Self {
        let entries = rows.into_iter().map(|row| (row.worker, Entry::new(row))).collect();
        Self { budget, entries, serving: None }
    }

    /// The row to be written before a profile in one lane gets a second one: its owner has the whole budget.
    pub fn whole(budget: u32, owner: Incarnation) -> Row {
        Row { worker: owner, old: budget, new: budget, version: 1 }
    }

    /// The blocks as they are stored.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.entries.values().map(|entry| entry.row)
    }

    /// Permits that may be in use.
    pub fn outstanding(&self) -> u64 {
        self.rows().map(|row| u64::from(row.outstanding())).sum()
    }

    /// Takes an event. The ledger counts on what it says being written; see [`Effects::write`].
    #[must_use]
    pub fn step(&mut self, event: Event) -> Effects {
        let before = self.entries.clone();
        let mut effects = Effects::default();
        let again = matches!(event, Event::Tick);
        match event {
            Event::Tick => self.entries.values_mut().for_each(Entry::average),
            Event::Serving(serving) => self.serve(serving),
            Event::Reported(worker, report) => self.reported(worker, report),
            Event::Gone(worker) => {
                self.serving.iter_mut().for_each(|serving| _ = serving.remove(&worker));
                effects.remove.extend(self.entries.remove(&worker).map(|_| worker));
            }
            Event::Budget(budget) => self.budget = budget,
        }
        let shares = self.shares();
        if !self.is_fair(&shares) {
            self.shrink(&shares);
            self.grow(&shares);
        }
        effects.lanes = self.lanes();
        for (worker, entry) in &self.entries {
            let old = before.get(worker).map_or(Row::nothing(*worker), |old| old.row);
            if old != entry.row {
                effects.write.push(entry.row);
            }
            if old.version != entry.row.version || again && entry.known < entry.row.version {
                effects.tell.push((*worker, entry.block()));
            }
        }
        effects
    }

    fn serve(&mut self, serving: BTreeSet<Incarnation>) {
        for worker in &serving {
            self.entries.entry(*worker).or_insert_with(|| Entry::new(Row::nothing(*worker)));
        }
        self.serving = Some(serving);
    }

    /// A report under another version than the block's says only what is wanted.
    fn reported(&mut self, worker: Incarnation, report: Report) {
        let Some(entry) = self.entries.get_mut(&worker) else { return };
        entry.said = Some(report.in_flight.saturating_add(report.queued));
        entry.demand = entry.demand.or(entry.said.map(thousandths));
        entry.known = entry.known.max(report.version);
        if report.version == entry.row.version && report.in_flight <= entry.row.new {
            entry.row.old = entry.row.new;
        }
    }

    /// Shrinks what has more than its share. What may be in use stays counted.
    fn shrink(&mut self, shares: &BTreeMap<Incarnation, u32>) {
        for (worker, entry) in &mut self.entries {
            let wanted = shares.get(worker).copied().unwrap_or_default();
            if wanted < entry.row.new {
                entry.change(wanted);
            }
        }
    }

    /// Gives to those who have least, of what nobody can be using, or of what they gave up themselves and may be using
    /// yet.
    fn grow(&mut self, shares: &BTreeMap<Incarnation, u32>) {
        let mut spare = u64::from(self.budget).saturating_sub(self.outstanding());
        let rows: BTreeMap<Incarnation, Row> = self.rows().map(|row| (row.worker, row)).collect();
        let mut planned: BTreeMap<Incarnation, u32> = rows
            .iter()
            .filter(|(worker, _)| shares.contains_key(worker))
            .map(|(worker, row)| (*worker, row.new))
            .collect();
        let own = |worker: &Incarnation, has: u32| has < rows[worker].outstanding();
        loop {
            let short = planned.iter().filter(|(worker, has)| **has < shares[worker]);
            let payable = short.filter(|(worker, has)| spare > 0 || own(worker, **has));
            let Some((has, worker)) = payable.map(|(worker, has)| (*has, *worker)).min() else { break };
            spare -= u64::from(!own(&worker, has));
            planned.insert(worker, has + 1);
        }
        for (worker, entry) in &mut self.entries {
            if let Some(permits) = planned.get(worker).filter(|permits| **permits > entry.row.new) {
                entry.change(*permits);
            }
        }
    }

    /// What each serving process should have.
    fn shares(&self) -> BTreeMap<Incarnation, u32> {
        let demand = |worker: &Incarnation| self.entries.get(worker).map_or(0, Entry::demanded);
        let mut wanted: Vec<(Incarnation, u32)> =
            self.serving.iter().flatten().map(|worker| (*worker, demand(worker))).collect();
        if self.lanes().is_some() {
            // Who has permits keeps them; then who wants most gets some.
            let has = |worker: &Incarnation| self.entries.get(worker).map_or(0, |entry| entry.row.new);
            wanted.sort_by_key(|(worker, wants)| (has(worker) == 0, std::cmp::Reverse(*wants), *worker));
            wanted.truncate(self.few());
        }
        share(self.budget, &wanted)
    }

    /// How many workers serve a profile that has fewer permits than workers: four permits each.
    fn few(&self) -> usize {
        (self.budget as usize / 4).max(1)
    }

    fn lanes(&self) -> Option<u16> {
        let few = self.few().min(usize::from(u16::MAX / 2 + 1)) as u16;
        let serving = self.serving.as_ref().map_or(0, BTreeSet::len);
        (serving > 1 && serving > self.budget as usize).then(|| 1 << few.ilog2())
    }

    /// True if nobody waits for permits that another has beyond its share: then nothing changes hands for a demand
    /// that only wavers.
    fn is_fair(&self, shares: &BTreeMap<Incarnation, u32>) -> bool {
        if self.serving.is_none() {
            return true;
        }
        let total: u64 = self.entries.values().map(|entry| u64::from(entry.row.new)).sum();
        let served = |(worker, entry): (&Incarnation, &Entry)| match shares.get(worker) {
            Some(share) => entry.row.new >= entry.demanded().max(1).min(*share),
            None => entry.row.new == 0,
        };
        total == shares.values().map(|share| u64::from(*share)).sum::<u64>()
            && self.entries.iter().all(served)
    }
}

impl Entry {
    fn new(row: Row) -> Self {
        Self { row, known: 0, demand: None, said: None }
    }

    fn block(&self) -> Block {
        Block { version: self.row.version, permits: self.row.new }
    }

    /// Everything it was ever told and may still believe stays outstanding.
    fn change(&mut self, permits: u32) {
        self.row.old = self.row.outstanding();
        self.row.new = permits;
        self.row.version += 1;
    }

    /// A quarter of what is new.
    fn average(&mut self) {
        if let (Some(demand), Some(said)) = (&mut self.demand, self.said) {
            let said = thousandths(said);
            let step = said.abs_diff(*demand).div_ceil(4);
            *demand = if said > *demand { *demand + step } else { *demand - step };
        }
    }

    fn demanded(&self) -> u32 {
        u32::try_from(self.demand.unwrap_or_default().div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

fn thousandths(count: u32) -> u64 {
    u64::from(count) * 1000
}
