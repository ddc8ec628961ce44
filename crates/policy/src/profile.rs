//! How a server is reached, and as whom: what an email server profile says of each direction.

use crate::{id::Revision, words};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// The best that the server offers: Negotiate, NTLM, Basic.
    Auto,
    /// User and password with each request.
    Basic,
    /// NTLM version 2, once per connection.
    Ntlm,
    /// NTLM inside Negotiate.
    Negotiate,
    /// A token for a certificate (Hybrid Modern Authentication).
    OAuth,
}

/// By which right the service account acts for mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The role `ApplicationImpersonation`: a call is executed as the mailbox's owner.
    Impersonation,
    /// Permissions on each mailbox: a call is executed as the service account.
    Delegation,
}

/// Whose credentials open the mailboxes of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// The profile's: one account for all mailboxes. Connections are counted for the profile.
    #[default]
    Profile,
    /// Each mailbox's own, by the scheme of the profile. Connections are counted for each mailbox.
    Mailbox,
}

/// The account that a mailbox signs in as itself. Its password stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// A UPN or `DOMAIN\user`.
    pub user: String,
    /// Which password: another one has a greater number.
    pub secret_revision: Revision,
}

/// How a client proves who it is, and by which right it acts. The secret stands elsewhere: a password, or with OAuth
/// the private key of the certificate as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// How it is proven.
    pub authentication: Authentication,
    /// By which right.
    pub access: Access,
    /// The service account; empty with OAuth.
    pub user: String,
    /// The application; `Some` exactly with OAuth.
    pub oauth: Option<OAuth>,
    /// Which secret: another one has a greater number. 0: there is none.
    pub secret_revision: Revision,
}

/// An application that a certificate belongs to, and where its tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuth {
    /// The directory: its id or one of its domains.
    pub tenant: String,
    /// The application.
    pub client: String,
    /// The certificate, as PEM.
    pub certificate_pem: String,
    /// Where tokens are issued; `None`: what the server names when it asks for a token.
    pub authority: Option<String>,
    /// What tokens are for; `None`: the host of the EWS URL.
    pub resource: Option<String>,
}

impl Credentials {
    /// Nobody, by Basic authentication and impersonation.
    pub fn none() -> Self {
        Self {
            authentication: Authentication::Basic,
            access: Access::Impersonation,
            user: String::new(),
            oauth: None,
            secret_revision: Revision(0),
        }
    }

    /// True if there is a secret.
    pub fn secret_set(&self) -> bool {
        self.secret_revision > Revision(0)
    }
}

words! {
    Authentication: Auto = "auto", Basic = "basic", Ntlm = "ntlm", Negotiate = "negotiate", OAuth = "oauth";
    CredentialSource: Profile = "profile", Mailbox = "mailbox";
    Access: Impersonation = "impersonation", Delegation = "delegation";
}
