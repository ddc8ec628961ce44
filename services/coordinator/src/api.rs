//! The servers for people and the CRM: every method of admin.v1 and records.v1, and the listener that they share.
//!
//! A method checks its input, asks the store, and tells the leader that something changed; decisions are the core's.

mod access;
mod alerts;
mod emails;
mod guard;
mod input;
mod mailboxes;
mod operations;
mod profiles;
mod refuse;
mod serve;
mod settings;
mod status;
mod words;

use std::{sync::Arc, time::Duration};

use mailyard_exchange::Resolver;
use mailyard_host::{clock, config::Config, shutdown::Shutdown};
use mailyard_policy::{Reason, Timestamp, id::Org, mailbox, names::Domains};
use mailyard_store::{Error, Store, query::Page};
use mailyard_wire::{name, status as wire_status};
use tonic::Status;

pub use access::{Access, Principal, Privileges};
pub use serve::{Error as ServeError, serve};

use crate::{leader::Leader, page_token::Listing};
use refuse::{Told as _, not_found};

/// Numbers of the deployment that input is checked against and that schedules are explained with.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// When mailboxes run; a profile's own numbers come on top.
    pub rules: mailbox::Rules,
    /// One request to Exchange is given up after this; a profile may only shorten it.
    pub request_deadline: Duration,
    /// A connection to Exchange is given up after this.
    pub connect_timeout: Duration,
    /// Where the names of servers lead.
    pub resolver: Resolver,
    /// Domains that Autodiscover may lead to, besides that of a mailbox.
    pub autodiscover_domains: Domains,
    /// URLs that begin with http: are allowed.
    pub allow_plain_http: bool,
}

impl From<&Config> for Deployment {
    fn from(config: &Config) -> Self {
        Self {
            rules: config.mailbox_rules(),
            request_deadline: config.exchange.request_deadline,
            connect_timeout: config.exchange.connect_timeout,
            resolver: Resolver::new(config.exchange.resolve.clone()),
            autodiscover_domains: config.exchange.autodiscover_domains.clone(),
            allow_plain_http: config.exchange.allow_plain_http,
        }
    }
}

/// All services.
pub struct Api {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Who leads.
    pub leader: Arc<dyn Leader>,
    /// Numbers of the deployment.
    pub deployment: Deployment,
    /// The wish that everything ends: open streams end with it.
    pub shutdown: Shutdown,
    /// The clock of the process.
    pub clock: fn() -> Timestamp,
}

impl Api {
    /// All services, on the clock of this host.
    pub fn new(
        store: Arc<dyn Store>,
        leader: Arc<dyn Leader>,
        deployment: Deployment,
        shutdown: Shutdown,
    ) -> Self {
        Self { store, leader, deployment, shutdown, clock: clock::now }
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The organization that a call names, if there is such a one.
    async fn org(&self, parent: &str) -> Result<Org, Status> {
        let org = name::parse_organization("parent", parent)?;
        match self.store.settings(&org).await {
            Err(Error::Refused { reason: Reason::ResourceNotFound, .. }) => {
                Err(not_found("parent", "organization", &org.0))
            }
            found => found.told().map(|_| org),
        }
    }
}

fn new_id() -> Result<u128, Status> {
    clock::new_id().map_err(|error| {
        tracing::error!(%error, "the operating system gives no random numbers");
        wire_status::refusal(Reason::Internal, "", "no identifier could be made")
    })
}

/// The page with one row more: whether there is one decides whether there is a next page.
fn with_one_more(page: &Page) -> Page {
    Page { after: page.after.clone(), limit: page.limit + 1 }
}

/// Cuts off the row beyond the page, and returns the token of the next page; empty: there is none.
fn cut<T>(listing: &Listing, page: &Page, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> String {
    let limit = page.limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(|last| listing.token(&key(last))).unwrap_or_default()
}
