//! Test Connection: how far a client of a server gets, step by step, and what each step saw.

mod excerpt;
mod step;

use mailyard_policy::{
    Nature, Reason,
    connection_test::{Step, StepName, StepOutcome},
    profile::CredentialSource,
    reason::Scope,
};
use tokio::time::Instant;

use self::{
    excerpt::Excerpt,
    step::{failed, skipped, warned, well},
};
use crate::{
    Client, Failure, Reply,
    auth::Scheme,
    autodiscover::Discovery,
    client::Way,
    codec::{Folder, GetFolder, ServerVersion, WellKnown},
    connection::{Opened, Proof},
};

/// The oldest build that is supported: Exchange Server 2013 SP1.
const OLDEST: ServerVersion = ServerVersion { major: 15, minor: 0, build: 847, revision: 0 };
/// The first build of the Subscription Edition.
const SUBSCRIPTION_EDITION: u16 = 2562;

const INBOX: Folder = Folder::WellKnown(WellKnown::Inbox);
const ROOT: Folder = Folder::WellKnown(WellKnown::MsgFolderRoot);

/// Whom a test is made for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The mailbox (its primary address) whose Inbox shall be read; `None`: the service account's own.
    pub mailbox: Option<&'a str>,
    /// The user name of the service account.
    pub user: &'a str,
    /// False: the account acts by delegation.
    pub impersonates: bool,
}

/// Tests a connection and tells each step when it has ended; behind one that fails, all others are skipped. Enables and
/// changes nothing.
pub async fn test_connection(client: &Client, subject: Subject<'_>, tell: impl FnMut(Step) + Send) {
    let last = StepName::Autodiscover;
    let mut test = Test { client, subject, tell, last, failed: false, version: None, busy: None };
    test.run().await;
    skipped_steps(test.last).for_each(test.tell);
}

/// The step that comes before all others where the server is looked for.
pub fn discovery_step(discovery: &Discovery, begun: Instant) -> Step {
    let asked: Vec<String> = discovery.attempts.iter().map(ToString::to_string).collect();
    let step = match &discovery.result {
        Ok(found) => {
            let evidence = format!("{} said that EWS is at {}", found.by, found.ews_url);
            well(StepName::Autodiscover, begun, evidence)
        }
        Err(failure) => failed(StepName::Autodiscover, begun, failure),
    };
    Step { response: asked.join("\n"), ..step }
}

/// The steps that are left when the one before them failed.
pub fn skipped_steps(after: StepName) -> impl Iterator<Item = Step> {
    let rest = StepName::ALL.into_iter().filter(move |name| *name > after);
    rest.map(|name| skipped(name, "a step before it failed"))
}

struct Test<'a, T> {
    client: &'a Client,
    subject: Subject<'a>,
    tell: T,
    /// The step that was told last.
    last: StepName,
    failed: bool,
    version: Option<ServerVersion>,
    /// What the server asked for instead of answering.
    busy: Option<Failure>,
}

