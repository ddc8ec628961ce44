//! Credentials while they are made or changed.

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

const LONGEST_PASSWORD: usize = 1024;

/// Credentials that may not be right yet, and their new secret.
pub(super) struct Draft {
    /// Where they stand in the message.
    place: &'static str,
    pub(super) credentials: Credentials,
    pub(super) secret: Option<SecretString>,
}

impl Draft {
    /// Credentials that are to be changed.
    pub(super) fn of(place: &'static str, credentials: Credentials) -> Self {
        Self { place, credentials, secret: None }
    }

    /// Other ones for the second direction: like those, with a secret of their own.
    pub(super) fn another(place: &'static str, like: &Credentials) -> Self {
        Self::of(place, Credentials { secret_revision: Revision(0), ..like.clone() })
    }

    /// True if a message without a mask sets this field.
    pub(super) fn is_set(message: Option<&admin::Credentials>, field: &str) -> bool {
        let Some(message) = message else { return false };
        match field {
            "authentication" => message.authentication != 0,
            "access" => message.access != 0,
            "user" => !message.user.is_empty(),
            "password" => !message.password.is_empty(),
            _ => false,
        }
    }

    /// Puts a field of the message in.
    pub(super) fn apply(&mut self, message: &admin::Credentials, field: &str, input: &mut Input) {
        let path = format!("profile.{}.{field}", self.place);
        match field {
            // What it was, unless another one is named.
            "authentication" if message.authentication == 0 => {}
            "authentication" => match words::wanted_authentication(message.authentication) {
                Some(authentication) => self.credentials.authentication = authentication,
                None => input.refuse(
                    Reason::AuthenticationNotSupported,
                    &path,
                    "the scheme is not supported; auto, basic, ntlm and negotiate are",
                ),
            },
            "access" if message.access == 0 => {}
            "access" => match words::wanted_access(message.access) {
                Some(access) => self.credentials.access = access,
                None => input.wrong(&path, "it is neither impersonation nor delegation"),
            },
            "user" => self.credentials.user = input.name(&path, &message.user, SHORT),
            "password" => self.apply_password(&path, &message.password, input),
            _ => {}
        }
    }

    fn apply_password(&mut self, path: &str, password: &str, input: &mut Input) {
        if password.is_empty() {
            input.wrong(path, "it is empty");
        } else if password.len() > LONGEST_PASSWORD {
            input.wrong(path, format!("it is longer than {LONGEST_PASSWORD} bytes"));
        } else if password.contains(char::is_control) {
            input.wrong(path, "it holds a line break or another control character");
        }
        self.secret = Some(SecretString::from(password));
    }

    /// What is wrong with them as a whole.
    pub(super) fn check(&self, input: &mut Input) {
        let Credentials { authentication, user, .. } = &self.credentials;
        let may_be_basic = matches!(authentication, Authentication::Basic | Authentication::Auto);
        if may_be_basic && user.contains(':') {
            let detail = "it holds a colon, which Basic authentication cannot carry";
            input.wrong(&format!("profile.{}.user", self.place), detail);
        }
        if self.secret.is_none() && !self.credentials.secret_set() {
            let detail = "it is empty; the service account's password is required";
            input.wrong(&format!("profile.{}.password", self.place), detail);
        }
    }
}
