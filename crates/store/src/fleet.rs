//! Who leads, who lives, who holds which shard: written by the leader, except a lease's renewal and a shard's
//! release, which its worker writes itself.

use std::time::Duration;

use async_trait::async_trait;
pub use mailyard_policy::membership::{Grant, Leadership, WorkerState};
use mailyard_policy::{
    Timestamp,
    id::{Epoch, Incarnation, ShardId, WorkerId},
};

use crate::Result;

/// A shard as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The shard.
    pub shard: ShardId,
    /// The number of its last grant.
    pub epoch: Epoch,
    /// Who owns it; `None`: free.
    pub owner: Option<(WorkerId, Incarnation)>,
    /// True once its owner was asked to release it.
    pub revoking: bool,
}

/// A process of a worker as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub incarnation: Incarnation,
    /// live, draining or dead.
    pub state: WorkerState,
    /// When its lease ends, by the database's clock.
    pub lease_until: Timestamp,
    /// The build it runs.
    pub build: String,
}

/// Proof that no other process can hold anything of this store: the caller holds the exclusive lock of the data
/// directory (embedded mode).
#[derive(Clone, Copy, Debug)]
pub struct SoleHolder;

/// The control plane.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Stands for leader. `None`: somebody else leads and its lease has not ended.
    /// With the proof that nobody else can be there, leads at once and, in the same transaction, declares all older
    /// incarnations dead and frees their shards.
    async fn elect(
        &self,
        holder: &str,
        lease: Duration,
        proof: Option<SoleHolder>,
    ) -> Result<Option<Leadership>>;

    /// Leads on for `lease` from now. [`crate::Error::Fenced`]: step down at once.
    async fn renew_leadership(&self, lead: &Leadership, lease: Duration) -> Result<()>;

    /// Makes a new process of a worker known and alive.
    async fn register(
        &self,
        lead: &Leadership,
        worker: &WorkerId,
        incarnation: Incarnation,
        build: &str,
        lease: Duration,
    ) -> Result<()>;

    /// Extends the lease of a worker's process by `lease` from now, by the database's clock. The worker itself or the
    /// leader on its behalf. [`crate::Error::Fenced`]: it was declared dead.
    async fn renew_lease(&self, incarnation: Incarnation, lease: Duration) -> Result<()>;

    /// Marks a worker's process as going away.
    async fn drain(&self, incarnation: Incarnation) -> Result<()>;

    /// Declares processes dead whose lease ended more than `grace` ago (judged when it commits), and frees their
    /// shards. Returns those that were declared dead.
    async fn declare_dead(&self, lead: &Leadership, grace: Duration) -> Result<Vec<Incarnation>>;

    /// Every worker's process that is not dead.
    async fn workers(&self) -> Result<Vec<Worker>>;

    /// Every shard that has an owner, and every free one that has mailboxes.
    async fn shards(&self) -> Result<Vec<Shard>>;

    /// Gives free shards to a worker's process: each only if it is free and its last grant is still the one seen, and
    /// the process is live. Returns the grants that were made.
    async fn grant(
        &self,
        lead: &Leadership,
        to: (&WorkerId, Incarnation),
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<Grant>>;

    /// Asks for shards back: their owner drains and releases them.
    async fn revoke(&self, lead: &Leadership, shards: &[(ShardId, Epoch)]) -> Result<()>;

    /// What a worker's process holds.
    async fn held(&self, incarnation: Incarnation) -> Result<Vec<Grant>>;

    /// Gives shards back, written by their owner once nothing of it runs there any more.
    async fn release(&self, incarnation: Incarnation, shards: &[(ShardId, Epoch)]) -> Result<()>;

    /// The database's clock.
    async fn clock(&self) -> Result<Timestamp>;
}
