//! The keys of the issuer, and the certificate of the application that is registered with it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::{digest, signature::RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey as _;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::jwt::PublicKey;

/// Why a key or a certificate cannot be made.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What the issuer knows of an application's certificate.
#[derive(Debug)]
pub(super) struct Registered {
    pub key: PublicKey,
    /// SHA-1 and SHA-256 of the certificate, as tokens name it (RFC 7515 4.1.7 and 4.1.8).
    pub x5t: String,
    pub x5t_s256: String,
}

/// A pair of 2048 bits: for signing, and as PKCS #8.
pub(super) fn generate() -> Result<(RsaKeyPair, Vec<u8>), Fault> {
    let key = rsa::PrivateKey::new(&mut getrandom::SysRng, 2048)?;
    let der = key.to_pkcs8_der()?.as_bytes().to_vec();
    let pair = RsaKeyPair::from_pkcs8(&der).map_err(|rejected| rejected.to_string())?;
    Ok((pair, der))
}

/// A certificate of its own making, and the PEM of certificate and key that the application gets.
pub(super) fn register(name: &str) -> Result<(Registered, String), Fault> {
    let (pair, der) = generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))?;
    let certificate = params.self_signed(&key)?;
    let thumbprint =
        |algorithm| URL_SAFE_NO_PAD.encode(digest::digest(algorithm, certificate.der().as_ref()));
    let registered = Registered {
        key: PublicKey::of(&pair),
        x5t: thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        x5t_s256: thumbprint(&digest::SHA256),
    };
    Ok((registered, certificate.pem() + &key.serialize_pem()))
}
