//! Who belongs to the cluster: what a worker's process and the coordinator that leads tell each other, and the two
//! machines that decide what comes of it.
//!
//! Whatever is promised stands in the store, judged by the store's clock: who leads, whose lease lasts, who owns a
//! shard. Messages only say how things stand there, all of it each time, so that one that is lost, late or told twice
//! costs a moment and nothing else.

pub mod leader;
pub mod member;

use std::time::Duration;

use crate::{
    id::{Epoch, Incarnation, Nonce, ShardId, Term, Volume, WorkerId},
    placement::{Reservation, Switches},
    reason::Reason,
    time::Timestamp,
    words,
};

/// One leadership of a coordinator: the guard of every statement of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Its number.
    pub term: Term,
    /// The word that only this leader knows.
    pub nonce: Nonce,
}

/// One grant of a shard: the fence of every write to its mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The shard.
    pub shard: ShardId,
    /// The grant's number.
    pub epoch: Epoch,
    /// The word that only its holder knows.
    pub nonce: Nonce,
    /// True once the shard is to be drained and released.
    pub revoking: bool,
}

/// A shard as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The shard.
    pub shard: ShardId,
    /// The number of its last grant.
    pub epoch: Epoch,
    /// The word of its last grant.
    pub nonce: Nonce,
    /// Who owns it; `None`: free.
    pub owner: Option<Incarnation>,
    /// True once its owner was asked to release it.
    pub revoking: bool,
    /// For whom it is kept: who had it went away in order, and is expected back.
    pub reserved: Option<Reservation>,
}

/// The state of a worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It may be given shards.
    Live,
    /// It goes away and gives its shards back.
    Draining,
    /// It may hold nothing any more, and never will again.
    Dead,
}

words! {
    WorkerState: Live = "live", Draining = "draining", Dead = "dead";
}

/// A process of a worker as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Live or draining: the dead are not told of.
    pub state: WorkerState,
    /// When its lease ends, by the store's clock.
    pub lease_until: Timestamp,
}

/// Everything that a plan is made of, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The store's clock.
    pub now: Timestamp,
    /// Every process that is not dead.
    pub workers: Vec<Process>,
    /// Every shard that has an owner, and every free one that has mailboxes.
    pub shards: Vec<Shard>,
    /// What people said about placement.
    pub switches: Switches,
}

/// One stream between a worker and a coordinator, as the end that speaks of it has numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Stable over restarts.
    pub worker: WorkerId,
    /// New with each start of the process.
    pub incarnation: Incarnation,
    /// The folder that its process alone has: two processes of one folder are never there at once.
    pub volume: Volume,
    /// What it runs.
    pub build: String,
    /// The oldest and the newest protocol that it speaks.
    pub protocol: (u32, u32),
    /// Its share of the work beside the others'.
    pub capacity: u32,
    /// The highest term it has heard of: a coordinator of an older one must step down.
    pub max_term: Term,
}

/// How a worker fares, told by the path that schedules its polls: proof that it still does what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How long the mailbox that has waited longest is overdue.
    pub oldest_due: Duration,
    /// Mailboxes that it holds.
    pub mailboxes: u64,
    /// Turns that it has finished since it began.
    pub turns_done: u64,
    /// Turns that are under way.
    pub in_flight: u64,
}

/// What a worker tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToLeader {
    /// The first message of a session.
    Hello(Hello),
    /// A sign of life.
    Beat {
        /// Its number.
        sequence: u64,
        /// The version of [`Desired`] that it carries out.
        version: u64,
        /// How it fares.
        progress: Progress,
    },
    /// It wrote something that the leader should look at now.
    Nudge,
}

/// What a coordinator tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToMember {
    /// It is registered, under this term and protocol.
    Welcome {
        /// The leader's term.
        term: Term,
        /// The protocol of the session.
        protocol: u32,
    },
    /// It is not taken.
    Refused {
        /// Why.
        reason: Reason,
        /// What people are told.
        detail: String,
    },
    /// A sign of life was heard.
    BeatAck {
        /// The leader's term.
        term: Term,
        /// Of which one.
        sequence: u64,
    },
    /// Everything that it shall hold.
    Desired(Desired),
}

/// Everything that a worker shall hold. What is not in it is drained and given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The leader's term.
    pub term: Term,
    /// Raised by each change, within a session.
    pub version: u64,
    /// The grants.
    pub grants: Vec<Grant>,
}
