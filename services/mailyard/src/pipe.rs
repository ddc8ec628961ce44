//! The road between a client and a server of one process: the same as between hosts, over memory.

use std::{convert::Infallible, io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    body::Body,
    codegen::{
        Service,
        http::{Request, Response},
    },
    server::NamedService,
    transport::{Channel, Endpoint, Server, Uri},
};
use tower::service_fn;

/// Bytes on their way in one direction.
const ON_THE_WAY: usize = 64 << 10;
/// Both ends ask each other whether they are there.
const KEPT_ALIVE: Duration = Duration::from_secs(5);

/// Serves a service over memory, and returns the road to it.
pub fn serve<S>(service: S) -> Channel
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (connect, connections) = mpsc::channel::<io::Result<DuplexStream>>(4);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEPT_ALIVE))
        .http2_keepalive_timeout(Some(KEPT_ALIVE))
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(connections));
    // The worker says its last words over it: it is cut off only when everything else has ended.
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "what is served over memory has ended");
        }
    });
    Endpoint::from_static("http://here")
        .http2_keep_alive_interval(KEPT_ALIVE)
        .keep_alive_timeout(KEPT_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let connect = connect.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(ON_THE_WAY);
                let taken = connect.send(Ok(theirs)).await;
                taken
                    .map(|()| TokioIo::new(ours))
                    .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))
            }
        }))
}
