//! Figures: what a poll, a message and a mailbox cost, beside clients that others wrote, against the same server.
//!
//! Everything runs as real processes, the server on one core and the client that is measured on another.

mod all;
mod capture;
mod fairness;
mod faults;
mod fetch;
mod figures;
mod idle_poll;
mod memory;
mod notified;
mod outage;
mod peer;
mod plan;
mod process;
mod schemes;
mod stand;
mod track;
mod window;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use mailyard_host::config::Setting as _;

use crate::{figures::Table, stand::Stand};

/// What any step may fail with.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures what polls, messages and mailboxes cost.
#[derive(Parser)]
#[command(name = "mailyard-loadtest", version)]
struct Arguments {
    /// Write the figures to this file, too
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The mailyard to measure; otherwise the one that lies beside this program
    #[arg(long, global = true, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The Python that exchangelib is installed for
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MAILYARD_PYTHON",
        default_value = ".venv/bin/python"
    )]
    python: PathBuf,
    /// A short run that proves that everything works; its figures say little
    #[arg(long, global = true)]
    small: bool,
    /// Rounds of which the median counts
    #[arg(long, global = true, value_name = "N")]
    rounds: Option<usize>,
    /// Where data and logs lie and stay; a temporary folder otherwise
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Everything
    All,
    /// CPU per poll that finds nothing, beside wrk and exchangelib
    IdlePoll,
    /// CPU per message fetched, beside exchangelib
    Fetch,
    /// CPU per message fetched, tracked and durably committed
    Track,
    /// Resident memory per idle mailbox
    Memory,
    /// CPU per poll over NTLM, Negotiate and OAuth, beside Basic
    Schemes,
    /// A server on which something goes wrong all the time: whether limits are kept to and nothing is lost
    Faults {
        /// How long things go wrong; 1h, or 20s with --small
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        long: Option<Duration>,
    },
    /// A server that is down: how often it is asked, and how everybody comes back
    Outage {
        /// How long it is down; 5m, or 12s with --small
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        long: Option<Duration>,
    },
    /// One mailbox with very many new messages on a server that cannot keep up: who has to wait
    Fairness,
    /// Mailboxes that are watched by notifications: how long it takes until new mail is tracked
    Notified,
    /// How long the placement of very many mailboxes on many workers is planned
    Plan,
    /// The client that `fetch` measures; its only argument is the simulator's ready line
    #[command(hide = true)]
    FetchClient {
        /// The simulator's ready line
        ready: String,
    },
}

/// Reads a duration such as 90s, 10m or 1h.
fn duration(text: &str) -> Result<Duration, String> {
    Duration::read(text).ok_or_else(|| "a duration such as 90s, 10m or 1h is expected".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Outcome {
    let Arguments { json, binary, python, small, rounds, folder, command } = arguments;
    if let Command::FetchClient { ready } = command {
        return fetch::client(&ready).await;
    }
    let stand = Stand::new(binary, python, folder, small, rounds)?;
    let tables = match command {
        Command::All => all::run(&stand).await?,
        Command::IdlePoll => vec![idle_poll::run(&stand).await?],
        Command::Fetch => vec![fetch::run(&stand).await?],
        Command::Track => vec![track::run(&stand).await?],
        Command::Memory => vec![memory::run(&stand).await?],
        Command::Schemes => vec![schemes::run(&stand).await?],
        Command::Faults { long } => {
            let usual = stand.count(3600, 20) as u64;
            vec![faults::run(&stand, long.unwrap_or(Duration::from_secs(usual))).await?]
        }
        Command::Outage { long } => {
            let usual = stand.count(300, 12) as u64;
            vec![outage::run(&stand, long.unwrap_or(Duration::from_secs(usual))).await?]
        }
        Command::Fairness => vec![fairness::run(&stand).await?],
        Command::Notified => vec![notified::run(&stand).await?],
        Command::Plan => vec![plan::run(&stand)?],
        Command::FetchClient { .. } => Vec::new(),
    };
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&tables)?)?;
    }
    Ok(())
}

/// Prints a table as soon as it is there.
fn told(table: Table) -> Table {
    println!("{table}");
    table
}
