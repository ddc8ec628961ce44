//! How long a plan takes: who holds which shard, with many mailboxes on many workers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mailyard_policy::{
    Timestamp,
    id::{self, Epoch, Incarnation, MailboxId, ProfileId, ShardId, WorkerId},
    placement::{Action, Candidate, Memory, Placed, Plan, Rules, Standing, Switches, View, plan},
};

use crate::{
    Outcome,
    figures::{Bound, Table},
    stand::Stand,
    told,
};

/// A plan is made every second.
const MOST_MILLIS: f64 = 100.0;
const LOOK: Duration = Duration::from_secs(1);

/// The table of plans.
///
/// # Errors
/// A plan that leaves a shard over.
pub fn run(stand: &Stand) -> Outcome<Table> {
    let (mailboxes, workers) = (stand.count(1_000_000, 50_000) as u64, stand.count(200, 20) as u32);
    let title =
        format!("Plan for {mailboxes} mailboxes in {} shards on {workers} workers, one core", id::SHARDS);
    let mut table = Table::new(title);
    let fresh = Cluster::new(mailboxes, workers);
    let mut settled = fresh.clone();
    settled.settle();
    settled.is_whole()?;
    let mut left = settled.clone();
    let orphans = left.dies();
    let mut joined = settled.clone();
    joined.workers.push(worker(workers));
    (0..2).for_each(|_| _ = joined.look());
    for (what, cluster) in [
        ("nobody holds anything", &fresh),
        ("nothing to do", &settled),
        ("one worker died", &left),
        ("one worker came: levelling", &joined),
    ] {
        let runs: Vec<f64> = (0..stand.rounds).map(|_| cluster.millis()).collect();
        table.single(what, "ms", &runs).bound(Bound::AtMost(MOST_MILLIS));
    }
    let after = |mut cluster: Cluster| {
        cluster.settle();
        (cluster.moved_from(&settled), cluster)
    };
    let (moved, left) = after(left);
    table.single("a worker died: moved / its shards", "1", &[moved / orphans]).bound(Bound::AtMost(1.05));
    let (moved, joined) = after(joined);
    let share = settled.shards.len() as f64 / f64::from(workers + 1);
    table.single("a worker came: moved / its share", "1", &[moved / share]).bound(Bound::AtMost(1.0));
    for (what, cluster) in [("settled", &settled), ("a worker died", &left), ("a worker came", &joined)] {
        table.single(format!("{what}: largest load / mean"), "1", &[cluster.unevenness()]);
    }
    Ok(told(table))
}

#[derive(Clone)]
struct Cluster {
    now: Timestamp,
    workers: Vec<Candidate>,
    shards: Vec<Placed>,
    memory: Memory,
}

fn worker(number: u32) -> Candidate {
    Candidate {
        worker: WorkerId(format!("worker-{number}")),
        incarnation: Incarnation::new(u128::from(number) + 1),
        capacity: 1,
        build: "1.0.0".to_owned(),
        standing: Standing::Live,
    }
}

/// Mailboxes of a profile that is spread over all lanes. They cost between 1 and 16, few the most.
fn weights(mailboxes: u64) -> Vec<u32> {
    let mut weights = vec![1; usize::from(id::SHARDS)];
    for mailbox in 0..mailboxes {
        let mailbox = MailboxId::new(mailbox.into());
        let cost = 1 << id::hash(&mailbox.to_bytes()).trailing_zeros().min(4);
        weights[usize::from(id::shard(ProfileId::new(1), mailbox, u16::MAX).get())] += cost;
    }
    weights
}

impl Cluster {
    fn new(mailboxes: u64, workers: u32) -> Self {
        let placed = |(shard, weight)| Placed {
            shard,
            epoch: Epoch(0),
            owner: None,
            revoking: false,
            reserved: None,
            weight,
        };
        Self {
            now: Timestamp::EPOCH,
            workers: (0..workers).map(worker).collect(),
            shards: ShardId::all().zip(weights(mailboxes)).map(placed).collect(),
            memory: Memory::default(),
        }
    }

    fn plan(&self) -> (Plan, Memory) {
        let switches = Switches::default();
        let view = View {
            now: self.now,
            workers: &self.workers,
            shards: &self.shards,
            switches: &switches,
            silent: false,
        };
        plan(&Rules::default(), self.memory.clone(), &view)
    }

    fn millis(&self) -> f64 {
        let begun = Instant::now();
        std::hint::black_box(self.plan());
        begun.elapsed().as_secs_f64() * 1000.0
    }

    /// Plans and carries it out: what is asked back is released at once. True if there was anything to do.
    fn look(&mut self) -> bool {
        let (plan, memory) = self.plan();
        for step in &plan.steps {
            let Some(placed) = self.shards.get_mut(usize::from(step.shard.get())) else { continue };
            placed.owner = match step.action {
                Action::Grant { to, .. } | Action::Return { to, .. } => Some(to),
                Action::Revoke { .. } => None,
            };
        }
        (self.now, self.memory) = (self.now + LOOK, memory);
        !plan.steps.is_empty()
    }

    /// Until nothing is to be done for longer than it takes to see whether unevenness lasts.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 5 {
            quiet = if self.look() { 0 } else { quiet + 1 };
            self.now = self.now + Duration::from_mins(1);
        }
    }

    /// The last worker is dead. Returns how many shards it had.
    fn dies(&mut self) -> f64 {
        let gone = self.workers.pop().map(|worker| worker.incarnation);
        let orphans = self.shards.iter_mut().filter(|placed| placed.owner == gone);
        orphans.map(|placed| placed.owner = None).count() as f64
    }

    fn moved_from(&self, before: &Self) -> f64 {
        let pairs = self.shards.iter().zip(&before.shards);
        pairs.filter(|(now, before)| now.owner != before.owner).count() as f64
    }

    fn unevenness(&self) -> f64 {
        let mut loads: BTreeMap<Option<Incarnation>, f64> = BTreeMap::new();
        for placed in &self.shards {
            *loads.entry(placed.owner).or_default() += f64::from(placed.weight);
        }
        let sum: f64 = loads.values().sum();
        loads.into_values().fold(0.0, f64::max) * self.workers.len() as f64 / sum
    }

    fn is_whole(&self) -> Outcome {
        let left = self.shards.iter().filter(|placed| placed.owner.is_none()).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} shards are left over").into()) }
    }
}
