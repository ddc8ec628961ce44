//! One connection to a server, kept alive: one request at a time, over TLS, over HTTP/1.1.

mod handshake;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Endpoint, Failure, Resolver,
    auth::Scheme,
    binding,
    http1::{self, Body, Head, PushError},
};

pub(crate) use self::handshake::NoCertificate;

/// Bytes read at first: the answer to a poll that finds nothing fits.
const FIRST_READ: usize = 4 << 10;
/// Bytes read at once from then on: a TLS record fits.
const READ: usize = 16 << 10;

/// Packed bytes taken at once. Unpacked they may be a thousand times as many.
const PACKED: usize = 2 << 10;

/// When a request is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// The head of the answer must be there.
    pub head: Instant,
    /// The body must be complete.
    pub body: Instant,
}

impl Deadlines {
    /// The same, but not later than so long from now.
    pub fn within(self, left: Duration) -> Self {
        let Some(until) = Instant::now().checked_add(left) else { return self };
        Self { head: self.head.min(until), body: self.body.min(until) }
    }
}

/// Who takes the body of an answer.
pub(crate) trait Taker: Send {
    /// The request carries this value of the header Authorization.
    fn authorization(&mut self, _value: &str) {}

    /// The head: `Err` leaves the body unread and the connection is not used again.
    fn head(&mut self, head: &Head) -> Result<(), Failure>;

    /// The next piece.
    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure>;

    /// Between two reads from the network: time to hand on what has gathered.
    fn rest(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// For no longer than this may nothing arrive; `None`: the deadline alone counts.
    fn longest_silence(&self) -> Option<Duration> {
        None
    }
}

/// Why a request failed on this connection.
pub(crate) struct Broken {
    pub failure: Failure,
    /// The server closed a kept connection before it can have begun to answer: a read may be asked again at once.
    pub stale: bool,
}

pub(crate) struct Connection {
    stream: Stream,
    /// The server asked for a certificate of the client.
    is_asked: bool,
    buffer: Vec<u8>,
    filled: usize,
    /// How many requests it has served.
    pub served: u64,
    /// When it was used last.
    pub used: Instant,
    /// The scheme by which the server knows who asks on it; `None`: each request must say it.
    pub known: Option<Scheme>,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Stream {
    fn proof(&self) -> Option<Proof> {
        let Self::Tls(tls) = self else { return None };
        let session = tls.get_ref().1;
        let version = session.protocol_version()?;
        let suite = session.negotiated_cipher_suite()?.suite();
        Some(Proof {
            version: version.as_str().map_or_else(|| format!("{version:?}"), str::to_owned),
            suite: suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned),
        })
    }
}

impl Connection {
    /// Connects and proves the server.
    pub async fn open(
        endpoint: &Endpoint,
        trust: &Arc<ClientConfig>,
        resolver: &Resolver,
        timeout: Duration,
        mut noted: impl FnMut(Opened),
    ) -> Result<Self, Failure> {
        let until = Instant::now() + timeout;
        let addresses = resolve(endpoint, resolver, until).await?;
        noted(Opened::Resolved(addresses.clone()));
        let tcp = connect(&addresses, until).await?;
        noted(Opened::Connected(tcp.peer_addr().ok()));
        let mut is_asked = false;
        let stream = if endpoint.tls {
            let hands = TlsConnector::from(trust.clone()).connect(endpoint.server_name()?, tcp);
            let (tls, was_asked) = timeout_at(until, handshake::shake(hands)).await.map_err(|_| {
                Failure::new(Reason::ProfileConnectTimeout, Execution::Not, "the TLS handshake took too long")
            })?;
            is_asked = was_asked;
            Stream::Tls(Box::new(tls.map_err(|error| handshake::failed(&error, is_asked))?))
        } else {
            Stream::Plain(tcp)
        };
        noted(Opened::Proven(stream.proof()));
        let used = Instant::now();
        Ok(Self { stream, is_asked, buffer: Vec::new(), filled: 0, served: 0, used, known: None })
    }

    /// What binds a proof to this channel; `None`: it is no channel, or one that nothing is defined for.
    pub fn binding(&self) -> Option<[u8; 16]> {
        let Stream::Tls(tls) = &self.stream else { return None };
        binding::of_certificate(tls.get_ref().1.peer_certificates()?.first()?)
    }

