//! StatusService: how the whole fares.

use std::collections::{BTreeMap, HashMap};

use mailyard_policy::{
    alert::Level,
    id::{Incarnation, Org},
};
use mailyard_store::{fleet::Shard, people::HealthCount};
use mailyard_wire::{
    admin::{
        self, AlertCount, AlertLevel, GetStatusRequest, OperationCount, OperationKind, ProfileStatus,
        WorkerStatus, status_service_server::StatusService,
    },
    convert::{operation_state, timestamp},
};
use tonic::{Request, Response, Status};

use super::{Api, profiles::held_back_of, refuse::Told as _, words::code};

#[tonic::async_trait]
impl StatusService for Api {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<admin::Status>, Status> {
        let org = self.org(&request.into_inner().parent).await?;
        let shards = self.store.shards().await.told()?;
        let orphaned_shards = shards.iter().filter(|shard| shard.owner.is_none()).count();
        let term = self.leader.term();
        Ok(Response::new(admin::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: Some(timestamp(self.now())),
            has_leader: term.is_some(),
            term: term.unwrap_or_default().0,
            workers: self.workers(&shards).await?,
            orphaned_shards: u32::try_from(orphaned_shards).unwrap_or(u32::MAX),
            profiles: self.profile_statuses(&org).await?,
            operations: self.operation_counts(&org).await?,
            open_alerts: self.open_alerts(&org).await?,
        }))
    }
}

impl Api {
    async fn workers(&self, shards: &[Shard]) -> Result<Vec<WorkerStatus>, Status> {
        let mut owned: HashMap<Incarnation, u32> = HashMap::new();
        for (_, incarnation) in shards.iter().filter_map(|shard| shard.owner.as_ref()) {
            *owned.entry(*incarnation).or_default() += 1;
        }
        let beating = self.leader.beating().await;
        let workers = self.store.workers().await.told()?;
        let status = |worker: mailyard_store::fleet::Worker| {
            let beat = beating.iter().find(|beat| beat.incarnation == worker.incarnation);
            WorkerStatus {
                id: worker.worker.to_string(),
                incarnation: worker.incarnation.to_string(),
                state: worker.state.word().to_owned(),
                build: worker.build,
                lease_until: Some(timestamp(worker.lease_until)),
                shards: owned.get(&worker.incarnation).copied().unwrap_or_default(),
                mailboxes: beat.map(|beat| beat.mailboxes).unwrap_or_default(),
                oldest_due_millis: beat.map(|beat| beat.oldest_due_millis).unwrap_or_default(),
            }
        };
        Ok(workers.into_iter().map(status).collect())
    }

    async fn profile_statuses(&self, org: &Org) -> Result<Vec<ProfileStatus>, Status> {
        let counts = self.store.health_counts().await.told()?;
        let mut statuses = Vec::new();
        for profile in self.store.profiles(Some(org)).await.told()? {
            let none = HealthCount { profile: profile.id, not_eligible: 0, ok: 0, failing: 0 };
            let count = counts.iter().find(|count| count.profile == profile.id).unwrap_or(&none);
            let held_back = self.held_back(&profile, None).await?;
            statuses.push(ProfileStatus {
                held_back_reason: code(held_back.into_iter().flatten().next()),
                held_back: held_back_of(held_back),
                display_name: profile.display_name,
                not_eligible: count.not_eligible,
                ok: count.ok,
                failing: count.failing,
            });
        }
        Ok(statuses)
    }

    async fn operation_counts(&self, org: &Org) -> Result<Vec<OperationCount>, Status> {
        let counts = self.store.operation_counts(org).await.told()?;
        let mut messages = Vec::with_capacity(counts.len());
        for (kind, state, reason, count) in counts {
            messages.push(OperationCount {
                operation: OperationKind::from(kind).into(),
                state: operation_state(&state).into(),
                reason: code(reason),
                count,
            });
        }
        Ok(messages)
    }

    async fn open_alerts(&self, org: &Org) -> Result<Vec<AlertCount>, Status> {
        let mut counts: BTreeMap<Level, u64> = BTreeMap::new();
        for alert in self.store.open_alerts().await.told()?.iter().filter(|alert| alert.org == *org) {
            *counts.entry(alert.level).or_default() += 1;
        }
        let message = |(level, count)| AlertCount { level: AlertLevel::from(level).into(), count };
        Ok(counts.into_iter().rev().map(message).collect())
    }
}
