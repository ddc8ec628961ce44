//! What happens when, one thing after the other.

mod accidents;
mod talk;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use mailyard_policy::{
    id::{Attempt, Incarnation, Term, Volume, WorkerId},
    membership::{
        Hello, SessionId, ToLeader, ToMember,
        leader::{self, Answer, Ask, Leader},
        member::{self, Member},
    },
};

use super::{
    Mutation, Options, Report,
    chance::Chance,
    exchange::Exchange,
    hosts::{Cuts, Host, HostId},
    process::{Act, Process, Reply, Request},
    store::{Mailbox, Store},
};

/// A process as others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    host: HostId,
    generation: u32,
}

/// One stream between a worker and a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wire {
    worker: Caller,
    session: SessionId,
    coordinator: Caller,
}

#[derive(Clone, Debug)]
enum Statement {
    Control(Ask),
    Data(Request),
}

#[derive(Clone, Debug)]
enum Said {
    Control(Answer),
    Data(Reply),
}

#[derive(Clone, Debug)]
enum Happening {
    Start(HostId),
    Kill(Caller),
    Tick(Caller),
    ToCoordinator(Wire, Box<ToLeader>),
    ToWorker(Wire, Box<ToMember>),
    EndsAtCoordinator(Wire),
    EndsAtWorker(Wire),
    StoreHears(Caller, u64, Box<Statement>),
    StoreSaid(Caller, u64, Box<Said>),
    Poll(Caller, u64, Mailbox, u64),
    Worked(Caller, u64, Mailbox),
    Polled(Caller, u64, Mailbox, u64),
    Mail,
    Fault,
    Heal,
}

struct Coordinator {
    leader: Leader,
    wires: BTreeMap<SessionId, Wire>,
    sessions: u64,
}

enum Program {
    None,
    Worker(Box<Process>),
    Coordinator(Box<Coordinator>),
}

/// The world.
pub struct World {
    options: Options,
    chance: Chance,
    now: u64,
    number: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    hosts: Vec<Host>,
    programs: Vec<Program>,
    cuts: Cuts,
    store: Store,
    store_down_until: u64,
    exchange: Exchange,
    report: Report,
}

const WORKER_TICK: u64 = 200;
const COORDINATOR_TICK: u64 = 250;
/// What is asked of the store is given up after this.
const ASKED: u64 = 2000;
/// After the last fault everything is well again in this time: a lease, the grace, an election, the guard and a period.
const SETTLED: u64 = 400_000;

impl World {
    pub fn new(seed: u64, options: &Options) -> Self {
        let mut chance = Chance::new(seed);
        let hosts = options.workers + options.coordinators + 2;
        let deadline = options.leader.lease.request_deadline.as_millis() as u64;
        let mut world = Self {
            options: options.clone(),
            now: 0,
            number: 0,
            queue: BTreeMap::new(),
            hosts: (0..hosts).map(|_| Host::new(chance.between(1_000_000, 9_000_000))).collect(),
            programs: (0..hosts).map(|_| Program::None).collect(),
            cuts: Cuts::default(),
            store: Store::new(options),
            store_down_until: 0,
            exchange: Exchange::new(options.mailboxes, deadline),
            report: Report::default(),
            chance,
        };
        for host in 0..options.workers + options.coordinators {
            let at = world.chance.below(2000);
            world.at(at, Happening::Start(host));
        }
        let long = options.long.as_millis() as u64;
        for _ in 0..options.mails * long / 60_000 {
            let at = world.chance.below(long);
            world.at(at, Happening::Mail);
        }
        for _ in 0..options.faults * long / 3_600_000 {
            let at = world.chance.below(long);
            world.at(at, Happening::Fault);
        }
        world.at(long, Happening::Heal);
        world
    }

