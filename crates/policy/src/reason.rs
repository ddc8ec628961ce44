//! The catalogue of reasons: one stable code for every failure, with whom it strikes and what to do.

use std::{fmt, str::FromStr};

use crate::profile::CredentialSource;

include!(concat!(env!("OUT_DIR"), "/reasons.rs"));

/// Whom a failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One message or other item; the rest of the mailbox goes on.
    Item,
    /// One mailbox.
    Mailbox,
    /// The server or the service account: every mailbox of the profile.
    Profile,
    /// Only the caller's own request.
    Request,
}

/// What may be expected of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nature {
    /// It may pass by itself.
    Transient,
    /// The server asked to slow down; never counts as a failure.
    Throttled,
    /// The same attempt fails again.
    Permanent,
    /// Somebody must change a setting.
    Configuration,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The administrator of Mailyard.
    Administrator,
    /// The administrator of Exchange.
    Exchange,
    /// The person whose mailbox it is.
    MailboxOwner,
    /// Whoever made the call.
    Caller,
    /// Nobody needs to do anything.
    Nobody,
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The reason this row describes.
    pub reason: Reason,
    /// The stable code, in capitals, as it appears everywhere.
    pub code: &'static str,
    /// Whom it strikes.
    pub scope: Scope,
    /// What may be expected of trying again.
    pub nature: Nature,
    /// Who can mend it.
    pub owner: Owner,
    /// Name of the gRPC status code where the reason reaches a caller.
    pub grpc: &'static str,
    /// A fault of the server: it counts for the profile's breaker and never against a mailbox.
    pub server_fault: bool,
    /// What happened, without a full stop.
    pub title: &'static str,
    /// What to do, one or two sentences.
    pub remedy: &'static str,
    /// The section of the guide for administrators of Exchange that explains the remedy, such as
    /// `docs/prepare-exchange.md#impersonation`; `None`: the remedy says all.
    pub guide: Option<&'static str>,
}

impl Entry {
    /// The page of the documentation that is about this reason, such as `docs/reasons/INTERNAL.md`.
    pub fn page(&self) -> String {
        format!("docs/reasons/{}.md", self.code)
    }
}

impl Reason {
    /// The whole catalogue in the order of the codes.
    pub fn catalogue() -> &'static [Entry] {
        &CATALOGUE
    }

    /// The row of this reason.
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    /// The stable code, such as `MAILBOX_NOT_APPROVED`.
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// Whom it strikes.
    pub fn scope(self) -> Scope {
        self.entry().scope
    }

    /// What may be expected of trying again.
    pub fn nature(self) -> Nature {
        self.entry().nature
    }

    /// True if it counts for the profile's breaker and never against a mailbox.
    pub fn is_server_fault(self) -> bool {
        self.entry().server_fault
    }

    /// True if it speaks of the credential of the service account.
    pub fn is_credential_fault(self) -> bool {
        matches!(
            self,
            Reason::ProfileAuthRejected
                | Reason::ProfileAuthRefusedBehindProxy
                | Reason::ProfilePasswordExpired
                | Reason::ProfileAccountLocked
                | Reason::ProfileTokenRefused
                | Reason::ProfileTokenNotAccepted
                | Reason::ProfileCertificateInvalid
                | Reason::ProfileCertificateKeyMissing
                | Reason::ProfileCertificateKeyMismatch
                | Reason::ProfileCertificateExpired
        )
    }

    /// True if it speaks of the account by which one mailbox signs in itself: nothing is tried with that account
    /// until a person has looked after it, or it would be locked.
    pub fn is_account_fault(self) -> bool {
        matches!(
            self,
            Reason::MailboxAuthRejected
                | Reason::MailboxAuthRefusedBehindProxy
                | Reason::MailboxPasswordExpired
                | Reason::MailboxAccountLocked
        )
    }

    /// What it means where these credentials were used: what a mailbox signs in with is no fault of its profile.
    #[must_use]
    pub fn with_credentials_of(self, source: CredentialSource) -> Self {
        match (source, self) {
            (CredentialSource::Profile, _) => self,
            (_, Reason::ProfileAuthRejected) => Reason::MailboxAuthRejected,
            (_, Reason::ProfileAuthRefusedBehindProxy) => Reason::MailboxAuthRefusedBehindProxy,
            (_, Reason::ProfilePasswordExpired) => Reason::MailboxPasswordExpired,
            (_, Reason::ProfileAccountLocked) => Reason::MailboxAccountLocked,
            (CredentialSource::Mailbox, _) => self,
        }
    }
}

/// The text is no code of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reason of the catalogue")]
pub struct UnknownReason(pub String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        CATALOGUE
            .binary_search_by(|entry| entry.code.cmp(code))
            .map(|at| CATALOGUE[at].reason)
            .map_err(|_| UnknownReason(code.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

macro_rules! lower_case_words {
    ($name:ident: $($variant:ident = $word:literal),+) => {
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $($name::$variant => $word),+ })
            }
        }
    };
}

lower_case_words!(Scope: Item = "item", Mailbox = "mailbox", Profile = "profile", Request = "request");
lower_case_words!(Nature: Transient = "transient", Throttled = "throttled", Permanent = "permanent",
    Configuration = "configuration");
lower_case_words!(Owner: Administrator = "administrator", Exchange = "exchange", MailboxOwner = "mailbox_owner",
    Caller = "caller", Nobody = "nobody");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_and_points_to_its_own_row() {
        for (at, entry) in Reason::catalogue().iter().enumerate() {
            assert_eq!(entry.code.parse(), Ok(entry.reason));
            assert_eq!(entry.reason as usize, at, "{} stands at another place", entry.code);
            assert_eq!(entry.reason.code(), entry.code);
        }
        assert_eq!("NO_SUCH".parse::<Reason>(), Err(UnknownReason("NO_SUCH".into())));
    }

    #[test]
    fn a_refused_password_strikes_whose_it_is() {
        for Entry { reason, .. } in Reason::catalogue() {
            let own = reason.with_credentials_of(CredentialSource::Mailbox);
            assert_eq!(reason.with_credentials_of(CredentialSource::Profile), *reason);
            // Tokens and their certificates are never a mailbox's.
            let of_token = reason.code().contains("TOKEN") || reason.code().contains("CERTIFICATE");
            let strikes_mailbox = reason.is_credential_fault() && !of_token || reason.is_account_fault();
            assert_eq!(own.is_account_fault(), strikes_mailbox, "{reason}");
            assert_eq!(own == *reason, !reason.is_credential_fault() || of_token, "{reason}");
            if own.is_account_fault() {
                assert!(!own.is_server_fault() && !own.is_credential_fault(), "{own}");
                assert_eq!((own.scope(), own.nature()), (Scope::Mailbox, Nature::Configuration), "{own}");
            }
        }
    }

    #[test]
    fn the_catalogue_reads_well() {
        for Entry { code, title, remedy, scope, nature, server_fault, .. } in Reason::catalogue() {
            assert!(!title.ends_with('.') && title.len() > 10, "{code}: title");
            assert!(remedy.ends_with('.') && remedy.len() > 10, "{code}: remedy");
            assert!(
                !server_fault || *scope == Scope::Profile,
                "{code}: a fault of the server strikes the profile"
            );
            assert!(!(*server_fault && *nature == Nature::Throttled), "{code}: throttling is no fault");
        }
    }
}