    /// True if nothing arrived on it while it was kept, not even its end.
    pub fn is_quiet(&self) -> bool {
        let tcp = match &self.stream {
            Stream::Tls(tls) => tls.get_ref().0,
            Stream::Plain(tcp) => tcp,
        };
        let mut byte = [0];
        matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and has its answer taken. Returns the head, and whether the connection may be used again.
    pub async fn exchange(
        &mut self,
        request: &[u8],
        deadlines: Deadlines,
        now: Timestamp,
        taker: &mut impl Taker,
    ) -> Result<(Head, bool), Broken> {
        let kept = self.served > 0;
        self.served += 1;
        let answered = timeout_at(deadlines.head, self.ask(request, kept, now)).await;
        let (head, length) = answered.unwrap_or_else(|_| Err(late()))?;
        let keep = self.take_body(&head, length, deadlines, taker).await?;
        self.used = Instant::now();
        Ok((head, keep))
    }

    /// Sends a request, and reads until the head of its answer is complete. Returns the head and its length.
    async fn ask(&mut self, request: &[u8], kept: bool, now: Timestamp) -> Result<(Head, usize), Broken> {
        // Who answers before the whole request has come may close behind the answer (RFC 9112 9.5): it counts.
        let is_sent = self.send(request).await.is_ok();
        loop {
            match self.read().await {
                Ok(0) => return Err(lost(kept && self.filled == 0, Execution::Maybe)),
                Err(error) => {
                    let ended = handshake::ended(&error, self.is_asked).filter(|_| !kept && self.filled == 0);
                    let lost = lost(kept && self.filled == 0, Execution::Maybe);
                    return Err(ended.map_or(lost, |failure| Broken { failure, stale: false }));
                }
                Ok(_) => {}
            }
            match http1::read_head(self.buffer.get(..self.filled).unwrap_or_default(), now) {
                Ok(Some((head, length))) => {
                    return Ok((Head { close: head.close || !is_sent, ..head }, length));
                }
                Ok(None) => {}
                Err(http1::NotHttp) => return Err(not_http()),
            }
        }
    }

    async fn take_body(
        &mut self,
        head: &Head,
        length: usize,
        deadlines: Deadlines,
        taker: &mut impl Taker,
    ) -> Result<bool, Broken> {
        let fresh = |failure| Broken { failure, stale: false };
        let push_failed = |error| match error {
            PushError::NotHttp => not_http(),
            PushError::Packing => fresh(badly_packed()),
            PushError::Sink(failure) => fresh(failure),
        };
        taker.head(head).map_err(fresh)?;
        let mut body = Body::new(head);
        let mut from = length;
        loop {
            let arrived = self.buffer.get(from..self.filled).unwrap_or_default();
            let mut taken = 0;
            for piece in arrived.chunks(if head.gzip { PACKED } else { READ }) {
                taken += body.push(piece, |bytes| taker.piece(bytes)).map_err(push_failed)?;
                taker.rest().await.map_err(fresh)?;
            }
            let left_over = taken < arrived.len();
            if body.is_done() {
                body.finish(|bytes| taker.piece(bytes)).map_err(push_failed)?;
                self.forget();
                return Ok(!head.close && !left_over);
            }
            self.filled = 0;
            from = 0;
            let silence = taker.longest_silence().and_then(|silence| Instant::now().checked_add(silence));
            let until = silence.map_or(deadlines.body, |silence| silence.min(deadlines.body));
            match timeout_at(until, self.read()).await {
                Ok(Ok(0)) | Ok(Err(_)) if body.may_end() => {
                    body.finish(|bytes| taker.piece(bytes)).map_err(push_failed)?;
                    return Ok(false);
                }
                Ok(Ok(0)) | Ok(Err(_)) => return Err(lost(false, Execution::Maybe)),
                Ok(Ok(_)) => {}
                Err(_) => return Err(late()),
            }
        }
    }

    /// A connection that waits holds no buffer: there may be many, and they wait most of the time.
    fn forget(&mut self) {
        self.buffer = Vec::new();
        self.filled = 0;
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        async fn all(stream: &mut (impl AsyncWrite + Unpin), request: &[u8]) -> io::Result<()> {
            stream.write_all(request).await?;
            stream.flush().await
        }
        match &mut self.stream {
            Stream::Tls(tls) => all(tls, request).await,
            Stream::Plain(tcp) => all(tcp, request).await,
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        async fn some(stream: &mut (impl AsyncRead + Unpin), room: &mut [u8]) -> io::Result<usize> {
            stream.read(room).await
        }
        let room = if self.buffer.is_empty() { FIRST_READ } else { READ };
        if self.buffer.len() < self.filled + room {
            self.buffer.resize(self.filled + room, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let count = match &mut self.stream {
            Stream::Tls(tls) => some(tls, room).await?,
            Stream::Plain(tcp) => some(tcp, room).await?,
        };
        self.filled += count;
        Ok(count)
    }
}

/// How far an opening has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The name leads to these addresses.
    Resolved(Vec<SocketAddr>),
    /// TCP stands, with this address.
    Connected(Option<SocketAddr>),
    /// The server proved its name; `None`: plain HTTP, nothing is proven.
    Proven(Option<Proof>),
}

/// How a server proved its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The version of TLS.
    pub version: String,
    /// The cipher suite.
    pub suite: String,
}

async fn resolve(
    endpoint: &Endpoint,
    resolver: &Resolver,
    until: Instant,
) -> Result<Vec<SocketAddr>, Failure> {
    let fail = |detail: String| Failure::new(Reason::ProfileDnsFailed, Execution::Not, detail);
    match timeout_at(until, resolver.addresses(&endpoint.host, endpoint.port)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(fail(format!("{} cannot be resolved: {error}", endpoint.host))),
        Err(_) => Err(fail(format!("{} was not resolved in time", endpoint.host))),
    }
}

/// Tries one address after the other. None of them takes the time of those behind it (RFC 8305 5 in spirit).
async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Failure> {
    let fail = |reason, detail: String| Failure::new(reason, Execution::Not, detail);
    let mut last = fail(Reason::ProfileDnsFailed, "the server has no address".to_owned());
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let rest = until.saturating_duration_since(Instant::now());
        let share = rest / u32::try_from(left).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Small requests must not wait for more to send.
                let _unsupported = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(error)) => last = fail(Reason::ProfileConnectFailed, format!("no connection: {error}")),
            Err(_) => last = fail(Reason::ProfileConnectTimeout, "nobody answered in time".to_owned()),
        }
    }
    Err(last)
}

