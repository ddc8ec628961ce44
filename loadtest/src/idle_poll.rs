//! CPU per poll that finds nothing: the whole road of the running worker, beside wrk, which sends the very same bytes,
//! and exchangelib.

use crate::{
    Outcome,
    figures::Table,
    peer,
    stand::{Data, Sim, Stand},
    told,
    window::{Window, watch},
};

const POLL: &str = "SyncFolderItems";
/// Enough that somebody is always due.
const HURRIED: [&str; 4] =
    ["sync.active_period=10ms", "sync.active_min=10ms", "sync.active_max=10ms", "sync.idle_max=10ms"];
/// As a deployment paces its mailboxes, only sooner.
const PACED: [&str; 4] =
    ["sync.active_period=5s", "sync.active_min=5s", "sync.active_max=5s", "sync.idle_max=5s"];

/// The table of idle polls.
///
/// # Errors
/// A process that does not begin, or makes no request.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let mailboxes = stand.count(1000, 100);
    let sim = Sim::start(stand, "sim-poll", mailboxes, &["--no-gzip"]).await?;
    let (hurried, slow) = (Data::new(stand, "data-poll"), Data::new(stand, "data-paced"));
    for (data, pace, idle_max) in [(&hurried, &HURRIED, "10ms"), (&slow, &PACED, "5s")] {
        let server = data.serve(pace).await?;
        data.enable(&sim, &sim.addresses()?, idle_max).await?;
        server.stop().await?;
    }
    let (mut ours, mut wrk, mut exchangelib, mut paced) = (vec![], vec![], vec![], vec![]);
    for _ in 0..stand.rounds {
        ours.push(worker(stand, &hurried, &sim, &HURRIED).await?);
        wrk.push(wrk_once(stand, &sim).await?);
        exchangelib.push(exchangelib_once(stand, &sim).await?);
        paced.push(worker(stand, &slow, &sim, &PACED).await?);
    }
    let cpu = |windows: &[Window]| windows.iter().map(|one| one.cpu_per_request).collect::<Vec<_>>();
    let rate = |windows: &[Window]| windows.iter().map(|one| one.rate).collect::<Vec<_>>();
    let mut table =
        Table::new(format!("Idle polls over TLS, {mailboxes} mailboxes, 64 connections, no gzip"));
    table.row("Mailyard, saturating the server", "CPU ms/poll", &cpu(&ours));
    table.row("wrk, the same bytes", "CPU ms/poll", &cpu(&wrk));
    table.row("exchangelib, one connection", "CPU ms/poll", &cpu(&exchangelib));
    table.row("Mailyard, paced", "CPU ms/poll", &cpu(&paced));
    table.row("Mailyard, saturating the server", "polls/s", &rate(&ours));
    table.row("wrk, the same bytes", "polls/s", &rate(&wrk));
    table.row("exchangelib, one connection", "polls/s", &rate(&exchangelib));
    table.row("Mailyard, paced", "polls/s", &rate(&paced));
    Ok(told(table))
}

async fn worker(stand: &Stand, data: &Data<'_>, sim: &Sim, pace: &[&str]) -> Outcome<Window> {
    let (warm, long) = stand.times();
    let server = data.serve(pace).await?;
    tokio::time::sleep(warm).await;
    let window = watch(&server, sim, POLL, long).await?;
    server.stop().await?;
    Ok(window)
}

async fn wrk_once(stand: &Stand, sim: &Sim) -> Outcome<Window> {
    let (warm, long) = stand.times();
    let wrk = peer::wrk(stand, sim).await?;
    tokio::time::sleep(warm).await;
    watch(&wrk, sim, POLL, long).await
}

async fn exchangelib_once(stand: &Stand, sim: &Sim) -> Outcome<Window> {
    let (warm, long) = stand.times();
    let exchangelib = peer::exchangelib(stand, sim, "poll")?;
    tokio::time::sleep(warm).await;
    watch(&exchangelib, sim, POLL, long).await
}
