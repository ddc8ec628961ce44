//! A worker's process from its beginning to its end.

use std::{sync::Arc, time::Duration};

use mailyard_host::{
    metrics::Metrics,
    shutdown::{Kind, Shutdown},
};
use mailyard_policy::{
    id::{Epoch, Incarnation, ShardId, WorkerId},
    lease,
};
use mailyard_store::Store;
use ractor::{Actor, ActorRef, SpawnErr};
use tonic::transport::Channel;

use crate::{
    lease::keep,
    session::Session,
    settings::Settings,
    shared::{Clocks, Shared},
    supervisor::{Message, Supervisor},
};

/// What is under way when the end is wished may take so long; it is the longest request and a little.
const CLOSED: Duration = Duration::from_secs(22);
/// Chunks of bodies that belong to nothing are swept so often.
const SWEPT: Duration = Duration::from_hours(1);

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The deployment's numbers.
    pub settings: Settings,
    /// The clocks.
    pub clocks: Clocks,
    /// The numbers of leases.
    pub lease_rules: lease::Rules,
    /// Its name, stable over restarts.
    pub worker: WorkerId,
    /// The road to the coordinators.
    pub channel: Channel,
    /// The figures of the process.
    pub metrics: Metrics,
    /// The end of the process.
    pub shutdown: Shutdown,
}

/// Runs a worker until the end of its process is wished. A process that is declared dead begins anew as another one.
pub async fn run(parts: Parts) {
    while !parts.shutdown.is_wished() {
        if let Err(error) = incarnation(&parts).await {
            tracing::error!(%error, "the worker could not begin");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn incarnation(parts: &Parts) -> Result<(), SpawnErr> {
    let Parts { store, settings, clocks, lease_rules, worker, channel, metrics, shutdown } = parts.clone();
    let shared = Arc::new(Shared::new(store, settings, clocks, lease_rules, metrics));
    let incarnation = Incarnation::new(shared.new_id());
    let (supervisor, stopped) = Actor::spawn(None, Supervisor, (shared.clone(), incarnation)).await?;
    let session = Session::new(shared.clone(), worker, incarnation, supervisor.clone(), channel);
    let session = tokio::spawn(session.run());
    let lease = tokio::spawn(keep(shared.clone(), incarnation));
    let sweeper = tokio::spawn(sweep(shared.clone()));
    tokio::select! {
        () = shared.lease_lost() => tracing::warn!("the lease was lost: everything that was held is dropped"),
        () = shutdown.wished() => close(&shared, incarnation, &supervisor).await,
    }
    supervisor.stop(None);
    let _ended = stopped.await;
    for task in [session, lease, sweeper] {
        task.abort();
    }
    Ok(())
}

/// Ends what is under way and gives everything back.
async fn close(shared: &Shared, incarnation: Incarnation, supervisor: &ActorRef<Message>) {
    if let Err(error) = shared.store.drain(incarnation).await {
        tracing::warn!(%error, "nobody could be told that this worker goes away");
    }
    let closed = supervisor.call(Message::Close, Some(CLOSED)).await;
    if !matches!(closed, Ok(ractor::rpc::CallResult::Success(()))) {
        tracing::warn!(
            "not everything ended in time: its shards are not given back but taken after their lease"
        );
        return;
    }
    let released = async {
        let held: Vec<(ShardId, Epoch)> =
            shared.store.held(incarnation).await?.iter().map(|grant| (grant.shard, grant.epoch)).collect();
        shared.store.release(incarnation, &held).await
    };
    match released.await {
        Ok(()) => tracing::info!("everything was given back"),
        Err(error) => tracing::warn!(%error, "shards could not be given back"),
    }
}

async fn sweep(shared: Arc<Shared>) {
    loop {
        match shared.store.sweep_uploads(shared.now() - SWEPT).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(uploads = swept, "chunks that belong to nothing were swept"),
            Err(error) => tracing::warn!(%error, "chunks could not be swept"),
        }
        tokio::time::sleep(SWEPT).await;
    }
}

/// Runs a worker as an essential task of its process.
pub fn spawn(parts: Parts) {
    let shutdown = parts.shutdown.clone();
    shutdown.spawn(Kind::Essential, "worker", run(parts));
}
