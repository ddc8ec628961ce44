//! CPU per poll that finds nothing: the whole road of the running worker, beside wrk, which sends the very same bytes,
//! and exchangelib.

use crate::{
    Outcome,
    figures::Table,
    peer,
    stand::{Data, Profile, Sim, Stand},
    told,
    window::{Window, cpu, rate, watch},
};

const POLL: &str = "SyncFolderItems";
/// How a worker is paced: settings of its server.
type Pace = [&'static str; 4];
/// Enough that somebody is always due.
pub const HURRIED: Pace =
    ["sync.active_period=10ms", "sync.active_min=10ms", "sync.active_max=10ms", "sync.idle_max=10ms"];
/// As a deployment paces its mailboxes, only sooner.
const PACED: Pace = ["sync.active_period=5s", "sync.active_min=5s", "sync.active_max=5s", "sync.idle_max=5s"];

/// The table of idle polls.
///
/// # Errors
/// A process that does not begin, or makes no request.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let mailboxes = stand.count(1000, 100);
    let sim = Sim::start(stand, "sim-poll", mailboxes, &["--no-gzip"])?;
    let hurried = Worker::prepared(stand, "data-poll", &sim, HURRIED, &Profile::basic("10ms"))?;
    let slow = Worker::prepared(stand, "data-paced", &sim, PACED, &Profile::basic("5s"))?;
    let (mut ours, mut wrk, mut exchangelib, mut paced) = (vec![], vec![], vec![], vec![]);
    for _ in 0..stand.rounds {
        ours.push(hurried.once(stand, &sim).await?);
        wrk.push(wrk_once(stand, &sim).await?);
        exchangelib.push(exchangelib_once(stand, &sim).await?);
        paced.push(slow.once(stand, &sim).await?);
    }
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

/// A server whose mailboxes are enabled, and which runs only while it is watched.
pub struct Worker<'a> {
    data: Data<'a>,
    pace: Pace,
}

impl<'a> Worker<'a> {
    /// Enables all mailboxes of the simulator on a profile.
    ///
    /// # Errors
    /// The server refuses, or not all of them work.
    pub fn prepared(
        stand: &'a Stand,
        name: &str,
        sim: &Sim,
        pace: Pace,
        profile: &Profile<'_>,
    ) -> Outcome<Self> {
        let data = Data::new(stand, name);
        let server = data.serve(&pace)?;
        data.enable(sim, &sim.addresses()?, profile)?;
        server.stop()?;
        Ok(Self { data, pace })
    }

    /// Watches it poll for a while.
    ///
    /// # Errors
    /// It does not begin, or makes no request.
    pub async fn once(&self, stand: &Stand, sim: &Sim) -> Outcome<Window> {
        let (warm, long) = stand.times();
        let server = self.data.serve(&self.pace)?;
        tokio::time::sleep(warm).await;
        let window = watch(&server, sim, POLL, long).await?;
        server.stop()?;
        Ok(window)
    }
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
