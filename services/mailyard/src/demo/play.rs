//! What the story does and sees: through the public API and the simulator's control door, and never otherwise.

use std::{fmt, time::Duration};

use mailyard_ctl::server::Server;
use mailyard_exchange_sim::Ready;
use mailyard_host::data_dir::Endpoint;
use mailyard_wire::{
    admin::{
        Alert, Approval, Authentication, CreateProfileRequest, Credentials, CycleOutcome,
        DecideApprovalRequest, ExplainMailboxRequest, ExplainMailboxResponse, ImportMailboxesRequest,
        ListAlertsRequest, ListMailboxesRequest, MailboxOperation, Operation, OperationKind, Profile,
        Selection, TestAndEnableRequest, WatchOperationRequest,
    },
    records::{Email, EnqueueEmailRequest, ListEmailsRequest, enqueue_email_request::Body},
};
use tokio::time::Instant;

use crate::control::Control;

/// Between two looks.
const LOOKED: Duration = Duration::from_millis(100);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A step of the story that was not seen.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) step: usize,
    pub(super) name: &'static str,
    pub(super) why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "step {} ({}): {}", self.step, self.name, self.why)
    }
}

/// The demonstration as it runs.
pub(super) struct Play {
    server: Server,
    pub(super) control: Control,
    addresses: Vec<String>,
    begun: Instant,
    limit: Option<Duration>,
}

impl Play {
    /// Connects, and sets everything up: a profile, its mailboxes, approved, tested and enabled.
    pub(super) async fn begin(
        endpoint: &Endpoint,
        ready: &Ready,
        begun: Instant,
        limit: Option<Duration>,
    ) -> Result<Self, Missing> {
        let setting_up = async {
            let server = Server::at(endpoint, "default").await?;
            let addresses = std::fs::read_to_string(&ready.addresses_file)?;
            let addresses = addresses.lines().map(str::to_owned).collect();
            let play = Self { server, control: Control::new(&ready.control_url), addresses, begun, limit };
            play.set_up(ready).await?;
            Outcome::Ok(play)
        };
        setting_up.await.map_err(|error| Missing { step: 0, name: "set up", why: error.to_string() })
    }

    async fn set_up(&self, ready: &Ready) -> Outcome<()> {
        let profile = Profile {
            display_name: "Simulated Exchange".to_owned(),
            incoming_url: ready.ews_url.clone(),
            outgoing_url: ready.ews_url.clone(),
            credentials: Some(Credentials {
                authentication: Authentication::Basic.into(),
                user: ready.user.clone(),
                password: ready.password.clone(),
                ..Credentials::default()
            }),
            ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
            owner_email: Some(format!("owner@{}", ready.domain)),
            ..Profile::default()
        };
        let request =
            CreateProfileRequest { parent: self.parent(), profile: Some(profile), set_default: true };
        self.server.call(self.server.profiles().create_profile(request)).await?;
        let mut csv = "address,display_name,kind,profile,incoming,outgoing,act\n".to_owned();
        for (number, address) in self.addresses.iter().enumerate() {
            csv.push_str(&format!("{address},Person {},user,,sss,sss,none\n", number + 1));
        }
        let request =
            ImportMailboxesRequest { parent: self.parent(), csv: csv.into_bytes(), validate_only: false };
        self.server.call(self.server.mailboxes().import_mailboxes(request)).await?;
        let request = DecideApprovalRequest {
            parent: self.parent(),
            selection: Some(all()),
            approval: Approval::Approved.into(),
        };
        self.server.call(self.server.mailboxes().decide_approval(request)).await?;
        let ended = self.test_and_enable().await?;
        if ended.succeeded != ended.total {
            return Err(format!("{} of {} mailboxes work", ended.succeeded, ended.total).into());
        }
        self.say(&format!("  {} mailboxes are imported, approved, tested and enabled", ended.total));
        Ok(())
    }

    fn parent(&self) -> String {
        self.server.parent.clone()
    }

    pub(super) fn address(&self, number: usize) -> &str {
        self.addresses.get(number).map_or("", String::as_str)
    }

    /// What is left of the time for a step.
    pub(super) fn left(&self, step: Duration) -> Duration {
        self.limit.map_or(step, |limit| step.min(limit.saturating_sub(self.begun.elapsed())))
    }

