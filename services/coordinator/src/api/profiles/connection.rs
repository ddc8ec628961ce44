//! Test Connection: what a client of the profile's server sees, step by step. Enables and disables nothing.

use mailyard_exchange::{Client, Config, Gate, Subject, test_connection};
use mailyard_policy::{
    Reason,
    connection_test::{Step, StepName, StepOutcome},
    id::ProfileId,
    operation::Direction,
    profile::Access,
};
use mailyard_store::people::{ConnectionTest, Profile, Secrets};
use mailyard_wire::{
    admin::{self, ConnectionStep, TestConnectionRequest, TestConnectionResponse},
    convert::{duration, timestamp},
    name,
    status::refusal,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Draft, draft, name_or_profile};
use crate::api::{Api, input::Input, new_id, refuse::Told as _, words::code};

/// Steps as they end.
pub(super) type Steps = ReceiverStream<Result<TestConnectionResponse, Status>>;

/// What is never asked of a server that is only tested.
const NO_CONTENT: u64 = 1 << 20;

impl Api {
    /// It runs as far as the caller reads: who goes away ends it.
    pub(super) async fn connection_steps(&self, request: TestConnectionRequest) -> Result<Steps, Status> {
        let TestConnectionRequest { name, profile, address } = request;
        let mut input = Input::default();
        let address = (!address.is_empty()).then(|| input.address("address", &address));
        input.done()?;
        let is_stored = !name.is_empty();
        let (profile, secrets) = match (name.as_str(), profile) {
            ("", Some(message)) => self.unstored(&message)?,
            (name, None) if is_stored => self.stored(name).await?,
            _ => return Err(name_or_profile()),
        };
        let roads = self.roads(&profile, secrets)?;
        let (tell, told) = mpsc::channel(roads.len() * StepName::ALL.len());
        let (store, at) = (self.store.clone(), self.now());
        tokio::spawn(async move {
            let run = async {
                let mut steps = Vec::new();
                for road in &roads {
                    road.test(address.as_deref(), |step| {
                        // There is room for all of them.
                        let _gone = tell.try_send(Ok(told_step(road.direction, &step)));
                        steps.push((road.direction, step));
                    })
                    .await;
                }
                steps
            };
            let steps = tokio::select! {
                steps = run => steps,
                () = tell.closed() => return,
            };
            let test = ConnectionTest { at, address: address.clone(), steps };
            if is_stored && let Err(error) = store.keep_connection_test(profile.id, &test).await {
                tracing::warn!(profile = %profile.id, %error, "the result of a test could not be kept");
            }
        });
        Ok(ReceiverStream::new(told))
    }

    /// How mail is read, and how it is sent if that is another road.
    fn roads(&self, profile: &Profile, secrets: Secrets) -> Result<Vec<Road>, Status> {
        let apart = profile.sends_apart();
        let directions = [(Direction::Incoming, secrets.incoming), (Direction::Outgoing, secrets.outgoing)];
        let mut roads = Vec::with_capacity(2);
        for (direction, secret) in directions.into_iter().take(if apart { 2 } else { 1 }) {
            let credentials = profile.credentials(direction);
            roads.push(Road {
                direction: apart.then_some(direction),
                client: self.client(profile, direction, secret)?,
                user: credentials.user.clone(),
                impersonates: credentials.access == Access::Impersonation,
            });
        }
        Ok(roads)
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

/// A way to a server.
struct Road {
    /// What goes by it; `None`: everything.
    direction: Option<Direction>,
    client: Client,
    user: String,
    impersonates: bool,
}

impl Road {
    async fn test(&self, mailbox: Option<&str>, tell: impl FnMut(Step) + Send) {
        let subject = Subject { mailbox, user: &self.user, impersonates: self.impersonates };
        test_connection(&self.client, subject, tell).await;
    }
}

fn told_step(direction: Option<Direction>, step: &Step) -> TestConnectionResponse {
    TestConnectionResponse { step: Some(message(direction, step)) }
}

/// The test as it was kept.
pub(super) fn last(test: &ConnectionTest) -> admin::ConnectionTest {
    let worst = test.steps.iter().map(|(_, step)| step.outcome).max_by_key(|outcome| match outcome {
        StepOutcome::Skipped => 0,
        StepOutcome::Success => 1,
        StepOutcome::Warning => 2,
        StepOutcome::Failure => 3,
    });
    admin::ConnectionTest {
        time: Some(timestamp(test.at)),
        address: test.address.clone().unwrap_or_default(),
        outcome: worst.map_or(admin::StepOutcome::Unspecified, outcome).into(),
        steps: test.steps.iter().map(|(direction, step)| message(*direction, step)).collect(),
    }
}

fn message(direction: Option<Direction>, step: &Step) -> ConnectionStep {
    ConnectionStep {
        name: step.name.word().to_owned(),
        outcome: outcome(step.outcome).into(),
        duration: Some(duration(step.duration)),
        evidence: step.evidence.clone(),
        reason: code(step.reason),
        remedy: step.remedy().unwrap_or_default().to_owned(),
        direction: direction.map(|direction| direction.word().to_owned()).unwrap_or_default(),
        request: step.request.clone(),
        response: step.response.clone(),
    }
}

const fn outcome(outcome: StepOutcome) -> admin::StepOutcome {
    match outcome {
        StepOutcome::Success => admin::StepOutcome::Success,
        StepOutcome::Warning => admin::StepOutcome::Warning,
        StepOutcome::Failure => admin::StepOutcome::Failure,
        StepOutcome::Skipped => admin::StepOutcome::Skipped,
    }
}
