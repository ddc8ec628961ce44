//! Test Connection: what a client of the profile's server sees, step by step. Changes nothing and keeps nothing.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use mailyard_exchange::{Client, Config, Gate, Step, StepOutcome, test_connection};
use mailyard_policy::{Reason, id::ProfileId, operation::Direction, profile::Access};
use mailyard_store::people::{Profile, Secrets};
use mailyard_wire::{
    admin::{self, ConnectionStep, TestConnectionRequest, TestConnectionResponse},
    convert::duration,
    name,
    status::refusal,
};
use secrecy::SecretString;
use tonic::Status;

use super::{Draft, draft, name_or_profile};
use crate::api::{Api, input::Input, new_id, refuse::Told as _, words::code};

/// Steps as they end.
pub(super) type Steps = Pin<Box<dyn Stream<Item = Result<TestConnectionResponse, Status>> + Send>>;

/// What is never asked of a server that is only tested.
const NO_CONTENT: u64 = 1 << 20;

impl Api {
    pub(super) async fn connection_steps(&self, request: TestConnectionRequest) -> Result<Steps, Status> {
        let TestConnectionRequest { name, profile, address } = request;
        let mut input = Input::default();
        let address = (!address.is_empty()).then(|| input.address("address", &address));
        input.done()?;
        let (profile, secrets) = match (name.as_str(), profile) {
            ("", Some(message)) => self.unstored(&message)?,
            (name, None) if !name.is_empty() => self.stored(name).await?,
            _ => return Err(name_or_profile()),
        };
        let mut clients =
            vec![(Direction::Incoming, self.client(&profile, Direction::Incoming, secrets.incoming)?)];
        if profile.outgoing_url != profile.incoming_url || profile.outgoing_credentials.is_some() {
            let secret = secrets.outgoing;
            clients.push((Direction::Outgoing, self.client(&profile, Direction::Outgoing, secret)?));
        }
        let names_each = clients.len() > 1;
        // It runs as far as the caller reads: who goes away ends it.
        let steps = stream::iter(clients).then(move |(which, client)| {
            let address = address.clone();
            async move {
                let steps = test_connection(&client, address.as_deref()).await;
                stream::iter(steps).map(move |step| Ok(message(&step, names_each.then_some(which.word()))))
            }
        });
        Ok(Box::pin(steps.flatten()))
    }

    async fn stored(&self, name: &str) -> Result<(Profile, Secrets), Status> {
        let profile = self.find_profile("name", name).await?;
        let incoming = self.store.secret(&profile, Direction::Incoming).await.told()?;
        let outgoing = self.store.secret(&profile, Direction::Outgoing).await.told()?;
        Ok((profile, Secrets { incoming, outgoing }))
    }

    /// What a profile needs to be tested, and not more: its name may come later.
    fn unstored(&self, message: &admin::Profile) -> Result<(Profile, Secrets), Status> {
        let org = name::parse_organization("", "organizations/default")?;
        let mut draft = Draft::new(org, ProfileId::new(new_id()?), self.now(), &self.deployment);
        let mut fields = draft::new_fields(message);
        fields.retain(|field| *field != "display_name");
        draft.apply(message, &fields);
        let (profile, secrets) = draft.checked()?;
        let outgoing = secrets.outgoing.or_else(|| secrets.incoming.clone());
        Ok((profile, Secrets { outgoing, ..secrets }))
    }

    fn client(
        &self,
        profile: &Profile,
        direction: Direction,
        secret: Option<SecretString>,
    ) -> Result<Client, Status> {
        let password = secret.ok_or_else(|| {
            refusal(Reason::FieldInvalid, "name", "the profile has no password yet; set one first")
        })?;
        let credentials = profile.credentials(direction);
        let longest = self.deployment.request_deadline;
        let config = Config {
            observer: None,
            url: profile.url(direction).unwrap_or_default().to_owned(),
            authentication: credentials.authentication,
            user: credentials.user.clone(),
            password,
            oauth: credentials.oauth.clone(),
            ca_pem: profile.ca_pem.clone(),
            resolver: self.deployment.resolver.clone(),
            impersonate: credentials.access == Access::Impersonation,
            request_deadline: profile.request_deadline.map_or(longest, |own| own.min(longest)),
            connect_timeout: self.deployment.connect_timeout,
            largest_content: NO_CONTENT,
            allow_plain_http: self.deployment.allow_plain_http,
            clock: self.clock,
        };
        let gate = Gate::new(profile.id, profile.max_connections, None, self.clock);
        Client::new(config, gate).map_err(|failure| refusal(failure.reason, "", &failure.detail))
    }
}

/// With two servers each step says which one it is about.
fn message(step: &Step, which: Option<&str>) -> TestConnectionResponse {
    let outcome = match step.outcome {
        StepOutcome::Success => admin::StepOutcome::Success,
        StepOutcome::Warning => admin::StepOutcome::Warning,
        StepOutcome::Failure => admin::StepOutcome::Failure,
        StepOutcome::Skipped => admin::StepOutcome::Skipped,
    };
    let remedy = step.remedy().unwrap_or_default().to_owned();
    let evidence = which.map_or(step.evidence.clone(), |which| format!("{which}: {}", step.evidence));
    let step = ConnectionStep {
        step: step.name.word().to_owned(),
        outcome: outcome.into(),
        duration: Some(duration(step.duration)),
        evidence,
        reason: code(step.reason),
        remedy,
    };
    TestConnectionResponse { step: Some(step) }
}
