//! What figures are taken from: a simulated Exchange, and a server on a data directory, each a process on its core.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use mailyard::control::Control;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Outcome,
    process::{self, CLIENT, Process, SERVER},
};

/// Nothing that is waited for takes longer.
const LONGEST: Duration = Duration::from_mins(10);

/// Where and how figures are taken.
#[derive(Debug)]
pub struct Stand {
    /// The mailyard to measure.
    pub binary: PathBuf,
    /// The Python that exchangelib is installed for.
    pub python: PathBuf,
    /// The figures need not say much.
    pub small: bool,
    /// Rounds of which the median counts.
    pub rounds: usize,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Stand {
    /// A stand in a folder of its own. This program keeps to the server's core from now on.
    ///
    /// # Errors
    /// There is no folder, no second core, or no program to measure.
    pub fn new(
        binary: Option<PathBuf>,
        python: PathBuf,
        folder: Option<PathBuf>,
        small: bool,
        rounds: Option<usize>,
    ) -> Outcome<Self> {
        process::pin(SERVER)?;
        let beside = std::env::current_exe()?.with_file_name("mailyard");
        let binary = binary.unwrap_or(beside);
        if !binary.exists() {
            let binary = binary.display();
            return Err(
                format!("{binary} is not there: build it with cargo build --release -p mailyard").into()
            );
        }
        let rounds = rounds.unwrap_or(if small { 1 } else { 7 });
        let temporary = if folder.is_none() { Some(tempfile::tempdir()?) } else { None };
        let folder =
            folder.or_else(|| Some(temporary.as_ref()?.path().to_owned())).ok_or("there is no folder")?;
        std::fs::create_dir_all(&folder)?;
        Ok(Self { binary, python, small, rounds, folder, _temporary: temporary })
    }

    /// A file of this stand.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The whole number, or the small one.
    pub fn count(&self, whole: usize, small: usize) -> usize {
        if self.small { small } else { whole }
    }

    /// How long a client runs before it is watched, and how long it is watched.
    pub fn times(&self) -> (Duration, Duration) {
        if self.small {
            (Duration::from_millis(1500), Duration::from_millis(1500))
        } else {
            (Duration::from_secs(3), Duration::from_secs(6))
        }
    }
}

/// The ready line of a simulator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ready {
    /// Where clients go.
    pub ews_url: String,
    /// The authority to trust.
    pub ca_file: PathBuf,
    /// The service account.
    pub user: String,
    /// Everybody's password.
    pub password: String,
    /// One address per line.
    pub addresses_file: PathBuf,
    /// Where the control door is.
    pub control_url: String,
}

/// A simulated Exchange.
#[derive(Debug)]
pub struct Sim {
    /// How it is reached.
    pub ready: Ready,
    control: Control,
    _process: Process,
}

impl Sim {
    /// Starts one with so many mailboxes; what it keeps lies in a folder of this name.
    ///
    /// # Errors
    /// It does not begin.
    pub async fn start(stand: &Stand, name: &str, mailboxes: usize, more: &[&str]) -> Outcome<Self> {
        let (folder, mailboxes) = (stand.path(name).to_string_lossy().into_owned(), mailboxes.to_string());
        let mut arguments = vec!["sim", "--mailboxes", &mailboxes, "--folder", &folder];
        arguments.extend(more);
        let log = stand.path(&format!("{name}.log"));
        let (process, ready) = Process::ready::<_, Ready>(SERVER, &stand.binary, arguments, &log).await?;
        Ok(Self { control: Control::new(&ready.control_url), ready, _process: process })
    }

    /// Requests of an operation that it has seen.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn requests(&self, operation: &str) -> Outcome<u64> {
        Ok(self.control.get("/stats").await?["requests"][operation].as_u64().unwrap_or_default())
    }

    /// Delivers so many messages of this size to a mailbox.
    ///
    /// # Errors
    /// It refuses.
    pub async fn deliver(&self, address: &str, count: usize, size: usize) -> Outcome {
        let made = serde_json::json!({ "to": [address], "count": count, "size": size });
        self.control.post("/deliver", &made).await?;
        Ok(())
    }

    /// Addresses of its mailboxes.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn addresses(&self) -> Outcome<Vec<String>> {
        let text = std::fs::read_to_string(&self.ready.addresses_file)?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }

    /// Waits until it has seen so many requests of an operation.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn saw(&self, operation: &str, count: u64) -> Outcome {
        let begun = Instant::now();
        while self.requests(operation).await? < count {
            if begun.elapsed() > LONGEST {
                return Err(format!("{count} of {operation} were not seen in time").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

/// A data directory, on which a server may run.
#[derive(Debug)]
pub struct Data<'a> {
    stand: &'a Stand,
    folder: PathBuf,
}

impl<'a> Data<'a> {
    /// The data directory of this name.
    pub fn new(stand: &'a Stand, name: &str) -> Self {
        Self { stand, folder: stand.path(name) }
    }

    /// Starts a server on it; each setting is KEY=VALUE.
    ///
    /// # Errors
    /// It does not begin.
    pub async fn serve(&self, settings: &[&str]) -> Outcome<Process> {
        let folder = self.folder.to_string_lossy().into_owned();
        let mut arguments = vec!["--data", &folder, "serve", "--set", "log.level=warn"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let log = self.log();
        let (process, _ready) =
            Process::ready::<_, Value>(CLIENT, &self.stand.binary, arguments, &log).await?;
        Ok(process)
    }

    /// Makes a profile of the simulator, and enables these mailboxes on it.
    ///
    /// # Errors
    /// The server refuses, or not all of them work.
    pub async fn enable(&self, sim: &Sim, addresses: &[String], idle_max: &str) -> Outcome {
        let password = self.stand.path("password");
        std::fs::write(&password, &sim.ready.password)?;
        std::fs::set_permissions(&password, Permissions::from_mode(0o600))?;
        let (password, ca) = (password.to_string_lossy(), sim.ready.ca_file.to_string_lossy());
        if self.call(&["profile", "get", "Load"]).await.is_err() {
            #[rustfmt::skip]
            self.call(&[
                "profile", "create", "Load", "--url", &sim.ready.ews_url, "--auth", "basic", "--user", &sim.ready.user,
                "--password-file", &password, "--ca-file", &ca, "--max-connections", "64", "--idle-max", idle_max,
            ]).await?;
        }
        let rows: Vec<String> =
            addresses.iter().map(|address| format!("{address},{address},user,Load,sss,sss,none\n")).collect();
        let file = self.stand.path("mailboxes.csv");
        let header = "address,display_name,kind,profile,incoming,outgoing,act\n";
        std::fs::write(&file, format!("{header}{}", rows.concat()))?;
        self.call(&["mailbox", "import", &file.to_string_lossy()]).await?;
        self.call(&["mailbox", "approve", "--all"]).await?;
        self.call(&["mailbox", "test-enable", "--all", "--wait"]).await
    }

    async fn call(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(&self.stand.binary);
        command.arg("--data").arg(&self.folder).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("mailyard {}: {said}; the server's log is {}", arguments.join(" "), self.log().display())
            .into())
    }

    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }
}
