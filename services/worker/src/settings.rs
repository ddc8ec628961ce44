//! The deployment's numbers as the worker's tasks read them.

use std::time::Duration;

use mailyard_exchange::Resolver;
use mailyard_host::config::Config;
use mailyard_policy::{
    breaker, discovery, mailbox,
    names::Domains,
    outbox,
    tracking::{Patience, Portions},
    watch,
};
use mailyard_store::people::Profile;

/// Numbers of the deployment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Periods, retries and tests of mailboxes; the profile's own numbers are put in.
    pub sync: mailbox::Rules,
    /// Sending.
    pub outbox: outbox::Rules,
    /// How contents are fetched.
    pub portions: Portions,
    /// When the breaker of a profile opens and closes.
    pub breaker: breaker::Rules,
    /// How mailboxes are watched by notifications, where a profile wishes it.
    pub watch: watch::Rules,
    /// One request is given up after this; a profile may only shorten it.
    pub request_deadline: Duration,
    /// A connection is given up after this.
    pub connect_timeout: Duration,
    /// Where the names of servers lead.
    pub resolver: Resolver,
    /// Domains that Autodiscover may lead to, besides that of a mailbox.
    pub autodiscover_domains: Domains,
    /// When a mailbox is looked for.
    pub discovery: discovery::Rules,
    /// A turn that takes longer is given up.
    pub cycle_deadline: Duration,
    /// A turn that has taken so long lets others go first.
    pub turn: Duration,
    /// How long an item is tried before it is put into quarantine.
    pub patience: Patience,
    /// URLs that begin with http: are allowed.
    pub allow_plain_http: bool,
    /// Turns under way at once.
    pub max_inflight: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: mailbox::Rules::default(),
            outbox: outbox::Rules::default(),
            portions: Portions::default(),
            breaker: breaker::Rules::default(),
            watch: watch::Rules::default(),
            request_deadline: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            resolver: Resolver::default(),
            autodiscover_domains: Domains::default(),
            discovery: discovery::Rules::default(),
            cycle_deadline: Duration::from_mins(10),
            turn: Duration::from_secs(5),
            patience: Patience::default(),
            allow_plain_http: false,
            max_inflight: 64,
        }
    }
}

impl Settings {
    /// As the configuration says.
    pub fn of(config: &Config) -> Self {
        Self {
            sync: config.mailbox_rules(),
            outbox: config.outbox_rules(),
            portions: config.portions(),
            breaker: config.breaker_rules(),
            request_deadline: config.exchange.request_deadline,
            connect_timeout: config.exchange.connect_timeout,
            resolver: Resolver::new(config.exchange.resolve.clone()),
            autodiscover_domains: config.exchange.autodiscover_domains.clone(),
            discovery: discovery::Rules::default(),
            cycle_deadline: config.exchange.cycle_deadline,
            allow_plain_http: config.exchange.allow_plain_http,
            max_inflight: config.worker.max_inflight,
            ..Self::default()
        }
    }

    /// The rules of the mailboxes of a profile.
    pub fn mailbox_rules(&self, profile: &Profile) -> mailbox::Rules {
        self.sync.for_profile(profile.minimum_interval, profile.idle_max)
    }

    /// The deadline of one request to a profile's server.
    pub fn request_deadline(&self, profile: &Profile) -> Duration {
        profile.request_deadline.map_or(self.request_deadline, |own| own.min(self.request_deadline))
    }
}
