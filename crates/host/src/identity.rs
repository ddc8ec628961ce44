//! The certificates of a data directory: an authority of its own, and a server that it vouches for.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use crate::data_dir::{Error, read_secret, write_atomically};

/// The authority is made once for all.
const AUTHORITY_LIVES: Duration = Duration::from_hours(24 * 365 * 10);
/// A server's certificate lives so long,
const SERVER_LIVES: Duration = Duration::from_hours(24 * 365);
/// and is made anew at a start when less than this is left.
const RENEWED_BEFORE: Duration = Duration::from_hours(24 * 60);

/// What a server shows and what its clients trust, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The authority.
    pub ca: String,
    /// The server's certificate, with the authority's behind it.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Identity { .. }")
    }
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> Error {
    Error::Damaged { path: path.to_owned(), detail: detail.to_string() }
}

/// Reads the identity in a folder, and makes what is missing or about to expire.
pub(crate) fn load_or_make(folder: &Path) -> Result<Identity, Error> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let file = |name: &str| folder.join(name);
    if !file("ca.pem").exists() {
        make_authority(folder)?;
    }
    let (ca, ca_key) = (read(&file("ca.pem"))?, read_secret(&file("ca.key"))?);
    if !is_fresh(&file("server.pem"))? {
        let key_pair = KeyPair::from_pem(&ca_key).map_err(|error| damaged(&file("ca.key"), error))?;
        let issuer =
            Issuer::from_ca_cert_pem(&ca, key_pair).map_err(|error| damaged(&file("ca.pem"), error))?;
        let (certificate, key) = server(&issuer).map_err(|error| damaged(&file("server.pem"), error))?;
        write_atomically(&file("server.key"), &key)?;
        write_atomically(&file("server.pem"), &certificate)?;
    }
    let certificate = read(&file("server.pem"))? + &ca;
    Ok(Identity { ca, certificate, key: read_secret(&file("server.key"))? })
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io { path: PathBuf::from(path), source })
}

fn make_authority(folder: &Path) -> Result<(), Error> {
    let fail = |error: rcgen::Error| damaged(&folder.join("ca.pem"), error);
    let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
    params.distinguished_name.push(DnType::CommonName, "Mailyard data directory CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(AUTHORITY_LIVES);
    let key = KeyPair::generate().map_err(fail)?;
    let key_pem = key.serialize_pem();
    let authority = CertifiedIssuer::self_signed(params, key).map_err(fail)?;
    write_atomically(&folder.join("ca.key"), &key_pem)?;
    write_atomically(&folder.join("ca.pem"), &authority.pem())
}

fn server(issuer: &Issuer<'_, KeyPair>) -> Result<(String, String), rcgen::Error> {
    let mut names = vec!["localhost".to_owned()];
    let host = rustix::system::uname();
    names.extend(host.nodename().to_str().ok().filter(|name| !name.is_empty()).map(ToOwned::to_owned));
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Mailyard");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let loopback = [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    params.subject_alt_names.extend(loopback.map(SanType::IpAddress));
    (params.not_before, params.not_after) = validity(SERVER_LIVES);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// From a little before now: clocks of clients may be behind.
fn validity(lives: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::from(std::time::SystemTime::now());
    (now - Duration::from_hours(24), now + lives)
}

/// True if there is a certificate that lives long enough.
fn is_fresh(path: &Path) -> Result<bool, Error> {
    if !path.exists() {
        return Ok(false);
    }
    let text = read(path)?;
    let pem =
        Pem::iter_from_buffer(text.as_bytes()).next().transpose().map_err(|error| damaged(path, error))?;
    let Some(pem) = pem else { return Ok(false) };
    let certificate = pem.parse_x509().map_err(|error| damaged(path, error))?;
    let left = certificate.validity().time_to_expiration().unwrap_or_default();
    Ok(left > RENEWED_BEFORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_and_its_server_is_made_anew_in_time() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let first = load_or_make(folder.path())?;
        let again = load_or_make(folder.path())?;
        assert_eq!((&first.ca, &first.key), (&again.ca, &again.key));
        assert!(first.certificate.ends_with(&first.ca));
        fs::write(folder.path().join("server.pem"), "")?;
        let renewed = load_or_make(folder.path())?;
        assert_eq!(first.ca, renewed.ca);
        assert_ne!(first.key, renewed.key);
        fs::write(folder.path().join("ca.pem"), "nonsense")?;
        fs::remove_file(folder.path().join("server.pem"))?;
        assert!(matches!(load_or_make(folder.path()), Err(Error::Damaged { .. })));
        Ok(())
    }
}
