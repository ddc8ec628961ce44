//! A whole Mailyard with simulators: every row of the walk has a profile and a mailbox of its own.

use std::{path::PathBuf, process::Stdio, sync::Mutex, time::Duration};

use mailyard::serve::{self, Running};
use mailyard_ctl::server::Server;
use mailyard_exchange_sim::{Made, Options, Rule, Scheme, Simulator};
use mailyard_host::{config::Config, data_dir::DataDir, metrics::Metrics, shutdown::Shutdown, telemetry};
use mailyard_policy::{Timestamp, breaker, discovery, mailbox, outbox, tracking::Patience, watch};
use mailyard_tests::{Outcome, hurried};
use mailyard_wire::{
    FieldMask,
    admin::{
        Approval, Authentication, CreateProfileRequest, Credentials, DecideApprovalRequest,
        ImportMailboxesRequest, OAuth, Operation, Profile, Selection, TestAndEnableRequest,
        UpdateProfileRequest, WatchOperationRequest,
    },
    convert, name,
    records::{EnqueueEmailRequest, enqueue_email_request::Body},
};
use mailyard_worker::settings::Settings;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rows::{On, Row};

/// A row that happens.
pub struct Place {
    pub row: &'static Row,
    /// The name of its profile.
    pub profile: String,
    /// The address of its mailbox.
    pub mailbox: String,
    simulator: usize,
}

/// Everything together.
pub struct World {
    pub places: Vec<Place>,
    pub server: Server,
    log: PathBuf,
    simulators: Vec<Simulator>,
    shutdown: Shutdown,
    running: Running,
    folder: tempfile::TempDir,
}

/// What waits for minutes waits for moments, and what is to pass by itself is not given up before.
fn settings() -> Settings {
    let (millis, hurried) = (Duration::from_millis, hurried());
    let moment = millis(200);
    Settings {
        sync: mailbox::Rules {
            active_period: millis(500),
            active_max: millis(1000),
            idle_max: millis(1000),
            retry_gap: millis(300),
            retry_attempts: u8::MAX,
            ..hurried.sync
        },
        outbox: outbox::Rules { retry_gap: millis(300), ..hurried.outbox },
        breaker: breaker::Rules { credential_canary: moment, ..hurried.breaker },
        discovery: discovery::Rules {
            nothing: moment,
            broken: moment,
            unknown: moment,
            unknown_max: moment,
            passing: moment,
            ..discovery::Rules::default()
        },
        watch: watch::Rules {
            pace: millis(1),
            gather: millis(100),
            back_off: moment,
            back_off_max: millis(400),
            silence: millis(1500),
            ..watch::Rules::default()
        },
        patience: Patience { attempts: 2, wait: Duration::ZERO },
        ..hurried
    }
}

impl World {
    /// Begins everything; nothing goes wrong yet, and nothing is tested.
    pub async fn new(rows: &'static [Row]) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let (places, simulators) = simulate(rows, folder.path()).await?;
        let log = folder.path().join("log");
        let mut config = Config::default();
        config.listen.ops = Some(([127, 0, 0, 1], 0).into());
        config.log.format = mailyard_host::config::LogFormat::Json;
        // The test tells of its own failures as tests do.
        let hook = std::panic::take_hook();
        let lines = Mutex::new(std::fs::File::create(&log)?);
        telemetry::init_to(&config.log, &config.telemetry, "walk", lines)?;
        std::panic::set_hook(hook);
        let main = simulators.first().ok_or("no simulator")?;
        let (resolver, autodiscover_domains) = mailyard_tests::names(main)?;
        let settings = Settings { resolver, autodiscover_domains, ..settings() };
        let (metrics, shutdown) = (Metrics::new("walk", None), Shutdown::default());
        let data = DataDir::open(folder.path().join("data"))?;
        let running = serve::start(data, &config, settings, &metrics, &shutdown).await?;
        let server = Server::at(&running.endpoint, "default").await?;
        let world = Self { places, server, log, simulators, shutdown, running, folder };
        world.set_up().await?;
        Ok(world)
    }

