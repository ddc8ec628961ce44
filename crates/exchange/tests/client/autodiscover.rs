//! What a search for a mailbox finds, whom it asks in which order, and whom it shows a password.

use std::{sync::Arc, time::Duration};

use mailyard_exchange::{
    Authentication, Autodiscover, Resolver,
    autodiscover::{Config, Discovered, Discovery, Method, Outcome},
};
use mailyard_policy::{Reason, profile::CredentialSource};

use crate::scripted::{Act, GENUINE, Identity, OK, Server, clock, http, ok};

const ROOT: &str = "example.org";
const BENEATH: &str = "autodiscover.example.org";
const EWS: &str = "https://mail.example.org/EWS/Exchange.asmx";

/// The places that the domain promises; each of them is there or not.
#[derive(Default)]
struct World {
    servers: Vec<(String, Server)>,
    more: Vec<String>,
}

impl World {
    /// A host of this name over TLS.
    async fn host(mut self, name: &'static str, script: impl IntoIterator<Item = Act>) -> Self {
        let server = Server::start_as(Identity { name, ..GENUINE }, script).await;
        self.servers.push((format!("{name}:443"), server));
        self
    }

    /// A host of this name at its port 80.
    async fn plain(mut self, name: &str, script: impl IntoIterator<Item = Act>) -> Self {
        self.servers.push((format!("{name}:80"), Server::start_plain(script).await));
        self
    }

    fn name(mut self, answer: &str) -> Self {
        self.more.push(answer.to_owned());
        self
    }

    fn config(&self) -> Config {
        let mut names = self.more.clone();
        let there = |(name, server): &(String, Server)| format!("{name}=127.0.0.1:{}", server.port);
        names.extend(self.servers.iter().map(there));
        for name in ["example.org:443", "autodiscover.example.org:443", "autodiscover.example.org:80"]
            .into_iter()
            .chain(["_autodiscover._tcp.example.org"])
        {
            if !names.iter().any(|known| known.starts_with(&format!("{name}="))) {
                names.push(format!("{name}=none"));
            }
        }
        let authorities: String = self.servers.iter().map(|(_, server)| server.ca_pem.as_str()).collect();
        // Somebody is always trusted.
        let authorities = if authorities.is_empty() { authority() } else { authorities };
        Config {
            credential_source: CredentialSource::Profile,
            authentication: Authentication::Basic,
            user: "EXAMPLE\\svc".to_owned(),
            password: "geheim".into(),
            ca_pem: Some(authorities),
            resolver: Resolver::new(names.join(",").parse().expect("names")),
            domains: "allowed.example".parse().expect("domains"),
            connect_timeout: Duration::from_secs(5),
            place_deadline: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            clock,
        }
    }

    fn client(&self) -> Autodiscover {
        client(self.config())
    }

    async fn search(&self) -> Arc<Discovery> {
        self.client().discover("anna@example.org").await
    }

    /// What a host received: method, path, and whether it was shown the password.
    fn received(&self, name: &str) -> Vec<String> {
        let (_, server) = self.servers.iter().find(|(known, _)| known == name).expect("a server");
        let line = |request: &String| {
            let line = request.lines().next().unwrap_or_default();
            let line = line.replace(" HTTP/1.1", "").replace("/autodiscover/autodiscover", "");
            let signed = if request.contains("\r\nAuthorization: ") { " signed" } else { "" };
            format!("{line}{signed}")
        };
        server.requests().iter().map(line).collect()
    }
}

fn authority() -> String {
    let (_, _, pem) = crate::scripted::certificate(&GENUINE, &rcgen::PKCS_ECDSA_P256_SHA256);
    pem
}

fn client(config: Config) -> Autodiscover {
    Autodiscover::new(config).expect("the configuration is good")
}

fn status(line: &str) -> Act {
    Act::Answer(http(&format!("HTTP/1.1 {line}\r\n"), b""))
}

fn led(location: &str) -> Act {
    status(&format!("302 Found\r\nLocation: {location}"))
}

fn nothing() -> Act {
    status("404 Not Found")
}

