//! A profile while it is made or changed: fields of a message are put in, and everything is checked.

use std::time::Duration;

use mailyard_exchange::{Authentication, Client, Config, Endpoint, Gate};
use mailyard_host::clock;
use mailyard_policy::{
    Reason, Timestamp,
    id::{Org, ProfileId, Revision},
    outbox::Capabilities,
};
use mailyard_store::people::Profile;
use mailyard_wire::{
    admin,
    convert::{moment, span},
};
use secrecy::SecretString;
use tonic::Status;

use super::message::scheme;
use crate::api::{
    Deployment,
    input::{Input, LONG, SHORT},
};

/// What callers can set, by the names of the update mask.
pub(super) const FIELDS: &[&str] = &[
    "display_name",
    "description",
    "incoming_url",
    "outgoing_url",
    "authentication",
    "user",
    "password",
    "ca_pem",
    "process_email_from",
    "min_poll_interval",
    "max_connections",
    "idle_max",
    "move_failed",
    "owner_email",
    "alert_owner",
    "request_deadline",
];

const DEFAULT_CONNECTIONS: u16 = 10;
const MAX_CONNECTIONS: u16 = 300;
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const LONGEST_URL: usize = 2048;
const LONGEST_PASSWORD: usize = 1024;
const LARGEST_CA: usize = 256 << 10;

/// True if a message without a mask sets this field.
pub(super) fn is_set(message: &admin::Profile, field: &str) -> bool {
    match field {
        "display_name" => !message.display_name.is_empty(),
        "description" => !message.description.is_empty(),
        "incoming_url" => !message.incoming_url.is_empty(),
        "outgoing_url" => !message.outgoing_url.is_empty(),
        "authentication" => message.authentication != 0,
        "user" => !message.user.is_empty(),
        "password" => !message.password.is_empty(),
        "ca_pem" => message.ca_pem.is_some(),
        "process_email_from" => message.process_email_from.is_some(),
        "min_poll_interval" => message.min_poll_interval.is_some(),
        "max_connections" => message.max_connections != 0,
        "idle_max" => message.idle_max.is_some(),
        "move_failed" => message.move_failed,
        "owner_email" => message.owner_email.is_some(),
        "alert_owner" => message.alert_owner.is_some(),
        "request_deadline" => message.request_deadline.is_some(),
        _ => false,
    }
}

/// A profile that may not be right yet.
pub(super) struct Draft<'a> {
    profile: Profile,
    password: Option<SecretString>,
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
            auth: "basic".to_owned(),
            user: String::new(),
            password_set: false,
            ca_pem: None,
            process_email_from: None,
            minimum_interval: Duration::ZERO,
            max_connections: DEFAULT_CONNECTIONS,
            idle_max: deployment.rules.idle_max,
            move_failed: false,
            alert_owner: false,
            owner_email: None,
            request_deadline: None,
            lanes: 1,
            capabilities: Capabilities::default(),
            create_time: at,
            revision: Revision(0),
            secret_revision: Revision(0),
        };
        Self::of(profile, deployment)
    }

    /// A stored profile that is to be changed.
    pub(super) fn of(profile: Profile, deployment: &'a Deployment) -> Self {
        Self { profile, password: None, deployment, input: Input::default() }
    }

    /// Puts these fields of the message in.
    pub(super) fn apply(&mut self, message: &admin::Profile, fields: &[&str]) {
        let had_owner = self.profile.owner_email.is_some();
        for field in fields {
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

    /// A password must have been given.
    pub(super) fn require_password(&mut self) {
        if self.password.is_none() {
            self.input.wrong("profile.password", "it is empty; the service account's password is required");
        }
    }

    /// The profile and its new password, if everything is right.
    pub(super) fn checked(self) -> Result<(Profile, Option<SecretString>), Status> {
        self.input.done()?;
        Ok((self.profile, self.password))
    }

    fn apply_reach(&mut self, message: &admin::Profile, field: &str) {
        let (profile, input) = (&mut self.profile, &mut self.input);
        let plain = self.deployment.allow_plain_http;
        match field {
            "display_name" => {
                profile.display_name = input.name("profile.display_name", &message.display_name, SHORT);
            }
            "description" => {
                input.prose("profile.description", &message.description, LONG);
                profile.description.clone_from(&message.description);
            }
            "incoming_url" => {
                profile.incoming_url = Some(url("profile.incoming_url", &message.incoming_url, plain, input));
            }
            "outgoing_url" => {
                profile.outgoing_url = Some(url("profile.outgoing_url", &message.outgoing_url, plain, input));
            }
            // The only one there is, unless another one is named.
            "authentication" if message.authentication == 0 => {}
            "authentication" => match scheme(message.authentication) {
                Some(scheme) => scheme.clone_into(&mut profile.auth),
                None => input.refuse(
                    Reason::AuthenticationNotSupported,
                    "profile.authentication",
                    "the scheme is not supported; AUTHENTICATION_BASIC is",
                ),
            },
            "user" => {
                profile.user = input.name("profile.user", &message.user, SHORT);
                if profile.user.contains(':') {
                    input.wrong("profile.user", "it holds a colon, which Basic authentication cannot carry");
                }
            }
            "password" => self.apply_password(&message.password),
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

    fn apply_password(&mut self, password: &str) {
        let field = "profile.password";
        if password.is_empty() {
            self.input.wrong(field, "it is empty");
        } else if password.len() > LONGEST_PASSWORD {
            self.input.wrong(field, format!("it is longer than {LONGEST_PASSWORD} bytes"));
        } else if password.contains(char::is_control) {
            self.input.wrong(field, "it holds a line break or another control character");
        }
        self.password = Some(SecretString::from(password));
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

fn url(field: &str, url: &str, allow_plain_http: bool, input: &mut Input) -> String {
    let url = input.line(field, url, LONGEST_URL);
    if url.is_empty() {
        let detail = "it is empty, and there is no autodiscover";
        input.refuse(Reason::ProfileLocationMissing, field, detail);
    } else if let Err(failure) = Endpoint::parse(&url, allow_plain_http) {
        input.wrong(field, failure.detail);
    }
    url
}

/// A server that nobody asks.
fn nowhere() -> Config {
    Config {
        observer: None,
        url: "https://localhost/".to_owned(),
        authentication: Authentication::Basic,
        user: String::new(),
        password: SecretString::default(),
        ca_pem: None,
        impersonate: true,
        request_deadline: Duration::ZERO,
        connect_timeout: Duration::ZERO,
        largest_content: 0,
        allow_plain_http: false,
        clock: clock::now,
    }
}
