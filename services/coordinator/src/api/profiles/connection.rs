//! Test Connection: what a client of the profile's server sees, step by step. Enables and disables nothing.

mod message;
mod road;

use mailyard_exchange::{Autodiscover, Config, Gate, autodiscover};
use mailyard_policy::{
    Reason,
    connection_test::StepName,
    id::ProfileId,
    operation::Direction,
    profile::{Access, CredentialSource},
};
use mailyard_store::people::{ConnectionTest, Profile, Secrets};
use mailyard_wire::{
    admin::{self, TestConnectionRequest, TestConnectionResponse},
    name,
    status::refusal,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub(super) use self::message::last;
use self::road::Road;
use super::{Draft, draft, name_or_profile};
use crate::api::{Api, input::Input, new_id, refuse::Told as _};

/// Steps as they end.
pub(super) type Steps = ReceiverStream<Result<TestConnectionResponse, Status>>;

/// A profile, and what signs in to its servers.
struct Signed {
    profile: Profile,
    /// The account of a mailbox; `None`: the profile's.
    user: Option<String>,
    secrets: Secrets,
}

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
        let Signed { profile, user, secrets } = match (name.as_str(), profile) {
            ("", Some(message)) => self.unstored(&message)?,
            (name, None) if is_stored => self.stored(name, address.as_deref()).await?,
            _ => return Err(name_or_profile()),
        };
        let roads = self.roads(&profile, user.as_deref(), secrets, address.as_deref())?;
        let (tell, told) = mpsc::channel(roads.len() * StepName::ALL.len());
        let (store, at) = (self.store.clone(), self.now());
        tokio::spawn(async move {
            let run = async {
                let mut steps = Vec::new();
                for road in &roads {
                    road.test(address.as_deref(), |step| {
                        // There is room for all of them.
                        let _gone = tell.try_send(Ok(message::told(road.direction, &step)));
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
    fn roads(
        &self,
        profile: &Profile,
        user: Option<&str>,
        secrets: Secrets,
        address: Option<&str>,
    ) -> Result<Vec<Road>, Status> {
        let apart = profile.sends_apart();
        let directions = [(Direction::Incoming, secrets.incoming), (Direction::Outgoing, secrets.outgoing)];
        let mut roads = Vec::with_capacity(2);
        for (direction, secret) in directions.into_iter().take(if apart { 2 } else { 1 }) {
            let config = self.config(profile, direction, user, secret)?;
            let direction = apart.then_some(direction);
            let gate = Gate::new(profile.id, profile.max_connections, None, self.clock);
            let road = if profile.autodiscovers() {
                if address.is_none() && !config.user.contains('@') {
                    let detail =
                        "autodiscover looks for a mailbox, and the user name is no address: name one";
                    return Err(refusal(Reason::FieldInvalid, "address", detail));
                }
                let domains = self.deployment.autodiscover_domains.clone();
                Autodiscover::new(autodiscover::Config::of(&config, domains))
                    .map(|search| Road::found_by(direction, search, config, gate))
            } else {
                Road::to(direction, config, gate)
            };
            roads.push(road.map_err(|failure| refusal(failure.reason, "", &failure.detail))?);
        }
        Ok(roads)
    }

    async fn stored(&self, name: &str, address: Option<&str>) -> Result<Signed, Status> {
        let profile = self.find_profile("name", name).await?;
        if profile.credential_source == CredentialSource::Mailbox {
            return self.signed_by_mailbox(profile, address).await;
        }
        let incoming = self.store.secret(&profile, Direction::Incoming).await.told()?;
        let outgoing = self.store.secret(&profile, Direction::Outgoing).await.told()?;
        Ok(Signed { profile, user: None, secrets: Secrets { incoming, outgoing } })
    }

    /// Where mailboxes sign in as themselves, one of them does it.
    async fn signed_by_mailbox(&self, profile: Profile, address: Option<&str>) -> Result<Signed, Status> {
        let refused = |reason, detail: &str| refusal(reason, "address", detail);
        let Some(address) = address else {
            let detail = "the mailboxes of the profile sign in as themselves: name one that has credentials";
            return Err(refused(Reason::FieldInvalid, detail));
        };
        let mailbox = self.mailbox_at(&profile.org, "address", address).await?;
        if mailbox.set.profile != Some(profile.id) {
            let detail =
                "the mailbox is of another profile: its password is not shown to the server of this one";
            return Err(refused(Reason::FieldInvalid, detail));
        }
        let Some(account) = mailbox.account else {
            let detail = "the mailbox has no credentials of its own; set them first";
            return Err(refused(Reason::MailboxCredentialsMissing, detail));
        };
        let password = self.store.account_secret(mailbox.set.id, &account).await.told()?;
        let secrets = Secrets { incoming: Some(password.clone()), outgoing: Some(password) };
        Ok(Signed { profile, user: Some(account.user), secrets })
    }

    /// What a profile needs to be tested, and not more: its name may come later.
    fn unstored(&self, message: &admin::Profile) -> Result<Signed, Status> {
        if message.credential_source() == admin::CredentialSource::Mailbox {
            let detail =
                "who tests a profile that is not stored signs in with what it holds: give user and password";
            return Err(refusal(Reason::FieldInvalid, "profile.credential_source", detail));
        }
        let org = name::parse_organization("", "organizations/default")?;
        let mut draft = Draft::new(org, ProfileId::new(new_id()?), self.now(), &self.deployment);
        let mut fields = draft::new_fields(message);
        fields.retain(|field| *field != "display_name");
        draft.apply(message, &fields);
        let (profile, secrets) = draft.checked()?;
        let outgoing = secrets.outgoing.or_else(|| secrets.incoming.clone());
        Ok(Signed { profile, user: None, secrets: Secrets { outgoing, ..secrets } })
    }

    fn config(
        &self,
        profile: &Profile,
        direction: Direction,
        user: Option<&str>,
        secret: Option<SecretString>,
    ) -> Result<Config, Status> {
        let password = secret.ok_or_else(|| {
            refusal(Reason::FieldInvalid, "name", "the profile has no password yet; set one first")
        })?;
        let credentials = profile.credentials(direction);
        let longest = self.deployment.request_deadline;
        Ok(Config {
            observer: None,
            url: profile.url(direction).unwrap_or_default().to_owned(),
            credential_source: profile.credential_source,
            authentication: credentials.authentication,
            user: user.unwrap_or(&credentials.user).to_owned(),
            password,
            oauth: credentials.oauth.clone(),
            ca_pem: profile.ca_pem.clone(),
            resolver: self.deployment.resolver.clone(),
            impersonate: user.is_none() && credentials.access == Access::Impersonation,
            request_deadline: profile.request_deadline.map_or(longest, |own| own.min(longest)),
            connect_timeout: self.deployment.connect_timeout,
            largest_content: NO_CONTENT,
            allow_plain_http: self.deployment.allow_plain_http,
            clock: self.clock,
        })
    }
}
