//! What becomes of a call on every kind of road.

use std::{sync::Arc, time::Duration};

use mailyard_exchange::{
    Failure, Gate, Warrant,
    codec::{Content, ItemId, WellKnown},
};
use mailyard_policy::{Reason, Timestamp, id::ProfileId, outbox::Execution};

use rustls::{
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use crate::scripted::{self, Act, GENUINE, Identity, OK, Server, Terms, folder_answer, gzip, http, ok, soap};

/// Reads a folder, which changes nothing.
pub async fn reads(client: &mailyard_exchange::Client) -> Result<(), Failure> {
    client.mailbox("anna@example.org").get_folder(&WellKnown::Inbox.into()).await.map(|_| ())
}

/// Sends a draft.
pub async fn writes(client: &mailyard_exchange::Client) -> Result<(), Failure> {
    let id = mailyard_exchange::codec::ItemId::new("I1");
    client.mailbox("anna@example.org").send_item(&id, &WellKnown::SentItems.into()).await.map(|_| ())
}

pub fn sent() -> Vec<u8> {
    ok(soap("SendItem", &[Ok("")]))
}

pub fn what(result: Result<(), Failure>) -> Result<(), (Reason, Execution)> {
    result.map_err(|failure| (failure.reason, failure.execution))
}

#[tokio::test]
async fn a_request_says_who_asks_for_whom() {
    let server = Server::start([Act::Answer(ok(folder_answer())), Act::Answer(ok(folder_answer()))]).await;
    let client = server.client();
    let answer = client.mailbox("anna@example.org").get_folder(&WellKnown::Inbox.into()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.date, Some(Timestamp::from_millis(1_772_366_400_000)));
    assert_eq!(answer.version.map(|version| version.to_string()).as_deref(), Some("15.2.1544.4"));
    let hostile = client.mailbox("a@example.org\r\nX-Evil: 1").get_folder(&WellKnown::Inbox.into()).await;
    assert!(hostile.is_ok());
    let requests = server.requests();
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    assert!(first.starts_with("POST /EWS/Exchange.asmx HTTP/1.1\r\n"), "{first}");
    for expected in [
        format!("\r\nHost: 127.0.0.1:{}\r\n", server.port).as_str(),
        "\r\nAuthorization: Basic RVhBTVBMRVxzdmM6Z2VoZWlt\r\n",
        "\r\nX-AnchorMailbox: anna@example.org\r\n",
        "<t:PrimarySmtpAddress>anna@example.org</t:PrimarySmtpAddress>",
        "\r\nAccept-Encoding: gzip\r\n",
        "\r\nclient-request-id: ",
    ] {
        assert!(first.contains(expected), "{expected} in {first}");
    }
    assert!(!second.contains("X-Evil: 1\r\n") && !second.contains("X-AnchorMailbox"), "{second}");
    let id =
        |request: &str| request.split_once("\r\nclient-request-id: ").map(|(_, rest)| rest[..36].to_owned());
    assert_ne!(id(first), id(second));
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn answers_become_results() {
    let page = "<html><body>Server Error in '/EWS' Application</body></html>";
    let fault = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode xmlns:a="http://schemas.microsoft.com/exchange/services/2006/types">a:ErrorServerBusy</faultcode><faultstring>x</faultstring><detail><t:MessageXml xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><t:Value Name="BackOffMilliseconds">5</t:Value></t:MessageXml></detail></s:Fault></s:Body></s:Envelope>"#;
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}");
    let html = "Content-Type: text/html\r\n";
    let chunked = {
        let whole = folder_answer();
        let (first, rest) = whole.split_at(100);
        format!(
            "{OK}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
            first.len(),
            rest.len()
        )
    };
    let plain = [
        (ok(folder_answer()), Ok(())),
        (ok(format!("\u{FEFF}{}", folder_answer())), Ok(())),
        (chunked.into_bytes(), Ok(())),
        (http(&format!("{OK}Content-Encoding: gzip\r\n"), &gzip(&folder_answer())), Ok(())),
        (http(&format!("{OK}Content-Encoding: gzip\r\n"), b"no gzip"), Err(Reason::EwsProtocolError)),
        (
            http(&head("401 No", "Content-Encoding: gzip\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"), b""),
            Err(Reason::ProfileAuthRejected),
        ),
        (http(&head("200 OK", html), page.as_bytes()), Err(Reason::ProfileAnswerNotEws)),
        (ok(soap("GetFolder", &[Err("ErrorMailboxStoreUnavailable")])), Err(Reason::MailboxUnavailable)),
        (
            http(&head("500 Oops", "Content-Type: text/xml\r\n"), fault.as_bytes()),
            Err(Reason::ExchangeServerBusy),
        ),
        (
            http(
                &head("500 Oops", "Content-Type: text/xml\r\n"),
                fault
                    .replace("a:ErrorServerBusy", "a:ActionNotSupported")
                    .replace("BackOff", "Other")
                    .as_bytes(),
            ),
            Err(Reason::ProfileAnswerNotEws),
        ),
        (http(&head("500 Oops", html), page.as_bytes()), Err(Reason::Exchange5xx)),
        (http(&head("500 Oops", "Content-Type: text/xml\r\n"), page.as_bytes()), Err(Reason::Exchange5xx)),
        (
            http(&head("401 No", "WWW-Authenticate: Basic realm=\"x\"\r\n"), b""),
            Err(Reason::ProfileAuthRejected),
        ),
        (
            http(&head("401 No", "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n"), b""),
            Err(Reason::ProfileAuthSchemeMissing),
        ),
        (http(&head("403 No", html), b"no"), Err(Reason::ProfileForbidden)),
        (http(&head("404 No", html), b"no"), Err(Reason::ProfileUrlWrong)),
        (http(&head("503 Busy", html), b"busy"), Err(Reason::ExchangeUnavailable)),
        (http(&head("503 Busy", "Retry-After: 0\r\n"), b"busy"), Err(Reason::ExchangeServerBusy)),
        (http(&head("302 Found", "Location: /owa/auth/logon.aspx\r\n"), b""), Err(Reason::ProfileUrlWrong)),
        (
            http(&head("302 Found", "Location: /ews/GenericErrorPage.htm\r\n"), b""),
            Err(Reason::ExchangeUnavailable),
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), Err(Reason::EwsProtocolError)),
        (http(OK, &vec![b'x'; 17 << 20]), Err(Reason::EwsAnswerTooLarge)),
        (
            http(&format!("{OK}Content-Encoding: gzip\r\n"), &gzip(&"x".repeat(17 << 20))),
            Err(Reason::EwsAnswerTooLarge),
        ),
    ];
    for (bytes, expected) in plain {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        // A client of its own each: throttling holds the others back.
        let server = Server::start([Act::Answer(bytes)]).await;
        let found = reads(&server.client()).await;
        if let Err(failure) = &found {
            let told = format!("{failure} {failure:?}");
            assert!(!told.contains("geheim") && !told.contains("anna@"), "{told}");
        }
        assert_eq!(found.map_err(|failure| failure.reason), expected, "{shown}");
    }
}

