//! The client of one server: calls, each through the gate, over kept connections, as one mailbox.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rustls::ClientConfig;
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    Authentication, Clock, ContentSink, Endpoint, Failure, Gate, Reply,
    answer::{Gathered, Passed, Taken, throttled_part},
    auth::{self, Authenticator, Authorization, Ended, Scheme, Step},
    codec::{self, Acting, Operation},
    connection::{Connection, Deadlines, Opened, Taker},
    endpoint,
    http1::Head,
};

/// A kept connection is not used again after so long: servers close theirs after two minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(90);
/// How a server is reached, and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The EWS URL.
    pub url: String,
    /// How the service account proves itself.
    pub authentication: Authentication,
    /// Its user name: `DOMAIN\user` or UPN.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Certificates of authorities to trust, as PEM; `None`: the system's.
    pub ca_pem: Option<String>,
    /// True: each call is executed as the mailbox, by impersonation. False: as the service account, in the mailbox, by
    /// delegation.
    pub impersonate: bool,
    /// A request is given up after this; something that changes nothing may go on arriving for three times as long.
    pub request_deadline: Duration,
    /// A connection is given up after this.
    pub connect_timeout: Duration,
    /// Contents of one answer together are not larger.
    pub largest_content: u64,
    /// The deployment allows URLs that begin with http:.
    pub allow_plain_http: bool,
    /// The clock of the process.
    pub clock: Clock,
    /// Is told of every request; `None`: nobody is.
    pub observer: Option<Observer>,
}

/// Is told of every request: the operation's name, why it failed, and how long it took after the gate.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(&'static str, Option<Reason>, Duration) + Send + Sync>);

/// Is asked immediately before a request with an effect is written, behind the gate: how long the request may take at
/// the most. Zero: it is not begun.
#[derive(Clone)]
pub struct Warrant(pub Arc<dyn Fn() -> Duration + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Observer")
    }
}

/// A client; its clones share connections and gate.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    endpoint: Endpoint,
    trust: Arc<ClientConfig>,
    authenticator: Authenticator,
    gate: Gate,
    /// What stands in front of every request up to the mailbox's own headers.
    head: String,
    /// Kept connections, the one used last at the end.
    idle: Mutex<VecDeque<Connection>>,
    /// Tells its requests from those of all others in the server's logs.
    mark: u64,
    requests: AtomicU64,
}

impl Client {
    /// A client of a server. Connects when it is first used.
    ///
    /// # Errors
    /// `PROFILE_URL_WRONG`, `PROFILE_TLS_UNTRUSTED` or `PROFILE_AUTH_REJECTED` if the configuration cannot be used.
    pub fn new(config: Config, gate: Gate) -> Result<Self, Failure> {
        let endpoint = Endpoint::parse(&config.url, config.allow_plain_http)?;
        let trust = endpoint::trust(config.ca_pem.as_deref())?;
        let Config { authentication, user, password, .. } = &config;
        let authenticator = Authenticator::new(*authentication, user, password, &endpoint)?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml; charset=utf-8\r\nAccept: text/xml\r\n\
             Accept-Encoding: gzip\r\nUser-Agent: Mailyard/{}\r\nreturn-client-request-id: true\r\n",
            endpoint.path,
            endpoint.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        let mark = getrandom::u64().unwrap_or_default();
        let (idle, requests) = (Mutex::default(), AtomicU64::default());
        let inner = Inner { config, endpoint, trust, authenticator, gate, head, idle, mark, requests };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The gate that its calls pass.
    pub fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// A request is given up after this.
    pub fn request_deadline(&self) -> Duration {
        self.inner.config.request_deadline
    }

    /// Makes a call as a mailbox (its primary address).
    ///
    /// # Errors
    /// [`Failure`] if the server did not answer with the operation's own answer. What fails in a part stands there.
    pub async fn call<O: Operation + Sync>(
        &self,
        mailbox: &str,
        operation: &O,
    ) -> Result<Reply<O::Part>, Failure> {
        self.call_streaming(mailbox, operation, &mut Gathered).await
    }

    /// The same, with a content that is handed on while it arrives: what is left of it in the answer is its end.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_streaming<O: Operation + Sync>(
        &self,
        mailbox: &str,
        operation: &O,
        sink: &mut impl ContentSink,
    ) -> Result<Reply<O::Part>, Failure> {
        self.pass(Some(mailbox), None, operation, sink).await
    }