impl<T: FnMut(Step) + Send> Test<'_, T> {
    async fn run(&mut self) {
        self.open().await;
        if self.failed {
            return;
        }
        let begun = Instant::now();
        let offers = self.http(begun).await;
        if self.failed {
            return;
        }
        self.authenticate(&offers).await;
        if self.failed {
            return;
        }
        self.impersonate().await;
        if self.failed {
            return;
        }
        self.inbox().await;
        if self.failed {
            return;
        }
        self.version();
        self.throttling();
    }

    fn end(&mut self, step: Step) {
        self.failed |= step.outcome == StepOutcome::Failure;
        self.last = step.name;
        (self.tell)(step);
    }

    async fn open(&mut self) {
        let client = self.client;
        let mut begun = Instant::now();
        let mut steps = Vec::with_capacity(3);
        let opened = client.open(|opened| {
            steps.push(of_opening(opened, begun));
            begun = Instant::now();
        });
        let broken = opened.await.err();
        let names = [StepName::Dns, StepName::Connect, StepName::Tls];
        if let (Some(failure), Some(name)) = (broken, names.get(steps.len())) {
            steps.push(failed(*name, begun, &failure));
        }
        for step in steps {
            self.end(step);
        }
    }

    /// What the server says to somebody who does not say who asks. Returns the schemes that it offers.
    async fn http(&mut self, begun: Instant) -> Vec<String> {
        let head = match self.client.unsigned().await {
            Ok(head) => head,
            Err(failure) => {
                self.end(failed(StepName::Http, begun, &failure));
                return Vec::new();
            }
        };
        let offers: Vec<String> = head.challenges.iter().map(|challenge| challenge.scheme.clone()).collect();
        let mut step = match head.status {
            401 => {
                let offered = if offers.is_empty() { "no scheme".to_owned() } else { offers.join(", ") };
                well(StepName::Http, begun, format!("it asks who is there, and offers {offered}"))
            }
            200 => failed(StepName::Http, begun, &Failure::of_page()),
            _ => failed(StepName::Http, begun, &Failure::of_status_of_nothing(&head)),
        };
        if let Some(skew) = head.clock_skew(self.client.now()) {
            let evidence = format!("its clock and this machine's differ by {} s", skew.as_secs());
            step = warned(step, Reason::ProfileClockSkew, &evidence);
        }
        step.request = "POST without credentials and content".to_owned();
        step.response = excerpt::of_head(&head);
        self.end(step);
        offers
    }

    async fn authenticate(&mut self, offers: &[String]) {
        let begun = Instant::now();
        let (answer, excerpt) = self.ask(None, &INBOX).await;
        let mut step = match &answer {
            Ok(()) => well(StepName::Authenticate, begun, "Exchange accepted the credentials"),
            // Any answer of EWS itself proves the credentials, also that the account has no mailbox of its own.
            Err(failure) if failure.code.as_deref().is_some_and(|code| code.starts_with("Error")) => {
                let code = failure.code.as_deref().unwrap_or_default();
                well(StepName::Authenticate, begun, format!("Exchange knows the account ({code})"))
            }
            Err(failure) => failed(StepName::Authenticate, begun, failure),
        };
        if let Some(scheme) = self.client.scheme().filter(|_| step.outcome != StepOutcome::Failure) {
            step.evidence = format!("{}, by {}", step.evidence, scheme.word());
            // Who gets on without Basic should know that others can still try passwords.
            if scheme != Scheme::Basic && offers.iter().any(|offer| offer.eq_ignore_ascii_case("basic")) {
                let evidence = format!("the server offers {}", offers.join(", "));
                step = warned(step, Reason::ProfileAuthSchemeConflict, &evidence);
            }
        }
        self.end(excerpt.of(step, &self.client.envelope(None, &GetFolder { folder: &INBOX })));
    }

    async fn impersonate(&mut self) {
        let Subject { mailbox, user, impersonates } = self.subject;
        let begun = Instant::now();
        if !impersonates {
            let why = match self.client.credential_source() {
                CredentialSource::Profile => "the profile acts by delegation",
                CredentialSource::Mailbox => "the mailbox signs in as itself",
            };
            self.end(skipped(StepName::Impersonate, why));
            return;
        }
        let is_own = mailbox.is_none();
        let Some(address) = mailbox.or_else(|| user.contains('@').then_some(user)) else {
            let step = skipped(StepName::Impersonate, "no mailbox is named");
            self.end(warned(step, Reason::ProfileUserNotAddress, "the user name is no address"));
            return;
        };
        let (answer, excerpt) = self.ask(Some(address), &ROOT).await;
        let step = match &answer {
            Ok(()) => well(StepName::Impersonate, begun, "the account may act for the mailbox"),
            Err(failure) if failure.reason.nature() == Nature::Throttled => {
                skipped(StepName::Impersonate, "the server asked to be left alone")
            }
            // It may stand outside the scope of its own role, and need not have a mailbox.
            Err(failure) if is_own && is_of_access(failure.reason) => {
                let step = well(StepName::Impersonate, begun, "no mailbox is named");
                let evidence = "the account may not act for a mailbox of its own; name another one";
                warned(step, failure.reason, evidence)
            }
            Err(failure) if is_behind_the_door(failure) => {
                well(StepName::Impersonate, begun, "the account may act for the mailbox")
            }
            Err(failure) => failed(StepName::Impersonate, begun, failure),
        };
        self.end(excerpt.of(step, &self.client.envelope(Some(address), &GetFolder { folder: &ROOT })));
    }

    async fn inbox(&mut self) {
        let begun = Instant::now();
        let mailbox = self.subject.mailbox;
        let (answer, excerpt) = self.ask(mailbox, &INBOX).await;
        let step = match &answer {
            Ok(()) => {
                let whose = if mailbox.is_some() { "the Inbox" } else { "the service account's own Inbox" };
                well(StepName::Inbox, begun, format!("{whose} can be read"))
            }
            Err(failure) if failure.reason.nature() == Nature::Throttled => {
                skipped(StepName::Inbox, "the server asked to be left alone")
            }
            Err(failure) if mailbox.is_none() && failure.reason.scope() == Scope::Mailbox => {
                let why = "the service account has no mailbox of its own; name one whose Inbox shall be read";
                skipped(StepName::Inbox, why)
            }
            Err(failure) => failed(StepName::Inbox, begun, failure),
        };
        self.end(excerpt.of(step, &self.client.envelope(mailbox, &GetFolder { folder: &INBOX })));
    }

    fn version(&mut self) {
        let begun = Instant::now();
        let Some(version) = self.version else {
            self.end(skipped(StepName::Version, "the server does not tell its version"));
            return;
        };
        let evidence = format!("{}, {version}", product(version));
        if version < OLDEST {
            let step = step::step(StepName::Version, begun, StepOutcome::Failure, evidence);
            self.end(Step { reason: Some(Reason::ExchangeVersionUnsupported), ..step });
        } else {
            self.end(well(StepName::Version, begun, evidence));
        }
    }

    fn throttling(&mut self) {
        let begun = Instant::now();
        let mut step = match &self.busy {
            Some(failure) => failed(StepName::Throttling, begun, failure),
            None => well(StepName::Throttling, begun, "it did not ask to be left alone"),
        };
        if let Some(wait) = self.busy.as_ref().and_then(|failure| failure.back_off) {
            step.evidence.push_str(&format!(", for {} ms", wait.as_millis()));
        }
        self.end(step);
    }

    /// Asks for a folder. Notes the version of the server, and whether it is busy.
    async fn ask(&mut self, mailbox: Option<&str>, folder: &Folder) -> (Result<(), Failure>, Excerpt) {
        let mut excerpt = Excerpt::default();
        let reply = self.client.pass(Way::of(mailbox), &GetFolder { folder }, &mut excerpt).await;
        if let Ok(reply) = &reply {
            self.version = reply.version.or(self.version);
        }
        let answer = reply.and_then(Reply::one).map(|_| ());
        if let Err(failure) = &answer
            && failure.reason.nature() == Nature::Throttled
        {
            self.busy = Some(failure.clone());
        }
        (answer, excerpt)
    }
}

