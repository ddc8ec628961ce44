//! The listener: TLS, the guard, all services, health and reflection; and its end.

use std::{sync::Arc, time::Duration};

use mailyard_host::{health, identity::Identity, ops::Readiness};
use mailyard_wire::{
    DESCRIPTORS, LARGEST_MESSAGE,
    admin::{
        alert_service_server as alert, mailbox_service_server as mailbox,
        operation_service_server as operation, profile_service_server as profile,
        settings_service_server as settings, status_service_server as status,
    },
    records::email_service_server as email,
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::{
    service::Routes,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_reflection::server::Builder;

use super::{Access, Api, guard::Guarded};

/// A client that has not proven within this that it speaks TLS is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent connection is asked whether it lives after this,
const SILENCE: Duration = Duration::from_secs(20);
/// and let go if it has not answered after this.
const ANSWER: Duration = Duration::from_secs(10);
/// Calls under way on one connection.
const CALLS: u32 = 256;
/// Calls under way have so long to end once the end is wished.
const DRAIN: Duration = Duration::from_secs(5);
/// The pause when the operating system gives no connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const SERVICES: &[&str] = &[
    alert::SERVICE_NAME,
    mailbox::SERVICE_NAME,
    operation::SERVICE_NAME,
    profile::SERVICE_NAME,
    settings::SERVICE_NAME,
    status::SERVICE_NAME,
    email::SERVICE_NAME,
];

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate or the key cannot be used.
    #[error("the server's certificate cannot be used: {0}")]
    Identity(#[source] tonic::transport::Error),
    /// The descriptors of the protocol cannot be read.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listener(#[source] tonic::transport::Error),
}

/// Serves the API to callers with the administrator's token until the end is wished ([`Api::shutdown`]). Then open
/// watches end, other calls may end, and nobody is waited for longer than a few seconds.
///
/// # Errors
/// [`Error`].
pub async fn serve(
    listener: TcpListener,
    identity: &Identity,
    token: &SecretString,
    api: Arc<Api>,
    readiness: &Readiness,
) -> Result<(), Error> {
    let shutdown = api.shutdown.clone();
    let certificate = tonic::transport::Identity::from_pem(&identity.certificate, &identity.key);
    let tls = ServerTlsConfig::new().identity(certificate).timeout(HANDSHAKE);
    let routes = reflected(routes(&api))?;
    let routes = routes.add_service(health::service(readiness, &shutdown, SERVICES).await).prepare();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).then(|accepted| async {
        if accepted.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        accepted
    });
    let served = Server::builder()
        .tls_config(tls)
        .map_err(Error::Identity)?
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(ANSWER))
        .max_concurrent_streams(CALLS)
        .serve_with_incoming_shutdown(
            Guarded::new(Access::of_administrator(token), routes),
            incoming,
            shutdown.wished(),
        );
    let drained = async {
        shutdown.wished().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = served => served.map_err(Error::Listener),
        () = drained => {
            tracing::info!("calls are cut off that have not ended");
            Ok(())
        }
    }
}

/// The services of admin.v1 and records.v1.
fn routes(api: &Arc<Api>) -> Routes {
    macro_rules! sized {
        ($server:ty) => {
            <$server>::from_arc(api.clone())
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE)
        };
    }
    Routes::new(sized!(profile::ProfileServiceServer<Api>))
        .add_service(sized!(mailbox::MailboxServiceServer<Api>))
        .add_service(sized!(operation::OperationServiceServer<Api>))
        .add_service(sized!(settings::SettingsServiceServer<Api>))
        .add_service(sized!(alert::AlertServiceServer<Api>))
        .add_service(sized!(status::StatusServiceServer<Api>))
        .add_service(sized!(email::EmailServiceServer<Api>))
}

/// Reflection in both versions: tools still ask for the older one.
fn reflected(routes: Routes) -> Result<Routes, Error> {
    let builder = || {
        let builder = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        SERVICES.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
