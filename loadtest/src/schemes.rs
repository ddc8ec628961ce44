//! CPU per poll by the scheme that the service account signs in with: a handshake is per connection and a token per hour,
//! so that none of them may cost much more than Basic.

use crate::{
    Outcome,
    figures::{Bound, Table},
    idle_poll::{HURRIED, Worker},
    stand::{Profile, Sim, Stand},
    told,
    window::{cpu, rate},
};

/// The first is what the others are compared with.
const SCHEMES: [&str; 4] = ["basic", "ntlm", "negotiate", "oauth"];

/// The table of schemes.
///
/// # Errors
/// A process that does not begin, or makes no request.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let mailboxes = stand.count(1000, 100);
    let sim = Sim::start(stand, "sim-schemes", mailboxes, &["--no-gzip", "--auth", &SCHEMES.join(",")])?;
    let mut workers = Vec::new();
    for auth in SCHEMES {
        let profile = Profile { auth, ..Profile::basic("10ms") };
        let worker = Worker::prepared(stand, &format!("data-{auth}"), &sim, HURRIED, &profile)?;
        workers.push((auth, worker, Vec::new()));
    }
    for _ in 0..stand.rounds {
        for (_, worker, windows) in &mut workers {
            windows.push(worker.once(stand, &sim).await?);
        }
    }
    let mut table =
        Table::new(format!("Idle polls by scheme, {mailboxes} mailboxes, 64 connections, no gzip"));
    for (auth, _, windows) in &workers {
        let row = table.row(*auth, "CPU ms/poll", &cpu(windows));
        if row.ratio.is_some() {
            row.bound(Bound::RatioAtMost(1.1));
        }
    }
    for (auth, _, windows) in &workers {
        table.row(*auth, "polls/s", &rate(windows));
    }
    Ok(told(table))
}
