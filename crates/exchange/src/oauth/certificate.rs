//! The certificate of an application with its private key, as one PEM or apart, and what is signed with it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Failure,
    der::{self, INTEGER, SEQUENCE},
};

/// A certificate that a key belongs to.
#[derive(Clone, Debug)]
pub struct Certificate {
    facts: Facts,
    der: CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
    certificate_pem: String,
    key_pem: SecretString,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub subject: String,
    /// It is valid from here,
    pub begins: Timestamp,
    /// and until here.
    pub ends: Timestamp,
}

/// How an assertion is signed (RFC 7518 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ps256,
    Rs256,
    Es256,
}

impl Algorithm {
    /// Those that are known, the better ones first.
    pub const ALL: [Self; 3] = [Self::Ps256, Self::Rs256, Self::Es256];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    const fn scheme(self) -> SignatureScheme {
        match self {
            Self::Ps256 => SignatureScheme::RSA_PSS_SHA256,
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }
}

fn wrong(reason: Reason, detail: impl Into<Box<str>>) -> Failure {
    Failure::new(reason, Execution::Not, detail)
}

fn invalid(detail: impl Into<Box<str>>) -> Failure {
    wrong(Reason::ProfileCertificateInvalid, detail)
}

impl Certificate {
    /// Reads a PEM that holds certificates and one private key. The certificate is the one that the key belongs to.
    ///
    /// # Errors
    /// `PROFILE_CERTIFICATE_INVALID`, `PROFILE_CERTIFICATE_KEY_MISSING`, `PROFILE_CERTIFICATE_KEY_MISMATCH`.
    pub fn read(pem: &str) -> Result<Self, Failure> {
        let (certificates, keys) = blocks(pem);
        if certificates.is_empty() {
            return Err(invalid("there is no certificate in the PEM"));
        }
        let key_pem = match &keys[..] {
            [] => {
                return Err(wrong(
                    Reason::ProfileCertificateKeyMissing,
                    "there is no private key in the PEM",
                ));
            }
            [one] => one,
            _ => return Err(invalid("there is more than one private key in the PEM")),
        };
        if key_pem.contains("ENCRYPTED") {
            return Err(invalid("the private key is protected by a passphrase"));
        }
        let key = signing_key(key_pem)?;
        let public = key.public_key().ok_or_else(|| invalid("the private key has no public part"))?;
        let mut read = Vec::with_capacity(certificates.len());
        for pem in certificates {
            let der = CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| invalid(format!("a certificate cannot be read: {error}")))?;
            read.push((pem, der));
        }
        let mut leaf = None;
        for (at, (_, der)) in read.iter().enumerate() {
            let (facts, of) = facts(der).ok_or_else(|| invalid("a certificate cannot be read"))?;
            if of == public.as_ref() {
                leaf = leaf.or(Some((at, facts)));
            }
        }
        let (at, facts) = leaf.ok_or_else(|| {
            let detail = "the private key belongs to none of the certificates in the PEM";
            wrong(Reason::ProfileCertificateKeyMismatch, detail)
        })?;
        let (first, der) = read.remove(at);
        let certificate_pem = read.into_iter().fold(first, |all, (pem, _)| all + &pem);
        drop(public);
        Ok(Self { facts, der, key, certificate_pem, key_pem: key_pem.clone().into() })
    }