#[tokio::test]
async fn a_connection_that_died_while_kept_is_replaced_for_reads_and_never_for_effects() {
    let lost = Err((Reason::ProfileConnectionLost, Execution::Maybe));
    let kept = || Act::Answer(ok(folder_answer()));
    // The server closes when it sees the second request: it cannot have begun to answer.
    let server = Server::start([kept(), Act::Close, kept()]).await;
    let client = server.client();
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!((server.connections(), server.requests().len()), (2, 3));

    let server = Server::start([kept(), Act::Close, Act::Answer(sent())]).await;
    let client = server.client();
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), lost);
    assert_eq!(server.operations(), ["GetFolder", "SendItem"], "it is not sent again");

    // A new connection that dies is a failure, and so is the second one in a row.
    let server = Server::start([Act::Close, kept()]).await;
    assert_eq!(what(reads(&server.client()).await), lost);
    let server = Server::start([kept(), Act::Close, Act::Close, kept()]).await;
    let client = server.client();
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), lost);
    assert_eq!(server.requests().len(), 3);

    // A connection that the server closed behind its answer.
    let server = Server::start([Act::AnswerAndClose(ok(folder_answer())), kept()]).await;
    let client = server.client();
    assert_eq!((what(reads(&client).await), what(reads(&client).await)), (Ok(()), Ok(())));
    let head = format!("{OK}Connection: close\r\n");
    let server =
        Server::start([Act::Answer(http(&head, folder_answer().as_bytes())), Act::Answer(sent())]).await;
    let client = server.client();
    assert_eq!((what(reads(&client).await), what(writes(&client).await)), (Ok(()), Ok(())));
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_whole_request_counts() {
    let large = vec![b'x'; 3 << 20];
    for (status, more, reason) in [
        ("413 Too Large", "", Reason::ItemTooLarge),
        ("401 No", "WWW-Authenticate: Basic realm=\"x\"\r\n", Reason::ProfileAuthRejected),
        ("503 Busy", "", Reason::ExchangeUnavailable),
    ] {
        let answer = http(&format!("HTTP/1.1 {status}\r\n{more}"), b"");
        let server = Server::start([Act::AnswerEarly(answer), Act::Answer(ok(folder_answer()))]).await;
        let client = server.client();
        let mailbox = client.mailbox("anna@example.org");
        let content = Content::Mime { message: &large, bcc: &[] };
        let made = mailbox.create_draft(&WellKnown::Drafts.into(), content, "an operation").await;
        assert_eq!(what(made.map(|_| ())), Err((reason, Execution::Not)), "{status}");
        if reason == Reason::ItemTooLarge {
            assert_eq!(
                (what(reads(&client).await), server.connections()),
                (Ok(()), 2),
                "it is not used again"
            );
        }
    }
    let server = Server::start([Act::AnswerEarly(b"HTTP/1.1 413 Too".to_vec())]).await;
    let content = Content::Mime { message: &large, bcc: &[] };
    let mailbox = server.client().mailbox("anna@example.org");
    let made = mailbox.create_draft(&WellKnown::Drafts.into(), content, "an operation").await;
    assert_eq!(what(made.map(|_| ())), Err((Reason::ProfileConnectionLost, Execution::Maybe)));
}

