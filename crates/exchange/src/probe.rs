//! Test Connection as a list of steps, and how sending behaves on a server.

use std::{fmt, time::Duration};

use mailyard_policy::{
    Nature, Reason,
    outbox::{Capabilities, Execution},
    reason::Scope,
};
use tokio::time::Instant;

use crate::{
    Answer, Client, Failure, Mailbox, Reply,
    auth::Scheme,
    codec::{
        Address, Body, Content, Deletion, Draft, Folder, GetFolder, ItemId, ServerVersion, Update, WellKnown,
    },
    connection::Opened,
};

/// Older servers speak another dialect: 15.0 is Exchange Server 2013.
const OLDEST_MAJOR: u16 = 15;
/// A server's clock that differs by more than this is told to people.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// The steps of Test Connection, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepName {
    /// The server is found and accepts a connection.
    Connect,
    /// It proves its name.
    Tls,
    /// It accepts the credentials, and it is Exchange.
    Authenticate,
    /// The Inbox of a mailbox can be read.
    Inbox,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Well.
    Success,
    /// Well, but somebody should look at it.
    Warning,
    /// Badly: what comes behind it is skipped.
    Failure,
    /// It was not attempted.
    Skipped,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub name: StepName,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why, unless it ended well; its entry in the catalogue holds the remedy.
    pub reason: Option<Reason>,
    /// How long it took.
    pub duration: Duration,
    /// What was seen, without secrets.
    pub evidence: String,
}

impl StepName {
    /// All steps in their order.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Tls, Self::Authenticate, Self::Inbox];

    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Authenticate => "authenticate",
            Self::Inbox => "inbox",
        }
    }
}

impl StepOutcome {
    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Failure => "failure",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl fmt::Display for StepOutcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl Step {
    /// What to do about it, as the catalogue says.
    pub fn remedy(&self) -> Option<&'static str> {
        self.reason.map(|reason| reason.entry().remedy)
    }

    fn new(name: StepName, begun: Instant, outcome: StepOutcome, evidence: impl Into<String>) -> Self {
        Self { name, outcome, reason: None, duration: begun.elapsed(), evidence: evidence.into() }
    }

    fn failed(name: StepName, begun: Instant, failure: &Failure) -> Self {
        let code = failure.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let step = Self::new(name, begun, StepOutcome::Failure, format!("{}{code}", failure.detail));
        Self { reason: Some(failure.reason), ..step }
    }

    fn skipped(name: StepName, why: &str) -> Self {
        Self::new(name, Instant::now(), StepOutcome::Skipped, why)
    }
}

/// Tests a connection step by step, each of which says what was seen. All four steps are always in the list. The last
/// one reads the Inbox of the mailbox (its primary address); without one the service account's own.
pub async fn test_connection(client: &Client, mailbox: Option<&str>) -> Vec<Step> {
    let mut steps = open(client).await;
    if !has_failed(&steps) {
        steps.push(authenticate(client).await);
    }
    if !has_failed(&steps) {
        steps.push(match mailbox {
            Some(address) => inbox(&client.mailbox(address)).await,
            None => own_inbox(client).await,
        });
    }
    for name in StepName::ALL.into_iter().skip(steps.len()) {
        steps.push(Step::skipped(name, "a step before it failed"));
    }
    steps
}

fn has_failed(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.outcome == StepOutcome::Failure)
}

async fn open(client: &Client) -> Vec<Step> {
    let mut steps = Vec::with_capacity(StepName::ALL.len());
    let mut begun = Instant::now();
    let opened = client.open(|opened| {
        steps.push(match opened {
            Opened::Connected(peer) => {
                let peer = peer.map(|peer| format!("connected to {peer}")).unwrap_or_default();
                Step::new(StepName::Connect, begun, StepOutcome::Success, peer)
            }
            Opened::Proven(Some(version)) => {
                let evidence = format!("the server proved its name by {version}");
                Step::new(StepName::Tls, begun, StepOutcome::Success, evidence)
            }
            Opened::Proven(None) => Step::skipped(StepName::Tls, "the URL asks for plain HTTP"),
        });
        begun = Instant::now();
    });
    if let Err(failure) = opened.await {
        let name = if steps.is_empty() { StepName::Connect } else { StepName::Tls };
        steps.push(Step::failed(name, begun, &failure));
    }
    steps
}

async fn authenticate(client: &Client) -> Step {
    // Who gets on without Basic should know that others can still try passwords.
    let handshake = client.scheme() != Some(Scheme::Basic);
    let offers = if handshake { client.offers().await.unwrap_or_default() } else { Vec::new() };
    let mut step = signed_in(client).await;
    let scheme = client.scheme().filter(|_| step.outcome != StepOutcome::Failure);
    if let Some(scheme) = scheme {
        step.evidence = format!("{}, by {}", step.evidence, scheme.word());
        let conflict = scheme != Scheme::Basic && offers.iter().any(|it| it.eq_ignore_ascii_case("basic"));
        if conflict {
            step.outcome = StepOutcome::Warning;
            step.reason = Some(Reason::ProfileAuthSchemeConflict);
            step.evidence = format!("{}; the server offers {}", step.evidence, offers.join(", "));
        }
    }
    step
}

/// Any answer of EWS itself proves the credentials, also that the account has no mailbox of its own.
async fn signed_in(client: &Client) -> Step {
    let begun = Instant::now();
    let folder = Folder::WellKnown(WellKnown::Inbox);
    match client.call_as_itself(&GetFolder { folder: &folder }).await {
        Ok(reply) => authenticated(client, begun, &reply),
        Err(failure) if failure.code.as_deref().is_some_and(|code| code.starts_with("Error")) => {
            let evidence = format!("Exchange knows the account ({})", failure.code.unwrap_or_default());
            Step::new(StepName::Authenticate, begun, StepOutcome::Success, evidence)
        }
        Err(failure) => Step::failed(StepName::Authenticate, begun, &failure),
    }
}

