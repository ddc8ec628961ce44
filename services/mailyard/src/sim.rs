//! `mailyard sim`: a simulated Exchange as a process of its own.

use std::{io::Write as _, net::SocketAddr, path::PathBuf};

use mailyard_exchange_sim::{Behaviour, Grant, Options, Permission, Scheme, Simulator};
use mailyard_host::shutdown::Shutdown;

use crate::error::Error;

/// A simulated Exchange on real HTTPS, for trying things out and for tests.
#[derive(Debug, clap::Args)]
pub struct Sim {
    /// Where EWS is served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where Autodiscover says without TLS where to ask with it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    plain_listen: SocketAddr,
    /// Where it is controlled: plain HTTP, keep it on the loopback
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// How clients may sign in, any of basic, ntlm, negotiate and oauth
    #[arg(long, value_name = "SCHEMES", value_delimiter = ',', default_value = "basic")]
    auth: Vec<Scheme>,
    /// Which Exchange it is: 15.0 is 2013 SP1, 15.1 is 2016, 15.2 is 2019 and SE
    #[arg(long, value_name = "VERSION", value_enum, default_value_t)]
    version: Version,
    /// What the service account may do in every mailbox without impersonation, any of full_access, delegate and send_as
    #[arg(long, value_name = "PERMISSIONS", value_delimiter = ',')]
    grant: Vec<Permission>,
    /// How many mailboxes there are
    #[arg(long, value_name = "N", default_value_t = 10)]
    mailboxes: usize,
    /// What repeats, repeats with the same seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Messages that lie in each Inbox at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    initial_messages: usize,
    /// The mail domain
    #[arg(long, value_name = "NAME", default_value = "exchange.test")]
    domain: String,
    /// Be laxer than Exchange: SendItem leaves the draft where it is, asks for no change key, and moved ids live on
    #[arg(long)]
    lax: bool,
    /// Compress no answer
    #[arg(long)]
    no_gzip: bool,
    /// Give sync states at least as large as those of a folder with so many items
    #[arg(long, value_name = "N", default_value_t = 0)]
    state_items: u32,
    /// Where ca.pem, addresses.txt and application.pem are written; a temporary folder of its own otherwise
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Versions of Exchange that differ in what they know.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Version {
    #[value(name = "15.0")]
    Exchange2013,
    #[value(name = "15.1")]
    Exchange2016,
    #[default]
    #[value(name = "15.2")]
    Exchange2019,
}

impl Version {
    /// Major, minor and build of an update that is widely in use.
    fn build(self) -> (u16, u16, u16) {
        match self {
            Self::Exchange2013 => (15, 0, 847),
            Self::Exchange2016 => (15, 1, 2507),
            Self::Exchange2019 => (15, 2, 1748),
        }
    }
}

/// Runs it until it is asked to stop.
///
/// # Errors
/// What keeps it from beginning.
pub async fn run(sim: Sim) -> Result<(), Error> {
    let shutdown = Shutdown::on_signals()?;
    let (folder, own) = match sim.folder {
        Some(folder) => (folder, false),
        None => (std::env::temp_dir().join(format!("mailyard-sim-{}", std::process::id())), true),
    };
    let mut options = Options::new(sim.mailboxes, sim.seed, &folder);
    options.auth = sim.auth;
    options.grants = vec![Grant { mailbox: None, to: None, permissions: sim.grant }];
    options.version = sim.version.build();
    options.listen = sim.listen;
    options.plain_listen = sim.plain_listen;
    options.control_listen = sim.control_listen;
    options.initial_messages = sim.initial_messages;
    options.domain = sim.domain;
    options.gzip = !sim.no_gzip;
    options.state_items = sim.state_items;
    if sim.lax {
        options.behaviour =
            Behaviour { send_consumes_draft: false, send_checks_change_key: false, moved_id_dies: false };
    }
    let simulator = Simulator::start(options).await?;
    say(simulator.ready())?;
    shutdown.wished().await;
    simulator.shutdown().await;
    if own {
        // It is ours, and of no use to anybody without us.
        let _harmless = std::fs::remove_dir_all(&folder);
    }
    Ok(())
}

/// The first line on stdout: whoever started this process waits for it.
pub(crate) fn say(ready: &impl serde::Serialize) -> Result<(), Error> {
    let line = serde_json::to_string(ready).map_err(std::io::Error::from)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
