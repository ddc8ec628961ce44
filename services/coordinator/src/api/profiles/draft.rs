//! A profile while it is made or changed: fields of a message are put in, and everything is checked.

mod credentials;
mod location;

use std::time::Duration;

use mailyard_exchange::{Client, Config, Gate, Resolver};
use mailyard_host::clock;
use mailyard_policy::{
    Timestamp,
    id::{Org, ProfileId, Revision},
    outbox::Capabilities,
    profile::{Access, Authentication, CredentialSource, Credentials},
};
use mailyard_store::people::{Profile, Secrets};
use mailyard_wire::FieldMask;
use mailyard_wire::{
    admin,
    convert::{moment, span},
};
use secrecy::SecretString;
use tonic::Status;

use crate::api::{
    Deployment,
    input::{self, Input, LONG, SHORT},
    words,
};

const INCOMING: &str = "credentials";
const OUTGOING: &str = "outgoing_credentials";

/// What callers can set, by the names of the update mask.
const FIELDS: &[&str] = &[
    "display_name",
    "description",
    "incoming_url",
    "outgoing_url",
    "autodiscover",
    "credential_source",
    "credentials.authentication",
    "credentials.access",
    "credentials.user",
    "credentials.password",
    "credentials.oauth.tenant",
    "credentials.oauth.client",
    "credentials.oauth.certificate_pem",
    "credentials.oauth.authority",
    "credentials.oauth.resource",
    "outgoing_credentials",
    "outgoing_credentials.authentication",
    "outgoing_credentials.access",
    "outgoing_credentials.user",
    "outgoing_credentials.password",
    "outgoing_credentials.oauth.tenant",
    "outgoing_credentials.oauth.client",
    "outgoing_credentials.oauth.certificate_pem",
    "outgoing_credentials.oauth.authority",
    "outgoing_credentials.oauth.resource",
    "ca_pem",
    "process_email_from",
    "min_poll_interval",
    "max_connections",
    "idle_max",
    "move_failed",
    "streaming",
    "owner_email",
    "alert_owner",
    "request_deadline",
];

const DEFAULT_CONNECTIONS: u16 = 10;
const MAX_CONNECTIONS: u16 = 300;
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const LARGEST_CA: usize = 256 << 10;

/// True if a message without a mask sets this field.
fn is_set(message: &admin::Profile, field: &str) -> bool {
    match field {
        "display_name" => !message.display_name.is_empty(),
        "description" => !message.description.is_empty(),
        "incoming_url" => !message.incoming_url.is_empty(),
        "outgoing_url" => !message.outgoing_url.is_empty(),
        "autodiscover" => message.autodiscover,
        "credential_source" => message.credential_source != 0,
        "ca_pem" => message.ca_pem.is_some(),
        "process_email_from" => message.process_email_from.is_some(),
        "min_poll_interval" => message.min_poll_interval.is_some(),
        "max_connections" => message.max_connections != 0,
        "idle_max" => message.idle_max.is_some(),
        "move_failed" => message.move_failed,
        "streaming" => message.streaming,
        "owner_email" => message.owner_email.is_some(),
        "alert_owner" => message.alert_owner.is_some(),
        "request_deadline" => message.request_deadline.is_some(),
        field => match field.split_once('.') {
            Some((INCOMING, field)) => credentials::Draft::is_set(message.credentials.as_ref(), field),
            Some((OUTGOING, field)) => {
                credentials::Draft::is_set(message.outgoing_credentials.as_ref(), field)
            }
            _ => false,
        },
    }
}

/// The fields of a new profile.
pub(super) fn new_fields(message: &admin::Profile) -> Vec<&'static str> {
    FIELDS.iter().copied().filter(|field| is_set(message, field) || !may_be_left_out(field)).collect()
}

/// The fields that a change names. What may be left out is changed if it is filled in, or named itself.
pub(super) fn changed_fields(
    message: &admin::Profile,
    mask: Option<&FieldMask>,
) -> Result<Vec<&'static str>, Status> {
    let mut fields = input::fields(mask, FIELDS, |field| is_set(message, field))?;
    let names = |field: &str| mask.is_some_and(|mask| mask.paths.iter().any(|path| path == field));
    fields.retain(|field| is_set(message, field) || !may_be_left_out(field) || names(field));
    Ok(fields)
}

/// A password cannot be read, so who writes everything back cannot mean to clear it. What credentials for sending
/// leave out is as for reading.
fn may_be_left_out(field: &str) -> bool {
    field.ends_with(".password") || field.strip_prefix(OUTGOING).is_some_and(|rest| rest.starts_with('.'))
}

/// A profile that may not be right yet.
pub(super) struct Draft<'a> {
    profile: Profile,
    incoming: credentials::Draft,
    outgoing: Option<credentials::Draft>,
    /// The servers are found by Autodiscover.
    autodiscover: bool,
    deployment: &'a Deployment,
    input: Input,
}

