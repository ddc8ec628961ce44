//! The token of a client: asked for once for all that need it, early, and not again and again.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use mailyard_policy::{
    Reason, Timestamp,
    outbox::Execution,
    token::{Advice, Fault, Rules, Schedule},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    Issuer,
    challenge::{self, Remedy},
    issuer::{Issued, may_pass},
};
use crate::{
    Failure,
    auth::{Again, Ended, Scheme, missing},
    http1::Head,
};

/// A token, ready to stand in requests.
pub(crate) struct Token {
    value: SecretString,
    /// The server took it.
    accepted: AtomicBool,
}

impl Token {
    /// The value of the header.
    pub fn value(&self) -> &str {
        self.value.expose_secret()
    }
}

/// The tokens of a client.
pub(crate) struct Tokens {
    issuer: Issuer,
    rules: Rules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    current: Option<Arc<Token>>,
    /// Why there was none last.
    failure: Option<Failure>,
    /// What the next one shall hold.
    claims: Option<String>,
    /// Ends when the token that is asked for has come or not.
    asking: Option<watch::Receiver<()>>,
}

enum Now {
    Token(Arc<Token>),
    Wait(watch::Receiver<()>),
}

impl Tokens {
    pub fn new(issuer: Issuer) -> Self {
        Self { issuer, rules: Rules::default(), state: Mutex::default() }
    }

    /// The token for a request; whoever needs one that is not there waits up to this moment.
    pub async fn current(self: &Arc<Self>, until: Instant) -> Result<Arc<Token>, Failure> {
        loop {
            match self.now()? {
                Now::Token(token) => return Ok(token),
                Now::Wait(mut asking) => {
                    // It ends with the sender, also if whoever asked has gone.
                    let _ended = timeout_at(until, asking.changed()).await.map_err(|_| {
                        let detail = "the authority did not issue a token in time";
                        Failure::new(Reason::ProfileTokenEndpointUnreachable, Execution::Not, detail)
                    })?;
                }
            }
        }
    }

    /// What the server's answer says of a token that the request carried.
    pub fn judge(&self, token: &Arc<Token>, head: &Head) -> Result<(), Ended> {
        if head.status != 401 {
            token.accepted.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let Some(challenge) = Scheme::Bearer.challenge(head) else {
            return Err(missing("the server does not offer Bearer authentication", head).into());
        };
        let challenge::Refusal { failure, remedy } =
            challenge::refusal(challenge, head.diagnostics.as_deref());
        let failure = blame_clock(failure, head, self.issuer.now());
        let (claims, helps) = match remedy {
            Remedy::Wait => return Err(failure.into()),
            Remedy::People => (None, false),
            Remedy::Renew => (None, true),
            Remedy::Claims(claims) => (Some(claims), true),
        };
        let another = self.drop_token(token, claims, &failure);
        let again = if helps && another { Again::WithNewToken } else { Again::No };
        Err(Ended { failure, again })
    }

    /// Uses a token no more. True if another one may fare better.
    fn drop_token(&self, token: &Arc<Token>, claims: Option<String>, failure: &Failure) -> bool {
        let mut state = self.state();
        if !state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, token)) {
            return true;
        }
        state.current = None;
        state.claims = claims;
        let accepted = token.accepted.load(Ordering::Relaxed);
        let another = state.schedule.refused(&self.rules, accepted, self.issuer.now());
        if !another {
            state.failure = Some(failure.clone());
        }
        another
    }

    fn now(self: &Arc<Self>) -> Result<Now, Failure> {
        let mut state = self.state();
        let asking = state.asking.clone().filter(|asking| asking.has_changed().is_ok());
        let advice = state.schedule.advise(asking.is_some(), self.issuer.now());
        match (advice, state.current.clone(), asking) {
            (Advice::Use, Some(token), _) => Ok(Now::Token(token)),
            (Advice::UseAndAsk, Some(token), _) => {
                self.ask(&mut state);
                Ok(Now::Token(token))
            }
            (Advice::Wait, _, Some(asking)) => Ok(Now::Wait(asking)),
            (Advice::Refuse, ..) => match &state.failure {
                Some(failure) => Err(failure.clone()),
                None => Ok(Now::Wait(self.ask(&mut state))),
            },
            _ => Ok(Now::Wait(self.ask(&mut state))),
        }
    }

    /// Asks for a token, beside whoever needs it: nobody's deadline ends it.
    fn ask(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        let (done, asking) = watch::channel(());
        state.asking = Some(asking.clone());
        let (tokens, claims) = (self.clone(), state.claims.take());
        tokio::spawn(async move {
            let begun = tokens.issuer.now();
            let issued = tokens.issuer.issue(claims.as_deref()).await;
            tokens.land(issued, begun);
            drop(done);
        });
        asking
    }

    fn land(&self, issued: Result<Issued, Failure>, begun: Timestamp) {
        let mut state = self.state();
        state.asking = None;
        match issued {
            Ok(Issued { token, life }) => {
                state.schedule.came(&self.rules, life, begun);
                let value = format!("{} {}", Scheme::Bearer.word(), token.expose_secret()).into();
                state.current = Some(Arc::new(Token { value, accepted: AtomicBool::new(false) }));
                state.failure = None;
            }
            Err(failure) => {
                let fault =
                    if may_pass(&failure) { Fault::Passing(failure.back_off) } else { Fault::Lasting };
                state.schedule.failed(&self.rules, fault, self.issuer.now());
                tracing::warn!(reason = failure.reason.code(), detail = %failure.detail, "no token was issued");
                // What the authority asked for is asked of the authority's next question, and of no mailbox.
                state.failure = Some(Failure { back_off: None, ..failure });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who finds a token too old or too young by another clock finds the next one so, too.
fn blame_clock(failure: Failure, head: &Head, now: Timestamp) -> Failure {
    match head.clock_skew(now).filter(|_| failure.reason == Reason::ProfileTokenNotAccepted) {
        Some(skew) => {
            let detail =
                format!("{}; its clock and this machine's differ by {} s", failure.detail, skew.as_secs());
            Failure { reason: Reason::ProfileClockSkew, detail: detail.into(), ..failure }
        }
        None => failure,
    }
}
