//! Handshakes of TLS that fail.

use std::{
    cell::Cell,
    io::{self, ErrorKind},
    sync::Arc,
};

use mailyard_policy::{Reason, outbox::Execution};
use rustls::{
    AlertDescription as Alert, CertificateError, InvalidMessage, PeerIncompatible, PeerMisbehaved,
    SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{Connect, client::TlsStream};

use crate::Failure;

tokio::task_local! {
    /// Whether the server asks for a certificate of the client in the handshake that goes on.
    static IS_ASKED: Cell<bool>;
}

/// Clients have no certificate; that a server asks for one is noted.
#[derive(Debug)]
pub(crate) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Outside of a handshake nobody wants to know.
        let _unknown = IS_ASKED.try_with(|asked| asked.set(true));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Goes through a handshake. Returns how it ended, and whether the server asked for a certificate of the client.
pub(super) async fn shake(hands: Connect<TcpStream>) -> (io::Result<TlsStream<TcpStream>>, bool) {
    let both = async { (hands.await, IS_ASKED.get().get()) };
    IS_ASKED.scope(Cell::new(false), both).await
}

/// What a failed handshake means, told apart as far as rustls and the server's alerts tell it.
pub(super) fn failed(error: &io::Error, asked: bool) -> Failure {
    let tls = of_tls(error);
    let reason = match tls {
        Some(rustls::Error::InvalidCertificate(certificate)) => of_certificate(certificate),
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert, asked),
        Some(rustls::Error::PeerIncompatible(incompatible)) => of_incompatible(incompatible),
        Some(rustls::Error::PeerMisbehaved(
            PeerMisbehaved::SelectedUnofferedKxGroup
            | PeerMisbehaved::IllegalHelloRetryRequestWithUnofferedNamedGroup,
        )) => Reason::ProfileTlsSuites,
        // An older version than was offered comes as a record that TLS 1.2 does not know.
        Some(rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)) => {
            Reason::ProfileTlsVersion
        }
        Some(_) => Reason::ProfileTlsFailed,
        // Many who insist on a certificate say nothing when there is none.
        None if asked => Reason::ProfileTlsClientCertificate,
        None => Reason::ProfileConnectionLost,
    };
    Failure::new(reason, Execution::Not, told(reason, tls, error))
}

/// What it means that the server ends TLS instead of answering the first request: in TLS 1.3 it sees only then what
/// the client shows. `None`: it says nothing of TLS.
pub(super) fn ended(error: &io::Error, asked: bool) -> Option<Failure> {
    let tls = of_tls(error)?;
    let (reason, execution) = match tls {
        rustls::Error::AlertReceived(alert) if wants_certificate(*alert, asked) => {
            (Reason::ProfileTlsClientCertificate, Execution::Not)
        }
        _ => (Reason::ProfileTlsFailed, Execution::Maybe),
    };
    Some(Failure::new(reason, execution, told(reason, Some(tls), error)))
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

fn told(reason: Reason, tls: Option<&rustls::Error>, error: &io::Error) -> String {
    let what = match (reason, tls) {
        (Reason::ProfileTlsFailed, Some(rustls::Error::InvalidMessage(_))) => {
            return "what answers at this port does not speak TLS".to_owned();
        }
        (Reason::ProfileTlsCertificateUnsuited, Some(rustls::Error::InvalidCertificate(certificate))) => {
            of_unsuited(certificate)
        }
        (Reason::ProfileTlsClientCertificate, _) => "the server insists on a certificate of the client",
        (Reason::ProfileTlsSuites, _) => "the server takes none of the suites and curves that are offered",
        (_, Some(tls)) => return format!("TLS: {tls}"),
        (_, None) => "the connection was lost in the TLS handshake",
    };
    match tls {
        Some(tls) => format!("{what} (TLS: {tls})"),
        None if error.kind() == ErrorKind::UnexpectedEof => format!("{what}: the server closed it"),
        None => format!("{what}: {error}"),
    }
}

fn of_alert(alert: Alert, asked: bool) -> Reason {
    match alert {
        alert if wants_certificate(alert, asked) => Reason::ProfileTlsClientCertificate,
        Alert::ProtocolVersion => Reason::ProfileTlsVersion,
        Alert::HandshakeFailure | Alert::InsufficientSecurity => Reason::ProfileTlsSuites,
        // It knows no site of this name.
        Alert::UnrecognisedName => Reason::ProfileTlsNameMismatch,
        _ => Reason::ProfileTlsFailed,
    }
}

/// True if the server ends TLS because the client shows no certificate: TLS 1.2 has no alert that says so.
fn wants_certificate(alert: Alert, asked: bool) -> bool {
    match alert {
        Alert::CertificateRequired => true,
        Alert::HandshakeFailure
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => asked,
        _ => false,
    }
}

fn of_incompatible(incompatible: &PeerIncompatible) -> Reason {
    match incompatible {
        PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
            Reason::ProfileTlsSuites
        }
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => Reason::ProfileTlsVersion,
        _ => Reason::ProfileTlsFailed,
    }
}

