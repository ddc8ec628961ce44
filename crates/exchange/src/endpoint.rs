//! Where a server is, and whom it must prove to be.

use std::sync::Arc;

use mailyard_policy::{Reason, outbox::Execution};
use rustls::{
    ClientConfig, RootCertStore, SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        ring::{self, cipher_suite as suite},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::{Failure, connection::NoCertificate};

/// The suites of AES-GCM, in the order of preference. No other is offered.
const SUITES: [SupportedCipherSuite; 6] = [
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// An EWS URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What follows the host, from the slash on.
    pub path: String,
    /// True unless the deployment allows plain HTTP and the URL asks for it.
    pub tls: bool,
}

fn wrong(detail: impl Into<Box<str>>) -> Failure {
    Failure::new(Reason::ProfileUrlWrong, Execution::Not, detail)
}

impl Endpoint {
    /// Takes a URL apart. Plain HTTP only if `allow_plain_http`.
    ///
    /// # Errors
    /// `PROFILE_URL_WRONG` with what is wrong.
    pub fn parse(url: &str, allow_plain_http: bool) -> Result<Self, Failure> {
        if url.contains('#') {
            return Err(wrong("the URL holds a fragment (#), which no server is ever told"));
        }
        let uri: http::Uri =
            url.trim().parse().map_err(|error| wrong(format!("the URL cannot be read: {error}")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if allow_plain_http => false,
            Some("http") => return Err(wrong("the URL begins with http:, passwords travel by https: only")),
            _ => return Err(wrong("the URL must begin with https:")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("the URL holds a user name or a password: the profile has fields for both"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let standard = if tls { 443 } else { 80 };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => standard,
            // Also a password with a slash in it looks like that.
            None => return Err(wrong("what follows the URL's host is no port")),
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { host, port, path, tls })
    }

    /// The name that the server's certificate must prove.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, Failure> {
        ServerName::try_from(self.host.clone()).map_err(|_| wrong("the URL's host is no name and no address"))
    }

    /// As it is written.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }

    /// Host and port as they stand in the Host header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// Trust in these authorities (PEM), or in the system's. There is no way to trust without proof.
///
/// # Errors
/// `PROFILE_TLS_UNTRUSTED` if no certificate can be read.
pub(crate) fn trust(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => add(&mut roots, pem)?,
        None => add_system(&mut roots),
    }
    trusting(roots)
}

/// Trust in these authorities (PEM) and in the system's: for servers on the internet and behind a firewall alike.
///
/// # Errors
/// As [`trust`].
pub(crate) fn trust_also(ca_pem: &str) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, ca_pem)?;
    add_system(&mut roots);
    trusting(roots)
}

fn untrusted(detail: impl Into<Box<str>>) -> Failure {
    Failure::new(Reason::ProfileTlsUntrusted, Execution::Not, detail)
}

fn add(roots: &mut RootCertStore, pem: &str) -> Result<(), Failure> {
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| untrusted(format!("the CA file cannot be read: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| untrusted(format!("a certificate of the CA file: {error}")))?;
    }
    Ok(())
}

fn add_system(roots: &mut RootCertStore) {
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, Failure> {
    if roots.is_empty() {
        return Err(untrusted("there is no certificate of an authority to trust"));
    }
    let provider = Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..ring::default_provider() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| untrusted(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(NoCertificate));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            (
                "https://mail.example.org/EWS/Exchange.asmx",
                Some(("mail.example.org", 443, "/EWS/Exchange.asmx", true)),
            ),
            (
                " https://127.0.0.1:8443/EWS/Exchange.asmx ",
                Some(("127.0.0.1", 8443, "/EWS/Exchange.asmx", true)),
            ),
            ("https://[::1]:8443/a?b=c", Some(("::1", 8443, "/a?b=c", true))),
            ("https://mail.example.org", Some(("mail.example.org", 443, "/", true))),
            ("http://mail.example.org/EWS", None),
            ("ftp://mail.example.org/EWS", None),
            ("mail.example.org/EWS", None),
            ("https://me:secret@mail.example.org/", None),
            ("https://me@mail.example.org/", None),
            ("https://me:sec@ret@mail.example.org/", None),
            ("https://me:sec/ret@mail.example.org/", None),
            ("https://mail.example.org:/", None),
            ("https://mail.example.org/EWS#x", None),
            ("https:///EWS", None),
            ("", None),
        ];
        for (url, expected) in cases {
            let found = Endpoint::parse(url, false);
            let parts =
                found.as_ref().ok().map(|end| (end.host.as_str(), end.port, end.path.as_str(), end.tls));
            assert_eq!(parts, expected, "{url}");
            assert!(
                expected.is_some() || found.is_err_and(|failure| failure.reason == Reason::ProfileUrlWrong)
            );
        }
        assert!(
            Endpoint::parse("http://localhost:8080/EWS", true).is_ok_and(|end| !end.tls && end.port == 8080)
        );
        let authority = |url| Endpoint::parse(url, true).map(|end| end.authority()).unwrap_or_default();
        assert_eq!(authority("https://[::1]:443/"), "[::1]");
        assert_eq!(authority("https://a.example:444/"), "a.example:444");
    }

    #[test]
    fn trust_needs_something_to_trust() {
        for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(
                trust(Some(pem)).is_err_and(|failure| failure.reason == Reason::ProfileTlsUntrusted),
                "{pem}"
            );
        }
    }
}
