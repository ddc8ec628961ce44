//! What figures are taken from: a simulated Exchange, and a server on a data directory, each a process on its core.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mailyard::control::Control;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Outcome,
    process::{self, CLIENT, Process, SERVER},
};

/// Nothing that is waited for takes longer.
const LONGEST: Duration = Duration::from_mins(10);
/// The name of the one profile.
pub const PROFILE: &str = "Load";

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
    /// How to get tokens, if they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// An application that the simulator's issuer knows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OAuth {
    /// Where tokens are issued.
    pub authority: String,
    /// The directory.
    pub tenant: String,
    /// The application's id.
    pub client: String,
    /// The file of its certificate and key.
    pub certificate_file: String,
    /// What tokens are for.
    pub resource: String,
}

/// How a profile reaches the simulator.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// Its scheme.
    pub auth: &'a str,
    /// Its maximum of connections.
    pub connections: u16,
    /// How long the period of its idle mailboxes may grow.
    pub idle_max: &'a str,
    /// It wishes to be notified.
    pub streaming: bool,
}

impl<'a> Profile<'a> {
    /// By Basic, with as many connections as there are turns.
    pub fn basic(idle_max: &'a str) -> Self {
        Self { auth: "basic", connections: 64, idle_max, streaming: false }
    }
}