impl<'a> Draft<'a> {
    /// A new profile, with the defaults of the deployment.
    pub(super) fn new(org: Org, id: ProfileId, at: Timestamp, deployment: &'a Deployment) -> Self {
        let profile = Profile {
            id,
            org,
            display_name: String::new(),
            description: String::new(),
            incoming_url: None,
            outgoing_url: None,
            credential_source: CredentialSource::Profile,
            credentials: Credentials::none(),
            outgoing_credentials: None,
            ca_pem: None,
            process_email_from: None,
            minimum_interval: Duration::ZERO,
            max_connections: DEFAULT_CONNECTIONS,
            idle_max: deployment.rules.idle_max,
            move_failed: false,
            alert_owner: false,
            owner_email: None,
            request_deadline: None,
            streaming: false,
            lanes: 1,
            capabilities: Capabilities::default(),
            create_time: at,
            revision: Revision(0),
        };
        Self { autodiscover: false, ..Self::of(profile, deployment) }
    }

    /// A stored profile that is to be changed.
    pub(super) fn of(profile: Profile, deployment: &'a Deployment) -> Self {
        let incoming = credentials::Draft::of(INCOMING, profile.credentials.clone());
        let outgoing = profile.outgoing_credentials.clone().map(|own| credentials::Draft::of(OUTGOING, own));
        let autodiscover = profile.autodiscovers();
        Self { profile, incoming, outgoing, autodiscover, deployment, input: Input::default() }
    }

    /// Puts these fields of the message in.
    pub(super) fn apply(&mut self, message: &admin::Profile, fields: &[&str]) {
        let had_owner = self.profile.owner_email.is_some();
        if fields.contains(&"autodiscover") {
            self.autodiscover = message.autodiscover;
        } else if ["incoming_url", "outgoing_url"].iter().any(|it| fields.contains(it) && is_set(message, it))
        {
            self.autodiscover = false;
        }
        for field in fields {
            self.apply_credentials(message, field);
            self.apply_reach(message, field);
            self.apply_pace(message, field);
        }
        let has_owner = self.profile.owner_email.is_some();
        match message.alert_owner.filter(|_| fields.contains(&"alert_owner")) {
            Some(wanted) => self.profile.alert_owner = wanted,
            None if fields.contains(&"alert_owner") || had_owner != has_owner => {
                self.profile.alert_owner = has_owner;
            }
            None => {}
        }
        if self.profile.alert_owner && !has_owner {
            self.input.wrong("profile.alert_owner", "there is no owner_email to be mailed");
        }
    }

    /// The profile and its new secrets, if everything is right.
    pub(super) fn checked(mut self) -> Result<(Profile, Secrets), Status> {
        match self.profile.credential_source {
            CredentialSource::Profile => {
                for draft in [Some(&mut self.incoming), self.outgoing.as_mut()].into_iter().flatten() {
                    draft.settle(&mut self.input);
                }
            }
            CredentialSource::Mailbox => self.settle_for_mailboxes(),
        }
        let by_token = |own: &credentials::Draft| own.credentials.authentication == Authentication::OAuth;
        let by_token = by_token(&self.incoming) || self.outgoing.as_ref().is_some_and(by_token);
        location::settle(&mut self.profile, self.autodiscover, by_token, &mut self.input);
        if self.profile.credential_source == CredentialSource::Profile
            && self.profile.streaming
            && self.incoming.credentials.access == Access::Delegation
        {
            let detail = "servers tell of mail by impersonation only: switch it off, or use impersonation to read mail";
            self.input.wrong("profile.streaming", detail);
        }
        self.input.done()?;
        let (outgoing_credentials, outgoing) = self.outgoing.map(|own| (own.credentials, own.secret)).unzip();
        let secrets = Secrets { incoming: self.incoming.secret, outgoing: outgoing.flatten() };
        let profile =
            Profile { credentials: self.incoming.credentials, outgoing_credentials, ..self.profile };
        Ok((profile, secrets))
    }

    /// Mailboxes sign in as themselves, each for both directions: of the profile there is the scheme.
    fn settle_for_mailboxes(&mut self) {
        self.incoming.settle_scheme(&mut self.input);
        if self.outgoing.is_some() {
            let detail =
                "mailboxes sign in as themselves, and with one account for both directions: take them away";
            self.input.wrong("profile.outgoing_credentials", detail);
        }
        if self.profile.streaming {
            let detail = "servers tell of mail by impersonation only, and these mailboxes sign in as themselves: switch it off";
            self.input.wrong("profile.streaming", detail);
        }
    }

    fn apply_credentials(&mut self, message: &admin::Profile, field: &str) {
        match field.split_once('.') {
            None if field == OUTGOING && message.outgoing_credentials.is_none() => self.outgoing = None,
            Some((INCOMING, field)) => {
                let message = message.credentials.clone().unwrap_or_default();
                self.incoming.apply(&message, field, &mut self.input);
            }
            Some((OUTGOING, field)) => {
                let message = message.outgoing_credentials.clone().unwrap_or_default();
                let incoming = &self.incoming.credentials;
                let outgoing =
                    self.outgoing.get_or_insert_with(|| credentials::Draft::another(OUTGOING, incoming));
                outgoing.apply(&message, field, &mut self.input);
            }
            _ => {}
        }
    }

