//! The doors: HTTPS for clients, plain HTTP on the loopback for whoever controls the simulation.

use std::{
    convert::Infallible, io::Write as _, net::SocketAddr, path::Path, sync::Arc, sync::atomic::Ordering,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    Listed, Made, Options, Rule, Submission, control,
    service::{self, Request, Response},
    tls,
    world::{World, folder_named},
};

/// No request is larger.
const LARGEST: usize = 64 << 20;

/// Why a simulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is not free, or an address not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
}

/// What a person or program needs to use the simulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Where clients go.
    pub ews_url: String,
    /// The authority to trust.
    pub ca_file: String,
    /// The service account's UPN.
    pub user: String,
    /// Everybody's password.
    pub password: String,
    /// The mail domain.
    pub domain: String,
    /// The Windows domain.
    pub nt_domain: String,
    /// One address per line.
    pub addresses_file: String,
    /// Where the control door is.
    pub control_url: String,
}

/// A simulator that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    ready: Ready,
    stop: watch::Sender<bool>,
    doors: JoinSet<()>,
}

impl Simulator {
    /// Starts both doors.
    ///
    /// # Errors
    /// [`Error`] if a port, a file or a certificate cannot be had.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let identity = tls::identity(options.listen.ip()).map_err(Error::Certificate)?;
        let clients = listen(options.listen).await?;
        let controllers = listen(options.control_listen).await?;
        let (client_address, control_address) = (local(&clients)?, local(&controllers)?);
        let world = Arc::new(World::new(options));
        let ca_file = world.options.folder.join("ca.pem");
        let addresses_file = world.options.folder.join("addresses.txt");
        write(&ca_file, &identity.ca_pem)?;
        let addresses: String = world.addresses().flat_map(|address| [address, "\n"]).collect();
        write(&addresses_file, &addresses)?;
        let ready = Ready {
            ews_url: format!("https://{client_address}/EWS/Exchange.asmx"),
            ca_file: ca_file.to_string_lossy().into_owned(),
            user: world.service().map(|mailbox| mailbox.address.clone()).unwrap_or_default(),
            password: world.password.clone(),
            domain: world.options.domain.clone(),
            nt_domain: world.options.nt_domain.clone(),
            addresses_file: addresses_file.to_string_lossy().into_owned(),
            control_url: format!("http://{control_address}"),
        };
        fill(&world);
        let (stop, stopped) = watch::channel(false);
        let mut doors = JoinSet::new();
        doors.spawn(serve_clients(
            clients,
            TlsAcceptor::from(identity.server),
            world.clone(),
            stopped.clone(),
        ));
        doors.spawn(serve_control(controllers, world.clone(), stopped));
        Ok(Self { world, ready, stop, doors })
    }

    /// What a person or program needs to use it.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Delivers made messages. Returns how many arrived.
    pub fn deliver(&self, made: &Made) -> usize {
        self.world.deliver_made(made)
    }

    /// Adds a rule of what goes wrong.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn fault(&self, rule: Rule) -> Result<(), String> {
        rule.check()?;
        self.world.set_faults(|faults| faults.add(rule));
        Ok(())
    }

    /// Takes all rules away.
    pub fn clear_faults(&self) {
        self.world.set_faults(crate::fault::Faults::clear);
    }

    /// Everything that was accepted for delivery.
    pub fn submissions(&self) -> Vec<Submission> {
        self.world.submissions()
    }

    /// A folder of a mailbox; `None`: there is no such mailbox or folder.
    pub fn list(&self, mailbox: &str, folder: &str) -> Option<Vec<Listed>> {
        let mailbox = self.world.mailbox_at(mailbox)?;
        let folder = folder_named(&mailbox.contents(), folder)?;
        Some(World::list(mailbox, folder))
    }

    /// The counters, as the control door tells them.
    pub fn stats(&self) -> serde_json::Value {
        control::stats(&self.world, None)
    }

    /// Addresses of the mailboxes.
    pub fn addresses(&self) -> Vec<String> {
        self.world.addresses().map(ToOwned::to_owned).collect()
    }

    /// Stops and waits until nothing runs any more.
    pub async fn shutdown(mut self) {
        // Nobody may be listening any more: then there is nothing to stop.
        let _gone = self.stop.send(true);
        while self.doors.join_next().await.is_some() {}
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Error> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|source| Error::Listen { address: nowhere, source })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let fail = |source| Error::Write { path: path.to_string_lossy().into_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(path, text).map_err(fail)
}

fn fill(world: &World) {
    let count = world.options.initial_messages as u32;
    if count == 0 {
        return;
    }
    for address in world.addresses() {
        let made = Made { to: vec![address.to_owned()], count: Some(count), ..Made::default() };
        world.deliver_made(&made);
    }
}

async fn serve_clients(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    world: Arc<World>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                world.counters.connections.fetch_add(1, Ordering::Relaxed);
                if world.is_down() {
                    continue;
                }
                let _unsupported = tcp.set_nodelay(true);
                let (acceptor, world) = (acceptor.clone(), world.clone());
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| client_request(world.clone(), request));
                    let served = hyper::server::conn::http1::Builder::new()
                        .max_buf_size(64 << 10)
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                    // A connection that was cut on purpose ends with an error, as it should.
                    drop(served);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Cuts the connection instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn client_request(
    world: Arc<World>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Cut> {
    if world.is_down() {
        return Err(Cut);
    }
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || !parts.uri.path().eq_ignore_ascii_case("/EWS/Exchange.asmx") {
        let status =
            if parts.method == Method::POST { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
        return Ok(finish(&world, &parts.headers, Response { status, ..empty() }));
    }
    let body = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return Ok(finish(
                &world,
                &parts.headers,
                Response { status: StatusCode::PAYLOAD_TOO_LARGE, ..empty() },
            ));
        }
    };
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let in_flight = world.counters.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    world.counters.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
    let request =
        Request { authorization: text("authorization"), anchor: text("x-anchormailbox"), body: &body };
    let response = service::answer(&world, &request);
    if !response.delay.is_zero() {
        tokio::time::sleep(response.delay).await;
    }
    world.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    if response.cut {
        return Err(Cut);
    }
    Ok(finish(&world, &parts.headers, response))
}

fn empty() -> Response {
    Response {
        status: StatusCode::OK,
        headers: Vec::new(),
        body: String::new(),
        delay: std::time::Duration::ZERO,
        cut: false,
    }
}

fn finish(world: &World, asked: &HeaderMap, response: Response) -> http::Response<Full<Bytes>> {
    let mut builder = http::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(*name, value);
    }
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_millis(world.now().max(0) as u64);
    builder = builder
        .header(header::DATE, httpdate::fmt_http_date(moment))
        .header("x-feserver", "SIM")
        .header("request-id", format!("{:032x}", world.next()));
    if let Some(id) = asked.get("client-request-id") {
        builder = builder.header("client-request-id", id);
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
    builder.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

async fn serve_control(listener: TcpListener, world: Arc<World>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                let world = world.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let world = world.clone();
                        async move { Ok::<_, Infallible>(control::answer(&world, request).await) }
                    });
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
                    drop(served);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}
