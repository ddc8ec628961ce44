//! Why a command of this process did not do what it should.

use mailyard_coordinator::mail::MailError;
use mailyard_host::{config, data_dir, telemetry};

/// Why a process could not begin, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The database or its key.
    #[error(transparent)]
    Store(#[from] mailyard_store::Error),
    /// The mail relay's settings.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// Logs and traces.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The simulator.
    #[error(transparent)]
    Simulator(#[from] mailyard_exchange_sim::Error),
    /// An address that cannot be listened on.
    #[error(
        "{address} cannot be listened on: {source}; name another one with --listen, or stop what uses it"
    )]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Something of the operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A part could not begin.
    #[error("a part of the process could not begin: {0}")]
    Begun(String),
    /// The process ended by itself.
    #[error("the task {0} ended without which the process cannot go on; the log says why")]
    Ended(&'static str),
}