fn of_certificate(certificate: &CertificateError) -> Reason {
    match certificate {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::ProfileTlsExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::ProfileTlsNameMismatch
        }
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::Revoked
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::ApplicationVerificationFailure => Reason::ProfileTlsUntrusted,
        _ => Reason::ProfileTlsCertificateUnsuited,
    }
}

fn of_unsuited(certificate: &CertificateError) -> &'static str {
    let other = match certificate {
        CertificateError::Other(other) => other.0.to_string(),
        _ => String::new(),
    };
    match other.as_str() {
        "CaUsedAsEndEntity" => "the server's certificate says that it is an authority's own (CA:TRUE)",
        "EndEntityUsedAsCa" => "what signed the server's certificate is no authority (CA:FALSE)",
        "UnsupportedCertVersion" => "the server's certificate is not of version 3",
        _ => "the server's certificate cannot be used",
    }
}

#[cfg(test)]
mod tests {
    use rustls::Error::{
        self, AlertReceived, InvalidCertificate, InvalidMessage as Invalid, PeerIncompatible as Peer,
        PeerMisbehaved as Misbehaved,
    };
    use rustls::OtherError;

    use super::*;

    #[test]
    fn failed_handshakes_are_told_apart() {
        use Reason::{
            ProfileConnectionLost, ProfileTlsCertificateUnsuited, ProfileTlsClientCertificate,
            ProfileTlsExpired, ProfileTlsFailed, ProfileTlsNameMismatch, ProfileTlsSuites,
            ProfileTlsUntrusted, ProfileTlsVersion,
        };
        let other =
            |text: &str| CertificateError::Other(OtherError(Arc::new(io::Error::other(text.to_owned()))));
        let cases: [(Error, Reason); 20] = [
            (InvalidCertificate(CertificateError::Expired), ProfileTlsExpired),
            (InvalidCertificate(CertificateError::NotValidYet), ProfileTlsExpired),
            (InvalidCertificate(CertificateError::NotValidForName), ProfileTlsNameMismatch),
            (AlertReceived(Alert::UnrecognisedName), ProfileTlsNameMismatch),
            (InvalidCertificate(CertificateError::UnknownIssuer), ProfileTlsUntrusted),
            (InvalidCertificate(CertificateError::Revoked), ProfileTlsUntrusted),
            (InvalidCertificate(CertificateError::BadEncoding), ProfileTlsCertificateUnsuited),
            (InvalidCertificate(other("UnsupportedCertVersion")), ProfileTlsCertificateUnsuited),
            (AlertReceived(Alert::ProtocolVersion), ProfileTlsVersion),
            (Invalid(InvalidMessage::UnknownProtocolVersion), ProfileTlsVersion),
            (Peer(PeerIncompatible::ServerDoesNotSupportTls12Or13), ProfileTlsVersion),
            (AlertReceived(Alert::HandshakeFailure), ProfileTlsSuites),
            (AlertReceived(Alert::InsufficientSecurity), ProfileTlsSuites),
            (Peer(PeerIncompatible::NoCipherSuitesInCommon), ProfileTlsSuites),
            (Misbehaved(PeerMisbehaved::SelectedUnofferedKxGroup), ProfileTlsSuites),
            (Peer(PeerIncompatible::NoKxGroupsInCommon), ProfileTlsSuites),
            (Peer(PeerIncompatible::ExtendedMasterSecretExtensionRequired), ProfileTlsFailed),
            (AlertReceived(Alert::CertificateRequired), ProfileTlsClientCertificate),
            (AlertReceived(Alert::InternalError), ProfileTlsFailed),
            (Invalid(InvalidMessage::InvalidContentType), ProfileTlsFailed),
        ];
        let made = |error| io::Error::new(ErrorKind::InvalidData, error);
        for (error, reason) in cases {
            let told = format!("{error:?}");
            assert_eq!(failed(&made(error), false).reason, reason, "{told}");
        }
        assert_eq!(failed(&ErrorKind::UnexpectedEof.into(), false).reason, ProfileConnectionLost);
        let version = failed(&made(InvalidCertificate(other("UnsupportedCertVersion"))), false);
        assert!(version.detail.starts_with("the server's certificate is not of version 3"), "{version}");
        // What follows on the server's wish for a certificate.
        for (alert, reason) in [
            (Alert::HandshakeFailure, ProfileTlsClientCertificate),
            (Alert::BadCertificate, ProfileTlsClientCertificate),
            (Alert::ProtocolVersion, ProfileTlsVersion),
        ] {
            assert_eq!(failed(&made(AlertReceived(alert)), true).reason, reason, "{alert:?}");
        }
        assert_eq!(failed(&ErrorKind::UnexpectedEof.into(), true).reason, ProfileTlsClientCertificate);
        assert_eq!(ended(&ErrorKind::UnexpectedEof.into(), true), None);
    }
}
