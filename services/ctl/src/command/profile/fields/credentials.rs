//! Credentials as flags, of each direction.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use mailyard_wire::admin::{self, Access, Authentication, CredentialSource};

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
    /// A token for a certificate (Hybrid Modern Authentication)
    Oauth,
}

impl From<Auth> for Authentication {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Auto => Self::Auto,
            Auth::Basic => Self::Basic,
            Auth::Ntlm => Self::Ntlm,
            Auth::Negotiate => Self::Negotiate,
            Auth::Oauth => Self::Oauth,
        }
    }
}

/// Whose credentials open the mailboxes of a profile.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Of {
    /// The profile's: one service account for all of them
    Profile,
    /// Each mailbox's own
    Mailbox,
}

impl From<Of> for CredentialSource {
    fn from(of: Of) -> Self {
        match of {
            Of::Profile => Self::Profile,
            Of::Mailbox => Self::Mailbox,
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
    /// With oauth: the directory, its id or one of its domains
    #[arg(long, value_name = "TENANT")]
    oauth_tenant: Option<String>,
    /// With oauth: the application's id
    #[arg(long, value_name = "CLIENT")]
    oauth_client: Option<String>,
    /// With oauth: the file that holds the application's certificate and its private key
    #[arg(long, value_name = "PEM_FILE")]
    oauth_certificate: Option<PathBuf>,
    /// With oauth: where tokens are issued, if the server does not say; empty: where it says
    #[arg(long, value_name = "URL")]
    oauth_authority: Option<String>,
    /// With oauth: what tokens are for, if it is not the host of the EWS URL; empty: that host
    #[arg(long, value_name = "RESOURCE")]
    oauth_resource: Option<String>,
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
    /// With oauth: the directory of the application that sends
    #[arg(long, value_name = "TENANT")]
    outgoing_oauth_tenant: Option<String>,
    /// With oauth: the application that sends
    #[arg(long, value_name = "CLIENT")]
    outgoing_oauth_client: Option<String>,
    /// With oauth: the file that holds its certificate and its private key
    #[arg(long, value_name = "PEM_FILE")]
    outgoing_oauth_certificate: Option<PathBuf>,
    /// With oauth: where its tokens are issued
    #[arg(long, value_name = "URL")]
    outgoing_oauth_authority: Option<String>,
    /// With oauth: what its tokens are for
    #[arg(long, value_name = "RESOURCE")]
    outgoing_oauth_resource: Option<String>,
    /// Send by permissions on each mailbox instead of impersonation
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    outgoing_delegation: Option<bool>,
    /// Send as mail is read, and forget other credentials
    #[arg(long, conflicts_with_all = ["outgoing_auth", "outgoing_user", "outgoing_password_file", "outgoing_delegation",
        "outgoing_oauth_tenant", "outgoing_oauth_client", "outgoing_oauth_certificate", "outgoing_oauth_authority",
        "outgoing_oauth_resource"])]
    outgoing_as_incoming: bool,
}

/// What was given of one direction.
struct Given {
    auth: Option<Auth>,
    user: Option<String>,
    password: Option<String>,
    delegation: Option<bool>,
    oauth: Application,
}

/// What was given of an application.
struct Application {
    tenant: Option<String>,
    client: Option<String>,
    certificate_pem: Option<String>,
    authority: Option<String>,
    resource: Option<String>,
}

impl Application {
    /// The application, if anything was given of it; `fields` gains which fields of the credentials that are.
    fn fill(self, fields: &mut Vec<&'static str>) -> Option<admin::OAuth> {
        let mut given = admin::OAuth::default();
        let before = fields.len();
        for (field, text, place) in [
            ("oauth.tenant", self.tenant, &mut given.tenant),
            ("oauth.client", self.client, &mut given.client),
            ("oauth.certificate_pem", self.certificate_pem, &mut given.certificate_pem),
            ("oauth.authority", self.authority, &mut given.authority),
            ("oauth.resource", self.resource, &mut given.resource),
        ] {
            if let Some(text) = text {
                fields.push(field);
                *place = text;
            }
        }
        (fields.len() > before).then_some(given)
    }
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
        given.oauth = self.oauth.fill(&mut fields);
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
        let oauth = Application {
            tenant: self.oauth_tenant.clone(),
            client: self.oauth_client.clone(),
            certificate_pem: secret::certificate(ctl, self.oauth_certificate.as_deref())?,
            authority: self.oauth_authority.clone(),
            resource: self.oauth_resource.clone(),
        };
        let given =
            Given { auth: self.auth, user: self.user.clone(), password, delegation: self.delegation, oauth };
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
            oauth: Application {
                tenant: self.outgoing_oauth_tenant.clone(),
                client: self.outgoing_oauth_client.clone(),
                certificate_pem: secret::certificate(ctl, self.outgoing_oauth_certificate.as_deref())?,
                authority: self.outgoing_oauth_authority.clone(),
                resource: self.outgoing_oauth_resource.clone(),
            },
        };
        profile.outgoing_credentials = given.credentials("outgoing_credentials", all);
        Ok(())
    }
}
