//! How the client proves who asks, and that no request is ever executed twice for it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_exchange::{
    Authentication, Client, Config, Gate, StepName, StepOutcome, Subject, test_connection,
};
use mailyard_policy::{Reason, Timestamp, id::ProfileId, outbox::Execution, profile::CredentialSource};

use crate::{
    connection::{reads, sent, what, writes},
    scripted::{Act, OK, Server, client, clock, folder_answer, http, ok},
};

use Authentication::{Auto, Basic, Negotiate, Ntlm};

/// A 401 with these values of WWW-Authenticate.
fn refusal(offers: &[&str]) -> Vec<u8> {
    refusal_with(offers, "")
}

fn refusal_with(offers: &[&str], more: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\n{more}");
    offers.iter().for_each(|offer| head += &format!("WWW-Authenticate: {offer}\r\n"));
    http(&head, b"<p>401</p>")
}

/// A challenge of NTLM (MS-NLMP 2.2.1.2) that tells the time and nothing else.
fn challenge() -> Vec<u8> {
    let mut message = Vec::from(b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x38\0\0\0\x15\x82\x8A\xE2".as_slice());
    message.extend_from_slice(b"nonce678\0\0\0\0\0\0\0\0\x10\0\x10\0\x38\0\0\0\x0A\0\0\0\0\0\0\x0F");
    message.extend_from_slice(b"\x07\0\x08\0\x01\x02\x03\x04\x05\x06\xDC\x01\0\0\0\0");
    message
}

fn ntlm() -> Vec<u8> {
    refusal(&[&format!("NTLM {}", STANDARD.encode(challenge())), "Negotiate"])
}

fn negotiate(token: &[u8]) -> Vec<u8> {
    refusal(&[&format!("Negotiate {}", STANDARD.encode(token))])
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).expect("a short one")], content].concat()
}

/// A NegTokenResp (RFC 4178 4.2.2) of these fields.
fn response(fields: &[Vec<u8>]) -> Vec<u8> {
    value(0xA1, &value(0x30, &fields.concat()))
}

fn state(state: u8) -> Vec<u8> {
    value(0xA0, &value(0x0A, &[state]))
}

fn mechanism(id: &[u8]) -> Vec<u8> {
    value(0xA1, &value(0x06, id))
}

const NTLMSSP: &[u8] = b"\x2B\x06\x01\x04\x01\x82\x37\x02\x02\x0A";
const KERBEROS: &[u8] = b"\x2A\x86\x48\x86\xF7\x12\x01\x02\x02";

/// What SPNEGO puts around a challenge.
fn spnego() -> Vec<u8> {
    response(&[state(1), mechanism(NTLMSSP), value(0xA2, &value(0x04, &challenge()))])
}

fn folder() -> Vec<u8> {
    ok(folder_answer())
}

/// The same with the server's last word.
fn folder_and(token: &[u8]) -> Vec<u8> {
    let head = format!("{OK}WWW-Authenticate: Negotiate {}\r\n", STANDARD.encode(token));
    http(&head, folder_answer().as_bytes())
}

/// What the server saw: on which connection, with which kind of authorization, and whether a request was in it.
fn seen(server: &Server) -> Vec<(usize, &'static str, bool)> {
    let kind = |request: &str| {
        let line = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
        let Some((scheme, token)) = line.and_then(|line| line.split_once(' ')) else { return "none" };
        let token = STANDARD.decode(token).expect("base64");
        let message = token.windows(9).find(|bytes| bytes.starts_with(b"NTLMSSP\0")).map(|bytes| bytes[8]);
        let wrapped = !token.starts_with(b"NTLMSSP\0");
        match (scheme, message, wrapped) {
            ("Basic", None, _) => "basic",
            ("NTLM", Some(1), false) => "ntlm 1",
            ("NTLM", Some(3), false) => "ntlm 3",
            ("Negotiate", Some(1), true) => "spnego 1",
            ("Negotiate", Some(3), true) => "spnego 3",
            ("Negotiate", Some(3), false) => "bare 3",
            _ => "something else",
        }
    };
    let one = |(connection, request): &(usize, String)| {
        let executed = request.contains("<s:Body>");
        assert_eq!(request.contains("\r\nContent-Length: 0\r\n"), !executed, "{request}");
        (*connection, kind(request), executed)
    };
    server.received().iter().map(one).collect()
}

