//! The road between a coordinator and a worker of one process: the same client and server as between hosts, over
//! memory.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use mailyard_coordinator::session::Sessions;
use mailyard_wire::cluster::session_service_server::SessionServiceServer;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::service_fn;

/// Bytes on their way in one direction.
const ON_THE_WAY: usize = 64 << 10;
/// Both ends ask each other whether they are there.
const KEPT_ALIVE: Duration = Duration::from_secs(5);

/// Serves sessions over memory, and returns the road to them.
pub fn serve(sessions: SessionServiceServer<Sessions>) -> Channel {
    let (connect, connections) = mpsc::channel::<io::Result<DuplexStream>>(4);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEPT_ALIVE))
        .http2_keepalive_timeout(Some(KEPT_ALIVE))
        .add_service(sessions)
        .serve_with_incoming(ReceiverStream::new(connections));
    // The worker says its last words over it: it is cut off only when everything else has ended.
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "sessions are not served any more");
        }
    });
    Endpoint::from_static("http://coordinator")
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