fn who() -> Act {
    status("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"")
}

fn json(url: &str) -> Act {
    Act::Answer(ok(format!(r#"{{"Protocol":"Ews","Url":"{url}"}}"#)))
}

fn message(user: &str) -> String {
    format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetUserSettingsResponseMessage xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover"><Response><ErrorCode>NoError</ErrorCode><UserResponses><UserResponse>{user}</UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"#
    )
}

fn soap_urls(external: &str, internal: &str) -> Act {
    let setting = |name: &str, value: &str| {
        format!("<UserSetting><Name>{name}</Name><Value>{value}</Value></UserSetting>")
    };
    let settings = setting("ExternalEwsUrl", external)
        + &setting("InternalEwsUrl", internal)
        + &setting("GroupingInformation", "Site")
        + &setting("CasVersion", "15.02.1544.004");
    Act::Answer(ok(message(&format!(
        "<ErrorCode>NoError</ErrorCode><UserSettings>{settings}</UserSettings>"
    ))))
}

fn soap(url: &str) -> Act {
    soap_urls(url, "https://internal.example.org/EWS/Exchange.asmx")
}

fn soap_code(code: &str, target: &str) -> Act {
    Act::Answer(ok(message(&format!(
        "<ErrorCode>{code}</ErrorCode><RedirectTarget>{target}</RedirectTarget>"
    ))))
}

fn pox(account: &str) -> Act {
    Act::Answer(ok(format!(
        r#"<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account>{account}</Account></Response></Autodiscover>"#
    )))
}

fn pox_settings() -> Act {
    pox(&format!("<Action>settings</Action><Protocol><Type>EXPR</Type><EwsUrl>{EWS}</EwsUrl></Protocol>"))
}

fn found(discovery: &Discovery) -> Result<(&str, Method), Reason> {
    let found = discovery.result.as_ref().map_err(|failure| failure.reason)?;
    Ok((&found.ews_url, found.by))
}

/// How the attempts went: method, outcome, reason.
fn told(discovery: &Discovery) -> Vec<String> {
    let line = |attempt: &mailyard_exchange::autodiscover::Attempt| {
        let host = attempt.url.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        let reason = attempt.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        format!("{} {host} {}{reason}", attempt.method, attempt.outcome)
    };
    discovery.attempts.iter().map(line).collect()
}

#[tokio::test]
async fn the_json_form_is_asked_first_and_without_a_password() {
    let world = World::default().host(ROOT, [json(EWS)]).await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Ok((EWS, Method::Json)), "{discovery:?}");
    assert_eq!(world.received("example.org:443"), ["GET .json/v1.0/anna@example.org?Protocol=Ews"]);
    let attempt = &discovery.attempts[0];
    assert_eq!(
        (attempt.outcome, &*attempt.url),
        (Outcome::Found, "https://example.org/autodiscover/autodiscover.json")
    );
}

#[tokio::test]
async fn places_are_asked_in_their_order_and_a_password_is_shown_only_to_who_asks_for_one() {
    let world = World::default()
        .host(ROOT, [nothing(), nothing(), Act::Answer(ok("<html>hello</html>"))])
        .await
        .host(BENEATH, [nothing(), who(), soap(EWS)])
        .await;
    let discovery = world.search().await;
    let expected = Discovered {
        ews_url: EWS.to_owned(),
        address: "anna@example.org".to_owned(),
        grouping: Some("Site".to_owned()),
        version: discovery.result.as_ref().ok().and_then(|found| found.version),
        by: Method::Soap,
    };
    assert_eq!(discovery.result, Ok(expected));
    let version = discovery.result.as_ref().ok().and_then(|found| found.version);
    assert_eq!(version.map(|version| version.to_string()).as_deref(), Some("15.2.1544.4"));
    assert_eq!(
        told(&discovery),
        [
            "json example.org failed PROFILE_URL_WRONG",
            "soap example.org failed PROFILE_URL_WRONG",
            "pox example.org failed PROFILE_URL_WRONG",
            "json autodiscover.example.org failed PROFILE_URL_WRONG",
            "soap autodiscover.example.org found",
        ]
    );
    let json = "GET .json/v1.0/anna@example.org?Protocol=Ews";
    assert_eq!(world.received("example.org:443"), [json, "POST .svc", "POST .xml"]);
    assert_eq!(world.received("autodiscover.example.org:443"), [json, "POST .svc", "POST .svc signed"]);
}

#[tokio::test]
async fn plain_xml_is_asked_where_soap_is_not_there() {
    let world = World::default().host(ROOT, [nothing(), nothing(), who(), pox_settings()]).await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Ok((EWS, Method::Pox)), "{discovery:?}");
    let last = world.received("example.org:443").pop();
    assert_eq!(last.as_deref(), Some("POST .xml signed"));
}

#[tokio::test]
async fn a_redirect_over_plain_http_leads_on_and_is_shown_no_password() {
    let world = World::default()
        .plain(BENEATH, [led("https://mail.example.org/autodiscover/autodiscover.xml")])
        .await
        .host("mail.example.org", [nothing(), who(), soap(EWS)])
        .await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Ok((EWS, Method::Soap)), "{discovery:?}");
    assert_eq!(world.received("autodiscover.example.org:80"), ["GET .xml"]);
    assert_eq!(
        told(&discovery)[..3],
        [
            "json example.org failed MAILBOX_LOCATION_UNKNOWN",
            "json autodiscover.example.org failed MAILBOX_LOCATION_UNKNOWN",
            "redirect autodiscover.example.org led",
        ]
    );
}

