//! Who holds which shard: a pure plan that keeps what is good, gives away what is free and moves little.
//!
//! One look at everything ([`View`]) and what is remembered of earlier looks ([`Memory`]) give a [`Plan`]: steps in
//! their order, each with its reason. Nothing is decided when they are carried out: each names the grant it saw, and
//! where that has changed meanwhile it does nothing.
//!
//! 1. A valid assignment is kept. A shard that is asked back is never handed over before its owner released it; if it
//!    stays with its owner after all, that is a new grant, never the old one again.
//! 2. Free shards are given away, the heaviest first: to the worker they are pinned to, to the worker they are
//!    reserved for, to the one they were moved to, and otherwise by weighted rendezvous among those with room.
//! 3. Moves that people ask for (drain, quarantine, pins) come before levelling, within the budget of moves.
//! 4. Levelling moves one shard after the other from the most to the least loaded, once a worker was out of the
//!    tolerance for several looks in a row.
//!
//! The operator's freeze stops everything, also the placement of what dead workers left: who freezes wants to find
//! things as they are. So does the guard against mass silence ([`silence`]).

mod bins;
mod draft;
mod level;
mod memory;
pub mod silence;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::memory::Memory;
use self::{bins::Bins, draft::Draft};
use crate::{
    id::{self, Epoch, Incarnation, ShardId, WorkerId},
    time::Timestamp,
    words,
};

/// How a worker's process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its lease runs.
    Live,
    /// Its lease ended, but it was not declared dead: it keeps what it holds and is given nothing.
    Suspect,
    /// It ends by itself and gives back everything it holds; nothing needs to be asked of it.
    Leaving,
}

words! {
    Standing: Live = "live", Suspect = "suspect", Leaving = "leaving";
}

/// A worker's process that is not dead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The worker.
    pub worker: WorkerId,
    /// Its process. Of several live ones of a worker the newest is given shards.
    pub incarnation: Incarnation,
    /// Its share of the work beside the others'; 0: it is given nothing.
    pub capacity: u32,
    /// The build it runs. Numbers in it are compared as numbers.
    pub build: String,
    /// How it stands.
    pub standing: Standing,
}

/// For whom a free shard is kept: its last owner went away cleanly and may come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The worker.
    pub worker: WorkerId,
    /// Until when.
    pub until: Timestamp,
}

/// A shard as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The shard.
    pub shard: ShardId,
    /// The number of its last grant.
    pub epoch: Epoch,
    /// The process that owns it; `None`: free.
    pub owner: Option<Incarnation>,
    /// True once its owner was asked to release it.
    pub revoking: bool,
    /// For whom it is kept while it is free.
    pub reserved: Option<Reservation>,
    /// What it costs beside the others; at least 1.
    pub weight: u32,
}

/// What people said about placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Nothing is granted, moved or levelled.
    pub frozen: bool,
    /// Shards that belong to a worker. While it is away, another one holds them: no mailbox waits for a pin.
    pub pins: BTreeMap<ShardId, WorkerId>,
    /// Workers that are given nothing and whose shards are moved away. This is stronger than a pin.
    pub quarantined: BTreeSet<WorkerId>,
    /// Workers that are emptied because they will be stopped. This is stronger than a pin.
    pub drained: BTreeSet<WorkerId>,
}

/// Everything that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Now, by the database's clock.
    pub now: Timestamp,
    /// Workers' processes that are not dead.
    pub workers: &'a [Candidate],
    /// Every shard that has an owner or mailboxes.
    pub shards: &'a [Placed],
    /// What people said.
    pub switches: &'a Switches,
    /// The guard against mass silence says that nobody is to be touched.
    pub silent: bool,
}

/// What bounds a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far a load may be from its target before anything moves for it, in hundredths.
    pub tolerance_percent: u32,
    /// Looks in a row that must find a worker out of the tolerance, on the same side.
    pub looks: u32,
    /// Shards that may be on the move at once: 2 % of all.
    pub in_flight: usize,
    /// Shards that may be asked back in a minute: 5 % of all. A drain does not wait for it, but counts.
    pub per_minute: usize,
    /// How long a shard that was moved is not levelled again.
    pub rest: Duration,
    /// How long an owner may take to release a shard before the shard stays where it is: three deadlines of a request.
    pub patience: Duration,
    /// No reservation lasts longer from now, whatever the row says.
    pub reservation: Duration,
    /// Where workers run several builds, levelling waits for so long after a worker came or went: in a deploy, what a
    /// new one is to hold comes from the old one that goes.
    pub deploy: Duration,
    /// The first plan of a cluster in which nobody holds anything waits for so many workers,
    pub min_workers: usize,
    /// but not longer than this.
    pub cold_start: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tolerance_percent: 10,
            looks: 3,
            in_flight: usize::from(id::SHARDS) / 50,
            per_minute: usize::from(id::SHARDS) / 20,
            rest: Duration::from_mins(10),
            patience: Duration::from_mins(1),
            reservation: Duration::from_secs(90),
            deploy: Duration::from_mins(10),
            min_workers: 1,
            cold_start: Duration::from_secs(30),
        }
    }
}

