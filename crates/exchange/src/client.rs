//! The client of one server: calls, each through the gate, over kept connections, as one mailbox.

mod watch;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailyard_policy::{
    Reason, Timestamp,
    profile::{CredentialSource, OAuth},
};
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    Authentication, Clock, ContentSink, Endpoint, Failure, Gate, Reply, Resolver,
    answer::{Gathered, Taken, throttled_part},
    auth::{Again, Authenticator, Ended, Scheme},
    codec::{self, Acting, Operation},
    connection::{Deadlines, Opened},
    endpoint,
    http1::{AFFINITY, Head},
    transport::{Transport, Warrant, push_header},
};

pub use self::watch::{Lifetime, Told, Watch};

/// How a server is reached, and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The EWS URL.
    pub url: String,
    /// Whose credentials these are: a failure of theirs strikes him.
    pub credential_source: CredentialSource,
    /// How the account proves itself.
    pub authentication: Authentication,
    /// Its user name: `DOMAIN\user` or UPN.
    pub user: String,
    /// Its password; with OAuth the private key of the application's certificate, as PEM.
    pub password: SecretString,
    /// The application that gets tokens; `Some` exactly with OAuth.
    pub oauth: Option<OAuth>,
    /// Certificates of authorities to trust, as PEM; `None`: the system's.
    pub ca_pem: Option<String>,
    /// Where names lead.
    pub resolver: Resolver,
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

/// How answers may be compressed.
const PACKED: &str = "gzip";

/// Is told of every request: the operation's name, why it failed, and how long it took after the gate.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(&'static str, Option<Reason>, Duration) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Observer")
    }
}

/// For whom a request is made, and which way it goes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Way<'a> {
    /// `None`: the service account itself.
    mailbox: Option<&'a str>,
    warrant: Option<&'a Warrant>,
    affinity: Option<Affinity<'a>>,
}

/// What keeps requests with one of the servers behind the one that is asked.
#[derive(Clone, Copy)]
struct Affinity<'a> {
    /// The mailbox that leads there.
    anchor: &'a str,
    /// What that server said of itself.
    cookie: Option<&'a str>,
}

impl<'a> Way<'a> {
    pub(crate) fn of(mailbox: impl Into<Option<&'a str>>) -> Self {
        Self { mailbox: mailbox.into(), ..Self::default() }
    }
}

/// A client; its clones share connections and gate.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    transport: Transport,
    gate: Gate,
    /// Tells its requests from those of all others in the server's logs.
    mark: u64,
    requests: AtomicU64,
}

impl Client {
    /// A client of a server. Connects when it is first used.
    ///
    /// # Errors
    /// `PROFILE_URL_WRONG`, `PROFILE_TLS_UNTRUSTED`, `PROFILE_AUTH_REJECTED` or what is wrong with a certificate, if the
    /// configuration cannot be used.
    pub fn new(config: Config, gate: Gate) -> Result<Self, Failure> {
        let endpoint = Endpoint::parse(&config.url, config.allow_plain_http)?;
        let trust = endpoint::trust(config.ca_pem.as_deref())?;
        let authenticator = Authenticator::new(&config, &endpoint, &trust)
            .map_err(|failure| failure.with_credentials_of(config.credential_source))?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml; charset=utf-8\r\nAccept: text/xml\r\n\
             User-Agent: Mailyard/{}\r\nreturn-client-request-id: true\r\n",
            endpoint.path,
            endpoint.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        let transport = Transport {
            endpoint,
            trust,
            resolver: config.resolver.clone(),
            authenticator,
            connect_timeout: config.connect_timeout,
            clock: config.clock,
            head,
            idle: Mutex::default(),
        };
        let mark = getrandom::u64().unwrap_or_default();
        let inner = Inner { config, transport, gate, mark, requests: AtomicU64::default() };
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
        self.pass(Way::of(mailbox), operation, sink).await
    }

    /// Makes a call whose effect is begun only if the warrant allows it, and given up when it ends.
    pub(crate) async fn call_under<O: Operation + Sync>(
        &self,
        warrant: Option<&Warrant>,
        mailbox: &str,
        operation: &O,
    ) -> Result<Reply<O::Part>, Failure> {
        self.pass(Way { warrant, ..Way::of(mailbox) }, operation, &mut Gathered).await
    }