#[tokio::test]
async fn an_answer_that_is_cut_is_lost() {
    let whole = ok(folder_answer());
    for length in [0, 5, 60, whole.len() - 1] {
        let server = Server::start([Act::AnswerAndClose(whole[..length].to_vec())]).await;
        let lost = Err((Reason::ProfileConnectionLost, Execution::Maybe));
        assert_eq!(what(reads(&server.client()).await), lost, "after {length} bytes");
    }
}

#[tokio::test]
async fn a_request_is_given_up_at_its_deadline_and_a_body_of_a_read_later() {
    let deadline = Duration::from_millis(400);
    let client = |server: &Server| {
        scripted::client(mailyard_exchange::Config { request_deadline: deadline, ..server.config() })
    };
    let late = Err((Reason::ProfileDeadlineExceeded, Execution::Maybe));
    let server = Server::start([Act::Hang, Act::Hang]).await;
    assert_eq!(what(reads(&client(&server)).await), late);
    assert_eq!(what(writes(&client(&server)).await), late);
    let slowly = |bytes: Vec<u8>| {
        let (first, rest) = bytes.split_at(bytes.len() - 10);
        Act::AnswerLate(first.to_vec(), deadline * 3 / 2, rest.to_vec())
    };
    let server = Server::start([slowly(ok(folder_answer()))]).await;
    assert_eq!(what(reads(&client(&server)).await), Ok(()));
    let server = Server::start([slowly(sent())]).await;
    assert_eq!(what(writes(&client(&server)).await), late);
}

#[tokio::test]
async fn an_effect_is_begun_only_while_its_warrant_lasts_behind_the_gate() {
    let slow = |body: Vec<u8>| Act::AnswerLate(Vec::new(), Duration::from_millis(300), body);
    let script = [slow(ok(folder_answer())), Act::Answer(ok(folder_answer())), Act::Answer(sent())];
    let server = Server::start(script).await;
    let client = mailyard_exchange::Client::new(
        server.config(),
        Gate::new(ProfileId::new(1), 1, None, scripted::clock),
    )
    .expect("the configuration is good");
    let until = |wait| {
        let end = tokio::time::Instant::now() + Duration::from_millis(wait);
        Warrant(Arc::new(move || end.saturating_duration_since(tokio::time::Instant::now())))
    };
    let send = async |warrant| {
        let mailbox = client.mailbox("anna@example.org").under(warrant);
        what(mailbox.send_item(&ItemId::new("I1"), &WellKnown::SentItems.into()).await.map(|_| ()))
    };
    // The request before it holds the gate for longer than the warrant lasts.
    let (read, late) = tokio::join!(reads(&client), send(until(100)));
    assert_eq!((what(read), late), (Ok(()), Err((Reason::RequestNotBegun, Execution::Not))));
    assert_eq!(server.operations(), ["GetFolder"], "nothing of it was told to the server");
    let mailbox = client.mailbox("anna@example.org").under(until(0));
    assert!(mailbox.get_folder(&WellKnown::Inbox.into()).await.is_ok(), "what only reads needs none");
    assert_eq!(send(until(60_000)).await, Ok(()));
    assert_eq!((server.operations().len(), server.connections()), (3, 1), "the connection was kept");
}

#[tokio::test]
async fn an_effect_is_given_up_when_its_warrant_ends() {
    let server = Server::start([Act::Hang]).await;
    let patient = mailyard_exchange::Config { request_deadline: Duration::from_hours(1), ..server.config() };
    let short = Warrant(Arc::new(|| Duration::from_millis(200)));
    let mailbox = scripted::client(patient).mailbox("anna@example.org").under(short);
    let sending =
        async { mailbox.send_item(&ItemId::new("I1"), &WellKnown::SentItems.into()).await.map(|_| ()) };
    let ended = tokio::time::timeout(Duration::from_secs(30), sending).await.expect("it ends by itself");
    assert_eq!(what(ended), Err((Reason::ProfileDeadlineExceeded, Execution::Maybe)));
}

