//! How a client proves who asks: by a header that each request carries, or by a handshake that a connection begins with.

mod authorization;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_policy::{Reason, Timestamp, outbox::Execution, profile::Authentication};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use self::authorization::Authorization;
use crate::{
    Config, Endpoint, Failure,
    http1::{Challenge, Head},
    ntlm::{self, Account, Chance, Circumstances},
    oauth::{Issuer, Tokens},
    spnego,
};

/// A scheme that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    Ntlm,
    Negotiate,
    Bearer,
}

impl Scheme {
    /// As it stands in a header.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Ntlm => "NTLM",
            Self::Negotiate => "Negotiate",
            Self::Bearer => "Bearer",
        }
    }

    pub fn challenge(self, head: &Head) -> Option<&Challenge> {
        let same = |offered: &&Challenge| offered.scheme.eq_ignore_ascii_case(self.word());
        head.challenges.iter().filter(same).max_by_key(|offered| !offered.data.is_empty())
    }
}

/// A request ended without an answer that counts.
pub(crate) struct Ended {
    pub failure: Failure,
    pub again: Again,
}

/// Whether a request may be asked again at once, because the server has not executed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    No,
    /// On a connection of its own.
    OnNewConnection,
    /// With another token than the one that was refused.
    WithNewToken,
}

impl Again {
    /// On a new connection if this is so.
    pub fn on_new_connection_if(it_may: bool) -> Self {
        if it_may { Self::OnNewConnection } else { Self::No }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, again: Again::No }
    }
}

/// Knows the credential of a client and, once it is known, the scheme.
pub(crate) struct Authenticator {
    wanted: Authentication,
    /// `Some` exactly with OAuth.
    tokens: Option<Arc<Tokens>>,
    /// The value of the header; `None`: Basic cannot carry the user's name.
    basic: Option<SecretString>,
    account: Account,
    target_name: String,
    tls: bool,
    choice: Mutex<Choice>,
}

/// What was learnt of a server whose scheme we choose.
#[derive(Default)]
struct Choice {
    scheme: Option<Scheme>,
    /// It is offered, and does not work here.
    unsuited: Option<Scheme>,
}

