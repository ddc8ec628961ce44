//! A cluster without processes: plans are carried out at once, as the store would, and every plan is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mailyard_policy::{
    Timestamp,
    id::{Epoch, Incarnation, ShardId, WorkerId},
    placement::{
        Action, Candidate, Held, Memory, Placed, Plan, Reservation, Rules, Standing, Step, Switches, View,
        Why, plan,
    },
};

pub fn name(number: u32) -> WorkerId {
    WorkerId(format!("worker-{number}"))
}

pub fn worker(number: u32) -> Candidate {
    Candidate {
        worker: name(number),
        incarnation: Incarnation::new(u128::from(number) + 1000),
        capacity: 1,
        build: "1.0.0".to_owned(),
        standing: Standing::Live,
    }
}

pub fn shard(number: u16) -> ShardId {
    ShardId::new(number).unwrap_or_else(|| panic!("there is no shard {number}"))
}

/// The cluster.
#[derive(Clone)]
pub struct Stage {
    pub rules: Rules,
    pub now: Timestamp,
    pub workers: Vec<Candidate>,
    pub shards: Vec<Placed>,
    pub switches: Switches,
    pub silent: bool,
    pub memory: Memory,
    epochs: u64,
    /// Which worker had a shard last.
    last: BTreeMap<ShardId, WorkerId>,
    /// Shards that came to another worker than they were at.
    pub moved: usize,
    asked: Vec<(Timestamp, Why, ShardId)>,
}

impl Stage {
    pub fn new(workers: impl IntoIterator<Item = Candidate>, weights: &[u32]) -> Self {
        let shards = weights.iter().zip(0..).map(|(weight, number)| Placed {
            shard: shard(number),
            epoch: Epoch(0),
            owner: None,
            revoking: false,
            reserved: None,
            weight: *weight,
        });
        Self {
            rules: Rules::default(),
            now: Timestamp::from_millis(1_000_000_000),
            workers: workers.into_iter().collect(),
            shards: shards.collect(),
            switches: Switches::default(),
            silent: false,
            memory: Memory::default(),
            epochs: 0,
            last: BTreeMap::new(),
            moved: 0,
            asked: Vec::new(),
        }
    }

    /// Settled from nothing, with workers 0 to `count`.
    pub fn settled(count: u32, weights: &[u32]) -> Self {
        let mut stage = Self::new((0..count).map(worker), weights);
        stage.settle();
        stage.moved = 0;
        stage
    }

    pub fn plan(&self) -> (Plan, Memory) {
        let Self { now, workers, shards, switches, silent, .. } = self;
        let view = View { now: *now, workers, shards, switches, silent: *silent };
        plan(&self.rules, self.memory.clone(), &view)
    }

    /// One look, carried out, a second later. Owners that are asked release nothing yet.
    pub fn look(&mut self) -> Plan {
        let (plan, memory) = self.plan();
        self.memory = memory;
        self.check(&plan);
        for step in &plan.steps {
            self.carry_out(step);
        }
        self.now = self.now + Duration::from_secs(1);
        plan
    }

    /// A look, and owners release what they were asked for.
    pub fn tick(&mut self) -> Plan {
        let plan = self.look();
        self.release();
        plan
    }

    pub fn release(&mut self) {
        for placed in self.shards.iter_mut().filter(|placed| placed.revoking) {
            (placed.owner, placed.revoking) = (None, false);
        }
    }

