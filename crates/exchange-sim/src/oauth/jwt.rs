//! Signed tokens (RFC 7515, RFC 7519) with RSA keys: RS256 and PS256.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        self, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::Value;

/// A key that signatures are checked with.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub n: Vec<u8>,
    pub e: Vec<u8>,
}

/// A token whose signature was not looked at yet.
pub(super) struct Jwt<'a> {
    pub header: Value,
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl PublicKey {
    /// The public half of a pair.
    pub fn of(pair: &RsaKeyPair) -> Self {
        let bytes = |number: &mut dyn Iterator<Item = u8>| number.skip_while(|byte| *byte == 0).collect();
        let public: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
        Self { n: bytes(&mut public.n.into_iter()), e: bytes(&mut public.e.into_iter()) }
    }
}

impl<'a> Jwt<'a> {
    /// Reads a compact token; `None`: it is none.
    pub fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let object = |text: &str| {
            let value: Value = serde_json::from_slice(&part(text)?).ok()?;
            value.is_object().then_some(value)
        };
        Some(Self { header: object(header)?, claims: object(claims)?, signed, signature: part(signature)? })
    }

    /// True if it was signed with the private half of this key.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let algorithm = match self.header["alg"].as_str() {
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            _ => return false,
        };
        let key = RsaPublicKeyComponents { n: &key.n, e: &key.e };
        key.verify(algorithm, self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// A claim that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims[name].as_str()
    }

    /// A claim that is a moment, in seconds since 1970.
    pub fn moment(&self, name: &str) -> Option<i64> {
        self.claims[name].as_i64()
    }
}

/// Signs claims with RS256; `None`: the system gives no random numbers.
pub(super) fn sign(header: &Value, claims: &Value, key: &RsaKeyPair) -> Option<String> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut bytes = vec![0; key.public().modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut bytes).ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_read_and_only_its_own_key_fits() {
        let keys = [0, 1].map(|_| super::super::keys::generate().expect("a key").0);
        let text = sign(&json!({"alg": "RS256"}), &json!({"aud": "a", "exp": 7}), &keys[0]).expect("a token");
        let read = |text: &str, key: usize| {
            let token = Jwt::read(text)?;
            let aud = token.text("aud").map(ToOwned::to_owned);
            Some((aud, token.moment("exp"), token.is_signed_by(&PublicKey::of(&keys[key]))))
        };
        assert_eq!(read(&text, 0), Some((Some("a".to_owned()), Some(7), true)));
        assert_eq!(read(&text, 1).map(|(.., fits)| fits), Some(false));
        let (signed, signature) = text.rsplit_once('.').expect("a signature");
        let (_, claims) = signed.split_once('.').expect("claims");
        for algorithm in ["none", "HS256", "PS256"] {
            let header = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm }).to_string());
            let other = format!("{header}.{claims}.{signature}");
            assert_eq!(read(&other, 0).map(|(.., fits)| fits), Some(false), "{algorithm}");
        }
        for broken in ["", ".", "..", "a.b.c", signed, &format!("{text}!")] {
            assert_eq!(read(broken, 0), None, "{broken}");
        }
    }
}
