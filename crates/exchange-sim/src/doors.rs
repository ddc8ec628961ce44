//! Connections: HTTPS for clients and for the token issuer, plain HTTP on the loopback for whoever controls.

use std::{
    convert::Infallible,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    answer::Response,
    auth::Connection,
    autodiscover::{self, Form},
    control, oauth,
    service::{self, Request},
    stream::Documents,
    world::{World, stop_wished},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long answers may still take when everything stops.
const PATIENCE: Duration = Duration::from_secs(1);
/// No request is larger.
const LARGEST: usize = 64 << 20;

/// Takes connections until it is stopped, and ends those that are open.
pub(crate) async fn open<F, C>(listener: TcpListener, mut stopped: watch::Receiver<bool>, serve: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                connections.spawn(serve(tcp));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    // They know of it, and end by themselves.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves a connection until its end. When everything stops, the answers under way are brought to theirs, if that does not
/// take long.
async fn serve<I, S, B>(io: I, mut stopped: watch::Receiver<bool>, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // One that was cut on purpose ends with an error, as it should.
        _ = connection.as_mut() => return,
        () = stop_wished(&mut stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _late = tokio::time::timeout(PATIENCE, connection).await;
}

/// TLS on a connection, unless everything stops before.
async fn secured(tcp: TcpStream, acceptor: &TlsAcceptor, world: &World) -> Option<TlsStream<TcpStream>> {
    let mut stopped = world.stopped.clone();
    tokio::select! {
        accepted = acceptor.accept(tcp) => accepted.ok(),
        () = stop_wished(&mut stopped) => None,
    }
}

/// A connection of a client.
pub(crate) async fn client(tcp: TcpStream, acceptor: TlsAcceptor, world: Arc<World>) {
    world.counters.connections.fetch_add(1, Ordering::Relaxed);
    if world.is_down() {
        return;
    }
    let _unsupported = tcp.set_nodelay(true);
    if let Some(tls) = secured(tcp, &acceptor, &world).await {
        serve_client(tls, world, true).await;
    }
}

/// A connection of a client that knows no TLS yet.
pub(crate) async fn plain(tcp: TcpStream, world: Arc<World>) {
    if !world.is_down() {
        serve_client(tcp, world, false).await;
    }
}

async fn serve_client(io: impl AsyncRead + AsyncWrite + Unpin, world: Arc<World>, is_secure: bool) {
    let known = Arc::new(Mutex::new(Connection::default()));
    let stopped = world.stopped.clone();
    let service = service_fn(move |request| client_request(world.clone(), known.clone(), is_secure, request));
    serve(io, stopped, service).await;
}

/// A connection of whoever controls.
pub(crate) async fn controller(tcp: TcpStream, world: Arc<World>) {
    let stopped = world.stopped.clone();
    let service = service_fn(move |request| {
        let world = world.clone();
        async move { Ok::<_, Infallible>(control::answer(&world, request).await) }
    });
    serve(tcp, stopped, service).await;
}

/// A connection of somebody who wants a token.
pub(crate) async fn issuer(tcp: TcpStream, acceptor: TlsAcceptor, world: Arc<World>) {
    let Some(tls) = secured(tcp, &acceptor, &world).await else { return };
    let stopped = world.stopped.clone();
    let service = service_fn(move |request| {
        let world = world.clone();
        async move { Ok::<_, Infallible>(oauth::answer(world, request).await) }
    });
    serve(tls, stopped, service).await;
}

/// Cuts the connection instead of an answer, or in the midst of it.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
pub(crate) struct Cut;

/// An answer as a whole, or one that goes on.
type Answer = http::Response<Either<Full<Bytes>, Documents>>;

/// A request that is under way until this is dropped, also when its client is gone.
struct InFlight(Arc<World>);

impl InFlight {
    fn begin(world: &Arc<World>) -> Self {
        world.counters.begin();
        Self(world.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counters.end();
    }
}

/// A service of the server.
enum Place {
    Ews,
    Autodiscover(Form),
}

/// What lies at a path. Without TLS there is only the way to it.
fn place(path: &str, is_secure: bool) -> Option<Place> {
    if !is_secure {
        return Some(Place::Autodiscover(Form::Plain));
    }
    if path.eq_ignore_ascii_case("/EWS/Exchange.asmx") {
        return Some(Place::Ews);
    }
    Form::at(path).map(Place::Autodiscover)
}

async fn client_request(
    world: Arc<World>,
    known: Arc<Mutex<Connection>>,
    is_secure: bool,
    request: http::Request<Incoming>,
) -> Result<Answer, Cut> {
    if world.is_down() {
        return Err(Cut);
    }
    let (parts, body) = request.into_parts();
    let status = |status| Ok(finish(&world, &parts.headers, Response::plain(status)));
    let Some(place) = place(parts.uri.path(), is_secure) else {
        return status(StatusCode::NOT_FOUND);
    };
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    let _in_flight = InFlight::begin(&world);
    let request = Request {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body: &body,
    };
    let mut response = {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match place {
            Place::Ews => service::answer(&world, &mut known, &request),
            Place::Autodiscover(form) => autodiscover::answer(&world, &mut known, form, &request),
        }
    };
    // It counts until the answer is given.
    let _under_way = response.ticket.take();
    hold_back(&world, response.delay).await?;
    if response.cut {
        return Err(Cut);
    }
    Ok(finish(&world, &parts.headers, response))
}

/// Lets an answer wait; if everything stops meanwhile, there is none.
async fn hold_back(world: &World, delay: Duration) -> Result<(), Cut> {
    if delay.is_zero() {
        return Ok(());
    }
    let mut stopped = world.stopped.clone();
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = stop_wished(&mut stopped) => Err(Cut),
    }
}

fn finish(world: &Arc<World>, asked: &HeaderMap, response: Response) -> Answer {
    let mut builder = http::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(*name, value);
    }
    let moment = std::time::UNIX_EPOCH + Duration::from_millis(world.now().max(0) as u64);
    builder = builder
        .header(header::DATE, httpdate::fmt_http_date(moment))
        .header("x-feserver", "SIM")
        .header("request-id", format!("{:032x}", world.next()));
    if let Some(id) = asked.get("client-request-id") {
        builder = builder.header("client-request-id", id);
    }
    if let Some(stream) = response.stream {
        let body = Either::Right(stream.begin(world.clone()));
        return builder.body(body).unwrap_or_else(|_| http::Response::new(Either::Left(Full::default())));
    }
    let asks = asked
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|coding| coding.trim().starts_with("gzip")));
    let mut body = response.body.into_bytes();
    if asks && world.options.gzip && body.len() > 1024 {
        let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
        if let Ok(packed) = packer.write_all(&body).and_then(|()| packer.finish()) {
            body = packed;
            builder = builder.header(header::CONTENT_ENCODING, "gzip");
        }
    }
    let body = Either::Left(Full::new(Bytes::from(body)));
    builder.body(body).unwrap_or_else(|_| http::Response::new(Either::Left(Full::default())))
}