    /// Until nothing more is planned for more than a minute.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..3000 {
            quiet = if self.tick().steps.is_empty() { quiet + 1 } else { 0 };
            if quiet > 0 {
                self.now = self.now + Duration::from_secs(20);
            }
            if quiet > 5 {
                return;
            }
        }
        panic!("the plan never comes to rest");
    }

    /// Another leader goes on: what was asked for lately is not known to it.
    pub fn forgets(&mut self) {
        self.memory = Memory::default();
        self.asked.clear();
    }

    /// A worker's process is dead: what it held is free.
    pub fn dies(&mut self, number: u32) -> usize {
        self.ends(number, None)
    }

    /// A worker ends cleanly: what it held is kept for it for a while.
    pub fn leaves(&mut self, number: u32, kept: Duration) -> usize {
        let kept = Reservation { worker: name(number), until: self.now + kept };
        self.ends(number, Some(&kept))
    }

    fn ends(&mut self, number: u32, reserved: Option<&Reservation>) -> usize {
        let gone: BTreeSet<Incarnation> = self
            .workers
            .extract_if(.., |found| found.worker == name(number))
            .map(|found| found.incarnation)
            .collect();
        let mut count = 0;
        for placed in
            self.shards.iter_mut().filter(|placed| placed.owner.is_some_and(|owner| gone.contains(&owner)))
        {
            (placed.owner, placed.revoking, placed.reserved) = (None, false, reserved.cloned());
            count += 1;
        }
        count
    }

    /// The worker that holds each shard.
    pub fn owners(&self) -> BTreeMap<ShardId, Option<WorkerId>> {
        let name = |owner: Incarnation| {
            self.workers.iter().find(|found| found.incarnation == owner).map(|found| found.worker.clone())
        };
        self.shards.iter().map(|placed| (placed.shard, placed.owner.and_then(name))).collect()
    }

    /// What each worker holds; `None`: what nobody holds.
    pub fn loads(&self) -> BTreeMap<Option<WorkerId>, u64> {
        let mut loads: BTreeMap<_, u64> =
            self.workers.iter().map(|worker| (Some(worker.worker.clone()), 0)).collect();
        for (placed, owner) in self.shards.iter().zip(self.owners().into_values()) {
            *loads.entry(owner).or_default() += u64::from(placed.weight);
        }
        loads
    }

    pub fn load(&self, number: u32) -> u64 {
        self.loads().get(&Some(name(number))).copied().unwrap_or_default()
    }

    pub fn held_by(&self, number: u32) -> Vec<ShardId> {
        let owners = self.owners().into_iter();
        owners.filter(|(_, owner)| owner.as_ref() == Some(&name(number))).map(|(shard, _)| shard).collect()
    }

    /// Largest load beside the mean.
    pub fn unevenness(&self) -> f64 {
        let loads = self.loads();
        let sum: u64 = loads.values().sum();
        let max = loads.values().max().copied().unwrap_or_default();
        max as f64 * self.workers.len() as f64 / sum as f64
    }

    fn carry_out(&mut self, step: &Step) {
        let placed = &mut self.shards[usize::from(step.shard.get())];
        match &step.action {
            Action::Grant { worker, to } => {
                self.epochs += 1;
                (placed.owner, placed.epoch, placed.reserved) = (Some(*to), Epoch(self.epochs), None);
                let before = self.last.insert(step.shard, worker.clone());
                self.moved += usize::from(before.is_some_and(|before| before != *worker));
            }
            Action::Revoke { .. } => {
                placed.revoking = true;
                self.asked.push((self.now, step.why, step.shard));
            }
            Action::Return { .. } => {
                self.epochs += 1;
                (placed.revoking, placed.epoch) = (false, Epoch(self.epochs));
            }
        }
    }

    /// What holds for each plan.
    fn check(&self, plan: &Plan) {
        let mut seen = BTreeSet::new();
        let placed: BTreeMap<ShardId, &Placed> =
            self.shards.iter().map(|placed| (placed.shard, placed)).collect();
        for step in &plan.steps {
            assert!(seen.insert(step.shard), "{step}: one step for a shard");
            let placed = placed[&step.shard];
            assert_eq!(step.seen, placed.epoch, "{step}");
            match &step.action {
                Action::Grant { worker, to } => {
                    assert_eq!(placed.owner, None, "{step}: only what is free is granted");
                    self.check_taker(worker, *to, step);
                }
                Action::Revoke { to, .. } => {
                    assert!(placed.owner.is_some() && !placed.revoking, "{step}");
                    let to = self.workers.iter().rfind(|found| found.worker == *to);
                    let to = to.unwrap_or_else(|| panic!("{step}: nobody there"));
                    self.check_taker(&to.worker, to.incarnation, step);
                    self.check_levelled(step, plan);
                }
                Action::Return { to, .. } => {
                    assert!(placed.revoking && placed.owner == Some(*to), "{step}");
                }
            }
        }
        self.check_budget(plan);
        if self.switches.frozen || self.silent {
            assert_eq!(plan.steps, [], "nothing moves while everything is frozen");
        }
    }

    fn check_taker(&self, worker: &WorkerId, incarnation: Incarnation, step: &Step) {
        let found = self.workers.iter().find(|found| found.incarnation == incarnation);
        let found = found.unwrap_or_else(|| panic!("{step}: nobody there"));
        assert_eq!((&found.worker, found.standing), (worker, Standing::Live), "{step}");
        assert!(found.capacity > 0, "{step}");
        let Switches { quarantined, drained, .. } = &self.switches;
        assert!(!quarantined.contains(worker) && !drained.contains(worker), "{step}");
    }

    fn check_levelled(&self, step: &Step, plan: &Plan) {
        if step.why != Why::Levelled {
            return;
        }
        assert!(!self.switches.pins.contains_key(&step.shard), "{step}: it is pinned");
        assert!(!self.workers.iter().any(|found| found.standing == Standing::Suspect), "{step}");
        assert!(!matches!(plan.held, Some(Held::Suspect | Held::Deploy)), "{step}");
        let rests = |(at, _, shard): &(Timestamp, Why, ShardId)| {
            *shard == step.shard && self.now.since(*at) < self.rules.rest
        };
        assert!(!self.asked.iter().any(rests), "{step}: it was moved a moment ago");
    }

    fn check_budget(&self, plan: &Plan) {
        let asked = plan.revokes().len();
        let revoking = self.shards.iter().filter(|placed| placed.revoking).count();
        assert!(asked == 0 || asked + revoking <= self.rules.in_flight, "{asked} beside {revoking}");
        let drains = |why: &Why| matches!(why, Why::Drained | Why::Swapped);
        let lately =
            self.asked.iter().filter(|(at, ..)| self.now.since(*at) < Duration::from_mins(1)).count();
        let others = plan.steps.iter().filter(|step| matches!(step.action, Action::Revoke { .. }));
        let others = others.filter(|step| !drains(&step.why)).count();
        assert!(others == 0 || others + lately <= self.rules.per_minute, "{others} after {lately}");
    }
}
