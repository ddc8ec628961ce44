//! Metrics and health on an address of their own: for whoever runs the process, not for its users.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::shutdown::Shutdown;

/// Who asks takes no longer to say what for, and keeps an idle connection no longer.
const ASKING: Duration = Duration::from_secs(30);
/// More connections wait: a few probes and scrapers come, not thousands.
const CONNECTIONS: usize = 64;
/// The pause when the operating system gives no connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

type Conditions = BTreeMap<&'static str, Result<(), String>>;

/// What must hold for the process to be called. Copies speak of the same conditions.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<Conditions>>);

impl Readiness {
    /// A condition holds, or does not for this reason.
    pub fn set(&self, condition: &'static str, holds: Result<(), String>) {
        self.0.send_if_modified(|conditions| {
            let before = conditions.insert(condition, holds);
            before.as_ref() != conditions.get(condition)
        });
    }

    /// True if every condition holds, and there is at least one.
    pub fn is_ready(&self) -> bool {
        let conditions = self.0.borrow();
        !conditions.is_empty() && conditions.values().all(Result::is_ok)
    }

    /// A line per condition.
    pub fn describe(&self) -> String {
        let line = |(name, holds): (&&str, &Result<(), String>)| match holds {
            Ok(()) => format!("{name}: ok\n"),
            Err(reason) => format!("{name}: {reason}\n"),
        };
        self.0.borrow().iter().map(line).collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Conditions> {
        self.0.subscribe()
    }
}

/// The server of metrics and health. It goes on while the process stops, to tell so, and ends when this is dropped.
#[derive(Debug)]
pub struct Ops {
    address: SocketAddr,
    task: AbortHandle,
}

impl Ops {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `/livez`, `/readyz` and `/metrics`. Not ready any more as soon as the process is asked to stop.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    shutdown: Shutdown,
) -> std::io::Result<Ops> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let asked = Arc::new(Asked { readiness, metrics: Box::new(metrics), shutdown });
    // Not among the tasks that are waited for: it tells of them to the last.
    let task = tokio::spawn(accept(listener, asked)).abort_handle();
    tracing::info!(%address, "metrics and health are served");
    Ok(Ops { address, task })
}

/// All that can be asked for.
struct Asked {
    readiness: Readiness,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    shutdown: Shutdown,
}

async fn accept(listener: TcpListener, asked: Arc<Asked>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let asked = asked.clone();
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = asked.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // Who asks for health may go away in the middle of the answer.
            let _gone = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ASKING)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Asked {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, path) => self.read(path),
            _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }

    fn read(&self, path: &str) -> (StatusCode, &'static str, String) {
        match path {
            "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let stops = self.shutdown.is_wished();
                let ready = self.readiness.is_ready() && !stops;
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, TEXT, self.readiness.describe() + if stops { "stopping\n" } else { "" })
            }
            "/metrics" => (StatusCode::OK, OPENMETRICS, (self.metrics)()),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; there are /livez, /readyz and /metrics\n".to_owned(),
            ),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        Ok(format!("{status} {body}"))
    }

    #[tokio::test]
    async fn health_and_metrics_are_told_to_the_last() -> std::io::Result<()> {
        let (readiness, shutdown) = (Readiness::default(), Shutdown::default());
        let metrics = || "# EOF\n".to_owned();
        let any = ([127, 0, 0, 1], 0).into();
        let ops = serve(any, readiness.clone(), metrics, shutdown.clone()).await?;
        let address = ops.address();
        let get = async |path| ask(address, "GET", path).await;
        assert_eq!(get("/livez").await?, "200 ok\n");
        assert_eq!(get("/readyz").await?, "503 ", "nothing is known yet");
        readiness.set("store", Err("not opened yet".to_owned()));
        readiness.set("lease", Ok(()));
        assert_eq!(get("/readyz").await?, "503 lease: ok\nstore: not opened yet\n");
        readiness.set("store", Ok(()));
        assert_eq!(get("/readyz").await?, "200 lease: ok\nstore: ok\n");
        assert_eq!(get("/metrics").await?, "200 # EOF\n");
        assert!(get("/secrets").await?.starts_with("404 not found"));
        assert_eq!(ask(address, "HEAD", "/livez").await?, "200 ");
        assert!(ask(address, "POST", "/livez").await?.starts_with("405 "));
        shutdown.begin();
        assert!(shutdown.finished(Duration::from_secs(5)).await);
        assert_eq!(get("/readyz").await?, "503 lease: ok\nstore: ok\nstopping\n");
        assert_eq!(get("/livez").await?, "200 ok\n");
        drop(ops);
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() -> std::io::Result<()> {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (readiness, shutdown) = (Readiness::default(), Shutdown::default());
        let refused = serve(taken.local_addr()?, readiness, String::new, shutdown).await;
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(std::io::ErrorKind::AddrInUse));
        Ok(())
    }
}
