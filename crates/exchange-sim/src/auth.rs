//! Who speaks: the schemes that the endpoint offers, and what a connection remembers of them.

mod hashes;
mod ntlm;
mod spnego;

use std::{mem, str::FromStr, sync::atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde::{Deserialize, Serialize};

pub(crate) use self::ntlm::bindings;
use self::{
    ntlm::{Challenged, Channel, Host, Refused, Session, Side},
    spnego::{Ntlm, Token},
};
use crate::{
    access::{Caller, account},
    answer::Response,
    fault::Kind,
    oauth::TokenError,
    world::World,
};

/// A way to sign in that the EWS endpoint offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Name and password with every request.
    Basic,
    /// NTLM, bound to the connection.
    Ntlm,
    /// NTLM, with or without SPNEGO around it, bound to the connection. There is no Kerberos.
    Negotiate,
    /// Bearer tokens of the simulator's own issuer.
    OAuth,
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "basic" => Ok(Self::Basic),
            "ntlm" => Ok(Self::Ntlm),
            "negotiate" => Ok(Self::Negotiate),
            "oauth" => Ok(Self::OAuth),
            _ => Err(format!("{text} is none of basic, ntlm, negotiate, oauth")),
        }
    }
}

/// Whether a handshake has to be bound to the TLS connection, as Exchange's Extended Protection sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtendedProtection {
    /// Bindings are not looked at.
    None,
    /// Bindings that are sent have to be right.
    #[default]
    Allow,
    /// Right bindings have to be sent.
    Require,
}

/// What a TCP connection knows of who speaks on it.
#[derive(Debug, Default)]
pub(crate) struct Connection(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Anonymous,
    /// NTLM was agreed on, and its first message is awaited.
    Agreed(Vec<u8>),
    Challenged(Challenged, Envelope),
    Known(Caller),
}

/// What stands around the messages of NTLM.
#[derive(Debug)]
enum Envelope {
    Bare(&'static str),
    /// SPNEGO, and the list of mechanisms that the client offered.
    Spnego(Vec<u8>),
}

/// Who asks, and a last token for the answer.
pub(crate) struct SignedIn {
    pub caller: Caller,
    pub token: Option<String>,
}

impl SignedIn {
    fn plain(caller: Caller) -> Self {
        Self { caller, token: None }
    }
}

impl Connection {
    /// Who sends this request.
    ///
    /// # Errors
    /// The answer to whom it is not known of yet.
    pub fn sign_in(&mut self, world: &World, authorization: Option<&str>) -> Result<SignedIn, Response> {
        let Some(authorization) = authorization else {
            return match &self.0 {
                State::Known(caller) => Ok(SignedIn::plain(caller.clone())),
                _ => Err(self.refuse(world, "anonymous")),
            };
        };
        // What a request says of itself ends what the connection knew.
        let state = mem::take(&mut self.0);
        let (scheme, credential) = authorization.split_once(' ').unwrap_or((authorization, ""));
        let credential = credential.trim();
        let offers = |scheme| world.options.auth.contains(&scheme);
        match scheme.to_ascii_lowercase().as_str() {
            "basic" if offers(Scheme::Basic) => match basic(world, credential) {
                Some(caller) => Ok(SignedIn::plain(caller)),
                None => Err(self.refuse(world, "basic")),
            },
            "ntlm" if offers(Scheme::Ntlm) => self.ntlm(world, state, "NTLM", &decoded(credential)),
            "negotiate" if offers(Scheme::Negotiate) => {
                let token = decoded(credential);
                if ntlm::is_message(&token) {
                    self.ntlm(world, state, "Negotiate", &token)
                } else {
                    self.spnego(world, state, &token)
                }
            }
            "bearer" => match &world.issuer {
                Some(issuer) => match issuer.accept(credential, world.now()) {
                    Ok(accepted) => Ok(SignedIn::plain(Caller::Application(accepted))),
                    Err(error) => {
                        world.counters.refused_sign_in(error.category());
                        Err(token_refused(world, error))
                    }
                },
                None => Err(self.refuse(world, "scheme")),
            },
            _ => Err(self.refuse(world, "scheme")),
        }
    }

