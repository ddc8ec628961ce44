//! Credentials as flags, of each direction.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use mailyard_wire::admin::{self, Access, Authentication};

use super::Paths;
use crate::{command::secret, ctl::Ctl, failure::Failure};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Auth {
    /// The best that the server offers: Negotiate, NTLM, Basic
    Auto,
    /// User and password with each request
    Basic,
    /// NTLM version 2, once per connection
    Ntlm,
    /// NTLM inside Negotiate
    Negotiate,
}

impl From<Auth> for Authentication {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Auto => Self::Auto,
            Auth::Basic => Self::Basic,
            Auth::Ntlm => Self::Ntlm,
            Auth::Negotiate => Self::Negotiate,
        }
    }
}

/// How mail is read, and sent too unless that is another way.
#[derive(Clone, Debug, clap::Args)]
pub struct Incoming {
    /// How the service account proves who it is
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    /// The service account: a UPN or DOMAIN\user
    #[arg(long)]
    user: Option<String>,
    /// The file that holds its password; - reads standard input, and asks on a terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Act by permissions on each mailbox instead of impersonation
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    delegation: Option<bool>,
}

/// How mail is sent, if that is another way.
#[derive(Clone, Debug, clap::Args)]
pub struct Outgoing {
    /// How the account that sends proves who it is, if it is another
    #[arg(long, value_enum)]
    outgoing_auth: Option<Auth>,
    /// The account that sends, if it is another
    #[arg(long, value_name = "USER")]
    outgoing_user: Option<String>,
    /// The file that holds its password
    #[arg(long, value_name = "FILE")]
    outgoing_password_file: Option<PathBuf>,
    /// Send by permissions on each mailbox instead of impersonation
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    outgoing_delegation: Option<bool>,
    /// Send as mail is read, and forget other credentials
    #[arg(long, conflicts_with_all = ["outgoing_auth", "outgoing_user", "outgoing_password_file", "outgoing_delegation"])]
    outgoing_as_incoming: bool,
}

/// What was given of one direction.
struct Given {
    auth: Option<Auth>,
    user: Option<String>,
    password: Option<String>,
    delegation: Option<bool>,
}

impl Given {
    /// The credentials, if anything was given of them; `all` gains which fields of the profile that are.
    fn credentials(self, place: &str, all: &mut Paths) -> Option<admin::Credentials> {
        let mut given = admin::Credentials::default();
        let mut fields = Vec::new();
        if let Some(auth) = self.auth {
            fields.push("authentication");
            given.set_authentication(auth.into());
        }
        if let Some(delegation) = self.delegation {
            fields.push("access");
            given.set_access(if delegation { Access::Delegation } else { Access::Impersonation });
        }
        for (field, text, place) in
            [("user", self.user, &mut given.user), ("password", self.password, &mut given.password)]
        {
            if let Some(text) = text {
                fields.push(field);
                *place = text;
            }
        }
        all.extend(fields.iter().map(|field| format!("{place}.{field}")));
        (!fields.is_empty()).then_some(given)
    }
}

impl Incoming {
    /// Fills in what is given. `ask`: a new user's password is asked for if no file holds it.
    pub(super) fn fill(
        &self,
        ctl: &mut Ctl,
        profile: &mut admin::Profile,
        all: &mut Paths,
        ask: bool,
    ) -> Result<(), Failure> {
        let password = secret::password(ctl, self.password_file.as_deref(), ask && self.user.is_some())?;
        let given = Given { auth: self.auth, user: self.user.clone(), password, delegation: self.delegation };
        profile.credentials = given.credentials("credentials", all);
        Ok(())
    }
}

impl Outgoing {
    /// Fills in what is given.
    pub(super) fn fill(
        &self,
        ctl: &mut Ctl,
        profile: &mut admin::Profile,
        all: &mut Paths,
    ) -> Result<(), Failure> {
        if self.outgoing_as_incoming {
            all.push("outgoing_credentials".to_owned());
            return Ok(());
        }
        let given = Given {
            auth: self.outgoing_auth,
            user: self.outgoing_user.clone(),
            password: secret::password(ctl, self.outgoing_password_file.as_deref(), false)?,
            delegation: self.outgoing_delegation,
        };
        profile.outgoing_credentials = given.credentials("outgoing_credentials", all);
        Ok(())
    }
}