async fn start(answers: impl IntoIterator<Item = Vec<u8>>) -> Server {
    Server::start(answers.into_iter().map(Act::Answer)).await
}

async fn reads_as(client: &Client, mailbox: &str) -> bool {
    client.mailbox(mailbox).get_folder(&mailyard_exchange::codec::WellKnown::Inbox.into()).await.is_ok()
}

#[tokio::test]
async fn one_handshake_serves_every_mailbox() {
    for (scheme, challenged, first, last) in [
        (Ntlm, ntlm(), "ntlm 1", "ntlm 3"),
        (Negotiate, negotiate(&challenge()), "spnego 1", "bare 3"),
        (Negotiate, negotiate(&spnego()), "spnego 1", "spnego 3"),
    ] {
        let server = start([challenged, folder(), folder(), folder()]).await;
        let client = server.client_by(scheme);
        for mailbox in ["anna@example.org", "bert@example.org", "anna@example.org"] {
            assert!(reads_as(&client, mailbox).await, "{scheme:?} {mailbox}");
        }
        let expected = [(1, first, false), (1, last, true), (1, "none", true), (1, "none", true)];
        assert_eq!(seen(&server), expected, "{scheme:?}");
        let requests = server.requests();
        for (request, mailbox) in requests[1..].iter().zip(["anna", "bert", "anna"]) {
            assert!(
                request.contains(&format!("\r\nX-AnchorMailbox: {mailbox}@example.org\r\n")),
                "{request}"
            );
        }
    }
}

#[tokio::test]
async fn auto_takes_the_best_that_is_offered_and_remembers_it() {
    let basic = "Basic realm=\"x\"";
    for (offers, challenged, expected) in [
        (
            &["Negotiate", "NTLM", basic][..],
            vec![negotiate(&spnego())],
            &[(1, "none", false), (1, "spnego 1", false), (1, "spnego 3", true), (1, "none", true)][..],
        ),
        (
            &["Basic realm=\"x\", NTLM"],
            vec![ntlm()],
            &[(1, "none", false), (1, "ntlm 1", false), (1, "ntlm 3", true), (1, "none", true)],
        ),
        (&[basic], vec![], &[(1, "none", false), (1, "basic", true), (1, "basic", true)]),
    ] {
        let answers = [vec![refusal(offers)], challenged, vec![folder(), folder()]].concat();
        let server = start(answers).await;
        let client = server.client_by(Auto);
        assert_eq!(what(reads(&client).await), Ok(()), "{offers:?}");
        assert_eq!(what(reads(&client).await), Ok(()), "{offers:?}");
        assert_eq!(seen(&server), expected, "{offers:?}");
    }
}

#[tokio::test]
async fn auto_does_not_insist_on_what_does_not_work() {
    let both = || refusal(&["Negotiate", "NTLM"]);
    // Within Negotiate this server speaks Kerberos only.
    let kerberos = negotiate(&response(&[state(1), mechanism(KERBEROS)]));
    let server = start([both(), kerberos, both(), ntlm(), folder(), folder()]).await;
    let client = server.client_by(Auto);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), Ok(()));
    let legs = seen(&server);
    assert_eq!(legs[1], (1, "spnego 1", false));
    assert_eq!(legs[2..], [(2, "none", false), (2, "ntlm 1", false), (2, "ntlm 3", true), (2, "none", true)]);

    // The server says so and closes, as some do behind every refusal.
    let closing = refusal_with(&["Basic realm=\"x\""], "Connection: close\r\n");
    let server = Server::start([Act::AnswerAndClose(closing), Act::Answer(folder())]).await;
    assert_eq!(what(reads(&server.client_by(Auto)).await), Ok(()));
    assert_eq!(seen(&server), [(1, "none", false), (2, "basic", true)]);
}

