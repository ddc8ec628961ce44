//! Credentials while they are made or changed.

use mailyard_exchange::{Certificate, Endpoint};
use mailyard_host::clock;
use mailyard_policy::{
    Reason,
    id::Revision,
    profile::{Authentication, Credentials},
};
use mailyard_wire::admin;
use secrecy::SecretString;

use crate::api::{
    input::{Input, SHORT},
    words,
};

const LARGEST_CERTIFICATE: usize = 64 << 10;
const LONGEST_URL: usize = 1024;

/// Credentials that may not be right yet, and their new secret.
pub(super) struct Draft {
    /// Where they stand in the message.
    place: &'static str,
    pub(super) credentials: Credentials,
    pub(super) secret: Option<SecretString>,
    /// The scheme before.
    before: Authentication,
    /// What the message says, field by field.
    named: Vec<String>,
    /// Of these fields, those that are not empty in it.
    filled: Vec<String>,
}

impl Draft {
    /// Credentials that are to be changed.
    pub(super) fn of(place: &'static str, credentials: Credentials) -> Self {
        let before = credentials.authentication;
        Self { place, credentials, secret: None, before, named: Vec::new(), filled: Vec::new() }
    }

    /// Other ones for the second direction: like those, with a secret of their own.
    pub(super) fn another(place: &'static str, like: &Credentials) -> Self {
        Self::of(place, Credentials { secret_revision: Revision(0), ..like.clone() })
    }

    /// True if a message without a mask sets this field.
    pub(super) fn is_set(message: Option<&admin::Credentials>, field: &str) -> bool {
        let Some(message) = message else { return false };
        let oauth = message.oauth.as_ref();
        let filled = |text: fn(&admin::OAuth) -> &String| oauth.is_some_and(|it| !text(it).is_empty());
        match field {
            "authentication" => message.authentication != 0,
            "access" => message.access != 0,
            "user" => !message.user.is_empty(),
            "password" => !message.password.is_empty(),
            "oauth.tenant" => filled(|it| &it.tenant),
            "oauth.client" => filled(|it| &it.client),
            "oauth.certificate_pem" => filled(|it| &it.certificate_pem),
            "oauth.authority" => filled(|it| &it.authority),
            "oauth.resource" => filled(|it| &it.resource),
            _ => false,
        }
    }

    /// Puts a field of the message in.
    pub(super) fn apply(&mut self, message: &admin::Credentials, field: &str, input: &mut Input) {
        let path = self.path(field);
        self.named.push(field.to_owned());
        if Self::is_set(Some(message), field) {
            self.filled.push(field.to_owned());
        }
        match field {
            // What it was, unless another one is named.
            "authentication" if message.authentication == 0 => {}
            "authentication" => match words::wanted_authentication(message.authentication) {
                Some(authentication) => self.credentials.authentication = authentication,
                None => input.refuse(
                    Reason::AuthenticationNotSupported,
                    &path,
                    "the scheme is not supported; auto, basic, ntlm, negotiate and oauth are",
                ),
            },
            "access" if message.access == 0 => {}
            "access" => match words::wanted_access(message.access) {
                Some(access) => self.credentials.access = access,
                None => input.wrong(&path, "it is neither impersonation nor delegation"),
            },
            "user" => self.credentials.user = input.line(&path, &message.user, SHORT),
            "password" if message.password.is_empty() => {}
            "password" => self.secret = Some(input.password(&path, &message.password)),
            field => {
                let message = message.oauth.clone().unwrap_or_default();
                self.apply_oauth(&message, field, &path, input);
            }
        }
    }

    fn path(&self, field: &str) -> String {
        format!("profile.{}.{field}", self.place)
    }

    fn apply_oauth(&mut self, message: &admin::OAuth, field: &str, path: &str, input: &mut Input) {
        let oauth = self.credentials.oauth.get_or_insert_default();
        let optional = |text: String| (!text.is_empty()).then_some(text);
        match field {
            "oauth.tenant" => oauth.tenant = tenant(path, &message.tenant, input),
            "oauth.client" => oauth.client = input.line(path, &message.client, SHORT),
            "oauth.authority" => oauth.authority = optional(authority(path, &message.authority, input)),
            "oauth.resource" => oauth.resource = optional(resource(path, &message.resource, input)),
            "oauth.certificate_pem" => self.apply_certificate(path, &message.certificate_pem, input),
            _ => {}
        }
    }

    /// The certificate goes into the profile, its key becomes the secret.
    fn apply_certificate(&mut self, path: &str, pem: &str, input: &mut Input) {
        let known = self.credentials.secret_set() && self.before == Authentication::OAuth;
        let oauth = self.credentials.oauth.get_or_insert_default();
        // Whoever writes back what was read has no key: nothing changes.
        if pem.is_empty() || (known && pem.trim() == oauth.certificate_pem.trim()) {
            return;
        }
        if pem.len() > LARGEST_CERTIFICATE {
            return input.wrong(path, format!("it is larger than {LARGEST_CERTIFICATE} bytes"));
        }
        let read = Certificate::read(pem).and_then(|read| read.check(clock::now()).map(|()| read));
        match read {
            Ok(read) => {
                read.certificate_pem().clone_into(&mut oauth.certificate_pem);
                self.secret = Some(read.key_pem().clone());
            }
            Err(failure) => input.refuse(failure.reason, path, failure.detail),
        }
    }