    pub(super) fn say(&self, what: &str) {
        println!("{:>5.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Looks until it is there; the step's deadline is kept by who calls.
    pub(super) async fn until<T>(&self, mut look: impl AsyncFnMut() -> Outcome<Option<T>>) -> Outcome<T> {
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            tokio::time::sleep(LOOKED).await;
        }
    }

    pub(super) async fn fault(&self, kind: &str, address: &str) -> Outcome<()> {
        self.control.post("/fault", &serde_json::json!({"kind": kind, "mailbox": address})).await?;
        Ok(())
    }

    pub(super) async fn emails(&self, filter: &str) -> Outcome<Vec<Email>> {
        let request =
            ListEmailsRequest { parent: self.parent(), filter: filter.to_owned(), ..Default::default() };
        Ok(self.server.call(self.server.emails().list_emails(request)).await?.emails)
    }

    pub(super) async fn enqueue(&self, from: &str, to: &str, subject: &str) -> Outcome<()> {
        let request = EnqueueEmailRequest {
            parent: self.parent(),
            idempotency_key: "demo-order".to_owned(),
            from: from.to_owned(),
            to: vec![to.to_owned()],
            subject: subject.to_owned(),
            body: Some(Body::Text("It will be there tomorrow.".to_owned())),
            ..Default::default()
        };
        self.server.call(self.server.emails().enqueue_email(request)).await?;
        Ok(())
    }

    pub(super) async fn alerts(&self, filter: &str) -> Outcome<Vec<Alert>> {
        let request =
            ListAlertsRequest { parent: self.parent(), filter: filter.to_owned(), ..Default::default() };
        Ok(self.server.call(self.server.alerts().list_alerts(request)).await?.alerts)
    }

    /// How many mailboxes fail.
    pub(super) async fn failing(&self) -> Outcome<usize> {
        let filter = "state = failing".to_owned();
        let request = ListMailboxesRequest { parent: self.parent(), filter, ..Default::default() };
        Ok(self.server.call(self.server.mailboxes().list_mailboxes(request)).await?.mailboxes.len())
    }

    async fn explain(&self, address: &str) -> Outcome<ExplainMailboxResponse> {
        let request =
            ExplainMailboxRequest { name: self.server.name(mailyard_wire::name::MAILBOXES, address) };
        Ok(self.server.call(self.server.mailboxes().explain_mailbox(request)).await?)
    }

    pub(super) async fn incoming(&self, address: &str) -> Outcome<MailboxOperation> {
        let mailbox = self.explain(address).await?.mailbox.ok_or("no mailbox")?;
        Ok(mailbox.operations.and_then(|operations| operations.incoming).ok_or("no operation")?)
    }

    /// Incoming, and how many of its last cycles failed in a row.
    pub(super) async fn incoming_and_failures(&self, address: &str) -> Outcome<(MailboxOperation, usize)> {
        let explained = self.explain(address).await?;
        let failed = explained
            .cycles
            .iter()
            .filter(|cycle| cycle.operation() == OperationKind::Incoming)
            .take_while(|cycle| cycle.outcome() == CycleOutcome::Transient)
            .count();
        let operations = explained.mailbox.and_then(|mailbox| mailbox.operations);
        let incoming = operations.and_then(|operations| operations.incoming).ok_or("no operation")?;
        Ok((incoming, failed))
    }

    /// The reason of a cycle that was throttled, if there is one.
    pub(super) async fn throttled_cycle(&self, address: &str) -> Outcome<Option<String>> {
        let cycles = self.explain(address).await?.cycles;
        let throttled = cycles.into_iter().find(|cycle| cycle.outcome() == CycleOutcome::Throttled);
        Ok(throttled.map(|cycle| cycle.reason))
    }

    /// Tests and enables all mailboxes, and watches until that has ended.
    pub(super) async fn test_and_enable(&self) -> Outcome<Operation> {
        let request = TestAndEnableRequest { parent: self.parent(), selection: Some(all()) };
        let mut operation = self.server.call(self.server.mailboxes().test_and_enable(request)).await?;
        let request = WatchOperationRequest { name: operation.name.clone(), skip_results: 0 };
        let mut watch = self.server.call(self.server.operations().watch_operation(request)).await?;
        while let Some(change) = watch.message().await? {
            operation = change.operation.unwrap_or(operation);
        }
        Ok(operation)
    }
}

fn all() -> Selection {
    Selection { addresses: Vec::new(), filter: Some(String::new()) }
}