    fn refuse(&mut self, world: &World, why: &'static str) -> Response {
        self.0 = State::Anonymous;
        world.counters.refused_sign_in(why);
        unauthorized(world)
    }

    fn ntlm(
        &mut self,
        world: &World,
        state: State,
        scheme: &'static str,
        message: &[u8],
    ) -> Result<SignedIn, Response> {
        match state {
            State::Challenged(challenged, Envelope::Bare(begun)) if begun == scheme && !is_first(message) => {
                let (caller, _) = self.finish(world, &challenged, message)?;
                Ok(self.known(world, caller, None))
            }
            _ => self.challenge(world, message, Envelope::Bare(scheme)),
        }
    }

    fn spnego(&mut self, world: &World, state: State, token: &[u8]) -> Result<SignedIn, Response> {
        match (spnego::read(token), state) {
            (Some(Token::Offer { list, ntlm: Ntlm::First, token: Some(first) }), _) => {
                self.challenge(world, first, Envelope::Spnego(list.to_vec()))
            }
            // Without a token for another mechanism, the client waits to hear which one it shall be.
            (Some(Token::Offer { list, ntlm: Ntlm::First | Ntlm::Later, token: None }), _) => {
                self.0 = State::Agreed(list.to_vec());
                let token = spnego::write(spnego::State::Incomplete, true, None, None);
                Err(leg(world, "Negotiate", &token))
            }
            (Some(Token::Next { token: Some(first), .. }), State::Agreed(list)) => {
                self.challenge(world, first, Envelope::Spnego(list))
            }
            (
                Some(Token::Next { token: Some(last), mic }),
                State::Challenged(challenged, Envelope::Spnego(list)),
            ) => {
                let (caller, session) = self.finish(world, &challenged, last)?;
                let mic = match mic {
                    Some(mic) if session.signature(Side::Client, &list).is_none_or(|own| own != mic) => {
                        return Err(self.refuse(world, "wrong_list_mic"));
                    }
                    Some(_) => session.signature(Side::Server, &list),
                    None => None,
                };
                let mic = mic.as_ref().map(<[u8; 16]>::as_slice);
                let token = spnego::write(spnego::State::Completed, false, None, mic);
                Ok(self.known(world, caller, Some(format!("Negotiate {}", STANDARD.encode(token)))))
            }
            // Kerberos above all: its tickets are for somebody else.
            _ => Err(self.refuse(world, "negotiate")),
        }
    }

    /// The second leg: a challenge, with status 401 and without a body.
    fn challenge(&mut self, world: &World, message: &[u8], envelope: Envelope) -> Result<SignedIn, Response> {
        let host = Host {
            netbios_domain: &world.options.nt_domain,
            dns_domain: &world.options.domain,
            computer: "EX01",
            filetime: filetime(world.now()),
        };
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&world.search_key()[..8]);
        let Some(challenged) = Challenged::answer(message.to_vec(), &host, nonce) else {
            return Err(self.refuse(world, "malformed"));
        };
        let response = match &envelope {
            Envelope::Bare(scheme) => leg(world, scheme, challenged.message()),
            Envelope::Spnego(_) => {
                let token = spnego::write(spnego::State::Incomplete, true, Some(challenged.message()), None);
                leg(world, "Negotiate", &token)
            }
        };
        self.0 = State::Challenged(challenged, envelope);
        Err(response)
    }

    /// The third leg.
    fn finish(
        &mut self,
        world: &World,
        challenged: &Challenged,
        message: &[u8],
    ) -> Result<(Caller, Session), Response> {
        let reset = world.asks_faults().and_then(|mut faults| faults.strikes(Kind::NtlmReset, "", ""));
        if reset.is_some() {
            return Err(Response::cut());
        }
        let channel =
            Channel { protection: world.settings().extended_protection, bindings: world.channel_bindings };
        let password =
            |user: &str, domain: &str| Some((windows_account(world, user, domain)?, world.password.clone()));
        challenged.accept(message, channel, password).map_err(|refused| self.refuse(world, reason(refused)))
    }

