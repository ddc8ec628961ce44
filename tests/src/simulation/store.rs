//! The store as its statements define it: one state, changed by one statement at a time, judged by its own clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use mailyard_policy::{
    Reason, Timestamp,
    id::{Epoch, Incarnation, Nonce, ShardId, Term, Volume, WorkerId},
    lease,
    membership::{
        Hello, Leadership, Process, Shard, Survey, WorkerState,
        leader::{Answer, Ask},
        member::Renewal,
    },
    placement::{Reservation, Switches},
};

use super::{Mutation, Options, report::Report};

/// A mailbox of the simulation, by its number.
pub type Mailbox = usize;

/// The right to write to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    pub mailbox: Mailbox,
    pub epoch: Epoch,
    pub nonce: Nonce,
    pub version: u64,
}

/// A mailbox as it was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub fence: Fence,
    pub shard: ShardId,
    pub cursor: u64,
}

#[derive(Clone, Debug)]
struct Row {
    shard: ShardId,
    epoch: Epoch,
    nonce: Nonce,
    version: u64,
    cursor: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct WorkerRow {
    worker: WorkerId,
    volume: Volume,
    state: WorkerState,
    lease_until: Timestamp,
    reserved_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
struct ShardRow {
    epoch: Epoch,
    nonce: Nonce,
    owner: Option<Incarnation>,
    last_owner: Option<WorkerId>,
    revoking: bool,
}

#[derive(Clone, Debug)]
struct LeaderRow {
    lead: Leadership,
    until: Timestamp,
}

/// What a statement of the data plane came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// Somebody else holds it.
    Fenced,
}

/// The state of the store.
pub struct Store {
    rules: lease::Rules,
    term: Duration,
    reserve: Duration,
    mutation: Option<Mutation>,
    numbers: u64,
    leader: LeaderRow,
    workers: BTreeMap<Incarnation, WorkerRow>,
    shards: BTreeMap<ShardId, ShardRow>,
    mailboxes: Vec<Row>,
    /// What was tracked of each mailbox: the numbers of its mails.
    tracked: Vec<BTreeSet<u64>>,
}

impl Store {
    pub fn new(options: &Options) -> Self {
        let all: Vec<ShardId> = ShardId::all().take(options.shards).collect();
        let shard = |number: usize| all[number % all.len()];
        let free = ShardRow {
            epoch: Epoch(0),
            nonce: Nonce::new(0),
            owner: None,
            last_owner: None,
            revoking: false,
        };
        let row = |mailbox: Mailbox| Row {
            shard: shard(mailbox),
            epoch: Epoch(0),
            nonce: Nonce::new(0),
            version: 0,
            cursor: 0,
        };
        let nobody = Leadership { term: Term(0), nonce: Nonce::new(0) };
        Self {
            rules: options.leader.lease,
            term: options.leader.term,
            reserve: options.reserve,
            mutation: options.mutation,
            numbers: 0,
            leader: LeaderRow { lead: nobody, until: Timestamp::EPOCH },
            workers: BTreeMap::new(),
            shards: (0..options.shards).map(|number| (shard(number), free.clone())).collect(),
            mailboxes: (0..options.mailboxes).map(row).collect(),
            tracked: vec![BTreeSet::new(); options.mailboxes],
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn nonce(&mut self) -> Nonce {
        Nonce::new((u128::from(self.number()) << 64) | 1)
    }

    /// What the control plane asks. A former leader's statement changes nothing.
    pub fn ask(&mut self, ask: Ask, now: Timestamp, report: &mut Report) -> Answer {
        let former = guard(&ask).is_some_and(|lead| self.leader.lead != lead);
        if former {
            report.deposed += 1;
            if self.mutation != Some(Mutation::NoTermCheck) {
                return Answer::Deposed;
            }
        }
        let before = former.then(|| (self.workers.clone(), self.shards.clone()));
        let what = former.then(|| format!("{ask:?}"));
        let answer = self.carry_out(ask, now, report);
        if before.is_some_and(|before| before != (self.workers.clone(), self.shards.clone())) {
            report.violation(format!("a former leader's statement changed something: {what:?}"));
        }
        answer
    }

    fn carry_out(&mut self, ask: Ask, now: Timestamp, report: &mut Report) -> Answer {
        match ask {
            Ask::Stand => Answer::Leads(self.stand(now, report)),
            Ask::Keep(_) => {
                self.leader.until = now + self.term;
                Answer::Done
            }
            Ask::StepDown(_) => {
                self.leader.until = now;
                Answer::Done
            }
            Ask::Register(_, hello) => self.register(hello, now),
            Ask::Look(_) => Answer::Stands(Box::new(self.survey(now))),
            Ask::DeclareDead(_, candidates) => {
                for incarnation in candidates {
                    self.declare_dead(incarnation, now, report);
                }
                Answer::Done
            }
            Ask::Grant(_, worker, incarnation, shards) => {
                self.grant(&worker, incarnation, &shards, report);
                Answer::Done
            }
            Ask::Return(_, shards) => {
                for (shard, seen) in shards {
                    let (epoch, nonce) = (Epoch(self.number()), self.nonce());
                    if let Some(row) = self.shards.get_mut(&shard)
                        && row.epoch == seen
                        && row.owner.is_some()
                        && row.revoking
                    {
                        report.returned += 1;
                        (row.epoch, row.nonce, row.revoking) = (epoch, nonce, false);
                    }
                }
                Answer::Done
            }
            Ask::Revoke(_, shards) => {
                for (shard, seen) in shards {
                    if let Some(row) = self.shards.get_mut(&shard)
                        && row.epoch == seen
                        && row.owner.is_some()
                    {
                        report.revoked += u64::from(!row.revoking);
                        row.revoking = true;
                        if self.mutation == Some(Mutation::GrantOnRevoke) {
                            row.owner = None;
                        }
                    }
                }
                Answer::Done
            }
        }
    }

    fn stand(&mut self, now: Timestamp, report: &mut Report) -> Option<Leadership> {
        if self.leader.until >= now {
            return None;
        }
        let lead = Leadership { term: Term(self.number()), nonce: self.nonce() };
        self.leader = LeaderRow { lead, until: now + self.term };
        report.terms += 1;
        Some(lead)
    }

    fn register(&mut self, hello: Hello, now: Timestamp) -> Answer {
        if let Some(row) = self.workers.get_mut(&hello.incarnation) {
            if row.state == WorkerState::Dead {
                return Answer::Refused(Reason::WorkerUnreachable, "it was declared dead".to_owned());
            }
            row.lease_until = row.lease_until.max(now + self.rules.ttl);
            return Answer::Done;
        }
        let same = self.workers.values_mut().filter(|row| row.worker == hello.worker);
        for other in same.filter(|row| row.state != WorkerState::Dead) {
            if other.volume != hello.volume && other.lease_until >= now {
                let detail = "another process of this id is there".to_owned();
                return Answer::Refused(Reason::WorkerIdTaken, detail);
            }
            // The folder is its own now: the other process has ended, though not all that it began.
            other.lease_until = other.lease_until.min(now);
        }
        let row = WorkerRow {
            worker: hello.worker,
            volume: hello.volume,
            state: WorkerState::Live,
            lease_until: now + self.rules.ttl,
            reserved_until: Timestamp::EPOCH,
        };
        self.workers.insert(hello.incarnation, row);
        Answer::Done
    }

    fn survey(&self, now: Timestamp) -> Survey {
        let living = self.workers.iter().filter(|(_, row)| row.state != WorkerState::Dead);
        let reserved = |worker: &WorkerId| {
            let mut rows = self.workers.values().filter(|row| row.worker == *worker);
            let row = rows.find(|row| row.reserved_until > now)?;
            Some(Reservation { worker: worker.clone(), until: row.reserved_until })
        };
        Survey {
            now,
            workers: living
                .map(|(incarnation, row)| Process {
                    worker: row.worker.clone(),
                    incarnation: *incarnation,
                    state: row.state,
                    lease_until: row.lease_until,
                })
                .collect(),
            shards: self
                .shards
                .iter()
                .map(|(shard, row)| Shard {
                    shard: *shard,
                    epoch: row.epoch,
                    nonce: row.nonce,
                    owner: row.owner,
                    revoking: row.revoking,
                    reserved: row.last_owner.as_ref().filter(|_| row.owner.is_none()).and_then(reserved),
                })
                .collect(),
            switches: Switches::default(),
        }
    }

    fn declare_dead(&mut self, incarnation: Incarnation, now: Timestamp, report: &mut Report) {
        let grace = match self.mutation {
            Some(Mutation::NoGrace) => Duration::ZERO,
            _ => self.rules.grace(),
        };
        let owns = self.shards.values().any(|row| row.owner == Some(incarnation));
        let Some(row) = self.workers.get_mut(&incarnation) else { return };
        let gone = row.state == WorkerState::Draining && !owns;
        if row.state == WorkerState::Dead || !gone && row.lease_until + grace >= now {
            return;
        }
        row.state = WorkerState::Dead;
        report.declared_dead += u64::from(!gone);
        for shard in self.shards.values_mut().filter(|row| row.owner == Some(incarnation)) {
            (shard.owner, shard.revoking, shard.last_owner) = (None, false, None);
            report.orphaned += 1;
        }
    }

    fn grant(
        &mut self,
        worker: &WorkerId,
        to: Incarnation,
        shards: &[(ShardId, Epoch)],
        report: &mut Report,
    ) {
        if self.workers.get(&to).is_none_or(|row| row.state != WorkerState::Live) {
            return;
        }
        for (shard, seen) in shards {
            let (epoch, nonce) = (Epoch(self.number()), self.nonce());
            let Some(row) = self.shards.get_mut(shard) else { continue };
            if row.owner.is_some() || row.epoch != *seen {
                continue;
            }
            report.granted += 1;
            report.moved += u64::from(row.last_owner.as_ref() != Some(worker) && row.epoch.0 > 0);
            assert!(epoch > row.epoch, "epochs rise");
            *row =
                ShardRow { epoch, nonce, owner: Some(to), last_owner: Some(worker.clone()), revoking: false };
        }
    }

    /// A worker renews its own lease.
    pub fn renew(&mut self, incarnation: Incarnation, now: Timestamp) -> Renewal {
        match self.workers.get_mut(&incarnation) {
            Some(row) if row.state != WorkerState::Dead => {
                row.lease_until = row.lease_until.max(now + self.rules.ttl);
                Renewal::Accepted
            }
            Some(_) | None => Renewal::Dead,
        }
    }

    /// A worker says that it goes away and is expected back.
    pub fn depart(&mut self, incarnation: Incarnation, now: Timestamp) {
        if let Some(row) = self.workers.get_mut(&incarnation)
            && row.state != WorkerState::Dead
        {
            (row.state, row.reserved_until) = (WorkerState::Draining, now + self.reserve);
        }
    }

    /// A shard is given back by its owner.
    pub fn release(&mut self, incarnation: Incarnation, shard: ShardId, epoch: Epoch) {
        if let Some(row) = self.shards.get_mut(&shard)
            && row.epoch == epoch
            && row.owner == Some(incarnation)
        {
            (row.owner, row.revoking) = (None, false);
        }
    }

    /// Mailboxes in shards of this process whose fence is older than the grant; with `again`, these whoever of this
    /// process claimed them.
    pub fn claim(&mut self, incarnation: Incarnation, again: &[Mailbox]) -> Vec<Claimed> {
        let nonce = self.nonce();
        let mut claimed = Vec::new();
        for (mailbox, row) in self.mailboxes.iter_mut().enumerate() {
            let Some(shard) = self.shards.get(&row.shard) else { continue };
            let owned = shard.owner == Some(incarnation) && !shard.revoking;
            let older = row.epoch < shard.epoch || row.epoch == shard.epoch && again.contains(&mailbox);
            if owned && older {
                (row.epoch, row.nonce) = (shard.epoch, nonce);
                let fence = Fence { mailbox, epoch: row.epoch, nonce, version: row.version };
                claimed.push(Claimed { fence, shard: row.shard, cursor: row.cursor });
            }
        }
        claimed
    }

    /// What this process has claimed under grants that it has now.
    pub fn standing(&self, incarnation: Incarnation) -> Vec<(Mailbox, Nonce)> {
        let standing = self.mailboxes.iter().enumerate().filter(|(_, row)| {
            let shard = self.shards.get(&row.shard);
            shard.is_some_and(|shard| shard.owner == Some(incarnation) && shard.epoch == row.epoch)
        });
        standing.map(|(mailbox, row)| (mailbox, row.nonce)).collect()
    }

    /// One fenced transaction: these mails are tracked.
    pub fn commit(&mut self, fence: Fence, mails: Range<u64>, report: &mut Report) -> Outcome<u64> {
        let Some(row) = self.mailboxes.get_mut(fence.mailbox) else { return Outcome::Fenced };
        if row.epoch != fence.epoch || row.nonce != fence.nonce || row.version != fence.version {
            report.stale_commits += 1;
            if self.mutation != Some(Mutation::NoFence) {
                return Outcome::Fenced;
            }
        }
        (row.version, row.cursor) = (row.version + 1, mails.end);
        let version = row.version;
        for mail in mails {
            report.tracked += 1;
            report.tracked_twice += u64::from(!self.tracked[fence.mailbox].insert(mail));
        }
        Outcome::Done(version)
    }

    /// The fence and what was kept, read after a commit whose outcome is unknown.
    pub fn reload(&self, fence: Fence) -> Outcome<(u64, u64)> {
        let row = &self.mailboxes[fence.mailbox];
        if row.epoch == fence.epoch && row.nonce == fence.nonce {
            Outcome::Done((row.version, row.cursor))
        } else {
            Outcome::Fenced
        }
    }

    /// True while the lease of a process lasts.
    pub fn leases(&self, incarnation: Incarnation, now: Timestamp) -> bool {
        self.workers.get(&incarnation).is_some_and(|row| row.lease_until >= now)
    }

    /// How many mails of a mailbox are tracked.
    pub fn tracked(&self, mailbox: Mailbox) -> usize {
        self.tracked[mailbox].len()
    }

    /// Shards without an owner.
    pub fn free_shards(&self) -> usize {
        self.shards.values().filter(|row| row.owner.is_none()).count()
    }
}

fn guard(ask: &Ask) -> Option<Leadership> {
    match ask {
        Ask::Stand => None,
        Ask::Keep(lead)
        | Ask::StepDown(lead)
        | Ask::Register(lead, _)
        | Ask::Look(lead)
        | Ask::DeclareDead(lead, _)
        | Ask::Grant(lead, ..)
        | Ask::Revoke(lead, _)
        | Ask::Return(lead, _) => Some(*lead),
    }
}
