//! Mail to people: its text, and the way through a relay of its own, never through the Exchange that may be failing.

mod notice;

use std::{path::PathBuf, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use mailyard_policy::Reason;
use sha2::{Digest as _, Sha256};

use crate::import::is_address;
pub use notice::RatioNotice;

/// A mail relay, as configured under `[smtp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its host name or IP address; a certificate must be valid for it.
    pub host: String,
    /// Its port; `None`: the usual one of the TLS mode (25, 587, 465).
    pub port: Option<u16>,
    /// The sender's address.
    pub from: String,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Who signs in; `None`: nobody.
    pub user: Option<String>,
    /// The file that holds the password, read anew for each mail; its last line end does not count.
    pub password_file: Option<PathBuf>,
    /// Certificates of authorities to trust besides the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// One mail, from connecting to the relay's last answer, takes no longer.
    pub timeout: Duration,
}

/// How the connection to the relay is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Not at all. With a user only on this host.
    None,
    /// By STARTTLS; without it nothing is sent.
    #[default]
    StartTls,
    /// From the first byte.
    Implicit,
}

impl TlsMode {
    fn usual_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::StartTls => 587,
            Self::Implicit => 465,
        }
    }
}

impl std::str::FromStr for TlsMode {
    type Err = MailError;

    fn from_str(word: &str) -> Result<Self, MailError> {
        match word {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::StartTls),
            "implicit" => Ok(Self::Implicit),
            _ => Err(settings("tls", format!("{word:?} is none of none, starttls, implicit"))),
        }
    }
}

/// Why a mail was not sent. Holds neither addresses nor secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// There is no relay.
    #[error("no mail relay is configured")]
    NotConfigured,
    /// The relay's settings cannot be used.
    #[error("[smtp] {key}: {detail}")]
    Settings {
        /// The key under `[smtp]`.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The mail cannot be addressed.
    #[error("the recipient is no email address")]
    Recipient,
    /// The relay was not reached, or did not take the mail.
    #[error("the mail relay {relay} {detail}")]
    Failed {
        /// Host and port.
        relay: String,
        /// What it did.
        detail: String,
        /// It said that it will never take this mail (5xx).
        permanent: bool,
    },
}

impl MailError {
    /// The reason of the catalogue.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotConfigured => Reason::SmtpNotConfigured,
            Self::Settings { .. } => Reason::ConfigInvalid,
            Self::Recipient | Self::Failed { .. } => Reason::SmtpFailed,
        }
    }

    /// True if trying the same mail again is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Failed { permanent, .. } => *permanent,
            Self::Recipient => true,
            // Somebody may configure it meanwhile.
            Self::NotConfigured | Self::Settings { .. } => false,
        }
    }
}

/// Sends mail to people.
#[derive(Clone, Debug)]
pub struct Mailer {
    relay: Option<Relay>,
}

impl Mailer {
    /// A sender that uses this relay; without one each mail is refused with `SMTP_NOT_CONFIGURED`.
    pub fn new(relay: Option<Relay>) -> Result<Self, MailError> {
        if let Some(relay) = &relay {
            relay.check()?;
        }
        Ok(Self { relay })
    }

    /// True if there is a relay.
    pub fn is_configured(&self) -> bool {
        self.relay.is_some()
    }

    /// Sends one mail of plain text, on a connection of its own. The same mail to the same person has the same
    /// Message-ID, so that one that is sent again after a lost answer can be recognized.
    pub async fn send(&self, to: &str, subject: &str, body: &str) -> Result<(), MailError> {
        let relay = self.relay.as_ref().ok_or(MailError::NotConfigured)?;
        let message = relay.message(to, subject, body)?;
        let transport = relay.transport().await?;
        match tokio::time::timeout(relay.timeout, transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(relay.failed(&error)),
            Err(_) => Err(MailError::Failed {
                relay: relay.name(),
                detail: format!("did not take the mail within {} s", relay.timeout.as_secs_f32()),
                permanent: false,
            }),
        }
    }
}

