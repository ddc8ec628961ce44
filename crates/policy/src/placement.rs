//! Who holds which shard: a pure plan that keeps what is good, gives away what is free and moves little.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{self, Epoch, Incarnation, ShardId, WorkerId};

/// A worker's process that may be given shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its share of the work beside the others'; 0: it is given nothing.
    pub capacity: u32,
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
    /// What it costs beside the others; at least 1.
    pub weight: u32,
}

/// What bounds a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far a load may be from its target before anything moves for it, in hundredths.
    pub tolerance_percent: u32,
    /// Shards that may be on the move at once.
    pub moves: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { tolerance_percent: 10, moves: usize::from(id::SHARDS) / 50 }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free shards and who gets them, with the grant that was seen last.
    pub grants: BTreeMap<Incarnation, Vec<(ShardId, Epoch)>>,
    /// Shards that are asked back from their owner, with the grant that was seen.
    pub revokes: Vec<(ShardId, Epoch)>,
}

struct Bin<'a> {
    candidate: &'a Candidate,
    load: u64,
    target: u64,
}

/// Plans with what is known. Planning again after the plan was carried out plans nothing more.
pub fn plan(rules: &Rules, candidates: &[Candidate], shards: &[Placed]) -> Plan {
    let mut bins = bins(candidates, shards);
    let mut plan = Plan::default();
    if bins.is_empty() {
        return plan;
    }
    for shard in orphans(shards) {
        if let Some(bin) = best_bin(&mut bins, shard) {
            bin.load += u64::from(shard.weight);
            plan.grants.entry(bin.candidate.incarnation).or_default().push((shard.shard, shard.epoch));
        }
    }
    balance(rules, &mut bins, shards, &mut plan);
    plan
}

fn bins<'a>(candidates: &'a [Candidate], shards: &[Placed]) -> Vec<Bin<'a>> {
    let mut seen = BTreeSet::new();
    let able: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.capacity > 0 && seen.insert(candidate.incarnation))
        .collect();
    let capacity: u64 = able.iter().map(|candidate| u64::from(candidate.capacity)).sum();
    let weight: u64 = shards.iter().map(|shard| u64::from(shard.weight)).sum();
    able.into_iter()
        .map(|candidate| Bin {
            candidate,
            load: shards
                .iter()
                .filter(|shard| shard.owner == Some(candidate.incarnation) && !shard.revoking)
                .map(|shard| u64::from(shard.weight))
                .sum(),
            target: (weight * u64::from(candidate.capacity)).div_ceil(capacity),
        })
        .collect()
}

/// Free shards, the heaviest first.
fn orphans(shards: &[Placed]) -> Vec<&Placed> {
    let mut free: Vec<&Placed> = shards.iter().filter(|shard| shard.owner.is_none()).collect();
    free.sort_by_key(|shard| (std::cmp::Reverse(shard.weight), shard.shard));
    free
}

/// Among the bins with room the one with the highest rendezvous score, so that a worker that comes back attracts its
/// old shards; without room the least loaded. What was asked back from a full bin does not fit there.
fn best_bin<'a, 'b>(bins: &'b mut [Bin<'a>], shard: &Placed) -> Option<&'b mut Bin<'a>> {
    let fits = |bin: &Bin<'_>| bin.load + u64::from(shard.weight) <= bin.target;
    let score = |bin: &Bin<'_>| {
        let mut bytes = bin.candidate.worker.0.as_bytes().to_vec();
        bytes.extend(shard.shard.get().to_be_bytes());
        id::hash(&bytes)
    };
    let roomy = bins.iter().any(fits);
    bins.iter_mut().filter(|bin| !roomy || fits(bin)).max_by_key(|bin| {
        let emptiness = if roomy { 0 } else { u64::MAX - bin.load * 1000 / bin.target.max(1) };
        (emptiness, score(bin), bin.candidate.incarnation)
    })
}

/// While somebody is too full and somebody else has room: the heaviest shard that overshoots neither side goes.
fn balance(rules: &Rules, bins: &mut [Bin<'_>], shards: &[Placed], plan: &mut Plan) {
    let revoking = shards.iter().filter(|shard| shard.revoking).count();
    let mut budget = rules.moves.saturating_sub(revoking);
    let mut moved = BTreeSet::new();
    let (high, low) =
        (u64::from(100 + rules.tolerance_percent), u64::from(100 - rules.tolerance_percent.min(100)));
    while budget > 0 {
        bins.sort_by_key(|bin| (bin.load * 1_000_000 / bin.target.max(1), bin.candidate.incarnation));
        let [least, .., most] = bins else { return };
        if most.load * 100 <= most.target * high && least.load * 100 >= least.target * low {
            return;
        }
        let surplus = most.load.saturating_sub(most.target);
        let room = least.target.saturating_sub(least.load);
        let Some(shard) = shards
            .iter()
            .filter(|shard| shard.owner == Some(most.candidate.incarnation) && !shard.revoking)
            .filter(|shard| u64::from(shard.weight) <= surplus.min(room) && !moved.contains(&shard.shard))
            .max_by_key(|shard| (shard.weight, std::cmp::Reverse(shard.shard)))
        else {
            return;
        };
        moved.insert(shard.shard);
        plan.revokes.push((shard.shard, shard.epoch));
        most.load -= u64::from(shard.weight);
        least.load += u64::from(shard.weight);
        budget -= 1;
    }
}
