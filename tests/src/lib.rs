//! The stage on which whole systems are tested: a simulated Exchange, a store, and a worker that holds everything.

pub mod collector;
pub mod credentials;
pub mod kill;
pub mod postgres;
pub mod process;
pub mod simulation;
pub mod stranger;
pub mod tenant;

use std::{error::Error, future::Future, path::PathBuf, sync::Arc, time::Duration};

use mailyard::{embedded, pipe};
use mailyard_coordinator::{Coordinator, leader::Leader, leadership::Leading};
use mailyard_exchange::Resolver;
use mailyard_exchange_sim::{Made, Options, Ready, Rule, Simulator};
use mailyard_host::{clock, config::Config, metrics::Metrics, shutdown::Shutdown};
use mailyard_policy::{
    Timestamp,
    id::{MailboxId, OperationId, Org, OutgoingId, ProfileId, RecordId, Revision},
    mailbox,
    names::Domains,
    operation::Method,
    outbox::{self, Capabilities},
    profile::{Authentication, CredentialSource},
};
use mailyard_store::{
    Store,
    people::{Approval, LongState, MailboxKind, NewMailbox, Profile, Secrets, Selection},
    query::{Filter, Page},
    records::{Direction, Email, EmailState, NewOutgoing, OutgoingBody, OutgoingContent},
    secret::MasterKey,
    sqlite::SqliteStore,
};
use mailyard_worker::settings::Settings;
use secrecy::SecretString;
use tonic::transport::Channel;

/// What any step may fail with.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// So many messages of the simulator's own making, to one mailbox.
pub fn made(to: &str, count: u32) -> Made {
    Made { to: vec![to.to_owned()], count: Some(count), ..Made::default() }
}

/// A rule of a fault, as the simulator's control reads it.
///
/// # Errors
/// It is none.
pub fn rule(json: &str) -> Outcome<Rule> {
    Ok(serde_json::from_str(json)?)
}

/// Everything together, on free ports and in a folder of its own.
pub struct Stage {
    /// The simulated Exchange.
    pub simulator: Simulator,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Where everything belongs.
    pub org: Org,
    /// The one profile.
    pub profile: ProfileId,
    /// Addresses of the mailboxes, as the simulator made them.
    pub addresses: Vec<String>,
    /// The coordinator, as its servers ask it.
    pub leader: Arc<dyn Leader>,
    /// Whether it leads.
    pub leading: Leading,
    /// The road that workers take to it.
    pub sessions: Channel,
    /// The end of everything.
    pub shutdown: Shutdown,
    /// The file of the store.
    pub database: PathBuf,
    _folder: tempfile::TempDir,
}

/// Numbers that make a story short: everything that waits for minutes waits for fractions of a second.
pub fn hurried() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        sync: mailbox::Rules {
            active_period: millis(200),
            active_min: millis(100),
            active_max: millis(400),
            idle_max: millis(400),
            retry_gap: millis(100),
            test_gap: millis(50),
            back_off: millis(100),
            back_off_max: millis(300),
            ..mailbox::Rules::default()
        },
        outbox: outbox::Rules { retry_gap: millis(100), look_gap: millis(100), ..Default::default() },
        breaker: mailyard_policy::breaker::Rules {
            canary_first: millis(200),
            canary_max: millis(400),
            ..Default::default()
        },
        ..Settings::default()
    }
}