#[tokio::test]
async fn a_service_of_the_dns_is_asked_last() {
    let world = World::default()
        .name("_autodiscover._tcp.example.org=srv:mail.example.org:443")
        .host("mail.example.org", [json(EWS)])
        .await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Ok((EWS, Method::Json)), "{discovery:?}");
    assert!(told(&discovery).contains(&"srv _autodiscover._tcp.example.org led".to_owned()));
    let world = World::default().name("_autodiscover._tcp.example.org=srv:mail.evil.example:443");
    assert_eq!(found(&*world.search().await), Err(Reason::AutodiscoverRedirectForeign));
}

#[tokio::test]
async fn redirects_of_every_form_are_followed() {
    let svc = "https://mail.example.org/autodiscover/autodiscover.svc";
    let xml = "https://mail.example.org/autodiscover/other.xml";
    let url = format!("<Action>redirectUrl</Action><RedirectUrl>{xml}</RedirectUrl>");
    for (script, last) in [
        (vec![led(svc)], "POST .svc signed"),
        (vec![nothing(), led(svc)], "POST .svc signed"),
        (vec![nothing(), who(), led(svc)], "POST .svc signed"),
        (vec![nothing(), who(), soap_code("RedirectUrl", svc)], "POST .svc signed"),
        (vec![nothing(), nothing(), who(), pox(&url)], "POST /autodiscover/other.xml signed"),
    ] {
        let at_last = if last.contains("other") { vec![nothing(), nothing()] } else { vec![nothing()] };
        let answer = if last.contains("other") { pox_settings() } else { soap(EWS) };
        let mail = at_last.into_iter().chain([who(), answer]);
        let world = World::default().host(ROOT, script).await.host("mail.example.org", mail).await;
        let discovery = world.search().await;
        assert_eq!(found(&discovery).map(|(url, _)| url), Ok(EWS), "{discovery:?}");
        assert_eq!(world.received("mail.example.org:443").pop().as_deref(), Some(last));
    }
}

#[tokio::test]
async fn another_address_begins_anew() {
    let other = soap_code("RedirectAddress", "anna.b@allowed.example");
    let world = World::default()
        .host(ROOT, [nothing(), who(), other])
        .await
        .host("allowed.example", [json("https://mail.allowed.example/EWS/Exchange.asmx")])
        .await;
    let discovery = world.search().await;
    let result = discovery.result.as_ref().expect("it is found");
    assert_eq!(result.address, "anna.b@allowed.example");
    assert_eq!(result.ews_url, "https://mail.allowed.example/EWS/Exchange.asmx");
    assert!(!format!("{:?}", discovery.attempts).contains("anna"), "{discovery:?}");

    let pox_address =
        pox("<Action>redirectAddr</Action><RedirectAddr>anna@tenant.evil.example</RedirectAddr>");
    let world = World::default().host(ROOT, [nothing(), nothing(), who(), pox_address]).await;
    assert_eq!(found(&*world.search().await), Err(Reason::AutodiscoverRedirectForeign));
    let own = soap_code("RedirectAddress", "ANNA@example.org");
    let world = World::default().host(ROOT, [nothing(), who(), own, nothing()]).await;
    assert_eq!(found(&*world.search().await), Err(Reason::AutodiscoverRedirectLoop));
}