impl Relay {
    fn check(&self) -> Result<(), MailError> {
        if self.host.trim().is_empty() {
            return Err(settings("host", "it is empty"));
        }
        if !is_address(&self.from) {
            return Err(settings("from", "it is no email address"));
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err(settings("user", "it needs password_file beside it, and password_file needs user"));
        }
        if self.user.is_some() && self.tls == TlsMode::None && !self.is_on_this_host() {
            return Err(settings(
                "tls",
                "\"none\" would send the password in clear; use starttls or implicit",
            ));
        }
        Ok(())
    }

    fn is_on_this_host(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(self.tls.usual_port())
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port())
    }

    fn message(&self, to: &str, subject: &str, body: &str) -> Result<Message, MailError> {
        if !is_address(to) {
            return Err(MailError::Recipient);
        }
        let from: Mailbox = self.from.parse().map_err(|_| settings("from", "it is no email address"))?;
        let to: Mailbox = to.parse().map_err(|_| MailError::Recipient)?;
        let mut message = Message::builder()
            .message_id(Some(message_id(&from, &to, subject, body)))
            .from(from)
            .to(to)
            .subject(subject)
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            .body(body.to_owned())
            .map_err(|error| self.failed_by(&error.to_string(), true))?;
        // Keeps absence notices from answering (RFC 3834, section 5).
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }

    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let tls = match self.tls {
            TlsMode::None => Tls::None,
            TlsMode::StartTls => Tls::Required(self.tls_parameters().await?),
            TlsMode::Implicit => Tls::Wrapper(self.tls_parameters().await?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port())
            .tls(tls)
            .timeout(Some(self.timeout));
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = tokio::fs::read_to_string(file)
                .await
                .map_err(|error| settings("password_file", format!("{}: {error}", file.display())))?;
            let password = password.strip_suffix('\n').unwrap_or(&password);
            let password = password.strip_suffix('\r').unwrap_or(password);
            builder = builder.credentials(Credentials::new(user.clone(), password.to_owned()));
        }
        Ok(builder.build())
    }

    async fn tls_parameters(&self) -> Result<TlsParameters, MailError> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.ca_file {
            let wrong = |detail: String| settings("ca_file", format!("{}: {detail}", file.display()));
            let pem = tokio::fs::read(file).await.map_err(|error| wrong(error.to_string()))?;
            let certificate = Certificate::from_pem(&pem).map_err(|_| wrong("it is no PEM".to_owned()))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &lettre::transport::smtp::Error) -> MailError {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let detail = match error.status() {
            Some(code) => {
                // What else the relay says may hold addresses.
                let status = cause.split([' ', '\n']).next().filter(|word| is_enhanced_status(word));
                format!(
                    "refused with {code}{}",
                    status.map(|status| format!(" {status}")).unwrap_or_default()
                )
            }
            None if error.is_response() => "did not answer as a mail relay does".to_owned(),
            None if error.is_timeout() => "did not answer in time".to_owned(),
            None if cause.is_empty() => format!("cannot be used: {error}"),
            None => format!("cannot be used: {cause}"),
        };
        self.failed_by(&detail, error.is_permanent())
    }

    fn failed_by(&self, detail: &str, permanent: bool) -> MailError {
        MailError::Failed { relay: self.name(), detail: detail.to_owned(), permanent }
    }
}

fn settings(key: &'static str, detail: impl Into<String>) -> MailError {
    MailError::Settings { key, detail: detail.into() }
}

/// Three numbers with dots between them, such as `5.7.1` (RFC 3463).
fn is_enhanced_status(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| matches!(part.len(), 1..=3) && part.parse::<u16>().is_ok())
}

fn message_id(from: &Mailbox, to: &Mailbox, subject: &str, body: &str) -> String {
    let mut hash = Sha256::new();
    for part in [from.email.as_ref(), to.email.as_ref(), subject, body] {
        let part: &str = part;
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: Vec<String> = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("<{}@{}>", digest.concat(), from.email.domain())
}

#[cfg(test)]
mod tests;
