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
        // It knows no site of this name.
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            Reason::ProfileTlsNameMismatch
        }
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

#[cfg(test)]
mod tests {
    use rustls::Error::{
        self, AlertReceived, InvalidCertificate, InvalidMessage as Invalid, PeerIncompatible as Peer,
    };

    use super::*;

    #[test]
    fn failed_handshakes_are_told_apart() {
        use Reason::{
            ProfileConnectionLost, ProfileTlsExpired, ProfileTlsFailed, ProfileTlsNameMismatch,
            ProfileTlsSuites, ProfileTlsUntrusted, ProfileTlsVersion,
        };
        let cases: [(Error, Reason); 15] = [
            (InvalidCertificate(CertificateError::Expired), ProfileTlsExpired),
            (InvalidCertificate(CertificateError::NotValidYet), ProfileTlsExpired),
            (InvalidCertificate(CertificateError::NotValidForName), ProfileTlsNameMismatch),
            (AlertReceived(AlertDescription::UnrecognisedName), ProfileTlsNameMismatch),
            (InvalidCertificate(CertificateError::UnknownIssuer), ProfileTlsUntrusted),
            (InvalidCertificate(CertificateError::Revoked), ProfileTlsUntrusted),
            (InvalidCertificate(CertificateError::BadEncoding), ProfileTlsUntrusted),
            (AlertReceived(AlertDescription::ProtocolVersion), ProfileTlsVersion),
            (Invalid(InvalidMessage::UnknownProtocolVersion), ProfileTlsVersion),
            (Peer(PeerIncompatible::ServerDoesNotSupportTls12Or13), ProfileTlsVersion),
            (AlertReceived(AlertDescription::HandshakeFailure), ProfileTlsSuites),
            (AlertReceived(AlertDescription::InsufficientSecurity), ProfileTlsSuites),
            (Peer(PeerIncompatible::NoCipherSuitesInCommon), ProfileTlsSuites),
            (AlertReceived(AlertDescription::InternalError), ProfileTlsFailed),
            (Invalid(InvalidMessage::InvalidContentType), ProfileTlsFailed),
        ];
        for (error, reason) in cases {
            let told = format!("{error:?}");
            assert_eq!(failed(&io::Error::new(io::ErrorKind::InvalidData, error)).reason, reason, "{told}");
        }
        assert_eq!(failed(&io::ErrorKind::UnexpectedEof.into()).reason, ProfileConnectionLost);
    }
}