    async fn set_up(&self) -> Outcome {
        let parent = || self.server.parent.clone();
        let mut csv = "address,display_name,kind,profile,incoming,outgoing,act\n".to_owned();
        for place in &self.places {
            let profile = Some(self.profile(place)?);
            let request = CreateProfileRequest { parent: parent(), profile, set_default: false };
            self.server.call(self.server.profiles().create_profile(request)).await?;
            csv.push_str(&format!("{},,user,{},sss,sss,none\n", place.mailbox, place.profile));
        }
        let request =
            ImportMailboxesRequest { parent: parent(), csv: csv.into_bytes(), validate_only: false };
        self.server.call(self.server.mailboxes().import_mailboxes(request)).await?;
        let approval = Approval::Approved.into();
        let request = DecideApprovalRequest { parent: parent(), selection: Some(all()), approval };
        self.server.call(self.server.mailboxes().decide_approval(request)).await?;
        Ok(())
    }

    fn profile(&self, place: &Place) -> Outcome<Profile> {
        let ready = self.simulator(place).ready();
        let url = if place.row.on == On::Found { String::new() } else { ready.ews_url.clone() };
        Ok(Profile {
            display_name: place.profile.clone(),
            incoming_url: url.clone(),
            outgoing_url: url,
            autodiscover: place.row.on == On::Found,
            streaming: place.row.on == On::Streaming,
            request_deadline: place.row.on.deadline().map(convert::duration),
            idle_max: Some(convert::duration(settings().sync.idle_max)),
            move_failed: true,
            // A clock that is wrong for a while does not decide which mail is old.
            process_email_from: (place.row.on == On::Alone)
                .then(|| convert::timestamp(Timestamp::from_millis(1))),
            credentials: Some(self.credentials(place)?),
            ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
            ..Profile::default()
        })
    }

    fn credentials(&self, place: &Place) -> Outcome<Credentials> {
        let ready = self.simulator(place).ready();
        if let Some(application) = &ready.oauth {
            let oauth = OAuth {
                tenant: application.tenant.clone(),
                client: application.client.clone(),
                certificate_pem: std::fs::read_to_string(&application.certificate_file)?,
                resource: application.resource.clone(),
                ..OAuth::default()
            };
            let authentication = Authentication::Oauth.into();
            return Ok(Credentials { authentication, oauth: Some(oauth), ..Credentials::default() });
        }
        let by = if place.row.on == On::Ntlm { Authentication::Ntlm } else { Authentication::Basic };
        Ok(Credentials {
            authentication: by.into(),
            user: ready.user.clone(),
            password: ready.password.clone(),
            ..Credentials::default()
        })
    }

    /// A person gives the profile its secret anew.
    pub async fn give_secret(&self, place: &Place) -> Outcome {
        let profile = Profile {
            name: self.server.name(name::PROFILES, &place.profile),
            credentials: Some(self.credentials(place)?),
            ..Profile::default()
        };
        let update_mask = Some(FieldMask { paths: vec!["credentials".to_owned()] });
        let request = UpdateProfileRequest { profile: Some(profile), update_mask, set_default: false };
        self.server.call(self.server.profiles().update_profile(request)).await?;
        Ok(())
    }

    fn simulator(&self, place: &Place) -> &Simulator {
        &self.simulators[place.simulator]
    }

    /// Sets the rules of these rows.
    pub fn break_down(&self, which: impl Fn(&Row) -> bool) -> Outcome {
        for place in self.places.iter().filter(|place| which(place.row)) {
            let rule: Rule = serde_json::from_value(place.row.rule(&place.mailbox))?;
            self.simulator(place).fault(rule).map_err(|error| format!("{:?}: {error}", place.row))?;
            if place.row.on == On::Ntlm {
                // Connections that are signed in know nothing of handshakes any more.
                let cut = serde_json::json!({"kind": "cut_connection", "mailbox": place.mailbox, "count": 1});
                self.simulator(place).fault(serde_json::from_value(cut)?)?;
            }
        }
        Ok(())
    }

    /// Takes all rules away.
    pub fn mend(&self) {
        for simulator in &self.simulators {
            simulator.clear_faults();
        }
    }

    /// How often a kind has struck.
    pub fn struck(&self, place: &Place) -> u64 {
        let kind = serde_json::to_value(place.row.kind).unwrap_or_default();
        let stats = self.simulator(place).stats();
        kind.as_str().and_then(|kind| stats["faults"][kind].as_u64()).unwrap_or_default()
    }