#[tokio::test]
async fn what_goes_wrong_in_a_handshake_has_its_reason() {
    use Reason::{
        ExchangeServerBusy, ProfileAuthConnectionNotKept as NotKept, ProfileAuthHandshakeInvalid as Invalid,
        ProfileAuthRefusedBehindProxy as BehindProxy, ProfileAuthRejected as Rejected,
        ProfileAuthSchemeMissing as Missing,
    };
    let by = |header: &str| refusal_with(&["NTLM"], &format!("{header}\r\n"));
    let closing =
        |token: &[u8]| refusal_with(&[&format!("NTLM {}", STANDARD.encode(token))], "Connection: close\r\n");
    let busy = || http("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\n", b"busy");
    let broken = || http("HTTP/1.1 500 Oops\r\n", b"oops");
    let wrong_mic = || response(&[state(0), value(0xA3, &value(0x04, &[1; 16]))]);
    let not = Execution::Not;
    let cases = [
        (Ntlm, vec![ntlm(), refusal(&["NTLM", "Negotiate"])], Rejected, not),
        (Ntlm, vec![ntlm(), refusal(&[])], Rejected, not),
        (Ntlm, vec![ntlm(), by("Server: Microsoft-IIS/10.0")], Rejected, not),
        (Ntlm, vec![ntlm(), by("Server: nginx")], BehindProxy, not),
        (Ntlm, vec![ntlm(), by("Via: 1.1 gate\r\nServer: Microsoft-IIS/10.0")], BehindProxy, not),
        (Basic, vec![refusal_with(&["Basic realm=\"x\""], "Server: nginx\r\n")], Rejected, not),
        (Basic, vec![by("X-MS-Credential-Service-CredExpired: true")], Reason::ProfilePasswordExpired, not),
        (
            Ntlm,
            vec![ntlm(), by("x-ms-credential-service-credexpired: TRUE")],
            Reason::ProfilePasswordExpired,
            not,
        ),
        (Ntlm, vec![ntlm(), by("X-MS-Credential-Service-CredExpired: false")], Rejected, not),
        (Ntlm, vec![refusal(&["Basic realm=\"x\""])], Missing, not),
        (Ntlm, vec![refusal(&["Negotiate", "NTLM"])], Missing, not),
        (Ntlm, vec![refusal(&[])], Missing, not),
        (Ntlm, vec![folder()], Missing, not),
        (Ntlm, vec![busy()], ExchangeServerBusy, not),
        (Ntlm, vec![broken()], Reason::Exchange5xx, not),
        (Ntlm, vec![ntlm(), broken()], Reason::Exchange5xx, Execution::Maybe),
        (Ntlm, vec![refusal(&["NTLM !"])], Invalid, not),
        (Ntlm, vec![refusal(&["NTLM TlRMTVNTUAAC"])], Invalid, not),
        (Ntlm, vec![closing(&challenge())], NotKept, not),
        (Negotiate, vec![refusal(&["NTLM"])], Missing, not),
        (Negotiate, vec![negotiate(&response(&[state(1), mechanism(KERBEROS)]))], Missing, not),
        (Negotiate, vec![negotiate(&response(&[state(2)]))], Missing, not),
        (Negotiate, vec![negotiate(&response(&[state(1), mechanism(NTLMSSP)]))], Invalid, not),
        (Negotiate, vec![negotiate(b"nonsense")], Invalid, not),
        (Negotiate, vec![negotiate(&spnego()), negotiate(&response(&[state(2)]))], Rejected, not),
        (Negotiate, vec![negotiate(&spnego()), folder_and(&wrong_mic())], Invalid, Execution::Maybe),
        (Basic, vec![refusal(&["Basic realm=\"x\""])], Rejected, not),
        (Basic, vec![refusal(&["NTLM"])], Missing, not),
        (Auto, vec![refusal(&["Digest realm=\"x\""])], Missing, not),
        (Auto, vec![refusal(&[])], Missing, not),
        (Auto, vec![folder()], Missing, not),
        (Auto, vec![busy()], ExchangeServerBusy, not),
    ];
    for (case, (scheme, answers, reason, execution)) in cases.into_iter().enumerate() {
        let count = answers.len();
        let server = start(answers).await;
        let failure = writes(&server.client_by(scheme)).await.expect_err("it cannot work");
        assert_eq!((failure.reason, failure.execution), (reason, execution), "case {case}: {failure}");
        assert_eq!(server.requests().len(), count, "case {case}: nothing is tried again");
        assert!(!failure.detail.contains("geheim") && !failure.detail.contains("svc"), "{failure}");
    }
    let server = start([refusal(&["Basic realm=\"x\"", "Digest realm=\"x\""])]).await;
    let failure = reads(&server.client_by(Ntlm)).await.expect_err("it cannot work");
    assert!(failure.detail.contains("NTLM") && failure.detail.contains("Basic, Digest"), "{failure}");
}