/// How a request is made ready on a connection.
pub(crate) enum Step<'a> {
    Ready(Authorization),
    Token(&'a Arc<Tokens>),
    Handshake(Handshake<'a>),
}

impl Authenticator {
    /// For the credential of a configuration.
    ///
    /// # Errors
    /// `PROFILE_AUTH_REJECTED` if the scheme cannot carry the user name; with OAuth what is wrong with the certificate.
    pub fn new(config: &Config, endpoint: &Endpoint, trust: &Arc<ClientConfig>) -> Result<Self, Failure> {
        if config.authentication == Authentication::OAuth {
            let tokens = Some(tokens(config, endpoint, trust)?);
            let nobody = Self::of_account(config.authentication, "", &SecretString::default(), endpoint)?;
            return Ok(Self { tokens, ..nobody });
        }
        Self::of_account(config.authentication, &config.user, &config.password, endpoint)
    }

    /// For an account: `DOMAIN\user` or UPN. Tokens are not an account's.
    ///
    /// # Errors
    /// `PROFILE_AUTH_REJECTED` if the scheme cannot carry the user name.
    pub fn of_account(
        wanted: Authentication,
        user: &str,
        password: &SecretString,
        endpoint: &Endpoint,
    ) -> Result<Self, Failure> {
        let password = password.expose_secret();
        let basic = (!user.contains(['\r', '\n', ':']))
            .then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into());
        if wanted == Authentication::Basic && basic.is_none() {
            let detail =
                "the user name holds a colon or a line break, which Basic authentication cannot carry";
            return Err(Failure::new(Reason::ProfileAuthRejected, Execution::Not, detail));
        }
        Ok(Self {
            wanted,
            tokens: None,
            basic,
            account: Account::new(user, password),
            target_name: format!("HTTP/{}", endpoint.host),
            tls: endpoint.tls,
            choice: Mutex::default(),
        })
    }

    /// The scheme; `None`: the server must be asked what it offers.
    pub fn scheme(&self) -> Option<Scheme> {
        match self.wanted {
            Authentication::Basic => Some(Scheme::Basic),
            Authentication::Ntlm => Some(Scheme::Ntlm),
            Authentication::Negotiate => Some(Scheme::Negotiate),
            Authentication::OAuth => Some(Scheme::Bearer),
            Authentication::Auto => self.choice().scheme,
        }
    }

    /// Chooses out of what a server offers to a request that does not say who asks, and remembers it.
    pub fn choose(&self, head: &Head) -> Result<Scheme, Failure> {
        if head.status != 401 {
            return Err(of_leg(head));
        }
        let mut choice = self.choice();
        let suits = |scheme: &Scheme| match scheme {
            Scheme::Basic => self.tls && self.basic.is_some(),
            Scheme::Ntlm | Scheme::Negotiate => true,
            Scheme::Bearer => false,
        };
        let chosen = [Scheme::Negotiate, Scheme::Ntlm, Scheme::Basic]
            .into_iter()
            .filter(|scheme| choice.unsuited != Some(*scheme) && suits(scheme))
            .find(|scheme| scheme.challenge(head).is_some());
        *choice = Choice { scheme: chosen, unsuited: choice.unsuited.filter(|_| chosen.is_some()) };
        chosen.ok_or_else(|| missing("the server offers no scheme that can be used", head))
    }

    /// Whether a scheme that can be used is offered to a request that does not say who asks.
    pub fn suits(&self, head: &Head) -> Result<(), Failure> {
        match self.scheme() {
            None => self.choose(head).map(|_| ()),
            Some(scheme) if scheme.challenge(head).is_some() => Ok(()),
            Some(scheme) => {
                let what = format!("the server does not offer {} authentication", scheme.word());
                Err(missing(&what, head))
            }
        }
    }

    /// What a scheme ended with. If it is not usable and was our choice, another one is chosen next.
    pub fn doubt(&self, scheme: Scheme, ended: Ended) -> Ended {
        let reason = ended.failure.reason;
        if self.wanted != Authentication::Auto || reason != Reason::ProfileAuthSchemeMissing {
            return ended;
        }
        let mut choice = self.choice();
        if choice.scheme == Some(scheme) {
            *choice = Choice { scheme: None, unsuited: Some(scheme) };
        }
        Ended { again: Again::OnNewConnection, ..ended }
    }

    /// How a request is made ready on a connection that is not authenticated.
    pub fn begin(&self, scheme: Scheme) -> Step<'_> {
        let token = match (scheme, &self.tokens) {
            (_, Some(tokens)) => return Step::Token(tokens),
            (Scheme::Negotiate, None) => spnego::init(&ntlm::negotiate()),
            (Scheme::Ntlm, None) => ntlm::negotiate(),
            (Scheme::Basic | Scheme::Bearer, None) => {
                let value = self.basic.clone().unwrap_or_default();
                return Step::Ready(Authorization::Header { scheme, value });
            }
        };
        Step::Handshake(Handshake { authenticator: self, scheme, value: value(scheme, &token) })
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of an application's tokens for this server.
fn tokens(config: &Config, endpoint: &Endpoint, trust: &Arc<ClientConfig>) -> Result<Arc<Tokens>, Failure> {
    let application = config.oauth.clone().ok_or_else(|| {
        let detail = "the application that shall get tokens is not named";
        Failure::new(Reason::ProfileCertificateInvalid, Execution::Not, detail)
    })?;
    let server = (endpoint.clone(), trust.clone());
    let issuer = Issuer::new(application, server, config)?;
    Ok(Arc::new(Tokens::new(issuer)))
}

fn value(scheme: Scheme, token: &[u8]) -> String {
    format!("{} {}", scheme.word(), STANDARD.encode(token))
}

/// A handshake that begins.
pub(crate) struct Handshake<'a> {
    authenticator: &'a Authenticator,
    scheme: Scheme,
    value: String,
}

impl Handshake<'_> {
    /// The header of its first leg, which carries no request.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Reads the server's challenge. What comes out goes with the request, on the same connection.
    pub fn answer(
        &self,
        head: &Head,
        keep: bool,
        binding: Option<[u8; 16]>,
        now: Timestamp,
    ) -> Result<Authorization, Failure> {
        let scheme = self.scheme;
        if head.status != 401 {
            return Err(of_leg(head));
        }
        let Some(challenge) = scheme.challenge(head) else {
            let what = format!("the server does not offer {} authentication", scheme.word());
            return Err(missing(&what, head));
        };
        if challenge.data.is_empty() {
            let what = format!("the server offers {}, and does not begin its handshake", scheme.word());
            return Err(missing(&what, head));
        }
        if !keep {
            return Err(not_kept(Execution::Not));
        }
        let token = STANDARD.decode(&challenge.data).map_err(|_| invalid("the challenge is no base64"))?;
        let (inner, wrapped) = self.unwrap(&token, head)?;
        let chance = chance().ok_or_else(|| {
            Failure::new(Reason::Internal, Execution::Not, "the operating system gives no random numbers")
        })?;
        let target_name = &self.authenticator.target_name;
        let circumstances = Circumstances { binding, target_name, now, chance };
        let (message, session) = self
            .authenticator
            .account
            .answer(inner, &circumstances)
            .map_err(|malformed| invalid(&malformed.to_string()))?;
        let (token, session) =
            if wrapped { (spnego::respond(&message, &session), Some(session)) } else { (message, None) };
        Ok(Authorization::LastLeg { scheme, value: value(scheme, &token).into(), session })
    }

    /// The challenge of NTLM, and whether SPNEGO was around it: some servers leave it out within Negotiate.
    fn unwrap<'t>(&self, token: &'t [u8], head: &Head) -> Result<(&'t [u8], bool), Failure> {
        if self.scheme == Scheme::Ntlm || ntlm::is_bare(token) {
            return Ok((token, false));
        }
        let response = spnego::parse(token).ok_or_else(|| invalid("the challenge is no SPNEGO"))?;
        if response.other_mechanism || response.state == Some(spnego::State::Rejected) {
            return Err(missing("the server does not accept NTLM within Negotiate", head));
        }
        let inner = response.token.ok_or_else(|| invalid("the challenge is empty"))?;
        Ok((inner, true))
    }
}