/// Why a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nobody holds the shard.
    Free,
    /// The worker that the shard was kept for is back.
    Back,
    /// The shard was released for this move.
    Moved,
    /// The shard is pinned to the worker.
    Pinned,
    /// Its owner is drained, and another worker takes over everything it held.
    Swapped,
    /// Its owner is drained.
    Drained,
    /// Its owner is quarantined.
    Quarantined,
    /// Its owner has too much, or the other too little.
    Levelled,
    /// Its owner did not release it in time.
    Unreleased,
}

words! {
    Why: Free = "free", Back = "back", Moved = "moved", Pinned = "pinned", Swapped = "swapped",
        Drained = "drained", Quarantined = "quarantined", Levelled = "levelled", Unreleased = "unreleased";
}

/// What is done with a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is free and given to a process.
    Grant {
        /// The worker.
        worker: WorkerId,
        /// Its process.
        to: Incarnation,
    },
    /// It is asked back from its owner.
    Revoke {
        /// Who holds it.
        from: WorkerId,
        /// Who shall get it.
        to: WorkerId,
    },
    /// It was asked back and stays with its owner, under a new grant.
    Return {
        /// The worker.
        worker: WorkerId,
        /// Its process.
        to: Incarnation,
    },
}

/// One step of a plan. It does nothing if the shard's last grant is not the one seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The shard.
    pub shard: ShardId,
    /// The grant that was seen last.
    pub seen: Epoch,
    /// What is done.
    pub action: Action,
    /// Why.
    pub why: Why,
}

/// Why less is planned than could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// An operator froze placement: nothing is planned.
    Frozen,
    /// Many workers fell silent together: nothing is planned.
    Silence,
    /// The cluster begins and waits for workers: nothing is planned.
    ColdStart,
    /// A worker's lease is overdue: nothing is levelled.
    Suspect,
    /// Shards are kept for a worker that may be back in a moment: nothing is levelled.
    Away,
    /// Workers run several builds, and one came or went lately: nothing is levelled.
    Deploy,
}

words! {
    Held: Frozen = "frozen", Silence = "silence", ColdStart = "cold_start", Suspect = "suspect", Away = "away",
        Deploy = "deploy";
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Why there are not more.
    pub held: Option<Held>,
    /// Free shards that stay free: kept for workers that may come back, or nobody can take them.
    pub waiting: usize,
}

impl Plan {
    /// Free shards by the process that gets them, with the grant that was seen last.
    pub fn grants(&self) -> BTreeMap<Incarnation, Vec<(ShardId, Epoch)>> {
        let mut grants: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for step in &self.steps {
            if let Action::Grant { to, .. } = step.action {
                grants.entry(to).or_default().push((step.shard, step.seen));
            }
        }
        grants
    }

    /// Shards that are asked back, with the grant that was seen.
    pub fn revokes(&self) -> Vec<(ShardId, Epoch)> {
        let revokes = self.steps.iter().filter(|step| matches!(step.action, Action::Revoke { .. }));
        revokes.map(|step| (step.shard, step.seen)).collect()
    }

    /// Shards that were asked back and stay with their owner, with the grant that was seen.
    pub fn returns(&self) -> Vec<(ShardId, Epoch)> {
        let returns = self.steps.iter().filter(|step| matches!(step.action, Action::Return { .. }));
        returns.map(|step| (step.shard, step.seen)).collect()
    }
}

/// Plans with what is known and remembered. Planning again after the plan was carried out plans nothing more, but what
/// is put off for the budget of moves or to see whether it lasts.
pub fn plan(rules: &Rules, mut memory: Memory, view: &View<'_>) -> (Plan, Memory) {
    memory.look(rules, view);
    if let Some(held) = memory.stopped(rules, view) {
        let waiting = view.shards.iter().filter(|shard| shard.owner.is_none()).count();
        return (Plan { steps: Vec::new(), held: Some(held), waiting }, memory);
    }
    let bins = Bins::new(rules, &memory, view);
    let unlevelled = memory.unlevelled(rules, view);
    let mut draft = Draft::new(rules, view, memory, bins);
    draft.keep_where_they_are();
    draft.give_away();
    draft.move_as_told();
    let held = unlevelled.or_else(|| draft.is_somebody_away());
    draft.tilt(held);
    if held.is_none() {
        draft.level();
    }
    draft.finish(held)
}