#[tokio::test]
async fn circles_end() {
    let (here, there) = (
        "https://example.org/autodiscover/autodiscover.svc",
        "https://mail.example.org/autodiscover/autodiscover.svc",
    );
    let world = World::default()
        .host(ROOT, [nothing(), led(there), nothing()])
        .await
        .host("mail.example.org", [nothing(), led(here), nothing()])
        .await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Err(Reason::AutodiscoverRedirectLoop), "{discovery:?}");
    assert_eq!(world.received("example.org:443").len(), 3, "nobody is asked twice");

    // Ever new places of the same host.
    let far = |number: usize| led(&format!("/autodiscover/{number}/autodiscover.xml"));
    let script = [nothing(), nothing()].into_iter().chain((0..50).map(far));
    let world = World::default().host(ROOT, script).await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Err(Reason::AutodiscoverRedirectLoop), "{discovery:?}");
    assert_eq!(world.received("example.org:443").len(), 2 + 1 + 10);
}

#[tokio::test]
async fn a_password_goes_neither_to_strangers_nor_without_tls() {
    let foreign = "https://mail.evil.example/autodiscover/autodiscover.xml";
    let insecure = "http://mail.example.org/autodiscover/autodiscover.xml";
    for (location, reason) in
        [(foreign, Reason::AutodiscoverRedirectForeign), (insecure, Reason::AutodiscoverRedirectInsecure)]
    {
        let stranger = || led(location);
        let worlds = [
            World::default().plain(BENEATH, [stranger()]).await,
            World::default().host(ROOT, [stranger(), nothing(), nothing()]).await,
            World::default()
                .host(ROOT, [nothing(), who(), soap_code("RedirectUrl", location), nothing()])
                .await,
        ];
        for world in worlds {
            let world = world
                .host("mail.evil.example", [json(EWS)])
                .await
                .plain("mail.example.org", [who(), soap(EWS)])
                .await;
            let discovery = world.search().await;
            assert_eq!(found(&discovery), Err(reason), "{discovery:?}");
            assert!(world.received("mail.evil.example:443").is_empty());
            assert!(world.received("mail.example.org:80").is_empty());
        }
    }
    // What is found is shown the password later: the first that may be is taken.
    let inside = "https://internal.example.org/EWS/Exchange.asmx";
    let outside = "https://mail.evil.example/EWS/Exchange.asmx";
    let world = World::default().host(ROOT, [nothing(), who(), soap_urls(outside, inside)]).await;
    assert_eq!(found(&*world.search().await), Ok((inside, Method::Soap)));
    let world = World::default()
        .host(ROOT, [json("http://mail.example.org/EWS/Exchange.asmx"), nothing(), nothing()])
        .await;
    assert_eq!(found(&*world.search().await), Err(Reason::AutodiscoverRedirectInsecure));
}

#[tokio::test]
async fn a_certificate_must_be_the_hosts() {
    let world = World::default().host("other.example.org", [json(EWS)]).await;
    let port = world.servers[0].1.port;
    let world = world.name(&format!("autodiscover.example.org:443=127.0.0.1:{port}"));
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Err(Reason::ProfileTlsNameMismatch), "{discovery:?}");
    assert!(world.received("other.example.org:443").is_empty());
    let asked = told(&discovery).iter().filter(|line| line.contains("autodiscover.example.org")).count();
    assert_eq!(asked, 2, "over TLS it is asked once: {discovery:?}");
}

