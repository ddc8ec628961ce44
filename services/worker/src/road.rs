//! The clients of a profile, or of a mailbox that signs in as itself: of the profile's URLs, or of those that Autodiscover
//! finds for its mailboxes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mailyard_exchange::{Autodiscover, Client, Config, Failure, Gate, Observer, autodiscover};
use mailyard_host::metrics::Profile as Label;
use mailyard_policy::{
    Reason,
    operation::Direction,
    outbox::Execution,
    profile::{Access, Account},
};
use mailyard_store::people::Profile;
use secrecy::SecretString;

use crate::{settings::Settings, shared::Shared};

/// Ways to the servers of a profile as one account, which pass one gate.
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
    /// As the profile's own account, with its secrets.
    pub fn new(
        shared: &Shared,
        label: &Label,
        profile: &Profile,
        [incoming, outgoing]: [Option<SecretString>; 2],
        gate: &Gate,
    ) -> Self {
        let [incoming, outgoing] = [(Direction::Incoming, incoming), (Direction::Outgoing, outgoing)]
            .map(|(direction, secret)| config(shared, label, profile, direction, secret));
        Self::by(shared, profile, incoming, outgoing, gate)
    }

    /// As the account of a mailbox; or what stands in the way of it.
    pub fn of_mailbox(
        shared: &Shared,
        label: &Label,
        profile: &Profile,
        account: &Result<(&Account, SecretString), Failure>,
        gate: &Gate,
    ) -> Self {
        let [incoming, outgoing] = [Direction::Incoming, Direction::Outgoing].map(|direction| {
            let (account, password) = account.clone()?;
            let config = config(shared, label, profile, direction, Some(password))?;
            // It opens its own mailbox, by name: whose account it is not is refused by the server.
            Ok(Config { user: account.user.clone(), impersonate: false, oauth: None, ..config })
        });
        Self::by(shared, profile, incoming, outgoing, gate)
    }

    fn by(
        shared: &Shared,
        profile: &Profile,
        incoming: Result<Config, Failure>,
        outgoing: Result<Config, Failure>,
        gate: &Gate,
    ) -> Self {
        let road = |config| Road { config, clients: Mutex::default() };
        let outgoing = profile.sends_apart().then(|| road(outgoing));
        let incoming = road(incoming);
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
        credential_source: profile.credential_source,
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
