//! Autodiscover: where the EWS URL of a mailbox is, as servers of the mailbox's own domain tell it.
//!
//! Places are asked in the order of MS-OXDISCO, by the JSON form, MS-OXWSADISC (SOAP) and MS-OXDSCLI (POX). Every
//! place is asked without credentials first: who does not ask for them is never shown any.

mod answer;
mod ask;
pub(crate) mod candidate;
pub(crate) mod json;
pub(crate) mod pox;
mod search;
pub(crate) mod soap;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use mailyard_policy::{
    Reason,
    discovery::Standing,
    names::{self, Domains},
    outbox::Execution,
    profile::CredentialSource,
};
use rustls::ClientConfig;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use crate::{Authentication, Clock, Failure, Resolver, codec::ServerVersion, endpoint};

/// How servers are asked, and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose credentials these are: a failure of theirs strikes him.
    pub credential_source: CredentialSource,
    /// How the account proves itself.
    pub authentication: Authentication,
    /// Its user name: `DOMAIN\user` or UPN.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Certificates of authorities to trust, as PEM; `None`: the system's.
    pub ca_pem: Option<String>,
    /// Where names lead.
    pub resolver: Resolver,
    /// Domains that may be led to, besides the mailbox's own.
    pub domains: Domains,
    /// A connection is given up after this.
    pub connect_timeout: Duration,
    /// One place is given up after this.
    pub place_deadline: Duration,
    /// The whole search is given up after this.
    pub deadline: Duration,
    /// The clock of the process.
    pub clock: Clock,
}

impl Config {
    /// The account of a client, which has no URL yet. `domains`: as in the field.
    pub fn of(client: &crate::Config, domains: Domains) -> Self {
        Self {
            credential_source: client.credential_source,
            authentication: client.authentication,
            user: client.user.clone(),
            password: client.password.clone(),
            ca_pem: client.ca_pem.clone(),
            resolver: client.resolver.clone(),
            domains,
            connect_timeout: client.connect_timeout,
            place_deadline: client.request_deadline,
            deadline: client.request_deadline * 3,
            clock: client.clock,
        }
    }

    /// True if a host may be shown the password for a mailbox of this domain.
    fn trusts(&self, home: &str, host: &str) -> bool {
        names::is_within(host, home) || self.domains.hold(host)
    }
}

/// How a place is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The JSON form (version 2), without credentials.
    Json,
    /// `GetUserSettings` over SOAP.
    Soap,
    /// Plain XML.
    Pox,
    /// A request over plain HTTP, without credentials, of which only a redirect counts.
    Redirect,
    /// A SRV record of the DNS.
    Service,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the URL.
    Found,
    /// With another place or another address.
    Led,
    /// With neither.
    Failed,
}

/// One place that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where, without the mailbox's address; for a SRV record its name.
    pub url: String,
    /// How.
    pub method: Method,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// How long it took.
    pub duration: Duration,
    /// What was seen, without secrets and addresses.
    pub evidence: String,
}

/// Where a mailbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The EWS URL; its host may be shown the password.
    pub ews_url: String,
    /// The address that it was found for: that of the mailbox, or what a server gave in its place.
    pub address: String,
    /// Mailboxes of the same group are told of changes over the same connection.
    pub grouping: Option<String>,
    /// The build of the server.
    pub version: Option<ServerVersion>,
    /// Who said it.
    pub by: Method,
}

/// What a search ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Where the mailbox is; or the sharpest reason why that is not known.
    pub result: Result<Discovered, Failure>,
    /// Every place that was asked, in order.
    pub attempts: Vec<Attempt>,
}

/// Looks for mailboxes as one account; its clones share what was learnt of it. Other credentials need another one.
#[derive(Clone)]
pub struct Autodiscover {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    trust: Arc<ClientConfig>,
    standing: Mutex<Standing>,
    /// One password at a time is shown to hosts that have not taken it yet.
    proving: tokio::sync::Mutex<()>,
    under_way: Mutex<BTreeMap<String, Weak<OnceCell<Arc<Discovery>>>>>,
}

impl Autodiscover {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// `PROFILE_TLS_UNTRUSTED` if there is no authority to trust, `AUTODISCOVER_WITH_OAUTH` for tokens.
    pub fn new(config: Config) -> Result<Self, Failure> {
        if config.authentication == Authentication::OAuth {
            let detail = "a token is for a server that is known before it is looked for";
            return Err(Failure::new(Reason::AutodiscoverWithOauth, Execution::Not, detail));
        }
        let trust = endpoint::trust(config.ca_pem.as_deref())?;
        let inner = Inner {
            config,
            trust,
            standing: Mutex::default(),
            proving: tokio::sync::Mutex::default(),
            under_way: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// True if a URL that was found before for this mailbox may still be shown the password.
    pub fn trusts(&self, address: &str, ews_url: &str) -> bool {
        let home = names::domain_of(address).unwrap_or_default();
        candidate::check_ews(ews_url, |host| self.inner.config.trusts(home, host)).is_ok()
    }

    /// Looks for a mailbox by its primary address. Who asks for the same one meanwhile gets the same answer.
    pub async fn discover(&self, address: &str) -> Arc<Discovery> {
        let search = self.inner.under_way(address);
        let found = search.get_or_init(|| async { Arc::new(search::search(&self.inner, address).await) });
        found.await.clone()
    }
}

impl Inner {
    fn under_way(&self, address: &str) -> Arc<OnceCell<Arc<Discovery>>> {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let key = address.to_lowercase();
        if let Some(running) = all.get(&key).and_then(Weak::upgrade) {
            return running;
        }
        all.retain(|_, search| search.strong_count() > 0);
        let search = Arc::new(OnceCell::new());
        all.insert(key, Arc::downgrade(&search));
        search
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Method {
    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Soap => "soap",
            Self::Pox => "pox",
            Self::Redirect => "redirect",
            Self::Service => "srv",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl Outcome {
    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Led => "led",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Attempt {
    /// One line for people.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, method, outcome, reason, duration, evidence } = self;
        write!(out, "{method} {url} {outcome}")?;
        if let Some(reason) = reason {
            write!(out, " {reason}")?;
        }
        write!(out, " in {} ms", duration.as_millis())?;
        // Evidence is what strangers said: it must not become a line of its own.
        let evidence: String = evidence.split_whitespace().collect::<Vec<_>>().join(" ");
        if evidence.is_empty() { Ok(()) } else { write!(out, ": {evidence}") }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