#[tokio::test]
async fn a_refused_password_is_shown_to_nobody_twice() {
    let refusing = || [nothing(), who(), who(), who(), nothing(), who(), who(), nothing(), who(), who()];
    let world = World::default().host(ROOT, refusing()).await.host(BENEATH, refusing()).await;
    let client = world.client();
    let discovery = client.discover("anna@example.org").await;
    assert_eq!(found(&discovery), Err(Reason::ProfileAuthRejected), "{discovery:?}");
    let shown = |world: &World| {
        let hosts = ["example.org:443", "autodiscover.example.org:443"];
        hosts.map(|host| world.received(host).iter().filter(|line| line.ends_with("signed")).count())
    };
    assert_eq!(shown(&world), [1, 1]);
    // A mailbox's own password is its own fault; whom it is shown follows the same rule.
    let own = World::default().host(ROOT, refusing()).await.host(BENEATH, refusing()).await;
    let config = Config { credential_source: CredentialSource::Mailbox, ..own.config() };
    let client_of_mailbox = super::autodiscover::client(config);
    for _ in 0..2 {
        let discovery = client_of_mailbox.discover("anna@example.org").await;
        assert_eq!(found(&discovery), Err(Reason::MailboxAuthRejected), "{discovery:?}");
        assert_eq!(shown(&own), [1, 1]);
    }
    // For another mailbox it is the same password.
    let discovery = client.discover("bert@example.org").await;
    assert_eq!(found(&discovery), Err(Reason::ProfileAuthRejected), "{discovery:?}");
    assert_eq!(shown(&world), [1, 1]);

    // One refusal does not prove that it is wrong.
    let world =
        World::default().host(ROOT, refusing()).await.host(BENEATH, [nothing(), who(), soap(EWS)]).await;
    let discovery = world.search().await;
    assert_eq!(found(&discovery), Ok((EWS, Method::Soap)), "{discovery:?}");
}

#[tokio::test]
async fn many_mailboxes_at_once_show_a_wrong_password_once() {
    let script = (0..200).map(|_| who());
    let world = World::default().host(BENEATH, script).await;
    let client = world.client();
    let addresses: Vec<String> = (0..10).map(|number| format!("user{number}@example.org")).collect();
    let searches: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let client = client.clone();
            tokio::spawn(async move { client.discover(&address).await })
        })
        .collect();
    for search in searches {
        let discovery = search.await.expect("it ends");
        assert_eq!(found(&discovery), Err(Reason::ProfileAuthRejected), "{discovery:?}");
    }
    let received = world.received("autodiscover.example.org:443");
    assert_eq!(received.iter().filter(|line| line.ends_with("signed")).count(), 1, "{received:?}");
}

#[tokio::test]
async fn who_asks_for_the_same_mailbox_shares_the_search() {
    let world = World::default().host(ROOT, [json(EWS), json(EWS)]).await;
    let client = world.client();
    let (one, other) = tokio::join!(client.discover("anna@example.org"), client.discover("Anna@Example.org"));
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(world.received("example.org:443").len(), 1);
    drop((one, other));
    assert_eq!(found(&*client.discover("anna@example.org").await), Ok((EWS, Method::Json)));
    assert_eq!(world.received("example.org:443").len(), 2, "what is done is not kept");
}

#[tokio::test]
async fn every_scheme_of_a_profile_is_the_same_here() {
    let world = World::default().host(ROOT, [nothing(), who(), soap(EWS)]).await;
    let auto = client(Config { authentication: Authentication::Auto, ..world.config() });
    assert_eq!(found(&*auto.discover("anna@example.org").await), Ok((EWS, Method::Soap)));
    let world = World::default().host(ROOT, [nothing(), who(), who(), nothing()]).await;
    let ntlm = client(Config { authentication: Authentication::Ntlm, ..world.config() });
    let discovery = ntlm.discover("anna@example.org").await;
    assert_eq!(found(&discovery), Err(Reason::ProfileAuthSchemeMissing), "{discovery:?}");
    assert!(!world.received("example.org:443").iter().any(|line| line.ends_with("signed")));
    let by_token = Autodiscover::new(Config { authentication: Authentication::OAuth, ..world.config() });
    assert_eq!(by_token.err().map(|failure| failure.reason), Some(Reason::AutodiscoverWithOauth));
}

#[tokio::test]
async fn what_autodiscover_says_itself_ends_the_search() {
    for (code, reason) in
        [("InvalidUser", Reason::MailboxNotFoundOnServer), ("ServerBusy", Reason::ExchangeServerBusy)]
    {
        let world = World::default()
            .host(ROOT, [nothing(), who(), soap_code(code, "")])
            .await
            .host(BENEATH, [json(EWS)])
            .await;
        assert_eq!(found(&*world.search().await), Err(reason));
        assert!(world.received("autodiscover.example.org:443").is_empty());
    }
}

