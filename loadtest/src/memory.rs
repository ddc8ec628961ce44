//! Resident memory per idle mailbox: actor, schedule, and whatever of its state is held in memory.

use std::time::Duration;

use crate::{
    Outcome,
    figures::Table,
    process::Process,
    stand::{Data, Profile, Sim, Stand, steady},
    told,
};

const POLL: &str = "SyncFolderItems";
/// Polls of each mailbox before its memory is looked at: it remembers its last sixteen.
const PERIODS: u64 = 17;

/// The table of memory.
///
/// # Errors
/// A process that does not begin.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let (few, many) = (stand.count(5000, 200), stand.count(20_000, 800));
    let period = format!("{}s", stand.count(10, 1));
    let settings = steady(&period);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let sim = Sim::start(stand, "sim-memory", many, &["--state-items", "500"])?;
    let addresses = sim.addresses()?;
    let data = Data::new(stand, "data-memory");
    let mut table = Table::new(format!("Resident memory, Inboxes of 500 items, polled every {period}"));

    let server = data.serve(&settings)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let nothing = server.resident()?;
    server.stop()?;
    table.row("no mailbox", "MB", &[nothing as f64 / 1e6]);
    let mut before = 0;
    for count in [few, many] {
        let server = data.serve(&settings)?;
        data.enable(&sim, addresses.get(before..count).unwrap_or_default(), &Profile::basic(&period))?;
        // What it held to set them up is not what it holds while they are idle.
        server.stop()?;
        let server = data.serve(&settings)?;
        let resident = settled(&server, &sim, count).await?;
        table.row(format!("{count} mailboxes"), "MB", &[resident as f64 / 1e6]);
        let each = resident.saturating_sub(nothing) as f64 / count as f64;
        table.row(format!("each of {count}"), "kB/mailbox", &[each / 1000.0]);
        server.stop()?;
        before = count;
    }
    Ok(told(table))
}

/// Resident bytes once each mailbox was polled several times.
async fn settled(server: &Process, sim: &Sim, mailboxes: usize) -> Outcome<u64> {
    let before = sim.requests(POLL).await?;
    sim.saw(POLL, before + mailboxes as u64 * PERIODS).await?;
    server.resident()
}