#[tokio::test]
async fn a_server_must_prove_its_name() {
    let reason = |server: &Server| {
        let client = server.client();
        async move { reads(&client).await.map_err(|failure| (failure.reason, failure.execution)) }
    };
    for (identity, expected) in [
        (Identity { name: "other.example.org", ..GENUINE }, Reason::ProfileTlsNameMismatch),
        (Identity { years: (2001, 2002), ..GENUINE }, Reason::ProfileTlsExpired),
        (Identity { years: (2098, 2099), ..GENUINE }, Reason::ProfileTlsExpired),
    ] {
        let server = Server::start_as(identity, [Act::Answer(ok(folder_answer()))]).await;
        assert_eq!(reason(&server).await, Err((expected, Execution::Not)));
        assert!(server.requests().is_empty(), "nothing was told to it");
    }
    let server = Server::start_as_authority().await;
    let failure = reads(&server.client()).await.expect_err("it is no server's certificate");
    assert_eq!(failure.reason, Reason::ProfileTlsCertificateUnsuited, "{failure}");
    assert!(failure.detail.contains("CA:TRUE"), "{failure}");
    let (server, other) = (Server::start([]).await, Server::start([]).await);
    let config = mailyard_exchange::Config { ca_pem: Some(other.ca_pem.clone()), ..server.config() };
    assert_eq!(
        what(reads(&scripted::client(config)).await),
        Err((Reason::ProfileTlsUntrusted, Execution::Not))
    );
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/", free.local_addr().expect("an address"));
    drop(free);
    let config = mailyard_exchange::Config { url, ..server.config() };
    assert_eq!(
        what(reads(&scripted::client(config)).await),
        Err((Reason::ProfileConnectFailed, Execution::Not))
    );
}

#[tokio::test]
async fn a_server_that_insists_on_a_certificate_of_the_client_says_so() {
    let wanted = Err((Reason::ProfileTlsClientCertificate, Execution::Not));
    for version in [&TLS12, &TLS13] {
        let server = Server::start_on(
            Terms { versions: vec![version], certificate: true, ..Terms::default() },
            [Act::Answer(sent())],
        )
        .await;
        assert_eq!(what(writes(&server.client()).await), wanted, "{version:?}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn suites_and_curves_that_are_not_promised_are_not_offered() {
    use rustls::crypto::ring::{cipher_suite as suite, default_provider, kx_group};
    let only = |suite| CryptoProvider { cipher_suites: vec![suite], ..default_provider() };
    for (suite, agrees) in [
        (suite::TLS13_AES_128_GCM_SHA256, true),
        (suite::TLS13_CHACHA20_POLY1305_SHA256, false),
        (suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true),
        (suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false),
    ] {
        let versions = if suite.tls13().is_some() { vec![&TLS13] } else { vec![&TLS12] };
        let terms = Terms { provider: only(suite), versions, ..Terms::default() };
        let server = Server::start_on(terms, [Act::Answer(ok(folder_answer()))]).await;
        let found = what(reads(&server.client()).await);
        let refused = Err((Reason::ProfileTlsSuites, Execution::Not));
        assert_eq!(found, if agrees { Ok(()) } else { refused }, "{suite:?}");
    }
    let provider = CryptoProvider { kx_groups: vec![kx_group::SECP384R1], ..default_provider() };
    let terms = Terms { provider, ..Terms::default() };
    let server = Server::start_on(terms, [Act::Answer(ok(folder_answer()))]).await;
    assert_eq!(what(reads(&server.client()).await), Ok(()));
}

#[tokio::test]
async fn a_server_that_does_not_agree_on_tls_says_why() {
    // An alert that ends everything (RFC 8446, 6): 40 handshake_failure, 71 insufficient_security, 70 protocol_version.
    let alert = |number: u8| vec![21, 3, 3, 0, 2, 2, number];
    for (answer, expected) in [
        (alert(40), Reason::ProfileTlsSuites),
        (alert(71), Reason::ProfileTlsSuites),
        (alert(70), Reason::ProfileTlsVersion),
        (b"220 mail.example.org ESMTP\r\n".to_vec(), Reason::ProfileTlsFailed),
        (Vec::new(), Reason::ProfileConnectTimeout),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("an address"));
        let answering = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                // Who says nothing stays there, and says nothing.
                let _gone = tokio::io::AsyncWriteExt::write_all(&mut tcp, &answer).await;
                held.push(tcp);
            }
        });
        let genuine = Server::start([]).await;
        let connect_timeout = Duration::from_millis(500);
        let config = mailyard_exchange::Config { url, connect_timeout, ..genuine.config() };
        assert_eq!(what(reads(&scripted::client(config)).await), Err((expected, Execution::Not)));
        answering.abort();
    }
}