    /// Makes a call that goes a certain way.
    pub(crate) async fn pass<O: Operation + Sync>(
        &self,
        way: Way<'_>,
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
            let source = self.inner.config.credential_source;
            let reply = self.once::<O>(way, operation, sink).await;
            let reply = reply.map_err(|failure| failure.with_credentials_of(source));
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
        way: Way<'_>,
        operation: &O,
        sink: &mut impl ContentSink,
    ) -> Result<Reply<O::Part>, Failure> {
        let inner = &*self.inner;
        let id = inner.request_id();
        let request = |authorization: Option<&str>| inner.request(way, operation, &id, PACKED, authorization);
        let span = tracing::Span::current();
        span.record("request", &id);
        let deadlines = inner.deadlines(O::EFFECT);
        let (mut fresh, mut renewed) = (false, false);
        loop {
            span.record("attempt", 1 + u8::from(fresh) + u8::from(renewed));
            let mut taken = Taken::new(inner.config.largest_content, O::CONTENT, sink);
            match inner
                .transport
                .attempt(fresh, O::EFFECT, way.warrant, deadlines, &request, &mut taken)
                .await
            {
                Ok(head) => return taken.read::<O>(head),
                Err(Ended { again: Again::OnNewConnection, .. }) if !fresh => fresh = true,
                Err(Ended { again: Again::WithNewToken, .. }) if !renewed => renewed = true,
                Err(ended) => return Err(ended.failure),
            }
        }
    }

    /// Opens a connection and tells how far it came; the next call uses it.
    pub(crate) async fn open(&self, noted: impl FnMut(Opened)) -> Result<(), Failure> {
        self.inner.transport.open(noted).await
    }

    /// What the server answers to somebody who does not say who asks.
    pub(crate) async fn unsigned(&self) -> Result<Head, Failure> {
        let _permit = self.inner.gate.enter().await?;
        self.inner.transport.unsigned(&[], self.inner.deadlines(false)).await
    }

    /// The document that a call sends.
    pub(crate) fn envelope<O: Operation>(&self, mailbox: Option<&str>, operation: &O) -> String {
        let mut envelope = Vec::new();
        codec::write(&mut envelope, self.inner.acting(mailbox), operation);
        String::from_utf8_lossy(&envelope).into_owned()
    }

    /// The scheme that is in use; `None`: it is not chosen yet.
    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.inner.transport.scheme()
    }

    /// Whose credentials it signs in with.
    pub(crate) fn credential_source(&self) -> CredentialSource {
        self.inner.config.credential_source
    }

    /// The clock of the process.
    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.config.clock)()
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

    fn acting<'m>(&self, mailbox: Option<&'m str>) -> Acting<'m> {
        match mailbox {
            None => Acting::AsItself,
            Some(address) if self.config.impersonate => Acting::As(address),
            Some(address) => Acting::In(address),
        }
    }

    fn deadlines(&self, effect: bool) -> Deadlines {
        let (now, deadline) = (Instant::now(), self.config.request_deadline);
        Deadlines { head: now + deadline, body: now + if effect { deadline } else { deadline * 3 } }
    }

    fn request<O: Operation>(
        &self,
        Way { mailbox, affinity, .. }: Way<'_>,
        operation: &O,
        id: &str,
        encoding: &str,
        authorization: Option<&str>,
    ) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(2048);
        codec::write(&mut envelope, self.acting(mailbox), operation);
        let anchor = affinity.map(|affinity| affinity.anchor).or(mailbox);
        let anchor = anchor.filter(|address| !address.is_empty() && !address.contains(['\r', '\n']));
        let head = self.transport.head.as_bytes();
        let headers = head.len() + authorization.map_or(0, str::len) + anchor.map_or(0, str::len);
        let mut request = Vec::with_capacity(headers + 192 + envelope.len());
        request.extend_from_slice(head);
        push_header(&mut request, "Authorization", authorization);
        push_header(&mut request, "Accept-Encoding", Some(encoding));
        push_header(&mut request, "X-AnchorMailbox", anchor);
        if let Some(Affinity { cookie, .. }) = affinity {
            push_header(&mut request, "X-PreferServerAffinity", Some("true"));
            let cookie = cookie.map(|value| format!("{AFFINITY}={value}"));
            push_header(&mut request, "Cookie", cookie.as_deref());
        }
        let length = envelope.len();
        request.extend_from_slice(
            format!("client-request-id: {id}\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        request.extend_from_slice(&envelope);
        request
    }
}