fn authenticated<P>(client: &Client, begun: Instant, reply: &Reply<P>) -> Step {
    let version =
        reply.version.map_or_else(|| "of a version it does not tell".to_owned(), |it| it.to_string());
    let evidence = format!("Exchange {version} accepted the credentials");
    let step = Step::new(StepName::Authenticate, begun, StepOutcome::Success, evidence);
    let is_old = |version: ServerVersion| version.major < OLDEST_MAJOR;
    if reply.version.is_some_and(is_old) {
        let reason = Some(Reason::ExchangeVersionUnsupported);
        return Step { outcome: StepOutcome::Failure, reason, ..step };
    }
    let (theirs, ours) = (reply.date.unwrap_or_else(|| client.now()), client.now());
    let skew = theirs.since(ours).max(ours.since(theirs));
    if skew > CLOCK_SKEW {
        let evidence = format!("{}; its clock and ours differ by {} s", step.evidence, skew.as_secs());
        return Step { outcome: StepOutcome::Warning, evidence, ..step };
    }
    step
}

async fn inbox(mailbox: &Mailbox) -> Step {
    let begun = Instant::now();
    match mailbox.get_folder(&WellKnown::Inbox.into()).await {
        Ok(_) => Step::new(StepName::Inbox, begun, StepOutcome::Success, "the Inbox can be read"),
        Err(failure) => Step::failed(StepName::Inbox, begun, &failure),
    }
}

/// An account that only impersonates needs no mailbox of its own.
async fn own_inbox(client: &Client) -> Step {
    let begun = Instant::now();
    let folder = Folder::WellKnown(WellKnown::Inbox);
    let read = client.call_as_itself(&GetFolder { folder: &folder }).await.and_then(Reply::one);
    match read {
        Ok(_) => {
            let evidence = "the service account's own Inbox can be read";
            Step::new(StepName::Inbox, begun, StepOutcome::Success, evidence)
        }
        Err(failure) if failure.reason.scope() == Scope::Mailbox => {
            let why = "the service account has no mailbox of its own; name one whose Inbox shall be read";
            Step::skipped(StepName::Inbox, why)
        }
        Err(failure) => Step::failed(StepName::Inbox, begun, &failure),
    }
}

/// Finds out how sending behaves on a server by one message that the mailbox sends to itself. It carries the operation
/// id, by which its copy is known when it arrives. `aside` is a folder of our own that the draft is moved to.
///
/// The questions are asked with SendItem itself, so that every road ends with exactly one message sent. What comes
/// behind the answer that sends it stays unknown.
///
/// # Errors
/// [`Failure`] of a call that leaves a question open for now.
pub async fn probe_sending(
    mailbox: &Mailbox,
    operation_id: &str,
    aside: &Folder,
) -> Result<Capabilities, Failure> {
    let drafts = WellKnown::Drafts.into();
    let content = test_message(mailbox.address());
    let draft = mailbox.create_draft(&drafts, Content::Draft(&content), operation_id).await?.value;
    let mut stay = draft.clone();
    let probed = probe_draft(mailbox, &draft, aside, &mut stay).await;
    let leftover = match &probed {
        Ok(capabilities) => capabilities.consumes_draft != Some(true),
        Err(failure) => failure.execution == Execution::Not,
    };
    if leftover {
        // Ours, and of no use to anybody. If it cannot be deleted now, its mark tells what it is.
        let _harmless = mailbox.delete_item(&ItemId::new(stay.id), Deletion::HardDelete).await;
    }
    probed
}

async fn probe_draft(
    mailbox: &Mailbox,
    draft: &ItemId,
    aside: &Folder,
    stay: &mut ItemId,
) -> Result<Capabilities, Failure> {
    let sent = WellKnown::SentItems.into();
    let moved = mailbox.move_item(draft, aside).await?.value;
    stay.clone_from(&moved);
    let mut found = Capabilities::default();
    let refused = is_refused(mailbox.send_item(draft, &sent).await)?;
    found.moved_id_dies = Some(refused);
    if refused {
        let changed = mailbox.update_item(&moved, Update::Subject(SUBJECT_CHANGED)).await?.value;
        let refused = is_refused(mailbox.send_item(&moved, &sent).await)?;
        found.checks_change_key = Some(refused);
        if refused {
            mailbox.send_item(&changed, &sent).await?;
        }
    }
    found.consumes_draft = match mailbox.get_item(&ItemId::new(moved.id)).await {
        Ok(_) => Some(false),
        Err(failure) if failure.reason == Reason::ItemNotFound => Some(true),
        Err(_) => None,
    };
    Ok(found)
}

/// True if the server refused for the sake of the id or its change key, and not because it is busy or broken.
fn is_refused(result: Result<Answer<()>, Failure>) -> Result<bool, Failure> {
    match result {
        Ok(_) => Ok(false),
        Err(failure) => {
            let passing = !failure.is_of_item() || failure.reason.nature() == Nature::Throttled;
            if failure.execution == Execution::Not && !passing { Ok(true) } else { Err(failure) }
        }
    }
}

const SUBJECT: &str = "Test of sending";
const SUBJECT_CHANGED: &str = "Test of sending by Mailyard";

fn test_message(address: &str) -> Draft {
    let text = "This message was sent by Mailyard to find out how this server sends mail. It can be deleted.";
    Draft {
        subject: SUBJECT.to_owned(),
        body: Body::Text(text.to_owned()),
        importance: crate::codec::Importance::Normal,
        from: None,
        to: vec![Address::new(address)],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: Vec::new(),
        message_id: None,
        in_reply_to: None,
        references: None,
    }
}