    /// The same from a PEM of certificates and one of their key.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn join(certificate_pem: &str, key_pem: &SecretString) -> Result<Self, Failure> {
        Self::read(&format!("{certificate_pem}\n{}", key_pem.expose_secret()))
    }

    /// The certificates as PEM, the one that counts first, without the key.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> &SecretString {
        &self.key_pem
    }

    /// Says whether it is valid at this moment.
    ///
    /// # Errors
    /// `PROFILE_CERTIFICATE_EXPIRED`.
    pub fn check(&self, now: Timestamp) -> Result<(), Failure> {
        let detail = match &self.facts {
            facts if now < facts.begins => format!("the certificate is not valid before {}", facts.begins),
            facts if now > facts.ends => format!("the certificate has expired at {}", facts.ends),
            _ => return Ok(()),
        };
        Err(wrong(Reason::ProfileCertificateExpired, detail))
    }

    /// The hashes that the authority knows it by (RFC 7515 4.1.7 and 4.1.8): of SHA-1 and of SHA-256.
    pub(super) fn thumbprints(&self) -> [String; 2] {
        let (old, new) = (Sha1::digest(&self.der), Sha256::digest(&self.der));
        [URL_SAFE_NO_PAD.encode(old), URL_SAFE_NO_PAD.encode(new)]
    }

    /// Signs with the best algorithm that the key can do and the authority does not exclude.
    pub(super) fn sign(
        &self,
        accepted: impl Fn(Algorithm) -> bool,
        message: impl FnOnce(Algorithm) -> String,
    ) -> Result<String, Failure> {
        let able = Algorithm::ALL.map(|it| self.key.choose_scheme(&[it.scheme()]).map(|signer| (it, signer)));
        let mut able = able.into_iter().flatten().filter(|(it, _)| accepted(*it));
        let (algorithm, signer) =
            able.next().ok_or_else(|| invalid("the authority accepts no signature that the key can make"))?;
        let message = message(algorithm);
        let signed = signer.sign(message.as_bytes()).ok();
        let signature = match algorithm {
            Algorithm::Es256 => signed.and_then(|der| fixed(&der)),
            Algorithm::Ps256 | Algorithm::Rs256 => signed,
        };
        let signature = signature.ok_or_else(|| invalid("the private key does not sign"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Facts {
    /// Reads the first certificate of a PEM; `None`: it cannot be read.
    pub fn read(pem: &str) -> Option<Self> {
        facts(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?).map(|(facts, _)| facts)
    }
}

/// The blocks of a PEM with line ends behind them: certificates, and private keys. Others mean nothing here.
fn blocks(pem: &str) -> (Vec<String>, Vec<String>) {
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    let mut open: Option<(&str, String)> = None;
    for line in pem.lines().map(str::trim_end) {
        if let Some(label) = label(line, "-----BEGIN ") {
            open = Some((label, String::new()));
        }
        let Some((opened, text)) = &mut open else { continue };
        text.push_str(line);
        text.push('\n');
        if label(line, "-----END ") != Some(*opened) {
            continue;
        }
        let text = std::mem::take(text);
        match *opened {
            "CERTIFICATE" => certificates.push(text),
            key if key.ends_with("PRIVATE KEY") => keys.push(text),
            _ => {}
        }
        open = None;
    }
    (certificates, keys)
}

fn label<'a>(line: &'a str, begin: &str) -> Option<&'a str> {
    line.strip_prefix(begin)?.strip_suffix("-----")
}

fn signing_key(pem: &str) -> Result<Arc<dyn SigningKey>, Failure> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| invalid("the private key cannot be read"))?;
    let unsuited = || invalid("the private key is neither RSA of 2048 to 4096 bits nor EC P-256");
    let key = any_supported_type(&der).map_err(|_| unsuited())?;
    let suits = Algorithm::ALL.iter().any(|algorithm| key.choose_scheme(&[algorithm.scheme()]).is_some());
    if suits { Ok(key) } else { Err(unsuited()) }
}

/// What a certificate says, and its public key (DER of SubjectPublicKeyInfo).
fn facts(der: &[u8]) -> Option<(Facts, Vec<u8>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let validity = certificate.validity();
    let facts = Facts {
        subject: certificate.subject().to_string(),
        begins: moment(validity.not_before.timestamp()),
        ends: moment(validity.not_after.timestamp()),
    };
    Some((facts, certificate.public_key().raw.to_vec()))
}

