//! The client of one server: calls, each through the gate, over kept connections, as one mailbox.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    Clock, Endpoint, Failure, Gate,
    codec::{self, Limits, Operation, ServerVersion, Sieve},
    connection::{Connection, Deadlines, Opened, Taker},
    endpoint,
    http1::Head,
};

/// A kept connection is not used again after so long: servers close theirs after two minutes.
const LONGEST_IDLE: Duration = Duration::from_secs(90);
/// No answer's document, without its contents, is larger.
const LARGEST_DOCUMENT: usize = 16 << 20;
/// A body that is not SOAP is read so far and no further.
const LARGEST_REFUSAL: usize = 64 << 10;
/// A content is handed on in pieces of this size.
pub(crate) const CHUNK: usize = 256 << 10;

/// How a server is reached, and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The EWS URL.
    pub url: String,
    /// The service account's user name: `DOMAIN\user` or UPN.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Certificates of authorities to trust, as PEM; `None`: the system's.
    pub ca_pem: Option<String>,
    /// True if each call names the mailbox it is executed as.
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
    gate: Gate,
    /// What stands in front of every request up to the mailbox's own headers.
    head: String,
    /// Kept connections, the one used last at the end.
    idle: Mutex<VecDeque<Connection>>,
    /// Tells its requests from those of all others in the server's logs.
    mark: u64,
    requests: AtomicU64,
}

/// A call that the server answered.
#[derive(Debug)]
pub struct Reply<P> {
    /// One result per part of the request, in its order.
    pub parts: Vec<Result<P, Failure>>,
    /// The server's clock.
    pub date: Option<Timestamp>,
    /// The server's build.
    pub version: Option<ServerVersion>,
}

impl<P> Reply<P> {
    /// The only part.
    ///
    /// # Errors
    /// The failure of that part; `EWS_PROTOCOL_ERROR` if the server sent none.
    pub fn one(self) -> Result<P, Failure> {
        self.parts.into_iter().next().unwrap_or_else(|| {
            let detail = "the answer holds no response message";
            Err(Failure::new(Reason::EwsProtocolError, Execution::Maybe, detail))
        })
    }
}

/// Takes a large content while it arrives.
pub trait ContentSink: Send {
    /// The next piece, of at most 256 KiB.
    ///
    /// # Errors
    /// Whatever keeps it from being taken: the call ends with it.
    fn take(&mut self, piece: Vec<u8>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// False: contents stay in the answer.
    fn wants(&self) -> bool {
        true
    }
}

/// Contents stay in the answer.
struct Gathered;

impl ContentSink for Gathered {
    async fn take(&mut self, _piece: Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }

