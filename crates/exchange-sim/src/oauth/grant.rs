//! The client credentials grant with a signed assertion (RFC 6749 4.4, RFC 7523 2.2): who gets a token, and what is in it.

use std::{collections::HashMap, sync::PoisonError, sync::atomic::Ordering};

use serde_json::{Value, json};

use super::{
    Issuer, ROLE, TOLERANCE, guid,
    jwt::{self, Jwt},
};

/// An assertion is good for no longer than this, in seconds.
const LONGEST: i64 = 24 * 3600;
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The generation of the endpoint: they differ in how the resource is named and numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    V1,
    V2,
}

/// Why no token is given: the error of OAuth, the number of Entra, and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub error: &'static str,
    pub number: u32,
    pub text: String,
}

fn denied<T>(error: &'static str, number: u32, text: impl Into<String>) -> Result<T, Denial> {
    Err(Denial { error, number, text: text.into() })
}

/// What a client posts.
pub(super) type Form = HashMap<String, String>;

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, Denial> {
    match form.get(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => denied(
            "invalid_request",
            900_144,
            format!("The request body must contain the following parameter: '{name}'."),
        ),
    }
}

impl Issuer {
    /// Where tokens of a generation are given out.
    pub(super) fn token_endpoint(&self, generation: Generation) -> String {
        let step = if generation == Generation::V1 { "" } else { "/v2.0" };
        format!("{}/{}/oauth2{step}/token", self.registration.authority, self.registration.tenant)
    }

    /// A token, for so many seconds from a moment in seconds.
    ///
    /// # Errors
    /// [`Denial`].
    pub(super) fn grant(
        &self,
        generation: Generation,
        form: &Form,
        now: i64,
        seconds: u32,
    ) -> Result<Value, Denial> {
        if required(form, "grant_type")? != "client_credentials" {
            return denied("unsupported_grant_type", 70_003, "The app requested an unsupported grant type.");
        }
        if required(form, "client_id")? != self.registration.client {
            return denied("unauthorized_client", 700_016, "The application was not found in the directory.");
        }
        let resource = self.resource_of(generation, form)?;
        let claims = match form.get("claims").map(|claims| serde_json::from_str::<Value>(claims)) {
            None => false,
            Some(Ok(claims)) if claims.is_object() => true,
            Some(_) => return denied("invalid_request", 90_100, "The claims parameter is not valid."),
        };
        self.check_assertion(form, now)?;
        let Some(token) = self.token(&resource, now, seconds, claims) else {
            return denied("server_error", 90_033, "A transient error has occurred. Please try again.");
        };
        self.issued.fetch_add(1, Ordering::Relaxed);
        self.issued_with_claims.fetch_add(u64::from(claims), Ordering::Relaxed);
        Ok(match generation {
            Generation::V1 => json!({
                "token_type": "Bearer",
                "expires_in": seconds.to_string(),
                "ext_expires_in": seconds.to_string(),
                "expires_on": (now + i64::from(seconds)).to_string(),
                "not_before": now.to_string(),
                "resource": resource,
                "access_token": token,
            }),
            Generation::V2 => json!({
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": token,
            }),
        })
    }

    fn resource_of(&self, generation: Generation, form: &Form) -> Result<String, Denial> {
        let resource = match generation {
            Generation::V1 => required(form, "resource")?,
            Generation::V2 => match required(form, "scope")?.strip_suffix("/.default") {
                Some(resource) => resource,
                None => {
                    let text = "Client credential flows must have a scope value with /.default suffixed to the resource identifier.";
                    return denied("invalid_scope", 1_002_012, text);
                }
            },
        };
        if !self.names_exchange(resource) {
            return denied(
                "invalid_resource",
                500_011,
                "The resource principal was not found in the tenant.",
            );
        }
        Ok(resource.to_owned())
    }

    fn check_assertion(&self, form: &Form, now: i64) -> Result<(), Denial> {
        let Some(assertion) = form.get("client_assertion") else {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return denied("invalid_client", 7_000_218, text);
        };
        if required(form, "client_assertion_type")? != JWT_BEARER {
            return denied("invalid_request", 90_100, "The client_assertion_type parameter is not valid.");
        }
        let Some(assertion) = Jwt::read(assertion) else {
            return denied("invalid_request", 50_027, "JWT token is invalid or malformed.");
        };
        let named = |name: &str, thumbprint: &str| {
            assertion.header.get(name).map(|named| named.as_str() == Some(thumbprint))
        };
        let names = [named("x5t", &self.registered.x5t), named("x5t#S256", &self.registered.x5t_s256)];
        if names == [None, None]
            || names.contains(&Some(false))
            || !assertion.is_signed_by(&self.registered.key)
        {
            return denied("invalid_client", 700_027, "Client assertion failed signature validation.");
        }
        let client = Some(self.registration.client.as_str());
        if assertion.text("iss") != client || assertion.text("sub") != client {
            let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
            return denied("invalid_client", 700_021, text);
        }
        let audience = assertion.text("aud").unwrap_or_default();
        if ![Generation::V1, Generation::V2]
            .iter()
            .any(|generation| self.token_endpoint(*generation) == audience)
        {
            return denied(
                "invalid_client",
                700_023,
                "Client assertion audience claim does not match Realm issuer.",
            );
        }
        let ends = assertion.moment("exp").filter(|ends| (now - TOLERANCE..now + LONGEST).contains(ends));
        let begun = assertion.moment("nbf").is_none_or(|begins| begins <= now + TOLERANCE);
        let (Some(ends), true) = (ends, begun) else {
            return denied("invalid_client", 700_024, "Client assertion is not within its valid time range.");
        };
        match assertion.text("jti").filter(|id| !id.is_empty()) {
            Some(id) if self.is_new(id, ends + TOLERANCE, now) => Ok(()),
            _ => denied(
                "invalid_client",
                50_013,
                "Assertion failed validation: its 'jti' is missing or was used before.",
            ),
        }
    }

    /// Notes that an assertion was used; false if it was before.
    fn is_new(&self, id: &str, until: i64, now: i64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, until| *until >= now);
        used.insert(id.to_owned(), until).is_none()
    }

    fn token(&self, resource: &str, now: i64, seconds: u32, claims_met: bool) -> Option<String> {
        let client = &self.registration.client;
        let tenant = &self.registration.tenant;
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.kid, "x5t": self.kid});
        let mut claims = json!({
            "aud": resource,
            "iss": self.issuer_v1(),
            "iat": now,
            "nbf": now,
            "exp": now + i64::from(seconds),
            "appid": client,
            // Proved by a certificate.
            "appidacr": "2",
            "idtyp": "app",
            "idp": self.issuer_v1(),
            "oid": guid(0, client),
            "sub": guid(0, client),
            "roles": [ROLE],
            "tid": tenant,
            "uti": guid(self.issued.load(Ordering::Relaxed), "token"),
            "ver": "1.0",
        });
        if claims_met {
            claims["claims_met"] = json!(true);
        }
        jwt::sign(&header, &claims, &self.key)
    }
}
