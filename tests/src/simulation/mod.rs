//! A cluster in one thread: the machines of membership as they are, a store that is its statements, a mail server that
//! keeps book, and a network on which everything goes wrong. A seed repeats a run to the last message.

mod chance;
mod exchange;
mod faults;
mod hosts;
mod process;
pub mod report;
mod store;
mod world;

use std::time::Duration;

use mailyard_policy::membership::{leader, member};

pub use faults::{Fault, Kind};
pub use report::Report;

/// A mistake that is made on purpose, which the run must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Commits are not compared with the mailbox's fence.
    NoFence,
    /// A process polls without regard to its lease.
    NoSelfFence,
    /// Shards are taken over at the end of a lease.
    NoGrace,
    /// A lease counts from the answer to its renewal.
    CountFromReply,
    /// A write of a former leader is carried out.
    NoTermCheck,
    /// A shard is given away while its owner still drains it.
    GrantOnRevoke,
    /// What is released is said to be drained at once.
    NoDrain,
}

impl Mutation {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::NoFence,
        Self::NoSelfFence,
        Self::NoGrace,
        Self::CountFromReply,
        Self::NoTermCheck,
        Self::GrantOnRevoke,
        Self::NoDrain,
    ];
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers at the beginning.
    pub workers: usize,
    /// Coordinators.
    pub coordinators: usize,
    /// Shards that have mailboxes.
    pub shards: usize,
    /// Mailboxes.
    pub mailboxes: usize,
    /// Between two polls of a mailbox.
    pub period: Duration,
    /// Mails that come to all mailboxes together, a minute.
    pub mails: u64,
    /// How long things go wrong.
    pub long: Duration,
    /// Faults an hour, about.
    pub faults: u64,
    /// Which kinds of faults happen.
    pub kinds: Vec<Kind>,
    /// How long shards wait for a worker that went away in order.
    pub reserve: Duration,
    /// The numbers of coordinators.
    pub leader: leader::Rules,
    /// The numbers of workers.
    pub member: member::Rules,
    /// The mistake that is made.
    pub mutation: Option<Mutation>,
    /// Print everything that happens.
    pub transcript: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (workers, coordinators) = (6, 2);
        Self {
            workers,
            coordinators,
            shards: 24,
            mailboxes: 96,
            period: Duration::from_mins(1),
            mails: 60,
            long: Duration::from_hours(1),
            faults: 230,
            kinds: Kind::ALL.to_vec(),
            reserve: Duration::from_secs(90),
            leader: leader::Rules::default(),
            member: member::Rules { coordinators, ..member::Rules::default() },
            mutation: None,
            transcript: false,
        }
    }
}

/// Runs one seed to the end.
pub fn run(seed: u64, options: &Options) -> Report {
    world::World::new(seed, options).run()
}
