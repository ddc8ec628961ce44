//! What a request carries so that the server knows who asks, and what its answer says of that.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_policy::{Reason, outbox::Execution};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{Again, Ended, Scheme, invalid, missing, not_kept, of_401, rejected};
use crate::{
    Failure,
    http1::Head,
    ntlm::Session,
    oauth::{Token, Tokens, shortened},
    spnego,
};

/// What a request carries.
pub(crate) enum Authorization {
    /// A header, as every request does.
    Header { scheme: Scheme, value: SecretString },
    /// A token, as every request does.
    Token { tokens: Arc<Tokens>, token: Arc<Token> },
    /// The last message of a handshake. With a session, the server's last word is checked too.
    LastLeg { scheme: Scheme, value: SecretString, session: Option<Session> },
    /// Nothing: its connection is authenticated.
    Connection(Scheme),
}

impl Authorization {
    /// The token that counts at the moment, which may have to be waited for.
    pub async fn by_token(tokens: &Arc<Tokens>, until: Instant) -> Result<Self, Failure> {
        let token = tokens.current(until).await?;
        Ok(Self::Token { tokens: tokens.clone(), token })
    }

    /// The value of the header.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Header { value, .. } | Self::LastLeg { value, .. } => Some(value.expose_secret()),
            Self::Token { token, .. } => Some(token.value()),
            Self::Connection(_) => None,
        }
    }

    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Header { scheme, .. } | Self::LastLeg { scheme, .. } | Self::Connection(scheme) => *scheme,
            Self::Token { .. } => Scheme::Bearer,
        }
    }

    /// What the answer says of the proof.
    pub fn judge(&self, head: &Head) -> Result<(), Ended> {
        match (self, head.status) {
            (Self::Token { tokens, token }, _) => tokens.judge(token, head),
            (Self::Header { .. } | Self::LastLeg { .. }, 401) if expired(head) => {
                let detail = "the server says that the password has expired";
                Err(of_401(Reason::ProfilePasswordExpired, detail).into())
            }
            (Self::Header { scheme, .. } | Self::Connection(scheme), 401)
                if scheme.challenge(head).is_none() =>
            {
                let what = format!("the server does not offer {} authentication", scheme.word());
                Err(missing(&what, head).into())
            }
            (Self::Header { .. }, 401) => Err(rejected("the server refused the credentials").into()),
            (Self::LastLeg { scheme, .. }, 401) => Err(refused_at_the_end(*scheme, head).into()),
            (Self::Connection(_), 401) => {
                let failure = rejected("the server forgot whose connection it is");
                Err(Ended { failure, again: Again::OnNewConnection })
            }
            (Self::LastLeg { session: Some(session), scheme, .. }, _) => last_word(*scheme, session, head),
            _ => Ok(()),
        }
    }

    /// The connection broke, which may have begun before this request was sent.
    pub fn broken(&self, failure: Failure, stale: bool, effect: bool) -> Ended {
        match self {
            Self::LastLeg { .. } if stale => not_kept(failure.execution).into(),
            Self::LastLeg { .. } => failure.into(),
            // The server closed the connection while it was kept. What changes nothing is asked again, once.
            Self::Header { .. } | Self::Token { .. } | Self::Connection(_) => {
                Ended { failure, again: Again::on_new_connection_if(stale && !effect) }
            }
        }
    }

    /// The scheme that the connection is authenticated by, after an answer that counts.
    pub fn of_connection(&self) -> Option<Scheme> {
        match self {
            Self::Header { .. } | Self::Token { .. } => None,
            Self::LastLeg { scheme, .. } | Self::Connection(scheme) => Some(*scheme),
        }
    }
}

fn expired(head: &Head) -> bool {
    head.password_expired.as_ref().is_some_and(|told| told.eq_ignore_ascii_case("true"))
}

/// A wrong password, unless something in between is to blame: a last leg on a connection of its own is nobody's.
fn refused_at_the_end(scheme: Scheme, head: &Head) -> Failure {
    let scheme = scheme.word();
    match &head.proxy {
        Some(proxy) => {
            let detail = format!("the {scheme} handshake went through {} and was refused", shortened(proxy));
            of_401(Reason::ProfileAuthRefusedBehindProxy, &detail)
        }
        None => rejected(&format!(
            "the server refused the credentials at the end of the {scheme} handshake; where something before it \
             ends TLS, Extended Protection refuses good ones too",
        )),
    }
}

/// A server's MIC over what we offered must be right; many send none.
fn last_word(scheme: Scheme, session: &Session, head: &Head) -> Result<(), Ended> {
    let token = scheme.challenge(head).and_then(|last| STANDARD.decode(&last.data).ok()).unwrap_or_default();
    let response = spnego::parse(&token).unwrap_or_default();
    // Old servers repeat their token in its place.
    let mic = response.mic.filter(|mic| response.token != Some(mic));
    match mic {
        Some(mic) if !spnego::is_genuine(mic, session) => {
            let failure = invalid("the server's MIC over the offered mechanisms is wrong");
            Err(Failure { execution: Execution::Maybe, ..failure }.into())
        }
        _ => Ok(()),
    }
}