/// Waits until it is so.
///
/// # Errors
/// It takes too long, or cannot be found out.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while !is().await? {
        if begun.elapsed() > LONGEST {
            return Err(format!("in vain: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Settings of a server that polls every mailbox at this period, whatever happens in it.
pub fn steady(period: &str) -> Vec<String> {
    let keys = ["active_period", "active_min", "active_max", "idle_max"];
    keys.iter().map(|key| format!("sync.{key}={period}")).collect()
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
    pub fn start(stand: &Stand, name: &str, mailboxes: usize, more: &[&str]) -> Outcome<Self> {
        let (folder, mailboxes) = (stand.path(name).to_string_lossy().into_owned(), mailboxes.to_string());
        let mut arguments = vec!["sim", "--mailboxes", &mailboxes, "--folder", &folder];
        arguments.extend(more);
        let log = stand.path(&format!("{name}.log"));
        let (process, ready) = Process::ready::<_, Ready>(SERVER, &stand.binary, arguments, &log)?;
        Ok(Self { control: Control::new(&ready.control_url), ready, _process: process })
    }

    /// Requests of an operation that it has seen.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn requests(&self, operation: &str) -> Outcome<u64> {
        Ok(self.control.get("/stats").await?["requests"][operation].as_u64().unwrap_or_default())
    }

    /// Mailboxes that are subscribed, and connections that tell of them.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn watched(&self) -> Outcome<(u64, u64)> {
        let stats = self.control.get("/stats").await?;
        let count = |name: &str| stats[name].as_u64().unwrap_or_default();
        Ok((count("subscriptions"), count("streams")))
    }

    /// Delivers so many messages of this size to a mailbox.
    ///
    /// # Errors
    /// It refuses.
    pub async fn deliver(&self, address: &str, count: usize, size: usize) -> Outcome {
        self.deliver_made(&serde_json::json!({ "to": [address], "count": count, "size": size })).await
    }

    /// Delivers messages of one's own making.
    ///
    /// # Errors
    /// It refuses.
    pub async fn deliver_made(&self, made: &Value) -> Outcome {
        self.control.post("/deliver", made).await?;
        Ok(())
    }

    /// Polls of each mailbox that it has seen.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn polls(&self) -> Outcome<BTreeMap<String, u64>> {
        Ok(serde_json::from_value(self.control.get("/stats/mailboxes?operation=SyncFolderItems").await?)?)
    }

    /// Adds a rule of what goes wrong.
    ///
    /// # Errors
    /// It refuses.
    pub async fn fault(&self, rule: &Value) -> Outcome {
        self.control.post("/fault", rule).await?;
        Ok(())
    }

    /// Nothing goes wrong any more.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn heal(&self) -> Outcome {
        self.control.delete("/fault").await?;
        Ok(())
    }

    /// How often each kind of fault has struck.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn struck(&self) -> Outcome<BTreeMap<String, u64>> {
        Ok(serde_json::from_value(self.control.get("/stats").await?["faults"].take())?)
    }

    /// The most requests that were under way at once since this was asked last.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn end_window(&self) -> Outcome<u64> {
        let ended = self.control.post("/stats/window", &Value::Null).await?;
        Ok(ended["max_concurrent"].as_u64().ok_or("it counts no requests")?)
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
        let what = format!("{count} of {operation} are seen");
        until(&what, async || Ok(self.requests(operation).await? >= count)).await
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
    pub fn serve(&self, settings: &[&str]) -> Outcome<Process> {
        let folder = self.folder.to_string_lossy().into_owned();
        let mut arguments = vec!["--data", &folder, "serve", "--set", "log.level=warn"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let log = self.log();
        let (process, _ready) = Process::ready::<_, Value>(CLIENT, &self.stand.binary, arguments, &log)?;
        Ok(process)
    }

    /// Makes a profile of the simulator, and enables these mailboxes on it.
    ///
    /// # Errors
    /// The server refuses, or not all of them work.
    pub fn enable(&self, sim: &Sim, addresses: &[String], profile: &Profile<'_>) -> Outcome {
        if self.call(&["profile", "get", PROFILE]).is_err() {
            self.create(sim, profile)?;
        }
        let rows: Vec<String> =
            addresses.iter().map(|address| format!("{address},{address},user,Load,sss,sss,none\n")).collect();
        let file = self.stand.path("mailboxes.csv");
        let header = "address,display_name,kind,profile,incoming,outgoing,act\n";
        std::fs::write(&file, format!("{header}{}", rows.concat()))?;
        self.call(&["mailbox", "import", &file.to_string_lossy()])?;
        self.call(&["mailbox", "approve", "--all"])?;
        self.call(&["mailbox", "test-enable", "--all", "--wait"])?;
        Ok(())
    }

    fn create(&self, sim: &Sim, profile: &Profile<'_>) -> Outcome {
        let Ready { ews_url, user, password, ca_file, oauth, .. } = &sim.ready;
        let file = self.stand.path("password");
        std::fs::write(&file, password)?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        let (file, ca) = (file.to_string_lossy(), ca_file.to_string_lossy());
        let connections = profile.connections.to_string();
        #[rustfmt::skip]
        let mut arguments = vec![
            "profile", "create", PROFILE, "--url", ews_url, "--auth", profile.auth, "--ca-file", &ca,
            "--max-connections", &connections, "--idle-max", profile.idle_max,
        ];
        if profile.streaming {
            arguments.push("--streaming");
        }
        match oauth.as_ref().filter(|_| profile.auth == "oauth") {
            #[rustfmt::skip]
            Some(OAuth { authority, tenant, client, certificate_file, resource }) => arguments.extend([
                "--oauth-authority", authority, "--oauth-tenant", tenant, "--oauth-client", client,
                "--oauth-certificate", certificate_file, "--oauth-resource", resource,
            ]),
            None => arguments.extend(["--user", user, "--password-file", &file]),
        }
        self.call(&arguments)?;
        Ok(())
    }

    /// Asks the server for something, as its command line does.
    ///
    /// # Errors
    /// The server refuses.
    pub fn ask(&self, arguments: &[&str]) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.call(&[&["-o", "json"], arguments].concat())?)?)
    }

    /// Why the profile's breaker holds its mailboxes back.
    ///
    /// # Errors
    /// The server refuses.
    pub fn held_back(&self) -> Outcome<Option<String>> {
        let profile = self.ask(&["profile", "get", PROFILE])?;
        let reason = profile["held_back_reason"].as_str().unwrap_or_default();
        Ok(Some(reason.to_owned()).filter(|reason| !reason.is_empty()))
    }

    /// Gives the server a command; returns what it prints.
    ///
    /// # Errors
    /// The server refuses.
    pub fn call(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(&self.stand.binary);
        command.arg("--data").arg(&self.folder).args(arguments).stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("mailyard {}: {said}; the server's log is {}", arguments.join(" "), self.log().display())
            .into())
    }

    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }
}
