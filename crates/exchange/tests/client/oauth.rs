//! Tokens: how the client gets them, keeps them, and what it does when one is refused.

use std::{cell::Cell, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_exchange::{
    Authentication, Certificate, Client, Config, OAuth, StepName, StepOutcome, Subject, test_connection,
};
use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    connection::{reads, sent, what, writes},
    scripted::{Act, Server, client, clock, folder_answer, http, ok},
};

const TENANT: &str = "contoso.example";
const KEY: &str = include_str!("../keys/rsa.pkcs8.pem");
const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

thread_local! {
    /// By how much the clock of this test differs.
    static SHIFT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn shifted() -> Timestamp {
    clock() + SHIFT.get()
}

fn pass(time: Duration) {
    SHIFT.set(SHIFT.get() + time);
}

fn certified() -> Certificate {
    let key = KeyPair::from_pem(KEY).expect("a key");
    let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    Certificate::read(&(pem + KEY)).expect("it is good")
}

/// The configuration of an application; the authority is this one, or the one that the server names.
fn config(exchange: &Server, authority: &Server, named: bool) -> Config {
    let certificate = certified();
    let application = OAuth {
        tenant: TENANT.to_owned(),
        client: "the application".to_owned(),
        certificate_pem: certificate.certificate_pem().to_owned(),
        authority: named.then(|| origin(authority)),
        resource: None,
    };
    Config {
        authentication: Authentication::OAuth,
        user: String::new(),
        password: certificate.key_pem().clone(),
        oauth: Some(application),
        ca_pem: Some(format!("{}{}", exchange.ca_pem, authority.ca_pem)),
        clock: shifted,
        ..exchange.config()
    }
}

fn origin(server: &Server) -> String {
    format!("https://127.0.0.1:{}", server.port)
}

fn json(status: u16, body: &str) -> Act {
    Act::AnswerAndClose(http(
        &format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"),
        body.as_bytes(),
    ))
}

/// The authority does not say where its tokens are issued.
fn silent() -> Act {
    Act::AnswerAndClose(http("HTTP/1.1 404 Not Found\r\n", b"<html>"))
}

fn token(name: &str) -> Act {
    json(200, &format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{name}"}}"#))
}

fn folder() -> Act {
    Act::Answer(ok(folder_answer()))
}

fn challenge(parameters: &str, more: &str) -> Act {
    let head = format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer {parameters}\r\n{more}");
    Act::Answer(http(&head, b""))
}

fn expired() -> Act {
    let diagnostics = "x-ms-diagnostics: 2000002;reason=\"Expired.\";error_category=\"token_expired\"\r\n";
    challenge("error=\"invalid_token\"", diagnostics)
}

/// What each request carried.
fn carried(server: &Server) -> Vec<String> {
    let value = |request: &String| {
        let line = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
        line.unwrap_or("nothing").to_owned()
    };
    server.requests().iter().map(value).collect()
}

/// The first line and the body of a request.
fn asked(request: &str) -> (&str, &str) {
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default(), body)
}

/// Waits for a condition, half a minute at the most.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

async fn pair(exchange: Vec<Act>, authority: Vec<Act>) -> (Server, Server, Client) {
    let (exchange, authority) = (Server::start(exchange).await, Server::start(authority).await);
    let client = client(config(&exchange, &authority, true));
    (exchange, authority, client)
}

#[tokio::test]
async fn one_token_serves_every_request() {
    let (exchange, authority, client) =
        pair(vec![folder(), Act::Answer(sent()), folder()], vec![silent(), token("one")]).await;
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(carried(&exchange), ["Bearer one"; 3]);
    assert_eq!(exchange.connections(), 1);
    let requests = authority.requests();
    assert_eq!(asked(&requests[0]).0, "GET /contoso.example/v2.0/.well-known/openid-configuration HTTP/1.1");
    let (line, form) = asked(&requests[1]);
    assert_eq!(line, "POST /contoso.example/oauth2/v2.0/token HTTP/1.1");
    let (form, assertion) = form.rsplit_once("&client_assertion=").expect("it stands last");
    assert_eq!(
        form,
        "grant_type=client_credentials&client_id=the%20application&scope=https%3A%2F%2F127.0.0.1%2F.default\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    );
    assert_eq!(assertion.split('.').count(), 3);
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn the_authority_is_found_where_the_server_and_the_authority_say() {
    let authority = Server::start([]).await;
    let offer = format!(
        "client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"1@*\", \
         authorization_uri=\"{}/common/oauth2/authorize\", error=\"invalid_token\"",
        origin(&authority)
    );
    let exchange = Server::start([challenge(&offer, ""), folder()]).await;
    let endpoint = format!("{}/somewhere/else?a=b", origin(&authority));
    authority.will([json(200, &format!(r#"{{"token_endpoint":"{endpoint}"}}"#)), token("one")]);
    let client = client(config(&exchange, &authority, false));
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(carried(&exchange), ["Bearer", "Bearer one"]);
    assert!(exchange.requests()[0].contains("\r\nContent-Length: 0\r\n"));
    assert_eq!(asked(&authority.requests()[1]).0, "POST /somewhere/else?a=b HTTP/1.1");
}

#[tokio::test]
async fn a_server_that_names_no_authority_has_its_reason() {
    use Reason::{ProfileAuthSchemeMissing as Missing, ProfileAuthorityNotFound as NotFound};
    let busy = || Act::Answer(http("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\n", b"busy"));
    for (act, reason) in [
        (challenge("realm=\"x\"", ""), NotFound),
        (challenge("authorization_uri=\"http://127.0.0.1/common\"", ""), NotFound),
        (Act::Answer(http("HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\n", b"")), Missing),
        (folder(), Missing),
        (busy(), Reason::ExchangeServerBusy),
        (Act::Close, Reason::ProfileConnectionLost),
    ] {
        let (exchange, authority) = (Server::start([act]).await, Server::start([]).await);
        let client = client(config(&exchange, &authority, false));
        assert_eq!(what(writes(&client).await), Err((reason, Execution::Not)));
        assert!(authority.requests().is_empty() && exchange.requests().len() == 1, "{reason}");
    }
}

#[tokio::test]
async fn fifty_requests_ask_for_one_token() {
    let (exchange, authority, client) =
        pair((0..50).map(|_| folder()).collect(), vec![silent(), token("one"), token("two")]).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        all.spawn(async move { what(reads(&client).await) });
    }
    assert!(all.join_all().await.into_iter().all(|one| one == Ok(())));
    assert_eq!(carried(&exchange), vec!["Bearer one"; 50]);
    assert_eq!(authority.requests().len(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_early_beside_the_requests() {
    let (exchange, authority, client) =
        pair((0..4).map(|_| folder()).collect(), vec![silent(), token("one"), token("two")]).await;
    assert_eq!(what(reads(&client).await), Ok(()));
    pass(Duration::from_mins(54));
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(authority.requests().len(), 2);
    pass(Duration::from_mins(1));
    assert_eq!(what(reads(&client).await), Ok(()));
    until_carried(&client, &exchange, "Bearer two").await;
    assert_eq!(carried(&exchange)[..3], ["Bearer one"; 3]);
    assert_eq!(authority.requests().len(), 3, "where tokens are issued is known");
}

/// Reads until the token that is asked for beside it has come.
async fn until_carried(client: &Client, exchange: &Server, expected: &str) {
    until(expected, async || {
        exchange.will([folder()]);
        assert_eq!(what(reads(client).await), Ok(()));
        carried(exchange).last().is_some_and(|last| last == expected)
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_is_away_while_a_token_is_good_disturbs_nobody() {
    let (exchange, authority, client) =
        pair((0..9).map(|_| folder()).collect(), vec![silent(), token("one"), Act::Close]).await;
    assert_eq!(what(reads(&client).await), Ok(()));
    pass(Duration::from_mins(56));
    for _ in 0..8 {
        assert_eq!(what(reads(&client).await), Ok(()));
    }
    until("the authority was asked", async || authority.finished()).await;
    assert_eq!(carried(&exchange), vec!["Bearer one"; 9]);
    pass(Duration::from_mins(5));
    authority.will([silent(), token("two")]);
    until_carried(&client, &exchange, "Bearer two").await;
}

#[tokio::test]
async fn a_token_that_the_server_finds_expired_is_renewed_and_nothing_is_executed_twice() {
    let (exchange, authority, client) = pair(
        vec![folder(), expired(), Act::Answer(sent()), folder()],
        vec![silent(), token("one"), token("two")],
    )
    .await;
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(carried(&exchange), ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]);
    assert_eq!(authority.requests().len(), 3);

    // Again at once: the request fails, and the authority is left alone for a while.
    exchange.will([expired(), expired()]);
    authority.will([token("three")]);
    let refused = Err((Reason::ProfileTokenNotAccepted, Execution::Not));
    assert_eq!(what(writes(&client).await), refused);
    assert_eq!(what(writes(&client).await), refused);
    assert_eq!((exchange.requests().len(), authority.requests().len()), (6, 4));
    pass(Duration::from_secs(30));
    exchange.will([folder()]);
    authority.will([token("four")]);
    assert_eq!(what(reads(&client).await), Ok(()));
}

#[tokio::test]
async fn many_who_learn_that_the_token_expired_ask_for_one() {
    let exchange = [folder()].into_iter().chain((0..10).map(|_| expired())).chain((0..10).map(|_| folder()));
    let (exchange, authority, client) =
        pair(exchange.collect(), vec![silent(), token("one"), token("two")]).await;
    assert_eq!(what(reads(&client).await), Ok(()));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        all.spawn(async move { what(reads(&client).await) });
    }
    all.join_all().await;
    assert_eq!(authority.requests().len(), 3);
    assert!(carried(&exchange).contains(&"Bearer two".to_owned()));
}

#[tokio::test]
async fn claims_that_the_server_asks_for_are_asked_for_once() {
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    let wanted = || {
        let data = format!("error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(claims));
        challenge(&data, "")
    };
    let (exchange, authority, client) = pair(
        vec![wanted(), Act::Answer(sent()), wanted(), wanted()],
        vec![silent(), token("one"), token("two"), token("three")],
    )
    .await;
    assert_eq!(what(writes(&client).await), Ok(()));
    let encoded = "&claims=%7B%22access_token%22%3A%7B%22nbf%22%3A%7B%22essential%22%3Atrue%2C%22value%22%3A%221%22%7D%7D%7D";
    assert!(!authority.requests()[1].contains("&claims="));
    assert!(authority.requests()[2].ends_with(encoded), "{}", authority.requests()[2]);
    let refused = Err((Reason::ProfileTokenClaims, Execution::Not));
    assert_eq!(what(writes(&client).await), refused);
    assert_eq!(carried(&exchange), ["Bearer one", "Bearer two", "Bearer two", "Bearer three"]);

    // The authority does not grant them.
    let refusal =
        json(400, r#"{"error":"interaction_required","error_description":"AADSTS53003: Blocked."}"#);
    let (_exchange, _authority, client) = pair(vec![wanted()], vec![silent(), token("one"), refusal]).await;
    let failure = reads(&client).await.expect_err("it is refused");
    assert_eq!(failure.reason, Reason::ProfileTokenClaims);
    assert_eq!(failure.code.as_deref(), Some("AADSTS53003"));
}

#[tokio::test]
async fn a_refused_token_has_its_reason_and_is_not_tried_on_and_on() {
    use Reason::{
        ExchangeUnavailable, ProfileAuthSchemeMissing as Missing, ProfileTokenAudience as Audience,
        ProfileTokenClaims as Claims, ProfileTokenNotAccepted as NotAccepted,
    };
    let invalid = "error=\"invalid_token\"";
    let coded = |code: &str| challenge(invalid, &format!("x-ms-diagnostics: {code}\r\n"));
    for (act, reason) in [
        (coded("2000003;reason=\"x\";error_category=\"invalid_resource\""), Audience),
        (coded("2000004;reason=\"x\";error_category=\"invalid_tenant\""), NotAccepted),
        (coded("2000007;reason=\"x\";error_category=\"internal_error\""), ExchangeUnavailable),
        (coded("2000008;reason=\"x\";error_category=\"invalid_grant\""), Claims),
        // It answers by a clock of some years ago.
        (
            coded(
                "2000004;reason=\"x\";error_category=\"invalid_grant\"\r\nDate: Sun, 01 Mar 2020 12:00:00 GMT",
            ),
            Reason::ProfileClockSkew,
        ),
        (
            coded(
                "2000003;reason=\"x\";error_category=\"invalid_resource\"\r\nDate: Sun, 01 Mar 2020 12:00:00 GMT",
            ),
            Audience,
        ),
        (challenge("error=\"insufficient_claims\", claims=\"!\"", ""), Claims),
        (Act::Answer(http("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n", b"")), Missing),
        (Act::Answer(http("HTTP/1.1 403 No\r\n", b"")), Reason::ProfileForbidden),
    ] {
        let (exchange, authority, client) = pair(vec![act], vec![silent(), token("one")]).await;
        let failure = writes(&client).await.expect_err("it cannot work");
        assert_eq!((failure.reason, failure.execution), (reason, Execution::Not), "{failure}");
        assert_eq!((exchange.requests().len(), authority.requests().len()), (1, 2), "{failure}");
        assert!(!failure.detail.contains("one"), "{failure}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_authority_has_its_reason_and_it_is_not_hammered() {
    use Reason::{
        ProfileAuthorityNotFound as NotFound, ProfileTokenAudience as Audience,
        ProfileTokenEndpointUnreachable as Unreachable, ProfileTokenRefused as Refused,
    };
    let said = |error: &str, text: &str| {
        json(400, &format!(r#"{{"error":"{error}","error_description":"{text}"}}"#))
    };
    let page = || Act::AnswerAndClose(http("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", b"<html>"));
    let large = || Act::AnswerAndClose(http(JSON, " ".repeat(70_000).as_bytes()));
    let busy = || Act::AnswerAndClose(http("HTTP/1.1 429 Busy\r\nRetry-After: 20\r\n", b""));
    let tenant = said("invalid_tenant", "AADSTS90002: Tenant not found.");
    for (acts, reason, wait) in [
        (vec![silent(), said("invalid_client", "AADSTS700027: no such key")], Refused, 30),
        (vec![silent(), said("invalid_resource", "AADSTS500011: nobody")], Audience, 30),
        (vec![tenant], NotFound, 30),
        (vec![silent(), silent()], NotFound, 30),
        (vec![silent(), page()], Unreachable, 1),
        (vec![page(), page()], Unreachable, 1),
        (vec![silent(), large()], Unreachable, 1),
        (vec![large()], Unreachable, 1),
        (vec![silent(), Act::Close], Unreachable, 1),
        (vec![silent(), busy()], Unreachable, 20),
        (vec![json(200, r#"{"token_endpoint":"http://127.0.0.1/token"}"#)], NotFound, 30),
    ] {
        let count = acts.len();
        let (exchange, authority, client) = pair(vec![folder()], acts).await;
        let failure = writes(&client).await.expect_err("it cannot work");
        assert_eq!((failure.reason, failure.execution), (reason, Execution::Not), "{failure}");
        assert_eq!(authority.requests().len(), count, "{failure}");
        assert_eq!(failure.back_off, None, "it is no wish of the Exchange server");
        let told = format!("{failure:?}");
        assert!(!told.contains("eyJ") && !told.contains("assertion"), "{told}");
        // Whoever comes now is told the same.
        let again = reads(&client).await.expect_err("it is told the same");
        assert_eq!((again, authority.requests().len()), (failure, count));
        pass(Duration::from_secs(wait - 1));
        assert!(wait == 1 || reads(&client).await.is_err(), "it is too early");
        pass(Duration::from_secs(1));
        authority.will([silent(), token("one")]);
        assert_eq!(what(reads(&client).await), Ok(()));
        assert_eq!(carried(&exchange), ["Bearer one"]);
    }
}

#[tokio::test]
async fn an_authority_must_prove_its_name_and_be_there() {
    let unreachable = Err((Reason::ProfileTokenEndpointUnreachable, Execution::Not));
    let (exchange, authority) = (Server::start([]).await, Server::start([]).await);
    let config = config(&exchange, &authority, true);
    let untrusting = Config { ca_pem: Some(exchange.ca_pem.clone()), ..config.clone() };
    assert_eq!(what(writes(&client(untrusting)).await), unreachable);
    assert!(authority.requests().is_empty(), "nothing was told to it");
    let port = authority.port;
    drop(authority);
    let closed = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err();
    until("the authority is gone", closed).await;
    assert_eq!(what(writes(&client(config)).await), unreachable);
    assert!(exchange.requests().is_empty());
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_shown_to_anybody() {
    let (exchange, authority, client) = pair(vec![], vec![]).await;
    pass(Duration::from_hours(24 * 366 * 80));
    assert_eq!(what(reads(&client).await), Err((Reason::ProfileCertificateExpired, Execution::Not)));
    assert!(exchange.requests().is_empty() && authority.requests().is_empty());
}

#[tokio::test]
async fn a_test_names_what_is_wrong_with_the_token() {
    let refusal = json(401, r#"{"error":"invalid_client","error_description":"AADSTS700027: no such key"}"#);
    let offer = challenge("authorization_uri=\"https://login.example/\"", "");
    let (_exchange, _authority, client) = pair(vec![offer], vec![silent(), refusal]).await;
    let mut steps = Vec::new();
    let subject = Subject { mailbox: Some("anna@example.org"), user: "", impersonates: true };
    test_connection(&client, subject, |step| steps.push(step)).await;
    let step = steps.iter().find(|step| step.name == StepName::Authenticate).expect("it is there");
    assert_eq!((step.outcome, step.reason), (StepOutcome::Failure, Some(Reason::ProfileTokenRefused)));
    assert_eq!(
        step.evidence,
        "127.0.0.1 issued no token: invalid_client, AADSTS700027: no such key (AADSTS700027)"
    );
}
