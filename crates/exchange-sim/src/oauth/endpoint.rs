//! The issuer's door: metadata, keys and tokens over HTTPS.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    Issuer,
    grant::{Denial, Form, Generation},
    guid,
};
use crate::{control::percent_decoded, world::World};

const LARGEST: usize = 64 << 10;

/// Answers one request.
pub(crate) async fn answer(
    world: Arc<World>,
    request: http::Request<Incoming>,
) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map(Collected::to_bytes).unwrap_or_default();
    let (status, value) = match &world.issuer {
        Some(issuer) => issuer.route(&world, &parts.method, parts.uri.path(), &body),
        None => (StatusCode::NOT_FOUND, json!({})),
    };
    http::Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store, no-cache")
        .body(Full::new(Bytes::from(value.to_string())))
        .unwrap_or_default()
}

impl Issuer {
    fn route(&self, world: &World, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let (tenant, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        if !tenant.eq_ignore_ascii_case(&self.registration.tenant) {
            let text = format!("Tenant '{tenant}' not found.");
            return denied(world, &Denial { error: "invalid_request", number: 90_002, text });
        }
        let token = |generation| {
            let seconds = world.settings().token_seconds;
            match self.grant(generation, &form(body), world.true_now() / 1000, seconds) {
                Ok(token) => (StatusCode::OK, token),
                Err(denial) => denied(world, &denial),
            }
        };
        match (method.as_str(), rest) {
            ("GET", "v2.0/.well-known/openid-configuration") => {
                (StatusCode::OK, self.metadata(Generation::V2))
            }
            ("GET", ".well-known/openid-configuration") => (StatusCode::OK, self.metadata(Generation::V1)),
            ("GET", "discovery/v2.0/keys" | "discovery/keys") => (StatusCode::OK, self.key_set()),
            ("POST", "oauth2/v2.0/token") => token(Generation::V2),
            ("POST", "oauth2/token") => token(Generation::V1),
            _ => (StatusCode::NOT_FOUND, json!({ "error": "not_found" })),
        }
    }

    fn metadata(&self, generation: Generation) -> Value {
        let base = format!("{}/{}", self.registration.authority, self.registration.tenant);
        let (issuer, step) = match generation {
            Generation::V1 => (self.issuer_v1(), ""),
            Generation::V2 => (self.issuer_v2(), "/v2.0"),
        };
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/oauth2{step}/authorize"),
            "token_endpoint": self.token_endpoint(generation),
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256"],
            "jwks_uri": format!("{base}/discovery{step}/keys"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    fn key_set(&self) -> Value {
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": number(&self.public.n),
            "e": number(&self.public.e),
            "issuer": self.issuer_v2(),
        }]})
    }
}

/// Reads `application/x-www-form-urlencoded`.
fn form(body: &[u8]) -> Form {
    let text = String::from_utf8_lossy(body);
    let word = |text: &str| percent_decoded(&text.replace('+', " "));
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (word(name), word(value)))
        .collect()
}

fn denied(world: &World, denial: &Denial) -> (StatusCode, Value) {
    let status = match denial.error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        "server_error" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let at = crate::item::date(world.true_now());
    let (trace, correlation) = (guid(world.next(), "trace"), guid(world.next(), "correlation"));
    let body = json!({
        "error": denial.error,
        "error_description": format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}",
            denial.number, denial.text
        ),
        "error_codes": [denial.number],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
    });
    (status, body)
}