    /// Makes them whole, and says what is wrong with them as a whole.
    pub(super) fn settle(&mut self, input: &mut Input) {
        let named = self.filled.iter().any(|field| field == "authentication");
        if !named && !self.credentials.secret_set() && self.filled.iter().any(|it| it.starts_with("oauth.")) {
            self.credentials.authentication = Authentication::OAuth;
        }
        if self.is_mixed(input) {
            return;
        }
        if self.credentials.authentication == Authentication::OAuth {
            self.credentials.user.clear();
            self.settle_oauth(input);
        } else {
            self.credentials.oauth = None;
            self.settle_password(input);
        }
    }

    /// Makes them the scheme of accounts that stand elsewhere, and says what else there is.
    pub(super) fn settle_scheme(&mut self, input: &mut Input) {
        for field in self.filled.iter().filter(|field| *field != "authentication" && *field != "access") {
            let detail = "it does not go with credentials of the mailboxes: give each mailbox its own";
            input.wrong(&self.path(field), detail);
        }
        if self.credentials.authentication == Authentication::OAuth {
            let detail = "tokens are an application's, and a mailbox has user and password: choose auto, basic, ntlm or negotiate";
            input.wrong(&self.path("authentication"), detail);
        }
        let Credentials { authentication, access, .. } = self.credentials;
        self.credentials = Credentials { authentication, access, ..Credentials::none() };
    }

    /// A field of another scheme is filled in.
    fn is_mixed(&self, input: &mut Input) -> bool {
        let oauth = self.credentials.authentication == Authentication::OAuth;
        let other = |field: &&String| match field.as_str() {
            "user" | "password" => oauth,
            field => !oauth && field.starts_with("oauth."),
        };
        let wrong: Vec<_> = self.filled.iter().filter(other).collect();
        for field in &wrong {
            let detail = format!("it does not go with {}", self.credentials.authentication);
            input.refuse(Reason::CredentialsMixed, &self.path(field), detail);
        }
        !wrong.is_empty()
    }

    fn settle_password(&self, input: &mut Input) {
        let Credentials { authentication, user, .. } = &self.credentials;
        let may_be_basic = matches!(authentication, Authentication::Basic | Authentication::Auto);
        let path = self.path("user");
        if may_be_basic && user.contains(':') {
            input.wrong(&path, "it holds a colon, which Basic authentication cannot carry");
        }
        if user.is_empty() {
            input.wrong(&path, "it is empty");
        }
        let path = self.path("password");
        if self.secret.is_some() {
            return;
        }
        if self.named.iter().any(|field| field == "password") {
            input.wrong(&path, "it is empty");
        } else if !self.credentials.secret_set() {
            input.wrong(&path, "it is empty; the service account's password is required");
        } else if self.before == Authentication::OAuth {
            input.wrong(&path, "the scheme changes; the service account's password is required");
        }
    }

    fn settle_oauth(&mut self, input: &mut Input) {
        let known = self.credentials.secret_set() && self.before == Authentication::OAuth;
        let oauth = self.credentials.oauth.get_or_insert_default();
        let (tenant, client) = (oauth.tenant.is_empty(), oauth.client.is_empty());
        for (field, empty) in [("oauth.tenant", tenant), ("oauth.client", client)] {
            if empty {
                input.wrong(&self.path(field), "it is empty");
            }
        }
        let certificate = "oauth.certificate_pem";
        let [named, filled] =
            [&self.named, &self.filled].map(|fields| fields.iter().any(|field| field == certificate));
        // What is wrong with one that is filled in was said already.
        if !filled && (named || !known) {
            let detail = "it is empty; the application's certificate with its private key is required";
            input.wrong(&self.path(certificate), detail);
        }
    }
}

/// The id of a directory or one of its domains: it stands in URLs.
fn tenant(path: &str, text: &str, input: &mut Input) -> String {
    let tenant = input.line(path, text, SHORT);
    if !tenant.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_')) {
        input.wrong(path, "it is neither the id of a directory nor a domain such as contoso.example");
    }
    tenant
}

fn authority(path: &str, text: &str, input: &mut Input) -> String {
    let url = input.line(path, text, LONGEST_URL);
    if !url.is_empty() {
        if let Err(failure) = Endpoint::parse(&url, false) {
            input.wrong(path, failure.detail);
        } else if url.contains(['?', '#']) {
            input.wrong(path, "it is the URL of an authority and not of something in it");
        }
    }
    url
}

fn resource(path: &str, text: &str, input: &mut Input) -> String {
    let resource = input.line(path, text, LONGEST_URL);
    if resource.contains(char::is_whitespace) {
        input.wrong(path, "it holds a blank");
    }
    resource
}