/// An ECDSA signature as two numbers of 32 bytes, as JWS wants it (RFC 7518 3.4), out of its DER.
fn fixed(signature: &[u8]) -> Option<Vec<u8>> {
    let (numbers, _) = der::expect(SEQUENCE, signature)?;
    let (r, rest) = der::expect(INTEGER, numbers)?;
    let (s, _) = der::expect(INTEGER, rest)?;
    let mut out = Vec::with_capacity(64);
    for number in [r, s] {
        let digits = number.strip_prefix(b"\0").unwrap_or(number);
        out.resize(out.len() + 32_usize.checked_sub(digits.len())?, 0);
        out.extend_from_slice(digits);
    }
    Some(out)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    pub const RSA: &str = include_str!("../../tests/keys/rsa.pkcs8.pem");
    const RSA_OLD: &str = include_str!("../../tests/keys/rsa.pkcs1.pem");
    const RSA_ENCRYPTED: &str = include_str!("../../tests/keys/rsa.encrypted.pem");
    pub const EC: &str = include_str!("../../tests/keys/ec.pkcs8.pem");
    const EC_OLD: &str = include_str!("../../tests/keys/ec.sec1.pem");

    /// A certificate for a key, valid in the years 2020 to 2098.
    pub fn certify(key: &str) -> String {
        let key = KeyPair::from_pem(key).expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "Mailyard");
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
        parameters.self_signed(&key).expect("a certificate").pem()
    }

    #[test]
    fn certificates_are_read_with_their_key_in_any_order() {
        let (rsa, ec) = (certify(RSA), certify(EC));
        let between = "Bag Attributes\n    friendlyName: x\n";
        for (pem, first) in [
            (rsa.clone() + RSA, &rsa),
            (format!("{RSA_OLD}{between}{rsa}"), &rsa),
            (ec.clone() + EC, &ec),
            (
                format!(
                    "{ec}-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{EC_OLD}"
                ),
                &ec,
            ),
            (format!("{ec}{rsa}{RSA}").replace('\n', "\r\n"), &rsa),
        ] {
            let read = Certificate::read(&pem).unwrap_or_else(|failure| panic!("{failure}"));
            let first = first.replace("\r\n", "\n");
            assert!(read.certificate_pem().starts_with(&first), "{pem}");
            assert!(!read.certificate_pem().contains("PRIVATE"));
            assert!(read.key_pem().expose_secret().starts_with("-----BEGIN "));
            let again = Certificate::join(read.certificate_pem(), read.key_pem());
            assert!(again.is_ok_and(|again| again.thumbprints() == read.thumbprints()));
            assert_eq!(Facts::read(read.certificate_pem()), Some(read.facts.clone()));
            assert!(!format!("{read:?}").contains("BEGIN PRIVATE"), "{read:?}");
        }
        let facts = Facts::read(&rsa).expect("a certificate");
        assert_eq!(facts.subject, "CN=Mailyard");
        assert_eq!(facts.ends.to_string(), "2099-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_wrong_with_a_certificate_has_its_reason() {
        use Reason::{
            ProfileCertificateInvalid as Invalid, ProfileCertificateKeyMismatch as Mismatch,
            ProfileCertificateKeyMissing as Missing,
        };
        let (rsa, ec) = (certify(RSA), certify(EC));
        let small = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key").serialize_pem();
        let cut = RSA.replace("MII", "MI");
        for (pem, reason) in [
            (String::new(), Invalid),
            ("nonsense".to_owned(), Invalid),
            (RSA.to_owned(), Invalid),
            (rsa.clone(), Missing),
            (rsa.clone() + EC, Mismatch),
            (ec.clone() + RSA_OLD, Mismatch),
            (rsa.clone() + RSA_ENCRYPTED, Invalid),
            (rsa.clone() + RSA + EC, Invalid),
            (certify(&small) + &small, Invalid),
            (rsa.clone() + &cut, Invalid),
            (format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{RSA}"), Invalid),
            (format!("{RSA}{}", rsa.replace("-----END CERTIFICATE-----", "")), Invalid),
        ] {
            let found = Certificate::read(&pem).map(|_| ());
            assert_eq!(found.map_err(|failure| failure.reason), Err(reason), "{pem}");
        }
    }

    #[test]
    fn a_certificate_is_valid_for_a_time() {
        let certificate = Certificate::read(&(certify(EC) + EC)).expect("it is good");
        let year = |year: i64| Timestamp::from_millis((year - 1970) * 31_556_952_000);
        for (now, good) in [(year(2019), false), (year(2026), true), (year(2100), false)] {
            let checked = certificate.check(now).map_err(|failure| failure.reason);
            assert_eq!(checked.is_ok(), good, "{now}");
            assert!(good || checked == Err(Reason::ProfileCertificateExpired));
        }
    }

    /// RFC 7515 A.2.1: this signature is always the same.
    #[test]
    fn a_known_message_has_its_known_signature() {
        let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                       c19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
                         jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb\
                         1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO\
                         YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        for key in [RSA, RSA_OLD] {
            let certificate = Certificate::read(&(certify(RSA) + key)).expect("it is good");
            let signed = certificate.sign(|it| it == Algorithm::Rs256, |_| message.to_owned());
            assert_eq!(signed, Ok(format!("{message}.{signature}")));
        }
    }

    #[test]
    fn a_key_signs_as_it_can_and_as_the_authority_takes_it() {
        let (rsa, ec) = (certify(RSA) + RSA, certify(EC) + EC);
        for (pem, accepted, expected) in [
            (&rsa, &Algorithm::ALL[..], Some("PS256")),
            (&rsa, &[Algorithm::Rs256, Algorithm::Es256], Some("RS256")),
            (&rsa, &[Algorithm::Es256], None),
            (&ec, &Algorithm::ALL, Some("ES256")),
            (&ec, &[Algorithm::Ps256], None),
        ] {
            let certificate = Certificate::read(pem).expect("it is good");
            let signed = certificate.sign(|it| accepted.contains(&it), |it| it.word().to_owned()).ok();
            let (algorithm, signature) = signed.as_deref().and_then(|it| it.split_once('.')).unzip();
            assert_eq!(algorithm, expected, "{accepted:?}");
            let length = signature.map(|it| URL_SAFE_NO_PAD.decode(it).expect("base64").len());
            assert_eq!(length, expected.map(|it| if it == "ES256" { 64 } else { 256 }));
        }
    }

    #[test]
    fn numbers_of_a_signature_have_a_fixed_size() {
        let number = |digits: &[u8]| der::value(INTEGER, digits);
        let both = |r: &[u8], s: &[u8]| fixed(&der::value(SEQUENCE, &[number(r), number(s)].concat()));
        let long = [&[0][..], &[0xFF; 32]].concat();
        let expected = [vec![0; 31], vec![7], vec![0xFF; 32]].concat();
        assert_eq!(both(&[7], &long), Some(expected));
        assert_eq!(both(&[1; 33], &[1]), None);
        assert_eq!(both(&[1], &[1; 70]), None);
        assert_eq!(fixed(b"nonsense"), None);
    }
}