#[tokio::test]
async fn what_may_pass_is_told_apart_from_what_is_not_there() {
    let unknown = World::default().search().await;
    assert_eq!(found(&unknown), Err(Reason::MailboxLocationUnknown));
    assert_eq!(unknown.attempts.len(), 4, "{unknown:?}");
    let detail = unknown.result.as_ref().map_err(|failure| failure.detail.to_string());
    let expected =
        "https://autodiscover.example.org/autodiscover/autodiscover.json (MAILBOX_LOCATION_UNKNOWN)";
    assert!(
        detail.as_ref().is_err_and(|detail| detail.contains(expected) && !detail.contains('@')),
        "{detail:?}"
    );

    let world = World::default().host(BENEATH, [nothing(), status("503 Busy"), nothing()]).await;
    assert_eq!(found(&*world.search().await), Err(Reason::ExchangeUnavailable));

    let world = World::default().host(ROOT, [Act::Hang]).await;
    let hasty = Config { place_deadline: Duration::from_millis(300), ..world.config() };
    let discovery = client(hasty).discover("anna@example.org").await;
    assert_eq!(found(&discovery), Err(Reason::ProfileDeadlineExceeded), "{discovery:?}");
    assert_eq!(world.received("example.org:443").len(), 1, "it is not asked again in another form");

    let world = World::default().host(ROOT, [Act::Hang]).await.host(BENEATH, [json(EWS)]).await;
    let hasty = Config { deadline: Duration::from_millis(300), ..world.config() };
    let discovery = client(hasty).discover("anna@example.org").await;
    assert_eq!(found(&discovery), Err(Reason::ProfileDeadlineExceeded), "{discovery:?}");
    assert!(world.received("autodiscover.example.org:443").is_empty(), "the search is over");

    for address in ["anna", "anna@", "anna@exa mple.org", "an na@example.org", "a\r\nX: y@example.org", ""] {
        let discovery = world.client().discover(address).await;
        assert_eq!(found(&discovery), Err(Reason::MailboxLocationUnknown), "{address}");
        assert!(discovery.attempts.is_empty());
    }
}

#[tokio::test]
async fn hostile_answers_are_failures() {
    let declared = r#"<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>"#;
    let gzip = crate::scripted::gzip(&"x".repeat(300 << 10));
    for (bytes, reason) in [
        (http(OK, &vec![b'x'; 300 << 10]), Reason::EwsAnswerTooLarge),
        (http(&format!("{OK}Content-Encoding: gzip\r\n"), &gzip), Reason::EwsAnswerTooLarge),
        (ok("<a>".repeat(80_000)), Reason::EwsProtocolError),
        (ok(declared), Reason::EwsProtocolError),
        (http(OK, b"<a>\xFF\xFE</a>"), Reason::EwsProtocolError),
        (
            http(
                OK,
                "<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>"
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>()
                    .as_slice(),
            ),
            Reason::EwsProtocolError,
        ),
        (ok("<!DOCTYPE html><html/>"), Reason::ProfileAnswerNotEws),
        (ok(""), Reason::EwsProtocolError),
        (b"SSH-2.0-x\r\n\r\n".to_vec(), Reason::EwsProtocolError),
    ] {
        let world =
            World::default().host(ROOT, [nothing(), who(), Act::AnswerAndClose(bytes), nothing()]).await;
        let discovery = world.search().await;
        assert_eq!(found(&discovery), Err(Reason::MailboxLocationUnknown), "{discovery:?}");
        assert_eq!(discovery.attempts[1].reason, Some(reason), "{discovery:?}");
        let all = format!("{discovery:?}");
        assert!(!all.contains("geheim") && !all.contains("Basic ") && !all.contains("anna"), "{all}");
    }
}

#[tokio::test]
async fn a_url_that_was_found_is_trusted_as_long_as_its_domain_is() {
    let world = World::default();
    for (domains, url, expected) in [
        ("", "https://mail.example.org/EWS/Exchange.asmx", true),
        ("", "http://mail.example.org/EWS/Exchange.asmx", false),
        ("", "https://mail.example.net/EWS/Exchange.asmx", false),
        ("example.net", "https://mail.example.net/EWS/Exchange.asmx", true),
        ("example.net", "no URL", false),
    ] {
        let domains = domains.parse().expect("domains");
        let client = client(Config { domains, ..world.config() });
        assert_eq!(client.trusts("anna@example.org", url), expected, "{url}");
    }
}
