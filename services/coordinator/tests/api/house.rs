//! A server in a folder of its own, and clients of it.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mailyard_coordinator::{
    api::{Api, Deployment, serve},
    leader::{Beating, Leader},
};
use mailyard_host::{config::Config, data_dir::DataDir, ops::Readiness, shutdown::Shutdown};
use mailyard_policy::{
    Timestamp,
    id::{Incarnation, MailboxId, Org, WorkerId},
    mailbox::Kept,
    operation::{Method, Operation, State},
};
use mailyard_store::{
    MasterKey, SqliteStore, Store,
    fleet::{Leadership, SoleHolder},
    holder::{Claimed, Commit, Fence},
};
use mailyard_wire::{
    LARGEST_MESSAGE,
    admin::{
        self, Authentication, CreateProfileRequest, ImportMailboxesRequest,
        alert_service_client::AlertServiceClient, mailbox_service_client::MailboxServiceClient,
        operation_service_client::OperationServiceClient, profile_service_client::ProfileServiceClient,
        settings_service_client::SettingsServiceClient, status_service_client::StatusServiceClient,
    },
    cluster::HeldMailbox,
    records::email_service_client::EmailServiceClient,
    status::Refusal,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

pub const PARENT: &str = "organizations/default";
/// What may stand in no answer and no log.
pub const PASSWORD: &str = "hunter2-correct-horse";
/// A lease that does not end during a test.
pub const LONG: Duration = Duration::from_hours(1);

/// A leader that notes what it is asked for.
#[derive(Default)]
pub struct Fake {
    pub nudges: AtomicU64,
    pub lead: Mutex<Option<Leadership>>,
    pub held: Mutex<Option<HeldMailbox>>,
    pub beating: Mutex<Vec<Beating>>,
}

#[async_trait]
impl Leader for Fake {
    fn nudge(&self) {
        self.nudges.fetch_add(1, Ordering::SeqCst);
    }

    async fn explain(&self, _mailbox: MailboxId) -> Option<HeldMailbox> {
        self.held.lock().unwrap().clone()
    }

    fn leadership(&self) -> Option<Leadership> {
        *self.lead.lock().unwrap()
    }

    async fn beating(&self) -> Vec<Beating> {
        self.beating.lock().unwrap().clone()
    }
}

/// Puts the token beside each call.
#[derive(Clone)]
pub struct Token(String);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

pub type Known = InterceptedService<Channel, Token>;

pub struct House {
    pub store: Arc<dyn Store>,
    pub leader: Arc<Fake>,
    pub lead: Leadership,
    pub org: Org,
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    pub server: JoinHandle<()>,
    pub token: String,
    pub channel: Channel,
    _folder: tempfile::TempDir,
}

impl House {
    pub async fn new() -> Self {
        Self::with(Deployment::from(&Config::default())).await
    }

    pub async fn with(deployment: Deployment) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let (identity, token) = (data.identity().unwrap(), data.token().unwrap());
        let key = MasterKey::load_or_create(&folder.path().join("master.key")).unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&folder.path().join("mailyard.db"), key).await.unwrap());
        let lead = store.elect("test", LONG, Some(SoleHolder)).await.unwrap().unwrap();
        let leader = Arc::new(Fake::default());
        *leader.lead.lock().unwrap() = Some(lead);
        let (shutdown, readiness) = (Shutdown::default(), Readiness::default());
        readiness.set("store", Ok(()));
        let api = Arc::new(Api::new(store.clone(), leader.clone(), deployment, shutdown.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (secret, ready) = (token.clone().into(), readiness.clone());
        let trusted = Certificate::from_pem(&identity.ca);
        let server = tokio::spawn(async move {
            serve(listener, &identity, &secret, api, &ready).await.unwrap();
        });
        let channel = Endpoint::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(ClientTlsConfig::new().ca_certificate(trusted))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let org = Org::default();
        Self { store, leader, lead, org, shutdown, readiness, server, token, channel, _folder: folder }
    }

    fn known(&self) -> Known {
        InterceptedService::new(self.channel.clone(), Token(self.token.clone()))
    }

    pub fn profiles(&self) -> ProfileServiceClient<Known> {
        ProfileServiceClient::new(self.known())
    }

    pub fn mailboxes(&self) -> MailboxServiceClient<Known> {
        MailboxServiceClient::new(self.known()).max_encoding_message_size(LARGEST_MESSAGE)
    }

    pub fn operations(&self) -> OperationServiceClient<Known> {
        OperationServiceClient::new(self.known())
    }

    pub fn settings(&self) -> SettingsServiceClient<Known> {
        SettingsServiceClient::new(self.known())
    }

    pub fn alerts(&self) -> AlertServiceClient<Known> {
        AlertServiceClient::new(self.known())
    }

    pub fn status(&self) -> StatusServiceClient<Known> {
        StatusServiceClient::new(self.known())
    }

    pub fn emails(&self) -> EmailServiceClient<Known> {
        EmailServiceClient::new(self.known()).max_encoding_message_size(LARGEST_MESSAGE)
    }

    pub fn nudges(&self) -> u64 {
        self.leader.nudges.load(Ordering::SeqCst)
    }

    /// Makes a profile of this name.
    pub async fn profile(&self, display_name: &str) -> admin::Profile {
        let profile = admin::Profile { display_name: display_name.to_owned(), ..profile() };
        self.profiles().create_profile(create(profile)).await.unwrap().into_inner()
    }

    /// Makes so many mailboxes, `m0001@contoso.example` and on, of the profile `Main`.
    pub async fn import(&self, count: usize) {
        let rows = (1..=count).map(|n| format!("{},M,user,Main,sss,sss,none\n", address(n)));
        self.import_csv(&rows.collect::<String>()).await;
    }

    pub async fn import_csv(&self, rows: &str) {
        let csv = format!("{HEADER}\n{rows}").into_bytes();
        let request = ImportMailboxesRequest { parent: PARENT.to_owned(), csv, validate_only: false };
        self.mailboxes().import_mailboxes(request).await.unwrap();
    }

    /// A worker takes all mailboxes.
    pub async fn hold(&self) -> Vec<Claimed> {
        let (worker, incarnation) = (WorkerId("w1".to_owned()), Incarnation::new(1));
        self.store.register(&self.lead, &worker, incarnation, "test", LONG).await.unwrap();
        let free: Vec<_> = self.store.shards().await.unwrap();
        let free: Vec<_> = free.into_iter().map(|shard| (shard.shard, shard.epoch)).collect();
        self.store.grant(&self.lead, (&worker, incarnation), &free).await.unwrap();
        let mut claimed = self.store.claim(incarnation, 10_000).await.unwrap().mailboxes;
        claimed.sort_by(|a, b| a.wanted.address.cmp(&b.wanted.address));
        claimed
    }

    pub async fn commit(&self, fence: &Fence, commit: Commit) -> Fence {
        self.store.commit(fence, Commit { at: at(1), ..commit }).await.unwrap().fence
    }
}

