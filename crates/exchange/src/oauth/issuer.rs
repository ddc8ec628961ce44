//! The authority that issues tokens: where it is, what it is asked, and what it answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mailyard_policy::{Nature, Reason, Timestamp, outbox::Execution, profile::OAuth};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{
    assertion::assertion,
    certificate::Certificate,
    challenge::{authority, shortened},
};
use crate::{
    Clock, Config, Endpoint, Failure, Resolver,
    auth::{Scheme, missing, of_leg},
    endpoint,
    http1::Head,
    https::{self, Question, ask},
};

/// One question to the authority is given up after this.
const PATIENCE: Duration = Duration::from_secs(8);
/// A token that does not say how long it lives.
const UNSTATED_LIFE: Duration = Duration::from_mins(10);
/// No token is longer: it stands in the head of every request.
const LONGEST_TOKEN: usize = 16 << 10;
const BY_JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Knows where tokens are issued, and asks for them.
pub(crate) struct Issuer {
    application: OAuth,
    scope: String,
    certificate: Certificate,
    /// The server that tokens are for, which can name the authority, and whom it must prove to be.
    server: Endpoint,
    server_trust: Arc<ClientConfig>,
    trust: Arc<ClientConfig>,
    resolver: Resolver,
    clock: Clock,
    place: Mutex<Option<Arc<Place>>>,
}

/// Where tokens are asked for.
struct Place {
    url: String,
    endpoint: Endpoint,
    /// How an assertion may be signed; empty: the authority does not say.
    algorithms: Vec<String>,
}

/// What the authority issued.
pub(super) struct Issued {
    pub token: SecretString,
    pub life: Duration,
}

fn fail(reason: Reason, detail: impl Into<Box<str>>) -> Failure {
    Failure::new(reason, Execution::Not, detail)
}

impl Issuer {
    /// The authority of an application, whose certificate has the configuration's key. It must prove its name to the
    /// system's authorities or to those of the configuration.
    ///
    /// # Errors
    /// What is wrong with the certificate or the authorities.
    pub fn new(
        application: OAuth,
        (server, server_trust): (Endpoint, Arc<ClientConfig>),
        config: &Config,
    ) -> Result<Self, Failure> {
        let certificate = Certificate::join(&application.certificate_pem, &config.password)?;
        let trust = match config.ca_pem.as_deref() {
            Some(pem) => endpoint::trust_also(pem)?,
            None => server_trust.clone(),
        };
        let resource = application.resource.clone().unwrap_or_else(|| resource_of(&server));
        let scope = format!("{resource}/.default");
        let (resolver, clock, place) = (config.resolver.clone(), config.clock, Mutex::default());
        Ok(Self { application, scope, certificate, server, server_trust, trust, resolver, clock, place })
    }

    /// A token, with these claims in it (JSON).
    pub(super) async fn issue(&self, claims: Option<&str>) -> Result<Issued, Failure> {
        let issued = self.ask_for_one(claims).await;
        if issued.is_err() {
            // What was learnt of the authority may be what is wrong.
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        issued
    }

    async fn ask_for_one(&self, claims: Option<&str>) -> Result<Issued, Failure> {
        self.certificate.check((self.clock)())?;
        let place = self.place().await?;
        let (client, now) = (&self.application.client, (self.clock)());
        let assertion = assertion(&self.certificate, client, &place.url, &place.algorithms, now)?;
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("scope", &self.scope),
            ("client_assertion_type", BY_JWT),
            ("client_assertion", assertion.expose_secret()),
        ];
        fields.extend(claims.map(|claims| ("claims", claims)));
        let form = SecretString::from(https::form(&fields));
        let (head, body) = self.ask(&place.endpoint, Question::Form(form.expose_secret())).await?;
        let host = &place.endpoint.host;
        if head.status == 200 {
            return issued(&body).ok_or_else(|| {
                let detail = format!("{host} answered with something that is no token");
                fail(Reason::ProfileTokenEndpointUnreachable, detail)
            });
        }
        let failure = refused(host, &head, &body);
        let of_claims = claims.is_some() && failure.reason == Reason::ProfileTokenRefused;
        let reason = if of_claims { Reason::ProfileTokenClaims } else { failure.reason };
        Err(Failure { reason, ..failure })
    }

