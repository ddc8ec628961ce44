//! A server that is killed again and again while mail comes in and goes out; and what is true afterwards.
//!
//! The simulator is a process of its own and lives on: its ground truth says what arrived and what was submitted.

mod report;
mod traffic;
mod window;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mailyard::control::Control;
use mailyard_ctl::server::Server;
use mailyard_exchange_sim::Ready;
use mailyard_host::data_dir::Endpoint;

pub use report::Report;
use window::Seen;
pub use window::{Hits, Window};

use crate::{Outcome, process::Process, tenant};
use traffic::Traffic;

/// What to do to a server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary.
    pub binary: PathBuf,
    /// A folder of its own.
    pub folder: PathBuf,
    /// What repeats, repeats with the same seed: the moments of random kills.
    pub seed: u64,
    /// How many mailboxes.
    pub mailboxes: usize,
    /// Kills at random moments.
    pub random: usize,
    /// Kills aimed into each window.
    pub aimed: usize,
    /// Between two mails that come in.
    pub incoming_every: Duration,
    /// Between two mails that are enqueued.
    pub outgoing_every: Duration,
}

/// A server and its simulator.
pub struct Killing {
    plan: Plan,
    _simulator: Process,
    ready: Ready,
    control: Control,
    chance: u64,
    seen: Seen,
}

/// Kills for one hit of a window, at the most.
const TRIES: usize = 5;
/// Everything that waits for minutes waits for a second.
const HURRIED: &[&str] = &[
    "sync.active_period=1s",
    "sync.active_min=500ms",
    "sync.active_max=2s",
    "sync.idle_max=2s",
    "sync.retry_gap=1s",
];
/// After the last kill everything must come to rest within this: sendings of unknown outcome wait for the longest
/// request twice.
const RESTED: Duration = Duration::from_mins(3);

impl Killing {
    /// Starts the simulator.
    ///
    /// # Errors
    /// It does not begin.
    pub async fn begin(plan: Plan) -> Outcome<Self> {
        std::fs::create_dir_all(&plan.folder)?;
        let arguments = [
            "sim".to_owned(),
            format!("--mailboxes={}", plan.mailboxes),
            format!("--seed={}", plan.seed),
            format!("--folder={}", plan.folder.join("exchange").display()),
        ];
        let log = plan.folder.join("sim.log");
        let (simulator, ready): (_, Ready) = Process::start(&plan.binary, arguments, &log).await?;
        let control = Control::new(&ready.control_url);
        let chance = plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Ok(Self { plan, _simulator: simulator, ready, control, chance, seen: Seen::default() })
    }

    /// Kills the server as planned while mail comes in and goes out, lets it come to rest, and tells what is true then.
    ///
    /// # Errors
    /// The server does not begin, or does not come to rest.
    pub async fn run(mut self) -> Outcome<Report> {
        let begun = Instant::now();
        let (server, process) = self.start().await?;
        tenant::set_up(&server, &self.ready).await?;
        let traffic = Arc::new(Traffic::new(self.addresses()?, self.control.clone(), self.data()));
        let flowing = traffic.clone().flow(self.plan.incoming_every, self.plan.outgoing_every);
        let mut report = Report::default();
        let mut running = Some(process);
        let aims: Vec<Window> =
            Window::ALL.into_iter().flat_map(|window| vec![window; self.plan.aimed]).collect();
        for window in aims {
            // An answer that is held back may be about mail that is known already: then it is aimed again.
            for _ in 0..TRIES {
                let process = self.up(running.take()).await?;
                let hit = window.aim(&self.control, &traffic, process, &mut self.seen).await?;
                report.aimed.note(window, hit);
                report.aimed_kills += 1;
                if hit {
                    break;
                }
            }
        }
        self.control.delete("/fault").await?;
        for _ in 0..self.plan.random {
            let process = self.up(running.take()).await?;
            let wait = self.random(200, 5000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            process.kill().await?;
            report.random_kills += 1;
            for hit in self.seen.new_in(&traffic, &self.control).await? {
                report.random.note(hit, true);
            }
        }
        let (server, process) = self.start().await?;
        flowing.stop().await?;
        report.traffic(&traffic, begun.elapsed());
        report.rest(&server, &self.control, &traffic, RESTED).await?;
        report.exit_code = process.stop().await?;
        Ok(report)
    }

    async fn up(&mut self, running: Option<Process>) -> Outcome<Process> {
        match running {
            Some(process) => Ok(process),
            None => Ok(self.start().await?.1),
        }
    }

    async fn start(&self) -> Outcome<(Server, Process)> {
        let data = self.data();
        let mut arguments = vec!["serve".to_owned(), format!("--data={}", data.display())];
        arguments.extend(HURRIED.iter().map(|set| format!("--set={set}")));
        let log = self.plan.folder.join("serve.log");
        let (process, endpoint): (_, Endpoint) = Process::start(&self.plan.binary, arguments, &log).await?;
        let server = Server::at(&endpoint, "default").await?;
        Ok((server, process))
    }

    fn data(&self) -> PathBuf {
        self.plan.folder.join("data")
    }

    fn addresses(&self) -> Outcome<Vec<String>> {
        let text = std::fs::read_to_string(Path::new(&self.ready.addresses_file))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The next number between two, of this seed.
    fn random(&mut self, from: u64, to: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        from + self.chance % (to - from)
    }
}
