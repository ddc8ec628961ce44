//! `mailyard serve`: a whole Mailyard on a data directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mailyard_coordinator::api::{self, Api};
use mailyard_host::{
    config::{self, Config},
    data_dir::{DataDir, Endpoint},
    metrics::Metrics,
    ops::{self, Ops, Readiness},
    shutdown::{Kind, Shutdown},
    telemetry,
};
use mailyard_worker::settings::Settings;
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::{
    embedded::{self, Embedded},
    error::Error,
    sim::say,
};

/// What is under way when the end is wished may take so long altogether.
const ENDED: Duration = Duration::from_secs(24);

/// A whole Mailyard in one process, with everything it keeps in the data directory.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where gRPC is served; overrides the configuration
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The configuration; mailyard.toml in the data directory otherwise
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One key of the configuration, such as sync.active_period=1m; may be given often
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    parts.ok_or_else(|| "KEY=VALUE is expected, such as sync.active_period=1m".to_owned())
}

/// Runs it until it is asked to stop.
///
/// # Errors
/// What keeps it from beginning, or made it end by itself.
pub async fn run(serve: Serve, folder: &Path) -> Result<(), Error> {
    let data = DataDir::open(folder)?;
    let config = read(&serve, &data)?;
    let telemetry = telemetry::init(&config.log, &config.telemetry, "embedded")?;
    let shutdown = Shutdown::on_signals()?;
    let metrics = Metrics::new("embedded", telemetry.meter());
    let running = start(data, &config, Settings::of(&config), &metrics, &shutdown).await?;
    say(&Endpoint { pid: None, ..running.endpoint.clone() })?;
    shutdown.wished().await;
    let failed = running.end(&shutdown).await;
    telemetry.shutdown().await;
    failed.map_or(Ok(()), |task| Err(Error::Ended(task)))
}

fn read(serve: &Serve, data: &DataDir) -> Result<Config, Error> {
    let own = data.path().join("mailyard.toml");
    let file = serve.config.clone().or_else(|| own.exists().then_some(own));
    let listen = serve.listen.map(|address| address.to_string());
    let mut flags: Vec<(&str, &str)> =
        serve.set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    flags.extend(listen.as_deref().map(|address| ("listen.grpc", address)));
    Ok(config::load(file.as_deref(), config::environment(), &flags)?)
}

/// A server that runs.
pub struct Running {
    /// Where it is found.
    pub endpoint: Endpoint,
    /// Coordinator, worker and store.
    pub embedded: Embedded,
    /// Where metrics and health are served, if they are.
    pub ops: Option<Ops>,
    data: DataDir,
}

/// Begins a server on a data directory, the worker with these numbers.
///
/// # Errors
/// What keeps it from beginning.
pub async fn start(
    data: DataDir,
    config: &Config,
    settings: Settings,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Running, Error> {
    let listener = listen(config.listen.grpc).await?;
    let address = listener.local_addr()?;
    let (identity, token) = (data.identity()?, SecretString::from(data.token()?));
    let readiness = Readiness::default();
    readiness.set("leader", Err("nobody leads yet".to_owned()));
    let ops = match config.listen.ops {
        Some(address) => {
            let page = metrics.clone();
            let served =
                ops::serve(address, readiness.clone(), move || page.render(), shutdown.clone()).await;
            Some(served.map_err(|source| Error::Listen { address, source })?)
        }
        None => None,
    };
    let store = embedded::open_store(data.path(), config).await?;
    let embedded = embedded::start(store.clone(), config, settings, metrics, shutdown).await?;
    let leader = embedded.coordinator.leader.clone();
    let api = Arc::new(Api::new(store, leader, config.into(), shutdown.clone()));
    let served = readiness.clone();
    shutdown.spawn(Kind::Essential, "api", async move {
        if let Err(error) = api::serve(listener, &identity, &token, api, &served).await {
            tracing::error!(%error, "the API is not served any more");
        }
    });
    watch_leader(&embedded, &readiness, shutdown);
    let endpoint = data.publish(vec![format!("https://{address}")])?;
    tracing::info!(%address, "the server is ready");
    Ok(Running { endpoint, embedded, ops, data })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Ready while somebody leads.
fn watch_leader(embedded: &Embedded, readiness: &Readiness, shutdown: &Shutdown) {
    let (mut led, readiness) = (embedded.coordinator.leading.changes(), readiness.clone());
    shutdown.spawn(Kind::Disposable, "readiness", async move {
        loop {
            let leads = led.borrow_and_update().is_some();
            readiness.set("leader", if leads { Ok(()) } else { Err("nobody leads".to_owned()) });
            if led.changed().await.is_err() {
                return;
            }
        }
    });
}

impl Running {
    /// Ends what is under way, once the end is wished. The task that made it end, if one did.
    pub async fn end(self, shutdown: &Shutdown) -> Option<&'static str> {
        self.data.withdraw();
        if !shutdown.finished(ENDED).await {
            tracing::warn!("not everything ended in time");
        }
        drop(self.embedded);
        shutdown.failed()
    }
}