impl Stage {
    /// So many mailboxes, approved, with incoming and outgoing by server-side synchronization; none is tested yet.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    pub async fn new(mailboxes: usize, settings: Settings) -> Outcome<Self> {
        Self::with(Options::new, mailboxes, settings, Config::default()).await
    }

    /// Two mailboxes of a simulator that knows this scheme only, by which the profile signs in.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    pub async fn signing_in(by: Authentication, settings: Settings) -> Outcome<Self> {
        let options =
            |mailboxes, seed, folder| credentials::accepting(&[by], Options::new(mailboxes, seed, folder));
        Self::build(by, options, 2, settings, Config::default()).await
    }

    /// The same, with a simulator and a configuration of one's own.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    pub async fn with(
        options: impl FnOnce(usize, u64, PathBuf) -> Options,
        mailboxes: usize,
        settings: Settings,
        config: Config,
    ) -> Outcome<Self> {
        Self::build(Authentication::Basic, options, mailboxes, settings, config).await
    }

    /// The same, with a profile that signs in by this scheme.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    pub async fn build(
        by: Authentication,
        options: impl FnOnce(usize, u64, PathBuf) -> Options,
        mailboxes: usize,
        settings: Settings,
        config: Config,
    ) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let simulator = Simulator::start(options(mailboxes, 1, folder.path().join("sim"))).await?;
        let (resolver, autodiscover_domains) = names(&simulator)?;
        let settings = Settings { resolver, autodiscover_domains, ..settings };
        let key = MasterKey::load_or_create(&folder.path().join("master.key"))?;
        let database = folder.path().join("mailyard.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&database, key).await?);
        let org = Org("default".to_owned());
        let (profile, secret) = profile(&simulator, &org, by)?;
        let secrets = Secrets { incoming: Some(secret), outgoing: None };
        store.create_profile(&profile, &secrets, false).await?;
        let addresses = simulator.addresses();
        let rows: Vec<NewMailbox> =
            addresses.iter().map(|address| new_mailbox(address, profile.id)).collect::<Result<_, _>>()?;
        store.create_mailboxes(&org, &rows, clock::now()).await?;
        let all = Selection::Matching(Filter::All);
        store.decide_approval(&org, &all, Approval::Approved, clock::now()).await?;

        let shutdown = Shutdown::default();
        let metrics = Metrics::new("stage", None);
        let embedded = embedded::start(store.clone(), &config, settings, &metrics, &shutdown).await?;
        let Coordinator { leader, leading, sessions } = embedded.coordinator;
        let profile = profile.id;
        Ok(Self {
            simulator,
            store,
            org,
            profile,
            addresses,
            leader,
            leading,
            sessions: pipe::serve(sessions),
            shutdown,
            database,
            _folder: folder,
        })
    }

    /// Tests and enables all mailboxes, and waits until every test has ended well.
    ///
    /// # Errors
    /// One did not.
    pub async fn test_and_enable(&self) -> Outcome {
        let id = self.start_tests().await?;
        self.until("every test has ended", || async {
            let ended = self.store.operation(id).await?.ok_or("no operation")?;
            Ok(ended.state == LongState::Done)
        })
        .await
    }

    /// Begins to test and enable all mailboxes.
    ///
    /// # Errors
    /// The store's.
    pub async fn start_tests(&self) -> Outcome<OperationId> {
        let id = OperationId::new(clock::new_id()?);
        let all = Selection::Matching(Filter::All);
        self.store.start_test(&self.org, id, &all, "all", clock::now()).await?;
        self.nudge();
        Ok(id)
    }

    /// Everything is tested and enabled; then one mail comes in by this server, and one goes out by that.
    ///
    /// # Errors
    /// One of them did not arrive.
    pub async fn mail_flows(&self, incoming: &Simulator, outgoing: &Simulator) -> Outcome {
        self.test_and_enable().await?;
        let [one, two, ..] = self.addresses.as_slice() else { return Err("two mailboxes are needed".into()) };
        let before = outgoing.submissions().len();
        incoming.deliver(&made(one, 1));
        self.enqueue(two, "customer@fabrikam.example", "signed in").await?;
        self.until("one is tracked and one is sent", || async {
            let emails = self.emails().await?;
            let tracked = emails.iter().any(|email| email.direction == Direction::Incoming);
            let sent = emails.iter().any(|email| email.state == EmailState::Outgoing(outbox::State::Sent));
            Ok(tracked && sent)
        })
        .await?;
        let submitted = outgoing.submissions().len() - before;
        if submitted == 1 { Ok(()) } else { Err(format!("{submitted} were submitted").into()) }
    }

    /// Something changed in the store.
    pub fn nudge(&self) {
        self.leader.nudge();
    }

    /// Enqueues an email.
    ///
    /// # Errors
    /// The store's.
    pub async fn enqueue(&self, from: &str, to: &str, subject: &str) -> Outcome<RecordId> {
        let mailbox = self.store.mailbox_at(&self.org, from).await?.ok_or("no such mailbox")?;
        let email = NewOutgoing {
            id: OutgoingId::new(clock::new_id()?),
            mailbox: mailbox.set.id,
            idempotency_key: None,
            content: OutgoingContent {
                from: from.to_owned(),
                to: vec![to.to_owned()],
                cc: vec![],
                bcc: vec![],
                subject: subject.to_owned(),
                body: OutgoingBody::Text("Hello.".to_owned()),
                attachments: vec![],
            },
            expires: None,
            at: clock::now(),
        };
        let (email, _) = self.store.enqueue(&self.org, &email).await?;
        self.nudge();
        Ok(email.id)
    }

    /// All emails.
    ///
    /// # Errors
    /// The store's.
    pub async fn emails(&self) -> Outcome<Vec<Email>> {
        let page = Page { after: None, limit: 1000 };
        Ok(self.store.emails(&self.org, &Filter::All, &page).await?)
    }

    /// Waits for a condition, half a minute at the most.
    ///
    /// # Errors
    /// It did not come about in time; or the condition's own error.
    pub async fn until<F, R>(&self, what: &str, mut condition: F) -> Outcome
    where
        F: FnMut() -> R,
        R: Future<Output = Outcome<bool>>,
    {
        let begun = tokio::time::Instant::now();
        while !condition().await? {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("in vain: {what}; {}", self.simulator.stats()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// What the DNS would say of the simulator's mail domain, and who may be shown passwords besides that domain.
///
/// # Errors
/// The simulator tells nothing that can be used.
pub fn names(simulator: &Simulator) -> Outcome<(Resolver, Domains)> {
    let Ready { ews_url, domain, .. } = simulator.ready();
    let server = ews_url.trim_start_matches("https://").split('/').next().unwrap_or_default();
    let text = format!(
        "{domain}:443=none,autodiscover.{domain}:443={server},autodiscover.{domain}:80=none,\
         _autodiscover._tcp.{domain}=none"
    );
    Ok((Resolver::new(text.parse()?), "127.0.0.1".parse()?))
}

fn profile(simulator: &Simulator, org: &Org, by: Authentication) -> Outcome<(Profile, SecretString)> {
    let ready = simulator.ready();
    let (credentials, secret) = credentials::of(by, ready)?;
    let profile = Profile {
        id: ProfileId::new(clock::new_id()?),
        org: org.clone(),
        display_name: "Simulated".to_owned(),
        description: String::new(),
        incoming_url: Some(ready.ews_url.clone()),
        outgoing_url: Some(ready.ews_url.clone()),
        credentials,
        credential_source: CredentialSource::Profile,
        outgoing_credentials: None,
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
        process_email_from: None,
        minimum_interval: Duration::ZERO,
        max_connections: 10,
        idle_max: Duration::from_millis(400),
        move_failed: true,
        alert_owner: false,
        owner_email: None,
        request_deadline: None,
        streaming: false,
        lanes: 1,
        capabilities: Capabilities::default(),
        create_time: Timestamp::EPOCH,
        revision: Revision(0),
    };
    Ok((profile, secret))
}

fn new_mailbox(address: &str, profile: ProfileId) -> Outcome<NewMailbox> {
    Ok(NewMailbox {
        id: MailboxId::new(clock::new_id()?),
        address: address.to_owned(),
        display_name: address.to_owned(),
        kind: MailboxKind::User,
        profile: Some(profile),
        methods: [Method::ServerSide, Method::ServerSide, Method::None],
        owner_email: None,
        crm_id: None,
        process_email_from: None,
    })
}