    /// Runs to the end.
    pub fn run(mut self) -> Report {
        let end = self.options.long.as_millis() as u64 + SETTLED;
        while let Some(((at, number), happening)) = self.queue.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            self.trace(number, &happening);
            self.happen(&happening);
        }
        self.now = end;
        self.judge();
        self.report
    }

    /// A hash over everything; the whole text, if it is asked for.
    fn trace(&mut self, number: u64, happening: &Happening) {
        if self.options.transcript {
            println!("{} {happening:?}", self.now);
        }
        let mut hasher = DefaultHasher::new();
        (self.report.trace, self.now, number, std::mem::discriminant(happening)).hash(&mut hasher);
        self.report.trace = hasher.finish();
    }

    fn judge(&mut self) {
        let recently = (self.options.period.as_millis() as u64) + 20_000;
        let mut found = Vec::new();
        for mailbox in 0..self.options.mailboxes {
            let (tracked, delivered) = (self.store.tracked(mailbox) as u64, self.exchange.delivered(mailbox));
            if tracked != delivered {
                found.push(format!("{tracked} of {delivered} mails of mailbox {mailbox} are tracked"));
            }
            let polled = self.exchange.polled(mailbox);
            if polled + recently < self.now {
                found.push(format!("mailbox {mailbox} was polled last at {polled}, and it is {}", self.now));
            }
        }
        if self.store.free_shards() > 0 {
            found.push(format!("{} shards are free at the end", self.store.free_shards()));
        }
        if self.report.tracked_twice > 0 {
            found.push(format!("{} mails were tracked twice", self.report.tracked_twice));
        }
        found.into_iter().for_each(|found| self.report.violation(found));
    }

    fn at(&mut self, at: u64, happening: Happening) {
        self.number += 1;
        self.queue.insert((at, self.number), happening);
    }

    fn store_host(&self) -> HostId {
        self.options.workers + self.options.coordinators
    }

    /// Sends something from one host to another; it may be late, or lost.
    fn send(&mut self, from: HostId, to: HostId, happening: Happening) {
        let (lost, late) = (self.chance.permille(20), self.chance.permille(30));
        let delay = if late { self.chance.between(20, 8000) } else { self.chance.between(1, 20) };
        let faulty = self.now < self.options.long.as_millis() as u64;
        if self.cuts.hears(from, to, self.now) && !(lost && faulty) {
            let delay = if faulty { delay } else { delay.min(20) };
            self.at(self.now + delay, happening);
        }
    }

    /// The process that is meant is there and does not stand still; if it stands still, it hears of this later.
    fn is_there(&mut self, caller: Caller, happening: &Happening) -> bool {
        let host = &self.hosts[caller.host];
        if !host.up || host.generation != caller.generation {
            return false;
        }
        let until = host.paused_until;
        if until > self.now {
            self.at(until, happening.clone());
            return false;
        }
        true
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Start(host) => self.start(*host),
            Happening::Kill(caller) => {
                if self.hosts[caller.host].generation == caller.generation {
                    self.hosts[caller.host].up = false;
                }
            }
            Happening::Tick(caller) if self.is_there(*caller, happening) => self.tick(*caller),
            Happening::ToCoordinator(wire, message) => {
                if self.is_there(wire.coordinator, happening) {
                    self.coordinator_hears(*wire, (**message).clone());
                } else if !self.hosts[wire.coordinator.host].up {
                    self.send(wire.coordinator.host, wire.worker.host, Happening::EndsAtWorker(*wire));
                }
            }
            Happening::ToWorker(wire, message) if self.is_there(wire.worker, happening) => {
                self.worker_hears(*wire, (**message).clone());
            }
            Happening::EndsAtCoordinator(wire) if self.is_there(wire.coordinator, happening) => {
                self.ends_at_coordinator(*wire);
            }
            Happening::EndsAtWorker(wire) if self.is_there(wire.worker, happening) => {
                self.with_worker(wire.worker, |process, now| {
                    process.step(member::Event::Ended(wire.session), now)
                });
            }
            Happening::StoreHears(caller, number, statement) => {
                self.store_hears(*caller, *number, (**statement).clone());
            }
            Happening::StoreSaid(caller, number, said) if self.is_there(*caller, happening) => {
                match (**said).clone() {
                    Said::Control(answer) => {
                        let event = leader::Event::Answered(Attempt(*number), answer);
                        self.coordinate(*caller, event);
                    }
                    Said::Data(reply) => {
                        self.with_worker(*caller, |process, now| process.answered(*number, reply, now));
                    }
                }
            }
            Happening::Poll(caller, number, mailbox, sent) => self.poll(*caller, *number, *mailbox, *sent),
            Happening::Worked(caller, number, mailbox) => {
                let delivered = self.exchange.delivered(*mailbox);
                let polled = Happening::Polled(*caller, *number, *mailbox, delivered);
                self.send(self.store_host() + 1, caller.host, polled);
            }
            Happening::Polled(caller, number, mailbox, delivered) if self.is_there(*caller, happening) => {
                self.with_worker(*caller, |process, _| process.polled(*number, *mailbox, *delivered));
            }
            Happening::Mail => {
                let mailbox = self.chance.below(self.options.mailboxes as u64) as usize;
                self.exchange.deliver(mailbox);
                self.report.delivered += 1;
            }
            Happening::Fault => self.fault(),
            Happening::Heal => self.heal(),
            Happening::Tick(_)
            | Happening::ToWorker(..)
            | Happening::EndsAtCoordinator(_)
            | Happening::EndsAtWorker(_)
            | Happening::StoreSaid(..)
            | Happening::Polled(..) => {}
        }
    }

    fn start(&mut self, host: HostId) {
        let now = self.hosts[host].boot(self.now);
        if self.hosts[host].up {
            return;
        }
        self.hosts[host].up = true;
        self.hosts[host].generation += 1;
        let caller = Caller { host, generation: self.hosts[host].generation };
        self.programs[host] = if host < self.options.workers {
            let incarnation = incarnation_of(caller);
            let hello = Hello {
                worker: WorkerId(format!("worker-{host}")),
                incarnation,
                volume: Volume::new(host as u128 + 1),
                build: "simulated".to_owned(),
                protocol: (1, 1),
                capacity: 1,
                max_term: Term(0),
            };
            let member = Member::new(self.options.member, hello, now);
            Program::Worker(Box::new(Process::new(member, &self.options, now)))
        } else {
            let mut rules = self.options.leader;
            if self.options.mutation == Some(Mutation::NoGrace) {
                rules.lease.request_deadline = std::time::Duration::ZERO;
            }
            let leader = Leader::new(rules, now);
            Program::Coordinator(Box::new(Coordinator { leader, wires: BTreeMap::new(), sessions: 0 }))
        };
        self.at(self.now, Happening::Tick(caller));
    }

    fn tick(&mut self, caller: Caller) {
        let every = if caller.host < self.options.workers {
            self.with_worker(caller, Process::tick);
            WORKER_TICK
        } else {
            self.coordinate(caller, leader::Event::Tick);
            COORDINATOR_TICK
        };
        self.at(self.now + every, Happening::Tick(caller));
    }

    fn with_worker(
        &mut self,
        caller: Caller,
        step: impl FnOnce(&mut Process, mailyard_policy::BootTime) -> Vec<Act>,
    ) {
        let now = self.hosts[caller.host].boot(self.now);
        let Some(Program::Worker(process)) = self.programs.get_mut(caller.host) else { return };
        if process.lost {
            return;
        }
        for act in step(process, now) {
            self.act(caller, act);
        }
    }

    fn store_hears(&mut self, caller: Caller, number: u64, statement: Statement) {
        if self.store_down_until > self.now {
            return;
        }
        let now = self.hosts[self.store_host()].time(self.now);
        let said = match statement {
            Statement::Control(ask) => Said::Control(self.store.ask(ask, now, &mut self.report)),
            Statement::Data(request) => {
                let Some(incarnation) = self.incarnation(caller) else { return };
                Said::Data(match request {
                    Request::Renew(_) => Reply::Renewed(self.store.renew(incarnation, now)),
                    Request::Depart => {
                        self.store.depart(incarnation, now);
                        Reply::Done
                    }
                    Request::Release(shard, epoch) => {
                        self.store.release(incarnation, shard, epoch);
                        Reply::Done
                    }
                    Request::Claim(again) => Reply::Claimed(self.store.claim(incarnation, &again)),
                    Request::Standing => Reply::Standing(self.store.standing(incarnation)),
                    Request::Commit(fence, mails) => {
                        Reply::Committed(self.store.commit(fence, mails, &mut self.report))
                    }
                    Request::Reload(fence) => Reply::Reloaded(self.store.reload(fence)),
                })
            }
        };
        let before = self.queue.len();
        self.send(self.store_host(), caller.host, Happening::StoreSaid(caller, number, Box::new(said)));
        self.report.in_doubt += u64::from(self.queue.len() == before);
    }

    /// The process that asks, if it is a worker's.
    fn incarnation(&self, caller: Caller) -> Option<Incarnation> {
        (caller.host < self.options.workers).then(|| incarnation_of(caller))
    }

    fn poll(&mut self, caller: Caller, number: u64, mailbox: Mailbox, sent: u64) {
        let Some(incarnation) = self.incarnation(caller) else { return };
        let World { exchange, chance, report, now, .. } = self;
        let until = exchange.begin(mailbox, incarnation, sent, *now, chance, report);
        self.at(until, Happening::Worked(caller, number, mailbox));
    }
}

/// The number of a process is its own for ever.
fn incarnation_of(caller: Caller) -> Incarnation {
    Incarnation::new((u128::from(caller.generation) << 64) | (caller.host as u128 + 1))
}
