//! One look at the store: lead, declare the dead, plan, write the plan, and read what everybody shall hold.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mailyard_policy::{
    id::{Incarnation, Term},
    placement::{self, Candidate, Memory, Placed, Switches, View},
};
use mailyard_store::{
    Error as StoreError,
    fleet::{Leadership, Shard, SoleHolder, WorkerState},
};
use mailyard_wire::cluster;

use super::Arguments;

/// What a round found: what each process shall hold.
pub struct Found {
    pub(super) term: Term,
    pub(super) grants: HashMap<Incarnation, Vec<cluster::Grant>>,
    /// What the planner remembers for the next round.
    pub(super) memory: Memory,
}

/// A round.
pub(super) struct Round {
    pub(super) arguments: Arc<Arguments>,
    pub(super) proof: Option<SoleHolder>,
    /// Processes whose sessions are open.
    pub(super) able: Vec<Candidate>,
    /// What the planner remembers of the rounds before.
    pub(super) memory: Memory,
}

impl Round {
    /// `None`: somebody else leads, or the store cannot be reached.
    pub(super) async fn run(self) -> Option<Found> {
        let Arguments { store, holder, leading, .. } = &*self.arguments;
        let lead = match leading.keep(&**store, holder, self.proof).await {
            Ok(lead) => lead?,
            Err(error) => {
                tracing::warn!(%error, "the leadership could not be kept");
                return None;
            }
        };
        match leading.learn(&lead, self.plan(&lead).await) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(%error, "a round of placement failed");
                None
            }
        }
    }

    async fn plan(&self, lead: &Leadership) -> Result<Found, StoreError> {
        let Arguments { store, lease_rules, placement_rules, .. } = &*self.arguments;
        for dead in store.declare_dead(lead, lease_rules.grace()).await? {
            tracing::warn!(incarnation = %dead, "a worker was silent for too long and holds nothing any more");
        }
        let workers = store.workers().await?;
        let live: BTreeSet<Incarnation> = workers
            .iter()
            .filter(|worker| worker.state == WorkerState::Live)
            .map(|worker| worker.incarnation)
            .collect();
        let able: Vec<Candidate> =
            self.able.iter().filter(|candidate| live.contains(&candidate.incarnation)).cloned().collect();
        let shards = store.shards().await?;
        let placed: Vec<Placed> = shards.iter().map(placed).collect();
        let view = View {
            now: store.clock().await?,
            workers: &able,
            shards: &placed,
            switches: &Switches::default(),
            silent: false,
        };
        let (plan, memory) = placement::plan(placement_rules, self.memory.clone(), &view);
        for (incarnation, shards) in &plan.grants() {
            let Some(to) = able.iter().find(|candidate| candidate.incarnation == *incarnation) else {
                continue;
            };
            let granted = store.grant(lead, (&to.worker, *incarnation), shards).await?;
            tracing::info!(worker = %to.worker, planned = shards.len(), granted = granted.len(), "shards were granted");
        }
        let revokes = plan.revokes();
        if !revokes.is_empty() {
            tracing::info!(shards = revokes.len(), "shards are asked back");
            store.revoke(lead, &revokes).await?;
        }
        let mut grants = HashMap::new();
        for candidate in &self.able {
            grants.insert(candidate.incarnation, self.held(candidate.incarnation).await?);
        }
        Ok(Found { term: lead.term, grants, memory })
    }

    async fn held(&self, incarnation: Incarnation) -> Result<Vec<cluster::Grant>, StoreError> {
        let held = self.arguments.store.held(incarnation).await?;
        let mut grants: Vec<cluster::Grant> = held
            .into_iter()
            .map(|grant| cluster::Grant {
                shard: grant.shard.get().into(),
                epoch: grant.epoch.0,
                nonce: grant.nonce.to_bytes().to_vec(),
                revoking: grant.revoking,
            })
            .collect();
        grants.sort_by_key(|grant| grant.shard);
        Ok(grants)
    }
}

fn placed(shard: &Shard) -> Placed {
    Placed {
        shard: shard.shard,
        epoch: shard.epoch,
        owner: shard.owner.as_ref().map(|(_, incarnation)| *incarnation),
        revoking: shard.revoking,
        reserved: None,
        weight: 1,
    }
}