    async fn place(&self) -> Result<Arc<Place>, Failure> {
        let known = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(place) = known {
            return Ok(place);
        }
        let authority = match &self.application.authority {
            Some(authority) => authority.clone(),
            None => self.named_by_the_server().await?,
        };
        let place = Arc::new(self.discover(&authority).await?);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        Ok(place)
    }

    /// The authority that the server names when somebody wants to prove something by a token and has none.
    async fn named_by_the_server(&self) -> Result<String, Failure> {
        if !self.server.tls {
            let detail = "the server proves nothing about itself, so it cannot name the authority either";
            return Err(fail(Reason::ProfileAuthorityNotFound, detail));
        }
        let question = Question::Challenge(Scheme::Bearer.word());
        let (head, _) = self.question(&self.server, &self.server_trust, question).await?;
        if head.status != 401 {
            return Err(of_leg(&head));
        }
        let challenge = Scheme::Bearer
            .challenge(&head)
            .ok_or_else(|| missing("the server does not offer Bearer authentication", &head))?;
        authority(challenge).ok_or_else(|| {
            let detail = "the server asks for a token and names no authority with an https: address";
            fail(Reason::ProfileAuthorityNotFound, detail)
        })
    }

    /// Asks the authority where its tokens are issued (OpenID Connect Discovery 4). If it does not say, they are where
    /// version 2 of the Microsoft identity platform has them.
    async fn discover(&self, authority: &str) -> Result<Place, Failure> {
        let tenant = &self.application.tenant;
        let authority = authority.trim_end_matches('/');
        let authority = authority.strip_suffix(&format!("/{tenant}")).unwrap_or(authority);
        let url = format!("{authority}/{tenant}/v2.0/.well-known/openid-configuration");
        let (head, body) = self.ask(&https_endpoint(&url)?, Question::Get).await?;
        let told = serde_json::from_slice::<Value>(&body).ok().filter(|_| head.status == 200);
        if told.is_none() && knows_no_tenant(&body) {
            return Err(of_authority(&format!("{authority} does not know the tenant"), &head, &body));
        }
        let told = told.unwrap_or_default();
        let url = told.get("token_endpoint").and_then(Value::as_str).map(str::to_owned);
        let url = url.unwrap_or_else(|| format!("{authority}/{tenant}/oauth2/v2.0/token"));
        let algorithms =
            told.get("token_endpoint_auth_signing_alg_values_supported").and_then(Value::as_array);
        let algorithms = algorithms.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        Ok(Place { endpoint: https_endpoint(&url)?, url, algorithms: algorithms.collect() })
    }

    async fn ask(&self, endpoint: &Endpoint, question: Question<'_>) -> Result<(Head, Vec<u8>), Failure> {
        self.question(endpoint, &self.trust, question).await.map_err(|failure| {
            let detail = format!("{}: {}", endpoint.host, failure.detail);
            fail(Reason::ProfileTokenEndpointUnreachable, detail)
        })
    }

