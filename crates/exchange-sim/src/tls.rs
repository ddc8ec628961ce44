//! The simulator's own authority and the certificate that its server shows.

use std::{net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};

/// An authority as PEM, and a server that it vouches for.
pub(crate) struct Identity {
    pub ca_pem: String,
    pub server: Arc<ServerConfig>,
    /// The `tls-server-end-point` of RFC 5929: the certificate is signed with SHA-256.
    pub end_point: [u8; 32],
}

/// Makes both, for loopback addresses, `localhost`, the address it listens on, and the names that clients try who know only
/// a mail domain.
pub(crate) fn identity(
    listen: IpAddr,
    domain: &str,
) -> Result<Identity, Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "Simulated Exchange CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let names = ["localhost".to_owned(), domain.to_owned()].into_iter();
    let names = names.chain(["autodiscover", "mail"].map(|host| format!("{host}.{domain}")));
    let mut server = CertificateParams::new(names.collect::<Vec<_>>())?;
    server.distinguished_name.push(DnType::CommonName, "Simulated Exchange");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut addresses: Vec<IpAddr> = vec!["127.0.0.1".parse()?, "::1".parse()?];
    if !addresses.contains(&listen) && !listen.is_unspecified() {
        addresses.push(listen);
    }
    server.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    let end_point = Sha256::digest(certificate.der()).into();
    let chain = vec![certificate.der().clone(), issuer.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { ca_pem: issuer.pem(), server: Arc::new(config), end_point })
}