fn of_opening(opened: Opened, begun: Instant) -> Step {
    match opened {
        Opened::Resolved(addresses) => {
            let mut all: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            all.dedup();
            well(StepName::Dns, begun, format!("it is at {}", all.join(", ")))
        }
        Opened::Connected(peer) => {
            let peer = peer.map(|peer| format!("connected to {peer}")).unwrap_or_default();
            well(StepName::Connect, begun, peer)
        }
        Opened::Proven(Some(Proof { version, suite })) => {
            let evidence = format!("the server proved its name by {version} with {suite}");
            well(StepName::Tls, begun, evidence)
        }
        Opened::Proven(None) => skipped(StepName::Tls, "the URL asks for plain HTTP"),
    }
}

/// True for answers that say who may act for whom.
fn is_of_access(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ImpersonationDenied
            | Reason::ServiceAccountImpersonationDenied
            | Reason::MailboxNotFoundOnServer
            | Reason::MailboxAddressNotPrimary
            | Reason::MailboxAccountDisabled
            | Reason::MailboxAccessDenied
    )
}

/// True if Exchange let the account in, and what is behind the door does not work.
fn is_behind_the_door(failure: &Failure) -> bool {
    failure.has_known_code()
        && failure.reason.scope() == Scope::Mailbox
        && !is_of_access(failure.reason)
        && !matches!(failure.reason, Reason::EwsRequestRejected | Reason::EwsProtocolError)
}

fn product(version: ServerVersion) -> &'static str {
    match (version.major, version.minor, version.build) {
        (15, 0, _) => "Exchange Server 2013",
        (15, 1, _) => "Exchange Server 2016",
        (15, 2, SUBSCRIPTION_EDITION..) => "Exchange Server Subscription Edition",
        (15, 2, _) => "Exchange Server 2019",
        (15, 20, _) => "Exchange Online",
        (16.., ..) => "a newer Exchange",
        _ => "an Exchange that is older than 2013 SP1",
    }
}