    fn apply_reach(&mut self, message: &admin::Profile, field: &str) {
        let (profile, input) = (&mut self.profile, &mut self.input);
        let (plain, found) = (self.deployment.allow_plain_http, self.autodiscover);
        match field {
            // What it was, unless another one is named.
            "credential_source" if message.credential_source == 0 => {}
            "credential_source" => match words::wanted_credential_source(message.credential_source) {
                Some(source) => profile.credential_source = source,
                None => input.wrong("profile.credential_source", "it is neither profile nor mailbox"),
            },
            "display_name" => {
                profile.display_name = input.name("profile.display_name", &message.display_name, SHORT);
            }
            "description" => {
                input.prose("profile.description", &message.description, LONG);
                profile.description.clone_from(&message.description);
            }
            "incoming_url" => {
                profile.incoming_url =
                    location::url("profile.incoming_url", &message.incoming_url, found, plain, input);
            }
            "outgoing_url" => {
                profile.outgoing_url =
                    location::url("profile.outgoing_url", &message.outgoing_url, found, plain, input);
            }
            "ca_pem" => self.apply_ca(message.ca_pem.as_deref().unwrap_or_default()),
            _ => {}
        }
    }

    fn apply_pace(&mut self, message: &admin::Profile, field: &str) {
        let (profile, input) = (&mut self.profile, &mut self.input);
        match field {
            "process_email_from" => {
                let at = message.process_email_from.as_ref().map(moment);
                profile.process_email_from = at.map(|at| input.moment("profile.process_email_from", at));
            }
            "min_poll_interval" => {
                let given = message.min_poll_interval.as_ref().map_or(Some(Duration::ZERO), span);
                profile.minimum_interval = input.span("profile.min_poll_interval", given, LONGEST_INTERVAL);
            }
            "max_connections" => match u16::try_from(message.max_connections) {
                Ok(0) => profile.max_connections = DEFAULT_CONNECTIONS,
                Ok(given @ 1..=MAX_CONNECTIONS) => profile.max_connections = given,
                _ => input.wrong(
                    "profile.max_connections",
                    format!("{} is not between 1 and {MAX_CONNECTIONS}", message.max_connections),
                ),
            },
            "idle_max" => {
                let longest = LONGEST_INTERVAL.max(self.deployment.rules.idle_max);
                let given = message.idle_max.as_ref().map_or(Some(self.deployment.rules.idle_max), span);
                profile.idle_max = input.span("profile.idle_max", given, longest);
                if given == Some(Duration::ZERO) {
                    input.wrong("profile.idle_max", "a period cannot be zero");
                }
            }
            "move_failed" => profile.move_failed = message.move_failed,
            "streaming" => profile.streaming = message.streaming,
            "owner_email" => {
                let given = message.owner_email.as_deref().filter(|address| !address.is_empty());
                profile.owner_email = given.map(|address| input.address("profile.owner_email", address));
            }
            "request_deadline" => {
                let longest = self.deployment.request_deadline;
                let given = message.request_deadline.as_ref().map(span);
                profile.request_deadline =
                    given.map(|given| input.span("profile.request_deadline", given, longest));
                if given == Some(Some(Duration::ZERO)) {
                    input.wrong("profile.request_deadline", "a request needs some time");
                }
            }
            _ => {}
        }
    }

    /// Certificates are read as the client of Exchange reads them.
    fn apply_ca(&mut self, pem: &str) {
        let field = "profile.ca_pem";
        self.profile.ca_pem = (!pem.is_empty()).then(|| pem.to_owned());
        if pem.len() > LARGEST_CA {
            self.input.wrong(field, format!("it is larger than {LARGEST_CA} bytes"));
        } else if !pem.is_empty() {
            let trusting = Config { ca_pem: Some(pem.to_owned()), ..nowhere() };
            let gate = Gate::new(self.profile.id, 1, None, clock::now);
            if let Err(failure) = Client::new(trusting, gate) {
                self.input.wrong(field, failure.detail);
            }
        }
    }
}

/// A server that nobody asks.
fn nowhere() -> Config {
    Config {
        observer: None,
        url: "https://localhost/".to_owned(),
        credential_source: CredentialSource::Profile,
        authentication: Authentication::Basic,
        user: String::new(),
        password: SecretString::default(),
        oauth: None,
        ca_pem: None,
        resolver: Resolver::default(),
        impersonate: true,
        request_deadline: Duration::ZERO,
        connect_timeout: Duration::ZERO,
        largest_content: 0,
        allow_plain_http: false,
        clock: clock::now,
    }
}
