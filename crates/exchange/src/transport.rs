//! The road to one URL as one account: kept connections, the sign-in on each, and requests that are sent on them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mailyard_policy::{Reason, outbox::Execution};
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::{
    Clock, Endpoint, Failure, Resolver,
    answer::Passed,
    auth::{self, Again, Authenticator, Authorization, Ended, Scheme, Step},
    connection::{Connection, Deadlines, Opened, Taker},
    http1::Head,
};

/// A kept connection is not used again after so long: servers close theirs after two minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// Is asked immediately before a request with an effect is written, behind the gate: how long the request may take at
/// the most. Zero: it is not begun.
#[derive(Clone)]
pub struct Warrant(pub Arc<dyn Fn() -> Duration + Send + Sync>);

/// The road.
pub(crate) struct Transport {
    pub endpoint: Endpoint,
    pub trust: Arc<ClientConfig>,
    pub resolver: Resolver,
    pub authenticator: Authenticator,
    pub connect_timeout: Duration,
    pub clock: Clock,
    /// What every request begins with: its first line, and the headers that are always the same.
    pub head: String,
    /// Kept connections, the one used last at the end.
    pub idle: Mutex<VecDeque<Connection>>,
}

impl Transport {
    /// Opens a connection and tells how far it came; the next request uses it.
    pub async fn open(&self, noted: impl FnMut(Opened)) -> Result<(), Failure> {
        let connection = self.fresh(self.connect_timeout, noted).await?;
        self.put_back(connection);
        Ok(())
    }

    /// What the server answers to somebody who does not say who asks.
    pub async fn unsigned(&self, content: &[u8], deadlines: Deadlines) -> Result<Head, Failure> {
        let mut connection = self.connection(false, deadlines).await?;
        let asked = self.leg(&mut connection, None, content, deadlines).await;
        let (head, keep) = asked.map_err(|ended| ended.failure)?;
        if keep {
            self.put_back(connection);
        }
        Ok(head)
    }

    /// The scheme that is in use; `None`: it is not chosen yet.
    pub fn scheme(&self) -> Option<Scheme> {
        self.authenticator.scheme()
    }

    /// Makes a connection ready, sends a request on it, and has its answer taken. The request is made with the value of
    /// its header Authorization, if it has one. Its effect is begun only if the warrant allows it.
    pub async fn attempt(
        &self,
        fresh: bool,
        effect: bool,
        warrant: Option<&Warrant>,
        mut deadlines: Deadlines,
        request: &(impl Fn(Option<&str>) -> Vec<u8> + Sync),
        taker: &mut impl Taker,
    ) -> Result<Head, Ended> {
        let mut connection = self.connection(fresh, deadlines).await?;
        let authorization = self.sign_in(&mut connection, deadlines).await?;
        if let Some(Warrant(left)) = warrant.filter(|_| effect) {
            let left = left();
            if left.is_zero() {
                // In the middle of a handshake a connection is of no use to anybody else.
                if !matches!(authorization, Authorization::LastLeg { .. }) {
                    self.put_back(connection);
                }
                return Err(not_begun().into());
            }
            deadlines = deadlines.within(left);
        }
        authorization.value().into_iter().for_each(|value| taker.authorization(value));
        let request = request(authorization.value());
        let (head, keep) = connection
            .exchange(&request, deadlines, (self.clock)(), taker)
            .await
            .map_err(|broken| authorization.broken(broken.failure, broken.stale, effect))?;
        tracing::Span::current().record("status", head.status);
        let judged = authorization.judge(&head);
        judged.map_err(|ended| self.authenticator.doubt(authorization.scheme(), ended))?;
        connection.known = authorization.of_connection();
        if keep {
            self.put_back(connection);
        }
        Ok(head)
    }

    /// What a request on this connection carries so that the server knows who asks; the legs of a handshake before it
    /// are gone through here.
    async fn sign_in(
        &self,
        connection: &mut Connection,
        deadlines: Deadlines,
    ) -> Result<Authorization, Ended> {
        if let Some(scheme) = connection.known {
            return Ok(Authorization::Connection(scheme));
        }
        let scheme = match self.authenticator.scheme() {
            Some(scheme) => scheme,
            None => {
                let (head, keep) = self.leg(connection, None, &[], deadlines).await?;
                let scheme = self.authenticator.choose(&head)?;
                if !keep {
                    let failure = auth::not_kept(Execution::Not);
                    return Err(Ended { failure, again: Again::OnNewConnection });
                }
                scheme
            }
        };
        match self.authenticator.begin(scheme) {
            Step::Ready(authorization) => Ok(authorization),
            Step::Token(tokens) => Ok(Authorization::by_token(tokens, deadlines.head).await?),
            Step::Handshake(handshake) => {
                let (head, keep) = self.leg(connection, Some(handshake.value()), &[], deadlines).await?;
                let now = (self.clock)();
                let answered = handshake.answer(&head, keep, connection.binding(), now);
                answered.map_err(|failure| self.authenticator.doubt(scheme, failure.into()))
            }
        }
    }

    /// Sends a request that nothing is executed for. In a handshake it has no content.
    async fn leg(
        &self,
        connection: &mut Connection,
        authorization: Option<&str>,
        content: &[u8],
        deadlines: Deadlines,
    ) -> Result<(Head, bool), Ended> {
        let mut request = Vec::from(self.head.as_bytes());
        push_header(&mut request, "Authorization", authorization);
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
        request.extend_from_slice(content);
        let deadlines = Deadlines { body: deadlines.head, ..deadlines };
        let now = (self.clock)();
        connection.exchange(&request, deadlines, now, &mut Passed::default()).await.map_err(|broken| {
            let failure = if broken.stale { auth::not_kept(Execution::Not) } else { broken.failure };
            let again = Again::on_new_connection_if(broken.stale);
            Ended { failure: Failure { execution: Execution::Not, ..failure }, again }
        })
    }

    async fn connection(&self, fresh: bool, deadlines: Deadlines) -> Result<Connection, Failure> {
        while !fresh && let Some(kept) = self.take_idle() {
            if kept.used.elapsed() < LONGEST_IDLE && kept.is_quiet() {
                return Ok(kept);
            }
        }
        let timeout = self.connect_timeout.min(deadlines.head.saturating_duration_since(Instant::now()));
        self.fresh(timeout, |_| {}).await
    }

    async fn fresh(&self, timeout: Duration, noted: impl FnMut(Opened)) -> Result<Connection, Failure> {
        Connection::open(&self.endpoint, &self.trust, &self.resolver, timeout, noted).await
    }

    /// The one used last: those that are not needed any more grow old together.
    fn take_idle(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.front().is_some_and(|kept| kept.used.elapsed() >= LONGEST_IDLE) {
            idle.pop_front();
        }
        idle.push_back(connection);
    }
}

fn not_begun() -> Failure {
    let detail = "the time in which the request could be begun was over before its turn came";
    Failure::new(Reason::RequestNotBegun, Execution::Not, detail)
}

/// Adds a header, if it has a value.
pub(crate) fn push_header(request: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        for part in [name, ": ", value, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
}
