//! Test Connection: the vocabulary of its steps, as people, programs and the store read them.

use std::time::Duration;

use crate::{reason::Reason, words};

/// The steps of Test Connection, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepName {
    /// The server of the mailbox is looked for.
    Autodiscover,
    /// The server's name leads to an address.
    Dns,
    /// It accepts a connection.
    Connect,
    /// It proves its name.
    Tls,
    /// It answers as a web server that wants to know who asks, and says how that may be proven.
    Http,
    /// It accepts the credentials, and it is Exchange.
    Authenticate,
    /// The account may act for a mailbox.
    Impersonate,
    /// The Inbox of a mailbox can be read.
    Inbox,
    /// It is a version that is supported.
    Version,
    /// It did not ask to be left alone.
    Throttling,
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
    /// The beginning of what was asked, without credentials; empty if nothing was asked.
    pub request: String,
    /// The beginning of what was answered; empty if nothing was.
    pub response: String,
}

words! {
    StepName: Autodiscover = "autodiscover", Dns = "dns", Connect = "connect", Tls = "tls", Http = "http",
        Authenticate = "authenticate", Impersonate = "impersonate", Inbox = "inbox", Version = "version",
        Throttling = "throttling";
    StepOutcome: Success = "success", Warning = "warning", Failure = "failure", Skipped = "skipped";
}

impl StepName {
    /// All steps in their order.
    pub const ALL: [Self; 10] = [
        Self::Autodiscover,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Http,
        Self::Authenticate,
        Self::Impersonate,
        Self::Inbox,
        Self::Version,
        Self::Throttling,
    ];
}

impl Step {
    /// What to do about it, as the catalogue says.
    pub fn remedy(&self) -> Option<&'static str> {
        self.reason.map(|reason| reason.entry().remedy)
    }

    /// Where that is explained, if the guide for administrators of Exchange does.
    pub fn guide(&self) -> Option<&'static str> {
        self.reason.and_then(|reason| reason.entry().guide)
    }
}
