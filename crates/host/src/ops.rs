//! Metrics and health on an address of their own: for whoever runs the process, not for its users.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// What must hold for the process to be called.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Readiness {
    /// A condition holds, or does not for this reason.
    pub fn set(&self, condition: &'static str, holds: Result<(), String>) {
        self.conditions().insert(condition, holds);
    }

    /// True if every condition holds, and there is at least one.
    pub fn is_ready(&self) -> bool {
        let conditions = self.conditions();
        !conditions.is_empty() && conditions.values().all(Result::is_ok)
    }

    /// A line per condition.
    pub fn describe(&self) -> String {
        let line = |(name, holds): (&&str, &Result<(), String>)| match holds {
            Ok(()) => format!("{name}: ok\n"),
            Err(reason) => format!("{name}: {reason}\n"),
        };
        self.conditions().iter().map(line).collect()
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/livez`, `/readyz` and `/metrics`. Not ready any more as soon as it is asked to stop.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    shutdown: Shutdown,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let metrics = Arc::new(metrics);
    let stop = shutdown.clone();
    shutdown.spawn(crate::shutdown::Kind::Helpful, "ops", async move {
        loop {
            let accepted = tokio::select! {
                () = stop.wished() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (readiness, metrics, stop) = (readiness.clone(), metrics.clone(), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let answer = answer(&request, &readiness, &*metrics, &stop);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // Who asks for health may go away in the middle of the answer.
                let _gone = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(bound)
}

fn answer(
    request: &Request<Incoming>,
    readiness: &Readiness,
    metrics: &dyn Fn() -> String,
    shutdown: &Shutdown,
) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/livez") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET, "/readyz") => {
            let ready = readiness.is_ready() && !shutdown.is_wished();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let stopping = if shutdown.is_wished() { "stopping\n" } else { "" };
            (status, "text/plain", readiness.describe() + stopping)
        }
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics())
        }
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream =
            tokio::net::TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{error}"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap_or_else(|error| panic!("{error}"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap_or_else(|error| panic!("{error}"));
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
        format!("{status} {body}")
    }

    #[tokio::test]
    async fn health_and_metrics_are_told() -> std::io::Result<()> {
        let (readiness, shutdown) = (Readiness::default(), Shutdown::default());
        let metrics = || "# EOF\n".to_owned();
        let address = serve(([127, 0, 0, 1], 0).into(), readiness.clone(), metrics, shutdown.clone()).await?;
        assert_eq!(get(address, "/livez").await, "200 ok\n");
        assert_eq!(get(address, "/readyz").await, "503 ");
        readiness.set("store", Err("not opened yet".to_owned()));
        assert_eq!(get(address, "/readyz").await, "503 store: not opened yet\n");
        readiness.set("store", Ok(()));
        assert_eq!(get(address, "/readyz").await, "200 store: ok\n");
        assert_eq!(get(address, "/metrics").await, "200 # EOF\n");
        assert_eq!(get(address, "/secrets").await, "404 not found\n");
        shutdown.begin();
        assert!(shutdown.finished(std::time::Duration::from_secs(5)).await);
        Ok(())
    }
}