fn lost(stale: bool, execution: Execution) -> Broken {
    let failure = Failure::new(
        Reason::ProfileConnectionLost,
        execution,
        "the server closed the connection before its answer was complete",
    );
    Broken { failure, stale }
}

fn late() -> Broken {
    let failure =
        Failure::new(Reason::ProfileDeadlineExceeded, Execution::Maybe, "the server did not answer in time");
    Broken { failure, stale: false }
}

fn badly_packed() -> Failure {
    let detail = "the answer is not compressed by gzip, as its head says";
    Failure::new(Reason::EwsProtocolError, Execution::Maybe, detail)
}

fn not_http() -> Broken {
    let failure = Failure::new(Reason::EwsProtocolError, Execution::Maybe, "the answer is no HTTP/1.1");
    Broken { failure, stale: false }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_where_nobody_answers_leaves_time_for_the_next() {
        let here = || SocketAddr::from(([127, 0, 0, 1], 0));
        let full = TcpSocket::new_v4().expect("a socket");
        full.bind(here()).expect("a port");
        let full = full.listen(1).expect("it listens");
        let silent = full.local_addr().expect("an address");
        // Nobody accepts: when its queue is full it does not answer any more.
        let mut held = Vec::new();
        while let Ok(Ok(tcp)) = timeout(Duration::from_millis(300), TcpStream::connect(silent)).await {
            held.push(tcp);
        }
        let open = TcpListener::bind(here()).await.expect("a port");
        let good = open.local_addr().expect("an address");
        let within = |time| Instant::now() + Duration::from_millis(time);
        let found = connect(&[silent, silent, good], within(900)).await.expect("the last one answers");
        assert_eq!(found.peer_addr().ok(), Some(good));
        let late = connect(&[silent, silent], within(300)).await.expect_err("nobody answers");
        assert_eq!(late.reason, Reason::ProfileConnectTimeout);
        let none = connect(&[], within(300)).await.expect_err("there is nobody");
        assert_eq!(none.reason, Reason::ProfileDnsFailed);
    }
}