    /// Makes a call whose effect is begun only if the warrant allows it, and given up when it ends.
    pub(crate) async fn call_under<O: Operation + Sync>(
        &self,
        warrant: Option<&Warrant>,
        mailbox: &str,
        operation: &O,
    ) -> Result<Reply<O::Part>, Failure> {
        self.pass(Some(mailbox), warrant, operation, &mut Gathered).await
    }

    async fn pass<O: Operation + Sync>(
        &self,
        mailbox: Option<&str>,
        warrant: Option<&Warrant>,
        operation: &O,
        sink: &mut impl ContentSink,
    ) -> Result<Reply<O::Part>, Failure> {
        let span = tracing::debug_span!(
            "ews",
            operation = O::NAME,
            request = tracing::field::Empty,
            attempt = tracing::field::Empty,
            status = tracing::field::Empty,
            response_code = tracing::field::Empty,
            reason = tracing::field::Empty,
        );
        async {
            let permit = self.inner.gate.enter().await?;
            let begun = Instant::now();
            let reply = self.once::<O>(mailbox, warrant, operation, sink).await;
            let outcome = match &reply {
                Ok(reply) => throttled_part(reply).map_or(Ok(()), Err),
                Err(failure) => Err(failure),
            };
            permit.report(outcome);
            if let Some(Observer(tell)) = &self.inner.config.observer {
                tell(O::NAME, outcome.err().map(|failure| failure.reason), begun.elapsed());
            }
            if let Err(failure) = outcome {
                let span = tracing::Span::current();
                span.record("reason", failure.reason.code());
                span.record("response_code", failure.code.as_deref().unwrap_or_default());
            }
            reply
        }
        .instrument(span)
        .await
    }

    async fn once<O: Operation + Sync>(
        &self,
        mailbox: Option<&str>,
        warrant: Option<&Warrant>,
        operation: &O,
        sink: &mut impl ContentSink,
    ) -> Result<Reply<O::Part>, Failure> {
        let inner = &*self.inner;
        let id = inner.request_id();
        let request = |authorization: Option<&str>| inner.request(mailbox, operation, &id, authorization);
        let span = tracing::Span::current();
        span.record("request", &id);
        let deadlines = inner.deadlines(O::EFFECT);
        let mut fresh = false;
        loop {
            span.record("attempt", if fresh { 2 } else { 1 });
            let mut taken = Taken::new(inner.config.largest_content, O::CONTENT, sink);
            match inner.attempt(fresh, O::EFFECT, warrant, deadlines, &request, &mut taken).await {
                Ok(head) => return taken.read::<O>(&head),
                Err(ended) if ended.again && !fresh => fresh = true,
                Err(ended) => return Err(ended.failure),
            }
        }
    }

    /// Makes a call as the service account itself.
    pub(crate) async fn call_as_itself<O: Operation + Sync>(
        &self,
        operation: &O,
    ) -> Result<Reply<O::Part>, Failure> {
        self.pass(None, None, operation, &mut Gathered).await
    }

    /// Opens a connection and tells how far it came; the next call uses it.
    pub(crate) async fn open(&self, noted: impl FnMut(Opened)) -> Result<(), Failure> {
        let Inner { endpoint, trust, config, .. } = &*self.inner;
        let connection = Connection::open(endpoint, trust, config.connect_timeout, noted).await?;
        self.inner.put_back(connection);
        Ok(())
    }

    /// What the server offers to somebody who does not say who asks.
    pub(crate) async fn offers(&self) -> Result<Vec<String>, Failure> {
        let _permit = self.inner.gate.enter().await?;
        let deadlines = self.inner.deadlines(false);
        let mut connection = self.inner.connection(false, deadlines).await?;
        let asked = self.inner.leg(&mut connection, None, deadlines).await;
        let (head, keep) = asked.map_err(|ended| ended.failure)?;
        if keep {
            self.inner.put_back(connection);
        }
        Ok(head.challenges.into_iter().map(|challenge| challenge.scheme).collect())
    }

    /// The scheme that is in use; `None`: it is not chosen yet.
    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.inner.authenticator.scheme()
    }

    /// The clock of the process.
    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.config.clock)()
    }
}