    async fn question(
        &self,
        endpoint: &Endpoint,
        trust: &Arc<ClientConfig>,
        question: Question<'_>,
    ) -> Result<(Head, Vec<u8>), Failure> {
        ask(endpoint, trust, &self.resolver, question, PATIENCE, (self.clock)()).await
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// Tokens for a server are for its host, unless the profile says otherwise.
fn resource_of(server: &Endpoint) -> String {
    let host = Endpoint { port: 443, tls: true, ..server.clone() };
    format!("https://{}", host.authority())
}

/// Nothing is told to an authority that does not prove its name.
fn https_endpoint(url: &str) -> Result<Endpoint, Failure> {
    Endpoint::parse(url, false).map_err(|failure| {
        fail(Reason::ProfileAuthorityNotFound, format!("the authority: {}", failure.detail))
    })
}

/// Reads a token (RFC 6749 5.1); `None`: it is none that can stand in a header.
fn issued(body: &[u8]) -> Option<Issued> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let token = answer.get("access_token")?.as_str()?;
    let fits =
        (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let is_bearer =
        answer.get("token_type").and_then(Value::as_str).is_none_or(|it| it.eq_ignore_ascii_case("bearer"));
    let life = match answer.get("expires_in") {
        None => UNSTATED_LIFE,
        Some(Value::String(seconds)) => Duration::from_secs(seconds.parse().ok()?),
        Some(seconds) => Duration::from_secs(seconds.as_u64()?),
    };
    (fits && is_bearer && !life.is_zero()).then(|| Issued { token: token.into(), life })
}

/// What the authority says of its refusal (RFC 6749 5.2): a word, and a text that the Microsoft identity platform begins
/// with a code of its own.
struct Said {
    error: String,
    code: Option<String>,
    text: String,
}

fn said(body: &[u8]) -> Option<Said> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let error = answer.get("error")?.as_str()?.to_owned();
    let text = answer.get("error_description").and_then(Value::as_str).unwrap_or_default();
    // What follows the first line is for the authority's own operators.
    let text = text.lines().next().unwrap_or_default().trim();
    let code = text.split([':', ' ']).next().filter(|code| code.len() < 20 && code.starts_with("AADSTS"));
    Some(Said { error, code: code.map(str::to_owned), text: text.to_owned() })
}

/// Codes of the Microsoft identity platform for a tenant that it does not know.
fn is_of_tenant(code: &str) -> bool {
    matches!(code, "AADSTS90002" | "AADSTS90013" | "AADSTS900023" | "AADSTS900021" | "AADSTS50059")
}

fn knows_no_tenant(body: &[u8]) -> bool {
    said(body).and_then(|said| said.code).is_some_and(|code| is_of_tenant(&code))
}

fn of_authority(what: &str, head: &Head, body: &[u8]) -> Failure {
    let code = said(body).and_then(|said| said.code).unwrap_or_else(|| format!("HTTP {}", head.status));
    Failure { code: Some(code.into()), ..fail(Reason::ProfileAuthorityNotFound, what) }
}

/// Why the authority issued nothing.
fn refused(host: &str, head: &Head, body: &[u8]) -> Failure {
    let status = head.status;
    let Some(Said { error, code, text }) = said(body).filter(|_| status != 429 && status < 500) else {
        let reason = match status {
            404 | 405 | 410 => Reason::ProfileAuthorityNotFound,
            _ => Reason::ProfileTokenEndpointUnreachable,
        };
        let detail = format!("{host} answered with HTTP status {status} and no token");
        let code = Some(format!("HTTP {status}").into());
        return Failure { code, back_off: head.retry_after, ..fail(reason, detail) };
    };
    let reason = match (error.as_str(), code.as_deref()) {
        ("temporarily_unavailable" | "server_error", _) => Reason::ProfileTokenEndpointUnreachable,
        // The assertion is not within its valid time range.
        (_, Some("AADSTS700024")) => Reason::ProfileClockSkew,
        (_, Some(code)) if is_of_tenant(code) => Reason::ProfileAuthorityNotFound,
        ("invalid_scope" | "invalid_target" | "invalid_resource", _)
        | (_, Some("AADSTS500011" | "AADSTS50001" | "AADSTS70011")) => Reason::ProfileTokenAudience,
        _ => Reason::ProfileTokenRefused,
    };
    let told = [&error, &text].map(|text| shortened(text));
    let told: Vec<&str> = told.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let detail = format!("{host} issued no token: {}", told.join(", "));
    let code = code.unwrap_or_else(|| format!("HTTP {status}"));
    Failure { code: Some(code.into()), ..fail(reason, detail) }
}

/// True if the same request may be answered otherwise in a moment.
pub(super) fn may_pass(failure: &Failure) -> bool {
    failure.reason.nature() == Nature::Transient
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_stand_in_a_header_is_a_token() {
        let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(LONGEST_TOKEN + 1));
        let minutes = |minutes: u64| Some(Duration::from_mins(minutes));
        for (body, expected) in [
            (r#"{"token_type":"Bearer","expires_in":3600,"access_token":"abc"}"#, minutes(60)),
            (r#"{"token_type":"bearer","expires_in":"3600","access_token":"abc"}"#, minutes(60)),
            (r#"{"access_token":"abc"}"#, minutes(10)),
            (r#"{"token_type":"Bearer","expires_in":0,"access_token":"abc"}"#, None),
            (r#"{"token_type":"Bearer","expires_in":-1,"access_token":"abc"}"#, None),
            (r#"{"token_type":"Bearer","expires_in":"soon","access_token":"abc"}"#, None),
            (r#"{"token_type":"mac","expires_in":3600,"access_token":"abc"}"#, None),
            (r#"{"access_token":""}"#, None),
            (r#"{"access_token":"a\r\nb"}"#, None),
            (r#"{"access_token":7}"#, None),
            (r#"["access_token"]"#, None),
            ("<html>", None),
            ("", None),
            (&long, None),
        ] {
            assert_eq!(issued(body.as_bytes()).map(|it| it.life), expected, "{body:.60}");
        }
    }

    #[test]
    fn what_the_authority_says_becomes_a_reason() {
        use Reason::{
            ProfileAuthorityNotFound as NotFound, ProfileClockSkew as Skew, ProfileTokenAudience as Audience,
            ProfileTokenEndpointUnreachable as Unreachable, ProfileTokenRefused as Refused,
        };
        let entra =
            |error: &str, text: &str| format!(r#"{{"error":"{error}","error_description":"{text}"}}"#);
        for (status, body, reason, code) in [
            (
                401,
                entra("invalid_client", "AADSTS700027: no key matches\\r\\nTrace ID: 1"),
                Refused,
                "AADSTS700027",
            ),
            (
                400,
                entra("unauthorized_client", "AADSTS700016: Application was not found"),
                Refused,
                "AADSTS700016",
            ),
            (400, entra("invalid_request", "AADSTS90002: Tenant not found."), NotFound, "AADSTS90002"),
            (400, entra("invalid_resource", "AADSTS500011: no principal"), Audience, "AADSTS500011"),
            (400, entra("invalid_scope", ""), Audience, "HTTP 400"),
            (401, entra("invalid_client", "AADSTS700024: Client assertion"), Skew, "AADSTS700024"),
            (401, r#"{"error":"invalid_client"}"#.to_owned(), Refused, "HTTP 401"),
            (400, entra("temporarily_unavailable", "x"), Unreachable, "HTTP 400"),
            (429, entra("invalid_client", "x"), Unreachable, "HTTP 429"),
            (503, "<html>".to_owned(), Unreachable, "HTTP 503"),
            (404, "<html>".to_owned(), NotFound, "HTTP 404"),
            (302, String::new(), Unreachable, "HTTP 302"),
            (400, "{}".to_owned(), Unreachable, "HTTP 400"),
        ] {
            let head = Head { status, ..Head::default() };
            let failure = refused("login.example", &head, body.as_bytes());
            assert_eq!((failure.reason, failure.code.as_deref()), (reason, Some(code)), "{status} {body}");
            assert!(!failure.detail.contains("Trace"), "{failure}");
        }
    }

    #[test]
    fn tokens_are_for_the_host() {
        for (url, expected) in [
            ("https://mail.example.org/EWS/Exchange.asmx", "https://mail.example.org"),
            ("https://mail.example.org:8443/EWS/Exchange.asmx", "https://mail.example.org"),
            ("https://[::1]:8443/EWS", "https://[::1]"),
        ] {
            assert_eq!(resource_of(&Endpoint::parse(url, false).expect("a URL")), expected);
        }
    }
}
