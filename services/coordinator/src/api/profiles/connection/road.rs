//! The ways to the servers of a profile, each tested by itself.

use mailyard_exchange::{
    Autodiscover, Client, Config, Failure, Gate, Subject, discovery_step, skipped_steps, test_connection,
};
use mailyard_policy::{
    connection_test::{Step, StepName, StepOutcome},
    operation::Direction,
};
use tokio::time::Instant;

/// A way to a server.
pub(super) struct Road {
    /// What goes by it; `None`: everything.
    pub direction: Option<Direction>,
    server: Server,
    gate: Gate,
    user: String,
    impersonates: bool,
}

enum Server {
    /// It is known.
    At(Client),
    /// It is looked for, and asked so when it is found.
    Sought(Autodiscover, Box<Config>),
}

impl Road {
    /// To the server of a URL.
    pub fn to(direction: Option<Direction>, config: Config, gate: Gate) -> Result<Self, Failure> {
        let (user, impersonates) = (config.user.clone(), config.impersonate);
        let server = Server::At(Client::new(config, gate.clone())?);
        Ok(Self { direction, server, gate, user, impersonates })
    }

    /// To a server that is found by Autodiscover.
    pub fn found_by(direction: Option<Direction>, search: Autodiscover, config: Config, gate: Gate) -> Self {
        let (user, impersonates) = (config.user.clone(), config.impersonate);
        Self { direction, server: Server::Sought(search, Box::new(config)), gate, user, impersonates }
    }

    /// Goes it as far as it leads.
    pub async fn test(&self, mailbox: Option<&str>, mut tell: impl FnMut(Step) + Send) {
        let subject = Subject { mailbox, user: &self.user, impersonates: self.impersonates };
        match &self.server {
            Server::At(client) => test_connection(client, subject, tell).await,
            Server::Sought(search, config) => {
                let address = mailbox.unwrap_or(&self.user);
                match self.find(search, config, address, &mut tell).await {
                    Some(client) => test_connection(&client, subject, tell).await,
                    None => skipped_steps(StepName::Autodiscover).for_each(tell),
                }
            }
        }
    }

    async fn find(
        &self,
        search: &Autodiscover,
        config: &Config,
        address: &str,
        tell: &mut (impl FnMut(Step) + Send),
    ) -> Option<Client> {
        let begun = Instant::now();
        let discovery = search.discover(address).await;
        let step = discovery_step(&discovery, begun);
        let Ok(found) = &discovery.result else {
            tell(step);
            return None;
        };
        let config = Config { url: found.ews_url.clone(), ..config.clone() };
        match Client::new(config, self.gate.clone()) {
            Ok(client) => {
                tell(step);
                Some(client)
            }
            Err(failure) => {
                let evidence = format!("{}; {}", step.evidence, failure.detail);
                let outcome = StepOutcome::Failure;
                tell(Step { outcome, reason: Some(failure.reason), evidence, ..step });
                None
            }
        }
    }
}