fn not_begun() -> Failure {
    let detail = "the time in which the request could be begun was over before its turn came";
    Failure::new(Reason::RequestNotBegun, Execution::Not, detail)
}

fn push_header(request: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        for part in [name, ": ", value, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
}

impl Inner {
    /// A UUID for the server's logs: of this client, and the number of the request in it.
    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (high, middle, low) = (self.mark >> 32, self.mark >> 16 & 0xFFFF, self.mark & 0xFFF);
        let (top, rest) = (number >> 48 & 0xFFF, number & 0xFFFF_FFFF_FFFF);
        format!("{high:08x}-{middle:04x}-4{low:03x}-8{top:03x}-{rest:012x}")
    }

    fn deadlines(&self, effect: bool) -> Deadlines {
        let (now, deadline) = (Instant::now(), self.config.request_deadline);
        Deadlines { head: now + deadline, body: now + if effect { deadline } else { deadline * 3 } }
    }

    /// Makes a connection ready, sends a request on it, and has its answer taken.
    async fn attempt(
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
        let request = request(authorization.value());
        let (head, keep) = connection
            .exchange(&request, deadlines, (self.config.clock)(), taker)
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
                let (head, keep) = self.leg(connection, None, deadlines).await?;
                let scheme = self.authenticator.choose(&head)?;
                if !keep {
                    return Err(Ended { failure: auth::not_kept(Execution::Not), again: true });
                }
                scheme
            }
        };
        match self.authenticator.begin(scheme) {
            Step::Ready(authorization) => Ok(authorization),
            Step::Handshake(handshake) => {
                let (head, keep) = self.leg(connection, Some(handshake.value()), deadlines).await?;
                let now = (self.config.clock)();
                let answered = handshake.answer(&head, keep, connection.binding(), now);
                answered.map_err(|failure| self.authenticator.doubt(scheme, failure.into()))
            }
        }
    }

    /// Sends a request without a body, which nothing is executed for.
    async fn leg(
        &self,
        connection: &mut Connection,
        authorization: Option<&str>,
        deadlines: Deadlines,
    ) -> Result<(Head, bool), Ended> {
        let mut request = Vec::from(self.head.as_bytes());
        push_header(&mut request, "Authorization", authorization);
        request.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        let deadlines = Deadlines { body: deadlines.head, ..deadlines };
        let now = (self.config.clock)();
        connection.exchange(&request, deadlines, now, &mut Passed::default()).await.map_err(|broken| {
            let failure = if broken.stale { auth::not_kept(Execution::Not) } else { broken.failure };
            Ended { failure: Failure { execution: Execution::Not, ..failure }, again: broken.stale }
        })
    }

    fn request<O: Operation>(
        &self,
        mailbox: Option<&str>,
        operation: &O,
        id: &str,
        authorization: Option<&str>,
    ) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(2048);
        let acting = match mailbox {
            None => Acting::AsItself,
            Some(address) if self.config.impersonate => Acting::As(address),
            Some(address) => Acting::In(address),
        };
        codec::write(&mut envelope, acting, operation);
        let anchor = mailbox.filter(|address| !address.is_empty() && !address.contains(['\r', '\n']));
        let headers = self.head.len() + authorization.map_or(0, str::len) + anchor.map_or(0, str::len);
        let mut request = Vec::with_capacity(headers + 192 + envelope.len());
        request.extend_from_slice(self.head.as_bytes());
        push_header(&mut request, "Authorization", authorization);
        push_header(&mut request, "X-AnchorMailbox", anchor);
        let length = envelope.len();
        request.extend_from_slice(
            format!("client-request-id: {id}\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        request.extend_from_slice(&envelope);
        request
    }

    async fn connection(&self, fresh: bool, deadlines: Deadlines) -> Result<Connection, Failure> {
        while !fresh && let Some(kept) = self.take_idle() {
            if kept.used.elapsed() < LONGEST_IDLE && kept.is_quiet() {
                return Ok(kept);
            }
        }
        let timeout =
            self.config.connect_timeout.min(deadlines.head.saturating_duration_since(Instant::now()));
        Connection::open(&self.endpoint, &self.trust, timeout, |_| {}).await
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