    /// The user of all that follows on the connection, if the server does not ask anew each time.
    fn known(&mut self, world: &World, caller: Caller, token: Option<String>) -> SignedIn {
        if !world.settings().auth_persist_single_request {
            self.0 = State::Known(caller.clone());
        }
        world.counters.handshakes.fetch_add(1, Ordering::Relaxed);
        SignedIn { caller, token }
    }
}

/// A first message begins anew, whatever was under way.
fn is_first(message: &[u8]) -> bool {
    message.get(8..12) == Some(&[1, 0, 0, 0])
}

fn reason(refused: Refused) -> &'static str {
    match refused {
        Refused::Malformed => "malformed",
        Refused::OldVersion => "old_version",
        Refused::UnknownUser => "unknown_user",
        Refused::WrongPassword => "wrong_password",
        Refused::WrongMic => "wrong_mic",
        Refused::WrongBindings => "wrong_bindings",
        Refused::NoBindings => "no_bindings",
    }
}

fn basic(world: &World, credential: &str) -> Option<Caller> {
    let credential = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    let (user, password) = credential.split_once(':')?;
    if password == world.password { account(world, user) } else { None }
}

/// A UPN stands without a domain, and a name of the Windows domain with it.
fn windows_account(world: &World, user: &str, domain: &str) -> Option<Caller> {
    if domain.is_empty() {
        return user.contains('@').then(|| account(world, user))?;
    }
    let ours = [&world.options.nt_domain, &world.options.domain];
    let known = ours.into_iter().any(|ours| ours.eq_ignore_ascii_case(domain)) && !user.contains('@');
    known.then(|| account(world, &format!("{}\\{user}", world.options.nt_domain)))?
}

fn decoded(credential: &str) -> Vec<u8> {
    STANDARD.decode(credential).unwrap_or_default()
}

/// Milliseconds since 1970 as Windows counts time.
fn filetime(millis: i64) -> u64 {
    (millis + 11_644_473_600_000).max(0) as u64 * 10_000
}

/// A leg of a handshake: the token, and the other scheme that a client may still turn to.
fn leg(world: &World, scheme: &str, token: &[u8]) -> Response {
    let mut response = Response::plain(StatusCode::UNAUTHORIZED);
    response.headers.push(("www-authenticate", format!("{scheme} {}", STANDARD.encode(token))));
    for (other, name) in [(Scheme::Negotiate, "Negotiate"), (Scheme::Ntlm, "NTLM")] {
        if name != scheme && world.options.auth.contains(&other) {
            response.headers.push(("www-authenticate", name.to_owned()));
        }
    }
    response
}

/// 401 with everything that is offered.
pub(crate) fn unauthorized(world: &World) -> Response {
    offering(world, None)
}

/// The same for a token that is not accepted.
pub(crate) fn token_refused(world: &World, error: TokenError) -> Response {
    let mut response = offering(world, Some(error));
    response.headers.push(("x-ms-diagnostics", error.diagnostics()));
    response
}

/// One header per scheme, in the order of IIS.
fn offering(world: &World, error: Option<TokenError>) -> Response {
    let bearer = world.issuer.as_ref().map(|issuer| issuer.challenge(error, world.now()));
    let others = [
        (Scheme::Negotiate, "Negotiate"),
        (Scheme::Ntlm, "NTLM"),
        (Scheme::Basic, "Basic realm=\"exchange\""),
    ];
    let others = others.into_iter().filter(|(scheme, _)| world.options.auth.contains(scheme));
    let challenges = bearer.into_iter().chain(others.map(|(_, challenge)| challenge.to_owned()));
    let headers = challenges.map(|challenge| ("www-authenticate", challenge)).collect();
    Response { headers, ..Response::plain(StatusCode::UNAUTHORIZED) }
}
