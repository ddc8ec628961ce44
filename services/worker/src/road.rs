//! The clients of a profile: of its URLs, or of those that Autodiscover finds for its mailboxes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mailyard_exchange::{Autodiscover, Client, Config, Failure, Gate, Observer, autodiscover};
use mailyard_host::metrics::Profile as Label;
use mailyard_policy::{Reason, operation::Direction, outbox::Execution, profile::Access};
use mailyard_store::people::Profile;
use secrecy::SecretString;

use crate::{settings::Settings, shared::Shared};

/// Ways to the servers of a profile, which pass one gate.
pub struct Roads {
    incoming: Road,
    /// `None`: as incoming.
    outgoing: Option<Road>,
    autodiscover: Option<Result<Autodiscover, Failure>>,
    gate: Gate,
}

/// A direction.
struct Road {
    /// How a server is reached; without a URL if Autodiscover finds it.
    config: Result<Config, Failure>,
    clients: Mutex<BTreeMap<String, Result<Client, Failure>>>,
}

fn not(reason: Reason, detail: &str) -> Failure {
    Failure::new(reason, Execution::Not, detail)
}

impl Roads {
    /// As the profile says, with its secrets.
    pub fn new(
        shared: &Shared,
        label: &Label,
        profile: &Profile,
        [incoming, outgoing]: [Option<SecretString>; 2],
        gate: &Gate,
    ) -> Self {
        let road = |direction, secret| Road {
            config: config(shared, label, profile, direction, secret),
            clients: Mutex::default(),
        };
        let outgoing = profile.sends_apart().then(|| road(Direction::Outgoing, outgoing));
        let incoming = road(Direction::Incoming, incoming);
        let autodiscover = profile.autodiscovers().then(|| search(&shared.settings, &incoming.config));
        Self { incoming, outgoing, autodiscover, gate: gate.clone() }
    }

    /// The client of a direction. `found`: the URL that Autodiscover found for the mailbox, where it is asked.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub fn client(&self, direction: Direction, found: Option<&str>) -> Result<Client, Failure> {
        let road = match (direction, &self.outgoing) {
            (Direction::Outgoing, Some(own)) => own,
            _ => &self.incoming,
        };
        let config = road.config.as_ref().map_err(Clone::clone)?;
        let url = match (&self.autodiscover, found) {
            (None, _) => config.url.as_str(),
            (Some(_), Some(found)) => found,
            (Some(_), None) => return Err(not(Reason::ProfileLocationMissing, "no URL was found yet")),
        };
        let mut clients = road.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(url) {
            return client.clone();
        }
        let client = Client::new(Config { url: url.to_owned(), ..config.clone() }, self.gate.clone());
        clients.insert(url.to_owned(), client.clone());
        client
    }

    /// Who looks for mailboxes; `None`: the profile says where they are.
    pub fn autodiscover(&self) -> Option<Result<Autodiscover, Failure>> {
        self.autodiscover.clone()
    }
}

fn search(settings: &Settings, config: &Result<Config, Failure>) -> Result<Autodiscover, Failure> {
    let config = config.as_ref().map_err(Clone::clone)?;
    Autodiscover::new(autodiscover::Config::of(config, settings.autodiscover_domains.clone()))
}

fn config(
    shared: &Shared,
    label: &Label,
    profile: &Profile,
    direction: Direction,
    secret: Option<SecretString>,
) -> Result<Config, Failure> {
    let settings = &shared.settings;
    let url = match profile.url(direction) {
        Some(url) => url.to_owned(),
        None if profile.autodiscovers() => String::new(),
        None => return Err(not(Reason::ProfileLocationMissing, "the profile has no URL")),
    };
    let credentials = profile.credentials(direction);
    let password = secret.ok_or_else(|| match credentials.oauth {
        Some(_) => not(Reason::ProfileCertificateKeyMissing, "the profile has no private key"),
        None => not(Reason::ProfileAuthRejected, "the profile has no password"),
    })?;
    let (metrics, label) = (shared.metrics.clone(), label.clone());
    let observer =
        Observer(Arc::new(move |operation, failed, took| metrics.request(&label, operation, failed, took)));
    Ok(Config {
        url,
        authentication: credentials.authentication,
        user: credentials.user.clone(),
        password,
        oauth: credentials.oauth.clone(),
        ca_pem: profile.ca_pem.clone(),
        resolver: settings.resolver.clone(),
        impersonate: credentials.access == Access::Impersonation,
        request_deadline: settings.request_deadline(profile),
        connect_timeout: settings.connect_timeout,
        largest_content: settings.portions.largest,
        allow_plain_http: settings.allow_plain_http,
        clock: shared.clocks.now,
        observer: Some(observer),
    })
}
