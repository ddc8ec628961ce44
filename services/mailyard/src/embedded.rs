//! Coordinator and worker in one process on one database file: the same code as in a cluster, over memory.

use std::{path::Path, sync::Arc};

use mailyard_coordinator::{self as coordinator, Coordinator, mail::Mailer};
use mailyard_host::{clock, config::Config, metrics::Metrics, shutdown::Shutdown};
use mailyard_policy::id::WorkerId;
use mailyard_store::{MasterKey, SqliteStore, Store, fleet::SoleHolder};
use mailyard_worker::{self as worker, settings::Settings, shared::Clocks};

use crate::{error::Error, pipe};

/// A whole Mailyard that runs.
pub struct Embedded {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The coordinator.
    pub coordinator: Coordinator,
}

/// The store of a data directory.
///
/// # Errors
/// The database or the key cannot be used.
pub async fn open_store(folder: &Path, config: &Config) -> Result<Arc<dyn Store>, Error> {
    let key_file = config.store.key_file.clone().unwrap_or_else(|| folder.join("master.key"));
    let database = config.store.path.clone().unwrap_or_else(|| folder.join("mailyard.db"));
    let key = MasterKey::load_or_create(&key_file)?;
    Ok(Arc::new(SqliteStore::open(&database, key).await?))
}

/// Begins coordinator and worker, the worker with these numbers ([`Settings::of`] the configuration). Whoever calls this holds the data directory: nobody else can be there.
///
/// # Errors
/// What keeps one of them from beginning.
pub async fn start(
    store: Arc<dyn Store>,
    config: &Config,
    settings: Settings,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Embedded, Error> {
    let name = if config.worker.id.is_empty() { host_name() } else { config.worker.id.clone() };
    let coordinator = coordinator::start(coordinator::Parts {
        store: store.clone(),
        config: config.clone(),
        holder: name.clone(),
        proof: Some(SoleHolder),
        mailer: Mailer::new(coordinator::relay(config))?,
        now: clock::now,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    })
    .await
    .map_err(|error| Error::Begun(error.to_string()))?;
    // A worker that comes before anybody leads is only told to come again.
    let mut led = coordinator.leading.changes();
    let _ended = led.wait_for(Option::is_some).await;
    worker::spawn(worker::Parts {
        store: store.clone(),
        settings,
        clocks: Clocks { now: clock::now, boot: clock::boot_time },
        lease_rules: config.lease_rules(),
        worker: WorkerId(name),
        channel: pipe::serve(coordinator.sessions.clone()),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    });
    Ok(Embedded { store, coordinator })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "mailyard".to_owned())
}