#[tokio::test]
async fn a_server_may_say_nothing_last_or_something_right() {
    for last in [response(&[state(0)]), b"nonsense".to_vec(), Vec::new()] {
        let server = start([negotiate(&spnego()), folder_and(&last)]).await;
        assert_eq!(what(reads(&server.client_by(Negotiate)).await), Ok(()), "{last:02X?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_kept_is_told_apart_from_a_wrong_password() {
    let not_kept = Reason::ProfileAuthConnectionNotKept;
    // Closed without a word after the challenge, or when the last leg has arrived: it is not tried again.
    for script in [vec![Act::AnswerAndClose(ntlm())], vec![Act::Answer(ntlm()), Act::Close]] {
        let server = Server::start(script).await;
        assert_eq!(what(writes(&server.client_by(Ntlm)).await), Err((not_kept, Execution::Maybe)));
        assert_eq!(server.connections(), 1);
    }
    let server = Server::start([Act::Close]).await;
    let lost = Err((Reason::ProfileConnectionLost, Execution::Not));
    assert_eq!(what(writes(&server.client_by(Ntlm)).await), lost, "nothing has begun yet");
}

#[tokio::test]
async fn a_refused_password_strikes_whose_it_is() {
    let basic = "Basic realm=\"x\"";
    let rejected = refusal(&[basic]);
    let locked = http("HTTP/1.1 456 Blocked\r\n", b"");
    let expired = refusal_with(&[basic], "X-MS-Credential-Service-CredExpired: true\r\n");
    let proxied = refusal_with(&["NTLM"], "Via: 1.1 gate\r\n");
    let unknown = refusal(&["NTLM"]);
    let missing = Reason::ProfileAuthSchemeMissing;
    let cases = [
        (Basic, vec![rejected], Reason::ProfileAuthRejected, Reason::MailboxAuthRejected),
        (Basic, vec![locked], Reason::ProfileAccountLocked, Reason::MailboxAccountLocked),
        (Basic, vec![expired], Reason::ProfilePasswordExpired, Reason::MailboxPasswordExpired),
        (
            Ntlm,
            vec![ntlm(), proxied],
            Reason::ProfileAuthRefusedBehindProxy,
            Reason::MailboxAuthRefusedBehindProxy,
        ),
        (Basic, vec![unknown], missing, missing),
    ];
    for (authentication, answers, of_profile, of_mailbox) in cases {
        for (credential_source, reason) in
            [(CredentialSource::Profile, of_profile), (CredentialSource::Mailbox, of_mailbox)]
        {
            // A refusal is answered once more on a new connection at most.
            let script = answers.iter().chain(&answers).cloned().map(Act::Answer);
            let server = Server::start(script).await;
            let client = client(Config { authentication, credential_source, ..server.config() });
            let found = what(reads(&client).await).map_err(|(reason, _)| reason);
            assert_eq!(found, Err(reason), "{credential_source}");
        }
    }
}

#[tokio::test]
async fn a_server_that_forgot_is_told_again_once() {
    let forgot = || refusal(&["NTLM", "Negotiate"]);
    let server = start([ntlm(), folder(), forgot(), ntlm(), sent()]).await;
    let client = server.client_by(Ntlm);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Ok(()), "a refused request was not executed");
    let again = [(1, "none", true), (2, "ntlm 1", false), (2, "ntlm 3", true)];
    assert_eq!(seen(&server)[2..], again);

    let server = start([ntlm(), folder(), forgot(), ntlm(), forgot(), ntlm(), sent()]).await;
    let client = server.client_by(Ntlm);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Err((Reason::ProfileAuthRejected, Execution::Not)));
    assert_eq!(server.requests().len(), 5, "a password is not tried on and on");

    let server = start([ntlm(), folder(), refusal(&[]), ntlm(), sent()]).await;
    let client = server.client_by(Ntlm);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Err((Reason::ProfileAuthSchemeMissing, Execution::Not)));
    assert_eq!(server.requests().len(), 3, "whoever said this does not ask for NTLM");
}

