//! Handshakes of TLS that fail.

use std::io;

use mailyard_policy::{Reason, outbox::Execution};
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use crate::Failure;

/// What a failed handshake means, told apart as far as rustls and the server's alerts tell it.
pub(super) fn failed(error: &io::Error) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = match tls {
        Some(rustls::Error::InvalidCertificate(certificate)) => of_certificate(certificate),
        Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)) => Reason::ProfileTlsVersion,
        Some(rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity,
        )) => Reason::ProfileTlsSuites,
        Some(rustls::Error::PeerIncompatible(incompatible)) => match incompatible {
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
                Reason::ProfileTlsSuites
            }
            _ => Reason::ProfileTlsVersion,
        },
        // An older version than was offered comes as a record that TLS 1.2 does not know.
        Some(rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)) => {
            Reason::ProfileTlsVersion
        }
        Some(_) => Reason::ProfileTlsFailed,
        None => Reason::ProfileConnectionLost,
    };
    let detail = match tls {
        Some(rustls::Error::InvalidMessage(_)) if reason == Reason::ProfileTlsFailed => {
            "what answers at this port does not speak TLS".to_owned()
        }
        Some(tls) => format!("TLS: {tls}"),
        None => format!("the connection was lost in the TLS handshake: {error}"),
    };
    Failure::new(reason, Execution::Not, detail)
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
        _ => Reason::ProfileTlsUntrusted,
    }
}
