//! A token issuer in the manner of Entra, and what Exchange accepts of its tokens.

mod endpoint;
mod grant;
mod jwt;
mod keys;

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::RsaKeyPair;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

pub(crate) use self::endpoint::answer;
use self::{
    jwt::{Jwt, PublicKey},
    keys::Registered,
};
use crate::world::hex;

/// Exchange, as an application.
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";
/// The issuer, as an application.
const ISSUER: &str = "00000001-0000-0000-c000-000000000000";
/// What an application has to be allowed to act for everybody.
const ROLE: &str = "full_access_as_app";
/// Clocks may differ by so many seconds.
const TOLERANCE: i64 = 300;

/// What a client needs to get tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// Where the issuer is; the tenant follows as the first step of a path.
    pub authority: String,
    /// The tenant's id.
    pub tenant: String,
    /// The application's id.
    pub client: String,
    /// PEM with the application's certificate and its private key.
    pub certificate_file: String,
    /// What tokens are asked for: the audience that Exchange expects.
    pub resource: String,
}

/// The issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    registration: Registration,
    key: RsaKeyPair,
    public: PublicKey,
    /// The name of its key.
    kid: String,
    registered: Registered,
    /// Assertions that were used, until they expire.
    used: Mutex<HashMap<String, i64>>,
    issued: AtomicU64,
    issued_with_claims: AtomicU64,
}

/// What an accepted token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// It was asked for with the claims of a challenge.
    pub claims_met: bool,
}

/// Why Exchange does not accept a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Signature,
    Token,
    Expired,
    Resource,
    Tenant,
    Client,
    /// The token is good, and more is wanted.
    Claims,
}

impl TokenError {
    /// Number, reason and category of `x-ms-diagnostics`.
    fn parts(self) -> (u32, &'static str, &'static str) {
        match self {
            Self::Signature => (2_000_000, "The token has an invalid signature.", "invalid_signature"),
            Self::Token => (2_000_001, "The token is not valid.", "invalid_token"),
            Self::Expired => (2_000_002, "The token has expired.", "token_expired"),
            Self::Resource => (2_000_003, "The audience claim value is invalid 'aud'.", "invalid_resource"),
            Self::Tenant => (2_000_004, "The issuer of the token is not trusted.", "invalid_tenant"),
            Self::Client => (2_000_006, "The application has no permission.", "invalid_client"),
            Self::Claims => (2_000_020, "More claims are needed.", "insufficient_claims"),
        }
    }

    /// The word for it.
    pub fn category(self) -> &'static str {
        self.parts().2
    }

    /// The value of `x-ms-diagnostics`.
    pub fn diagnostics(self) -> String {
        let (number, reason, category) = self.parts();
        format!("{number};reason=\"{reason}\";error_category=\"{category}\"")
    }

    /// What is added to the challenge.
    fn challenge(self, now: i64) -> String {
        if self != Self::Claims {
            return ", error=\"invalid_token\"".to_owned();
        }
        let wanted = json!({"access_token": {"nbf": {"essential": true, "value": now.to_string()}}});
        let wanted = STANDARD.encode(wanted.to_string());
        format!(", error=\"insufficient_claims\", claims=\"{wanted}\"")
    }
}

impl Issuer {
    /// An issuer at this URL for a resource, and the PEM of the application that is registered.
    pub fn new(
        seed: u64,
        authority: String,
        resource: String,
        certificate_file: String,
    ) -> Result<(Self, String), keys::Fault> {
        let (key, _) = keys::generate()?;
        let (registered, pem) = keys::register("Simulated application")?;
        let public = PublicKey::of(&key);
        let registration = Registration {
            authority,
            tenant: guid(seed, "tenant"),
            client: guid(seed, "client"),
            certificate_file,
            resource,
        };
        let kid = guid(seed, "key");
        let issuer = Self {
            registration,
            key,
            public,
            kid,
            registered,
            used: Mutex::default(),
            issued: AtomicU64::new(0),
            issued_with_claims: AtomicU64::new(0),
        };
        Ok((issuer, pem))
    }

    /// What a client needs.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Tokens given out, and those among them that were asked for with claims.
    pub fn issued(&self) -> (u64, u64) {
        (self.issued.load(Ordering::Relaxed), self.issued_with_claims.load(Ordering::Relaxed))
    }

    /// The challenge of the EWS endpoint at a moment.
    pub fn challenge(&self, error: Option<TokenError>, now: i64) -> String {
        let Registration { authority, tenant, .. } = &self.registration;
        let error = error.map(|error| error.challenge(now / 1000)).unwrap_or_default();
        format!(
            "Bearer client_id=\"{EXCHANGE}\", trusted_issuers=\"{ISSUER}@{tenant}\", \
             token_types=\"app_asserted_user_v1 service_asserted_app_v1\", \
             authorization_uri=\"{authority}/{tenant}/oauth2/authorize\"{error}"
        )
    }

    /// Checks a token that came with a request, at a moment in milliseconds.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn accept(&self, text: &str, now: i64) -> Result<Accepted, TokenError> {
        let now = now / 1000;
        let token = Jwt::read(text).ok_or(TokenError::Token)?;
        let ours = token.header["kid"].as_str() == Some(&self.kid);
        if !ours || token.header["alg"] != "RS256" || !token.is_signed_by(&self.public) {
            return Err(TokenError::Signature);
        }
        let Registration { tenant, client, .. } = &self.registration;
        let issuer = token.text("iss");
        if token.text("tid") != Some(tenant)
            || (issuer != Some(&self.issuer_v1()) && issuer != Some(&self.issuer_v2()))
        {
            return Err(TokenError::Tenant);
        }
        if !token.text("aud").is_some_and(|audience| self.names_exchange(audience)) {
            return Err(TokenError::Resource);
        }
        let (Some(begins), Some(ends)) = (token.moment("nbf"), token.moment("exp")) else {
            return Err(TokenError::Token);
        };
        if now < begins - TOLERANCE {
            return Err(TokenError::Token);
        }
        if now >= ends {
            return Err(TokenError::Expired);
        }
        let allowed =
            token.claims["roles"].as_array().is_some_and(|roles| roles.iter().any(|role| role == ROLE));
        if token.text("appid") != Some(client) || !allowed {
            return Err(TokenError::Client);
        }
        Ok(Accepted { claims_met: token.claims["claims_met"] == true })
    }

    /// True for a name of Exchange in the directory: an organization registers all that its clients use, and some use the host
    /// alone.
    fn names_exchange(&self, name: &str) -> bool {
        let (own, name) = (&self.registration.resource, name.trim_end_matches('/'));
        name == own || own.rsplit_once(':').is_some_and(|(host, _port)| name == host)
    }

    fn issuer_v1(&self) -> String {
        format!("{}/{}/", self.registration.authority, self.registration.tenant)
    }

    fn issuer_v2(&self) -> String {
        format!("{}v2.0", self.issuer_v1())
    }
}

/// An id that follows from the seed and a word.
fn guid(seed: u64, what: &str) -> String {
    let digest = Sha256::digest([what.as_bytes(), &seed.to_be_bytes()].concat());
    let hex = hex(&digest[..16]);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
#[path = "oauth/tests.rs"]
mod tests;