#[tokio::test]
async fn nothing_is_executed_twice() {
    let begin = || [Act::Answer(ntlm()), Act::Answer(folder()), Act::Close];
    let server = Server::start(begin()).await;
    let client = server.client_by(Ntlm);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(writes(&client).await), Err((Reason::ProfileConnectionLost, Execution::Maybe)));
    assert_eq!(server.requests().len(), 3);

    let rest = [Act::Answer(ntlm()), Act::Answer(folder())];
    let server = Server::start(begin().into_iter().chain(rest)).await;
    let client = server.client_by(Ntlm);
    assert_eq!(what(reads(&client).await), Ok(()));
    assert_eq!(what(reads(&client).await), Ok(()), "what changes nothing is asked again");
    assert_eq!(seen(&server)[2..], [(1, "none", true), (2, "ntlm 1", false), (2, "ntlm 3", true)]);
}

#[tokio::test]
async fn a_handshake_is_counted_by_the_gate() {
    let server = start([ntlm(), folder(), folder(), folder()]).await;
    let gate = Gate::new(ProfileId::new(1), 1, None, clock);
    let config = Config { authentication: Ntlm, ..server.config() };
    let client = Client::new(config, gate.clone()).expect("the configuration is good");
    let (first, second, third) = tokio::join!(reads(&client), reads(&client), reads(&client));
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    let expected = [(1, "ntlm 1", false), (1, "ntlm 3", true), (1, "none", true), (1, "none", true)];
    assert_eq!(seen(&server), expected, "one connection, and one handshake");
    assert_eq!(gate.view().in_flight, 0);
}

#[tokio::test]
async fn a_test_warns_of_basic_beside_a_handshake() {
    let basic = "Basic realm=\"x\"";
    let conflict = Some(Reason::ProfileAuthSchemeConflict);
    for (scheme, offers, outcome, reason, evidence) in [
        (
            Ntlm,
            &["NTLM", basic][..],
            StepOutcome::Warning,
            conflict,
            "by NTLM; the server offers NTLM, Basic",
        ),
        (Ntlm, &["NTLM"], StepOutcome::Success, None, "by NTLM"),
        (Auto, &["NTLM", basic], StepOutcome::Warning, conflict, "by NTLM; the server offers NTLM, Basic"),
        (Auto, &[basic], StepOutcome::Success, None, "by Basic"),
        (Basic, &[], StepOutcome::Success, None, "by Basic"),
    ] {
        let asked = if scheme == Auto { vec![refusal(offers); 2] } else { vec![refusal(offers)] };
        let challenged = if offers.contains(&"NTLM") { vec![ntlm()] } else { vec![] };
        let server = start([asked, challenged, vec![folder(), folder(), folder()]].concat()).await;
        // It is the canned answers' own time.
        let clock = || Timestamp::from_millis(1_772_366_400_000);
        let client = client(Config { authentication: scheme, clock, ..server.config() });
        let mut steps = Vec::new();
        let subject = Subject { mailbox: Some("anna@example.org"), user: "u", impersonates: true };
        test_connection(&client, subject, |step| steps.push(step)).await;
        let step = steps.iter().find(|step| step.name == StepName::Authenticate).expect("all are told");
        let found = (step.outcome, step.reason, step.evidence.ends_with(evidence));
        assert_eq!(found, (outcome, reason, true), "{scheme:?} {offers:?}: {step:?}");
        assert_eq!(steps.last().map(|step| step.outcome), Some(StepOutcome::Success));
    }
}