pub const HEADER: &str = "address,display_name,kind,profile,incoming,outgoing,act";

pub fn address(n: usize) -> String {
    format!("m{n:04}@contoso.example")
}

/// A moment, `seconds` after the beginning of the tests' time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_772_000_000_000 + seconds * 1000)
}

/// Credentials of Basic authentication.
pub fn credentials(user: &str, password: &str) -> admin::Credentials {
    admin::Credentials {
        authentication: Authentication::Basic.into(),
        user: user.to_owned(),
        password: password.to_owned(),
        ..admin::Credentials::default()
    }
}

/// A profile with which nothing is wrong.
pub fn profile() -> admin::Profile {
    admin::Profile {
        display_name: "Main".to_owned(),
        incoming_url: "https://mail.contoso.example/EWS/Exchange.asmx".to_owned(),
        outgoing_url: "https://mail.contoso.example/EWS/Exchange.asmx".to_owned(),
        credentials: Some(credentials("CONTOSO\\svc", PASSWORD)),
        owner_email: Some("boss@contoso.example".to_owned()),
        ..admin::Profile::default()
    }
}

pub fn create(profile: admin::Profile) -> CreateProfileRequest {
    CreateProfileRequest { parent: PARENT.to_owned(), profile: Some(profile), set_default: false }
}

pub fn name(collection: &str, last: &str) -> String {
    format!("{PARENT}/{collection}/{last}")
}

/// What a holder keeps with these states of incoming and outgoing.
pub fn kept(incoming: State, outgoing: State) -> Kept {
    let operation =
        |method, state| Operation { method, state, period: Duration::from_mins(5), ..Operation::default() };
    Kept {
        wanted_seen: 1,
        subject: 5,
        operations: [
            operation(Method::ServerSide, incoming),
            operation(Method::ServerSide, outgoing),
            operation(Method::None, State::Off),
        ],
        ..Kept::default()
    }
}

/// The answer, whose text holds no password.
pub fn answered<T: Debug>(answer: Result<Response<T>, Status>) -> T {
    let answer = answer.unwrap();
    assert!(!format!("{answer:?}").contains(PASSWORD));
    answer.into_inner()
}

/// A refusal as a line: code, reason, and field by field what is wrong.
pub fn told<T: Debug>(answer: Result<Response<T>, Status>) -> String {
    let status = answer.expect_err("this should have been refused");
    assert!(!format!("{status:?}").contains(PASSWORD));
    let Refusal { code, reason, message, remedy, violations } = Refusal::from(&status);
    assert!(remedy.is_some_and(|remedy| !remedy.is_empty()), "{status:?}");
    let mut line = format!("{code:?} {}", reason.expect("every error has its reason"));
    if violations.is_empty() {
        line += &format!("\n    {message}");
    }
    for violation in violations {
        line += &format!("\n    {}: {}", violation.field, violation.description);
    }
    line
}

/// Waits for a condition, half a minute at the most.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "in vain: {what}");
        tokio::task::yield_now().await;
    }
}
