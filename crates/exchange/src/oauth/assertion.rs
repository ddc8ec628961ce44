//! What an application proves itself with: a JWT that its certificate signs (RFC 7523 3).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::certificate::{Algorithm, Certificate};
use crate::Failure;

/// How long an assertion can be used; authorities want it short.
const LIFE: Duration = Duration::from_mins(10);

/// An assertion of this client for a token endpoint. `accepted`: the names of the algorithms that the authority takes;
/// empty: it does not say.
pub(super) fn assertion(
    certificate: &Certificate,
    client: &str,
    audience: &str,
    accepted: &[String],
    now: Timestamp,
) -> Result<SecretString, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| {
        Failure::new(Reason::Internal, Execution::Not, "the operating system gives no random numbers")
    })?;
    let takes =
        |algorithm: Algorithm| accepted.is_empty() || accepted.iter().any(|it| it == algorithm.word());
    let claims = claims(client, audience, &id, now);
    let message = |algorithm| {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(&header(certificate, algorithm)), encode(&claims))
    };
    certificate.sign(takes, message).map(Into::into)
}

fn header(certificate: &Certificate, algorithm: Algorithm) -> Value {
    let [old, new] = certificate.thumbprints();
    json!({ "alg": algorithm.word(), "typ": "JWT", "x5t": old, "x5t#S256": new })
}

fn claims(client: &str, audience: &str, id: &[u8; 16], now: Timestamp) -> Value {
    let seconds = |at: Timestamp| at.as_millis().div_euclid(1000);
    json!({
        "aud": audience,
        "iss": client,
        "sub": client,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "iat": seconds(now),
        "nbf": seconds(now),
        "exp": seconds(now + LIFE),
    })
}

#[cfg(test)]
mod tests {
    use rustls::{SignatureScheme, crypto::ring::default_provider};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use secrecy::ExposeSecret as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::{
        super::certificate::tests::{EC, RSA, certify},
        *,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_999);
    const URL: &str = "https://login.example/contoso.example/oauth2/v2.0/token";

    fn decoded(part: &str) -> Value {
        let json = URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&json).expect("JSON")
    }

    #[test]
    fn an_assertion_says_who_asks_whom_and_is_signed() {
        for (key, accepted, algorithm, scheme) in [
            (RSA, &[][..], "PS256", SignatureScheme::RSA_PSS_SHA256),
            (RSA, &["RS256"], "RS256", SignatureScheme::RSA_PKCS1_SHA256),
            (EC, &["ES256", "RS256"], "ES256", SignatureScheme::ECDSA_NISTP256_SHA256),
        ] {
            let pem = certify(key);
            let certificate = Certificate::read(&(pem.clone() + key)).expect("it is good");
            let accepted: Vec<String> = accepted.iter().map(|it| (*it).to_owned()).collect();
            let made = || assertion(&certificate, "app", URL, &accepted, NOW).expect("it is signed");
            let (one, other) = (made(), made());
            let [header, claims, signature] = one.expose_secret().split('.').collect::<Vec<_>>()[..] else {
                panic!("three parts")
            };
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
            let [old, new] = certificate.thumbprints();
            assert_eq!(
                decoded(header),
                json!({ "alg": algorithm, "typ": "JWT", "x5t": old, "x5t#S256": new })
            );
            let mut told = decoded(claims);
            let id = told["jti"].take();
            assert_eq!(id.as_str().map(str::len), Some(22), "128 bits");
            assert_ne!(decoded(other.expose_secret().split('.').nth(1).unwrap_or_default())["jti"], id);
            let begun = 1_772_366_400;
            assert_eq!(
                told,
                json!({ "aud": URL, "iss": "app", "sub": "app", "jti": null, "iat": begun, "nbf": begun, "exp": begun + 600 })
            );
            if algorithm == "ES256" {
                continue;
            }
            let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
            let provider = default_provider();
            let known = provider.signature_verification_algorithms.mapping;
            let (_, verifiers) = known.iter().find(|(it, _)| *it == scheme).expect("it is known");
            let message = format!("{header}.{claims}");
            let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
            let public = &parsed.public_key().subject_public_key.data;
            let verified = verifiers[0].verify_signature(public, message.as_bytes(), &signature);
            assert!(verified.is_ok(), "{algorithm}");
        }
    }
}
