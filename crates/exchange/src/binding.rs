//! What binds a proof to the channel it travels on: the server's certificate (tls-server-end-point, RFC 5929 4).

use md5::{Digest as _, Md5};
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::der::{self, OBJECT_ID, SEQUENCE, context};

/// The hash that a certificate is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// MD5 over `gss_channel_bindings_struct` with the certificate (DER) in it, as NTLM wants it (MS-NLMP 2.2.2.1).
/// `None`: the certificate cannot be read, or its signature has no hash of its own, for which nothing is defined.
pub(crate) fn of_certificate(certificate: &[u8]) -> Option<[u8; 16]> {
    let hash = match signature_hash(certificate)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    };
    let data = [b"tls-server-end-point:", &hash[..]].concat();
    let length = u32::try_from(data.len()).ok()?;
    // Neither side has an address in it.
    let bindings = Md5::new().chain_update([0; 16]).chain_update(length.to_le_bytes()).chain_update(data);
    Some(bindings.finalize().into())
}

/// The certificate's `signatureAlgorithm` (RFC 5280 4.1.1.2). MD5 and SHA-1 count as SHA-256.
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (content, _) = der::expect(SEQUENCE, certificate)?;
    let (_, after) = der::expect(SEQUENCE, content)?;
    let (algorithm, _) = der::expect(SEQUENCE, after)?;
    let (id, parameters) = der::expect(OBJECT_ID, algorithm)?;
    let hash = match id {
        // 1.2.840.113549.1.1: RSA. 10 is PSS, whose parameters name the hash (RFC 4055 3.1).
        b"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0A" => return pss_hash(parameters),
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, last] => match last {
            4 | 5 | 11 => Hash::Sha256,
            12 => Hash::Sha384,
            13 => Hash::Sha512,
            14 => Hash::Sha224,
            _ => return None,
        },
        // 1.2.840.10045.4: ECDSA.
        b"\x2A\x86\x48\xCE\x3D\x04\x01" | b"\x2A\x86\x48\xCE\x3D\x04\x03\x02" => Hash::Sha256,
        b"\x2A\x86\x48\xCE\x3D\x04\x03\x01" => Hash::Sha224,
        b"\x2A\x86\x48\xCE\x3D\x04\x03\x03" => Hash::Sha384,
        b"\x2A\x86\x48\xCE\x3D\x04\x03\x04" => Hash::Sha512,
        _ => return None,
    };
    Some(hash)
}

fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (fields, _) = der::expect(SEQUENCE, parameters)?;
    let Some((field, _)) = der::expect(context(0), fields) else {
        // SHA-1 is meant where nothing stands.
        return Some(Hash::Sha256);
    };
    let (id, _) = der::expect(OBJECT_ID, der::expect(SEQUENCE, field)?.0)?;
    match id {
        // 1.3.14.3.2.26: SHA-1. 2.16.840.1.101.3.4.2: SHA-2.
        b"\x2B\x0E\x03\x02\x1A" | b"\x60\x86\x48\x01\x65\x03\x04\x02\x01" => Some(Hash::Sha256),
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x02" => Some(Hash::Sha384),
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x03" => Some(Hash::Sha512),
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x04" => Some(Hash::Sha224),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate's frame: nothing in it but how it is signed.
    fn signed_with(algorithm: &[u8]) -> Vec<u8> {
        let parts = [der::value(SEQUENCE, b"tbs"), der::value(SEQUENCE, algorithm), der::value(3, b"\0")];
        der::value(SEQUENCE, &parts.concat())
    }

    fn pss(hash: &[u8]) -> Vec<u8> {
        let hash = match hash {
            [] => Vec::new(),
            id => der::value(context(0), &der::value(SEQUENCE, &der::value(OBJECT_ID, id))),
        };
        let id = der::value(OBJECT_ID, b"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0A");
        [id, der::value(SEQUENCE, &hash)].concat()
    }

    #[test]
    fn each_signature_has_its_hash() {
        let rsa = |last| der::value(OBJECT_ID, &[b"\x2A\x86\x48\x86\xF7\x0D\x01\x01", &[last][..]].concat());
        let ecdsa = |rest: &[u8]| der::value(OBJECT_ID, &[b"\x2A\x86\x48\xCE\x3D\x04", rest].concat());
        let cases = [
            (rsa(4), Some(Hash::Sha256)),
            (rsa(5), Some(Hash::Sha256)),
            (rsa(11), Some(Hash::Sha256)),
            (rsa(12), Some(Hash::Sha384)),
            (rsa(13), Some(Hash::Sha512)),
            (rsa(14), Some(Hash::Sha224)),
            (rsa(1), None),
            (rsa(10), None),
            (pss(b""), Some(Hash::Sha256)),
            (pss(b"\x2B\x0E\x03\x02\x1A"), Some(Hash::Sha256)),
            (pss(b"\x60\x86\x48\x01\x65\x03\x04\x02\x02"), Some(Hash::Sha384)),
            (pss(b"\x60\x86\x48\x01\x65\x03\x04\x02\x03"), Some(Hash::Sha512)),
            (pss(b"unknown"), None),
            (ecdsa(b"\x01"), Some(Hash::Sha256)),
            (ecdsa(b"\x03\x01"), Some(Hash::Sha224)),
            (ecdsa(b"\x03\x02"), Some(Hash::Sha256)),
            (ecdsa(b"\x03\x03"), Some(Hash::Sha384)),
            (ecdsa(b"\x03\x04"), Some(Hash::Sha512)),
            // Ed25519 has no hash of its own.
            (der::value(OBJECT_ID, b"\x2B\x65\x70"), None),
        ];
        for (algorithm, expected) in cases {
            assert_eq!(signature_hash(&signed_with(&algorithm)), expected, "{algorithm:02X?}");
        }
    }

    #[test]
    fn a_real_certificate_is_read() {
        for (algorithm, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(Hash::Sha256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(Hash::Sha384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let parameters = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            assert_eq!(signature_hash(certificate.der()), expected, "{algorithm:?}");
            assert_eq!(of_certificate(certificate.der()).is_some(), expected.is_some());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..80), wrapped in any::<bool>()) {
            let bytes = if wrapped { signed_with(&bytes) } else { bytes };
            let _read = of_certificate(&bytes);
        }
    }
}