    /// So many messages come to a mailbox.
    pub fn deliver(&self, place: &Place, count: u32) {
        let made = Made { to: vec![place.mailbox.clone()], count: Some(count), ..Made::default() };
        self.simulator(place).deliver(&made);
    }

    /// An email is to be sent.
    pub async fn enqueue(&self, place: &Place) -> Outcome {
        let request = EnqueueEmailRequest {
            parent: self.server.parent.clone(),
            from: place.mailbox.clone(),
            to: vec!["customer@fabrikam.example".to_owned()],
            subject: "walk".to_owned(),
            body: Some(Body::Text("Hello.".to_owned())),
            ..EnqueueEmailRequest::default()
        };
        self.server.call(self.server.emails().enqueue_email(request)).await?;
        Ok(())
    }

    /// Tests and enables these mailboxes, and watches until that has ended.
    pub async fn test_and_enable(&self, addresses: Vec<String>) -> Outcome<Operation> {
        let selection = Selection { addresses, filter: None };
        let request = TestAndEnableRequest { parent: self.server.parent.clone(), selection: Some(selection) };
        let mut operation = self.server.call(self.server.mailboxes().test_and_enable(request)).await?;
        let request = WatchOperationRequest { name: operation.name.clone(), skip_results: 0 };
        let mut watch = self.server.call(self.server.operations().watch_operation(request)).await?;
        while let Some(change) = watch.message().await? {
            operation = change.operation.unwrap_or(operation);
        }
        Ok(operation)
    }

    /// The page of metrics.
    pub async fn metrics(&self) -> Outcome<String> {
        let address = self.running.ops.as_ref().ok_or("no metrics are served")?.address();
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: walk\r\nConnection: close\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page)
    }

    /// The lines of the log.
    pub fn log(&self) -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What a command writes as JSON.
    pub async fn cli(&self, arguments: &[&str]) -> Outcome<Value> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mailyard"))
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .args(arguments)
            .args(["-o", "json"])
            .env_remove("MAILYARD_DATA")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{arguments:?}: {error}: {errors}").into())
    }

    /// The end.
    pub async fn end(self) -> Outcome {
        self.shutdown.begin();
        match self.running.end(&self.shutdown).await {
            Some(task) => Err(format!("{task} ended before").into()),
            None => Ok(()),
        }
    }
}

fn all() -> Selection {
    Selection { addresses: Vec::new(), filter: Some(String::new()) }
}

/// The simulators: one that most share, one for tokens, and one for each row that concerns everybody.
async fn simulate(rows: &'static [Row], folder: &std::path::Path) -> Outcome<(Vec<Place>, Vec<Simulator>)> {
    let start = async |number: usize, mailboxes: usize, scheme: Scheme, domain: String| {
        let mut options = Options::new(mailboxes, 1, folder.join(format!("sim{number}")));
        (options.auth, options.domain) = (vec![scheme], domain);
        options.settings.status_ms = 100;
        Simulator::start(options).await
    };
    let alone = |row: &Row| matches!(row.on, On::Alone | On::Ntlm);
    let shared = |row: &&Row| !alone(row) && row.on != On::Tokens;
    let tokens = rows.iter().filter(|row| row.on == On::Tokens).count();
    let mut simulators = vec![
        start(0, rows.iter().filter(shared).count(), Scheme::Basic, "exchange.test".to_owned()).await?,
        start(1, tokens, Scheme::OAuth, "tokens.test".to_owned()).await?,
    ];
    let mut places: Vec<Place> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let simulator = match row.on {
            On::Tokens => 1,
            On::Alone | On::Ntlm => {
                let scheme = if row.on == On::Ntlm { Scheme::Ntlm } else { Scheme::Basic };
                let at = simulators.len();
                simulators.push(start(at, 1, scheme, format!("alone{at}.test")).await?);
                at
            }
            _ => 0,
        };
        let taken = places.iter().filter(|place| place.simulator == simulator).count();
        let mailbox = simulators[simulator].addresses().get(taken).cloned().ok_or("too few mailboxes")?;
        places.push(Place { row, profile: format!("{number:02} {:?}", row.kind), mailbox, simulator });
    }
    Ok((places, simulators))
}