fn chance() -> Option<Chance> {
    let mut chance = Chance { nonce: [0; 8], session_key: [0; 16] };
    getrandom::fill(&mut chance.nonce).and_then(|()| getrandom::fill(&mut chance.session_key)).ok()?;
    Some(chance)
}

fn of_401(reason: Reason, detail: &str) -> Failure {
    Failure { code: Some("HTTP 401".into()), ..Failure::new(reason, Execution::Not, detail) }
}

fn rejected(detail: &str) -> Failure {
    of_401(Reason::ProfileAuthRejected, detail)
}

fn invalid(detail: &str) -> Failure {
    of_401(Reason::ProfileAuthHandshakeInvalid, detail)
}

/// A scheme that cannot be used, with those that the server offers.
pub(crate) fn missing(what: &str, head: &Head) -> Failure {
    let offered: Vec<&str> = head.challenges.iter().map(|offered| &*offered.scheme).collect();
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    of_401(Reason::ProfileAuthSchemeMissing, &format!("{what}; it offers: {offered}"))
}

/// A handshake needs one connection from its first leg to its last.
pub(crate) fn not_kept(execution: Execution) -> Failure {
    let detail = "the connection was closed in the middle of the handshake";
    Failure::new(Reason::ProfileAuthConnectionNotKept, execution, detail)
}

/// A leg without a request in it got something else than a 401.
pub(crate) fn of_leg(head: &Head) -> Failure {
    if head.status / 100 == 2 {
        let detail = "the server asks nobody for credentials";
        return Failure::new(Reason::ProfileAuthSchemeMissing, Execution::Not, detail);
    }
    Failure::of_status_of_nothing(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator(user: &str, url: &str) -> Authenticator {
        let endpoint = Endpoint::parse(url, true).expect("a URL");
        let made = Authenticator::of_account(Authentication::Auto, user, &"secret".into(), &endpoint);
        made.unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn offering(schemes: &[&str]) -> Head {
        let challenge = |scheme: &&str| Challenge { scheme: (*scheme).to_owned(), data: String::new() };
        Head { status: 401, challenges: schemes.iter().map(challenge).collect(), ..Head::default() }
    }

    #[test]
    fn basic_is_chosen_where_it_is_safe_and_possible() {
        let (tls, plain) = ("https://a.example/", "http://a.example/");
        for (user, url, offers, expected) in [
            ("u", tls, &["basic"][..], Some(Scheme::Basic)),
            ("u", plain, &["Basic"], None),
            ("u", plain, &["Basic", "ntlm"], Some(Scheme::Ntlm)),
            ("u:v", tls, &["Basic"], None),
            ("u:v", tls, &["NTLM", "NEGOTIATE"], Some(Scheme::Negotiate)),
        ] {
            let found = authenticator(user, url).choose(&offering(offers));
            let found = found.map_err(|failure| failure.reason);
            assert_eq!(found, expected.ok_or(Reason::ProfileAuthSchemeMissing), "{user} {url} {offers:?}");
        }
    }

    #[test]
    fn many_may_doubt_the_same_choice() {
        let authenticator = authenticator("u", "https://a.example/");
        let both = offering(&["Negotiate", "NTLM"]);
        let doubt = |scheme| {
            authenticator.doubt(scheme, missing("it is not", &both).into()).again == Again::OnNewConnection
        };
        assert_eq!(authenticator.choose(&both).ok(), Some(Scheme::Negotiate));
        assert!(doubt(Scheme::Negotiate));
        assert_eq!(authenticator.choose(&both).ok(), Some(Scheme::Ntlm));
        assert!(doubt(Scheme::Negotiate), "somebody else was faster");
        assert_eq!(authenticator.scheme(), Some(Scheme::Ntlm));
        // When nothing is left, everything is worth a try again.
        let one = offering(&["NTLM"]);
        assert!(doubt(Scheme::Ntlm) && authenticator.choose(&one).is_err());
        assert_eq!(authenticator.choose(&one).ok(), Some(Scheme::Ntlm));
    }
}