    fn wants(&self) -> bool {
        false
    }
}

impl Client {
    /// A client of a server. Connects when it is first used.
    ///
    /// # Errors
    /// `PROFILE_URL_WRONG` or `PROFILE_TLS_UNTRUSTED` if the configuration cannot be used.
    pub fn new(config: Config, gate: Gate) -> Result<Self, Failure> {
        let endpoint = Endpoint::parse(&config.url, config.allow_plain_http)?;
        let trust = endpoint::trust(config.ca_pem.as_deref())?;
        if config.user.contains(['\r', '\n', ':']) {
            let detail =
                "the user name holds a colon or a line break, which Basic authentication cannot carry";
            return Err(Failure::new(Reason::ProfileAuthRejected, Execution::Not, detail));
        }
        let credential = STANDARD.encode(format!("{}:{}", config.user, config.password.expose_secret()));
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {credential}\r\n\
             Content-Type: text/xml; charset=utf-8\r\nAccept: text/xml\r\nAccept-Encoding: gzip\r\n\
             User-Agent: Mailyard/{}\r\nreturn-client-request-id: true\r\n",
            endpoint.path,
            endpoint.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        let mark = getrandom::u64().unwrap_or_default();
        let (idle, requests) = (Mutex::default(), AtomicU64::default());
        let inner = Inner { config, endpoint, trust, gate, head, idle, mark, requests };
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

    async fn once<O: Operation>(
        &self,
        mailbox: Option<&str>,
        warrant: Option<&Warrant>,
        operation: &O,
        sink: &mut impl ContentSink,
    ) -> Result<Reply<O::Part>, Failure> {
        let id = self.inner.request_id();
        let request = self.inner.request(mailbox, operation, &id);
        let span = tracing::Span::current();
        span.record("request", id);
        let now = Instant::now();
        let deadline = self.inner.config.request_deadline;
        let body = if O::EFFECT { deadline } else { deadline * 3 };
        let mut deadlines = Deadlines { head: now + deadline, body: now + body };
        let mut fresh = false;
        loop {
            span.record("attempt", if fresh { 2 } else { 1 });
            let mut connection = self.inner.connection(fresh, deadlines).await?;
            if let Some(Warrant(left)) = warrant.filter(|_| O::EFFECT) {
                let left = left();
                if left.is_zero() {
                    self.inner.put_back(connection);
                    return Err(not_begun());
                }
                deadlines = deadlines.within(left);
            }
            let mut taken = Taken::new(&self.inner.config, O::CONTENT, sink);
            let clock = (self.inner.config.clock)();
            match connection.exchange(&request, deadlines, clock, &mut taken).await {
                Ok((head, keep)) => {
                    let reply = taken.read::<O>(&head);
                    if keep && head.status != 401 {
                        self.inner.put_back(connection);
                    }
                    return reply;
                }
                // The server closed the connection while it was kept. What changes nothing is asked again, once.
                Err(broken) if broken.stale && !O::EFFECT && !fresh => fresh = true,
                Err(broken) => return Err(broken.failure),
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

    /// The clock of the process.
    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.config.clock)()
    }
}

fn not_begun() -> Failure {
    let detail = "the time in which the request could be begun was over before its turn came";
    Failure::new(Reason::RequestNotBegun, Execution::Not, detail)
}

/// True if an answer that cannot be read was meant as one: a page for people has no envelope.
fn is_soap(document: &[u8]) -> bool {
    let beginning = document.get(..1024).unwrap_or(document);
    memchr::memmem::find(beginning, b"Envelope").is_some()
}

fn throttled_part<P>(reply: &Reply<P>) -> Option<&Failure> {
    let throttled = |failure: &&Failure| failure.reason.nature() == mailyard_policy::Nature::Throttled;
    reply.parts.iter().filter_map(|part| part.as_ref().err()).find(throttled)
}

impl Inner {
    /// A UUID for the server's logs: of this client, and the number of the request in it.
    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (high, middle, low) = (self.mark >> 32, self.mark >> 16 & 0xFFFF, self.mark & 0xFFF);
        let (top, rest) = (number >> 48 & 0xFFF, number & 0xFFFF_FFFF_FFFF);
        format!("{high:08x}-{middle:04x}-4{low:03x}-8{top:03x}-{rest:012x}")
    }

    fn request<O: Operation>(&self, mailbox: Option<&str>, operation: &O, id: &str) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(2048);
        codec::write(&mut envelope, mailbox.filter(|_| self.config.impersonate), operation);
        let anchor = mailbox.filter(|address| !address.contains(['\r', '\n'])).unwrap_or_default();
        let mut request = Vec::with_capacity(self.head.len() + anchor.len() + 128 + envelope.len());
        request.extend_from_slice(self.head.as_bytes());
        if !anchor.is_empty() {
            request.extend_from_slice(b"X-AnchorMailbox: ");
            request.extend_from_slice(anchor.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
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

/// An answer while it is taken.
struct Taken<'a, S> {
    sieve: Sieve,
    plain: bool,
    content: bool,
    soap: bool,
    most: usize,
    sink: &'a mut S,
}

impl<'a, S: ContentSink> Taken<'a, S> {
    fn new(config: &Config, content: bool, sink: &'a mut S) -> Self {
        let limits = Limits { document: LARGEST_DOCUMENT, content: config.largest_content };
        let sieve = Sieve::new(limits);
        Self { sieve, plain: !content, content, soap: false, most: LARGEST_DOCUMENT, sink }
    }

    fn read<O: Operation>(self, head: &Head) -> Result<Reply<O::Part>, Failure> {
        tracing::Span::current().record("status", head.status);
        if head.status == 401 && !head.schemes.iter().any(|scheme| scheme == "basic") {
            return Err(Failure::of_scheme(&head.schemes));
        }
        if !self.soap {
            return Err(Failure::of_status(head.status, head.location.as_deref(), head.retry_after));
        }
        let (document, mimes) = self.sieve.finish();
        let answer = codec::text(&document)
            .and_then(|document| codec::read::<O>(&document, mimes))
            .map_err(Failure::of_malformed);
        let answer = match (answer, head.status) {
            (Ok(answer), _) => answer,
            (Err(_), 200) if !is_soap(&document) => return Err(Failure::of_page()),
            (Err(failure), 200) => return Err(failure),
            // A page for people, although it says that it is XML.
            (Err(_), status) => return Err(Failure::of_status(status, None, head.retry_after)),
        };
        let parts = answer.messages.map_err(|fault| Failure {
            back_off: fault.back_off.or(head.retry_after),
            ..Failure::of_refusal(&fault)
        })?;
        let parts = parts.into_iter().map(|part| part.map_err(|refusal| Failure::of_refusal(&refusal)));
        Ok(Reply { parts: parts.collect(), date: head.date, version: answer.version })
    }
}

impl<S: ContentSink> Taker for Taken<'_, S> {
    fn head(&mut self, head: &Head) -> Result<(), Failure> {
        self.soap =
            head.status == 200 || (head.xml && (500..600).contains(&head.status) && head.status != 503);
        self.most = if self.soap { LARGEST_DOCUMENT } else { LARGEST_REFUSAL };
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.plain || !self.soap {
            let document = self.sieve.document_mut();
            if document.len() + piece.len() > self.most {
                let detail = "the answer is larger than any answer may be";
                return Err(Failure::new(Reason::EwsAnswerTooLarge, Execution::Maybe, detail));
            }
            document.extend_from_slice(piece);
            return Ok(());
        }
        self.sieve.push(piece).map_err(Failure::of_malformed)
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        while self.content && self.sink.wants() && self.sieve.waiting() >= CHUNK {
            self.sink.take(self.sieve.drain(CHUNK)).await?;
        }
        Ok(())
    }
}
