//! Watching mailboxes: what keeps requests together, what a connection tells, and how it ends.

use std::time::Duration;

use mailyard_exchange::{Client, Failure, Gate, Lifetime, Told, codec::WellKnown};
use mailyard_policy::{Reason, id::ProfileId};

use crate::scripted::{Act, OK, Server, clock, folder_answer, http, ok, soap};

const LIFETIME: Lifetime = Lifetime { minutes: 29, silence: Duration::from_secs(20) };
const NOTHING: &str = "<m:ConnectionStatus>OK</m:ConnectionStatus>";

fn subscribed(id: &str) -> String {
    soap("Subscribe", &[Ok(&format!("<m:SubscriptionId>{id}</m:SubscriptionId>"))])
}

fn said(part: Result<&str, &str>) -> String {
    soap("GetStreamingEvents", &[part])
}

fn mail(id: &str) -> String {
    said(Ok(&format!(
        "<m:Notifications><m:Notification><t:SubscriptionId>{id}</t:SubscriptionId><t:NewMailEvent/></m:Notification></m:Notifications>"
    )))
}

fn refused(code: &str, ids: &[&str], status: &str) -> String {
    let ids = ids
        .iter()
        .map(|id| format!("<m:SubscriptionId>{id}</m:SubscriptionId>"))
        .collect::<Vec<_>>()
        .concat();
    let more = format!(
        "</m:ResponseCode><m:ErrorSubscriptionIds>{ids}</m:ErrorSubscriptionIds><m:ConnectionStatus>{status}</m:ConnectionStatus>"
    );
    said(Err(code)).replace("</m:ResponseCode>", &more)
}

/// An answer that goes on, in chunks that end anywhere; without its last chunk it is broken off.
fn stream(envelopes: &[String], whole: bool) -> Vec<u8> {
    let text = envelopes.concat();
    let mut answer = format!("{OK}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in text.as_bytes().chunks(97) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(if whole { b"0\r\n\r\n" } else { b"" });
    answer
}

/// An answer, what is told while it goes on, and how it ends.
type Case = (Vec<u8>, &'static [&'static str], Result<(), Reason>);

/// Reads two subscriptions to the end, and notes what is told.
async fn read(client: &Client, lifetime: Lifetime) -> (Vec<String>, Result<(), Failure>) {
    let mut told = Vec::new();
    let ids = ["S1".into(), "S2".into()];
    let watch = client.watch("anna@example.org");
    let ended = watch.read(&ids, lifetime, |what| {
        told.push(match what {
            Told::Stands => return,
            Told::News(id) => format!("news {id}"),
            Told::Lost(ids, failure) => format!("lost {} {}", ids.join(","), failure.reason),
        });
    });
    let ended = ended.await;
    (told, ended)
}

#[tokio::test]
async fn what_belongs_together_is_asked_of_one_server() {
    let with_cookie = |value: &str, body: String| {
        let head = format!(
            "{OK}Set-Cookie: X-BackEndCookie=other; path=/EWS\r\nSet-Cookie: X-BackEndOverrideCookie={value}; path=/; secure; HttpOnly\r\n"
        );
        Act::Answer(http(&head, body.as_bytes()))
    };
    let server = Server::start([
        with_cookie("ex01~1", subscribed("S1")),
        Act::Answer(ok(subscribed("S2"))),
        Act::Answer(stream(&[said(Ok(NOTHING))], true)),
        Act::Answer(ok(folder_answer())),
        Act::Answer(ok(soap("Unsubscribe", &[Err("ErrorSubscriptionNotFound")]))),
    ])
    .await;
    let client = server.client();
    let mut watch = client.watch("anna@example.org");
    let first = watch.subscribe("anna@example.org").await.expect("a subscription");
    let second = watch.subscribe("bert@example.org").await.expect("a subscription");
    watch.set_anchor("bert@example.org");
    watch.read(&[first, second.clone()], LIFETIME, |_| {}).await.expect("it ends in order");
    client.mailbox("anna@example.org").get_folder(&WellKnown::Inbox.into()).await.expect("a folder");
    watch.unsubscribe("bert@example.org", &second).await.expect("it is gone");

    let requests = server.requests();
    let header = |request: &str, name: &str| {
        let found = request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or("-").to_owned()
    };
    let told: Vec<_> = requests
        .iter()
        .map(|request| {
            let acting = request.split("PrimarySmtpAddress>").nth(1).unwrap_or_default();
            let acting = acting.split('@').next().unwrap_or_default();
            let names = ["X-AnchorMailbox", "X-PreferServerAffinity", "Cookie", "Accept-Encoding"];
            format!("{acting}: {}", names.map(|name| header(request, name)).join(" "))
        })
        .collect();
    let cookie = "X-BackEndOverrideCookie=ex01~1";
    assert_eq!(
        told,
        [
            "anna: anna@example.org true - gzip".to_owned(),
            format!("bert: anna@example.org true {cookie} gzip"),
            format!("bert: bert@example.org true {cookie} identity"),
            "anna: anna@example.org - - gzip".to_owned(),
            format!("bert: bert@example.org true {cookie} gzip"),
        ]
    );
    let asked = "<t:SubscriptionId>S1</t:SubscriptionId><t:SubscriptionId>S2</t:SubscriptionId>\
                 </m:SubscriptionIds><m:ConnectionTimeout>29</m:ConnectionTimeout>";
    assert!(requests[2].contains(asked), "{}", requests[2]);
}

#[tokio::test]
async fn a_connection_tells_what_comes_and_how_it_ends() {
    let open = said(Ok(NOTHING));
    let lost = |ids: &[&str], status| refused("ErrorSubscriptionNotFound", ids, status);
    let fault = r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>a:ErrorServerBusy</faultcode><faultstring>x</faultstring></s:Fault></s:Body></s:Envelope>"#;
    let busy = http("HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/xml\r\n", fault.as_bytes());
    let gone = Reason::MailboxTransientError;
    let cases: [Case; 13] = [
        (
            stream(&[open.clone(), mail("S1"), mail("S2"), mail("S1")], true),
            &["news S1", "news S2", "news S1"],
            Ok(()),
        ),
        (stream(&[lost(&["S2"], "Closed")], true), &["lost S2 MAILBOX_TRANSIENT_ERROR"], Ok(())),
        (
            stream(&[open.clone(), lost(&["S1"], "OK"), mail("S2")], true),
            &["lost S1 MAILBOX_TRANSIENT_ERROR", "news S2"],
            Ok(()),
        ),
        // An error that names nobody ends everything, even if the status beside it is well.
        (
            stream(&[open.clone(), refused("ErrorReadEventsFailed", &[], "OK"), mail("S1")], true),
            &[],
            Err(gone),
        ),
        (stream(&[open.clone(), mail("S1")], false), &["news S1"], Err(Reason::ProfileConnectionLost)),
        (stream(&[open.clone(), open[..99].to_owned()], true), &[], Err(Reason::EwsProtocolError)),
        (stream(&[], true), &[], Err(Reason::ProfileAnswerNotEws)),
        (stream(&["<html><br>Maintenance</html>".to_owned()], true), &[], Err(Reason::ProfileAnswerNotEws)),
        (stream(&["<html>Maintenance</html>".to_owned()], true), &[], Err(Reason::ProfileAnswerNotEws)),
        (stream(&[open, folder_answer()], true), &[], Err(Reason::EwsProtocolError)),
        (stream(&[fault.to_owned()], true), &[], Err(Reason::ExchangeServerBusy)),
        (busy, &[], Err(Reason::ExchangeServerBusy)),
        (http("HTTP/1.1 503 Unavailable\r\n", b"no"), &[], Err(Reason::ExchangeUnavailable)),
    ];
    for (answer, expected, end) in cases {
        let server = Server::start([Act::AnswerAndClose(answer)]).await;
        let (told, ended) = read(&server.client(), LIFETIME).await;
        assert_eq!(
            (told.as_slice(), ended.map_err(|failure| failure.reason)),
            (&expected.iter().map(|told| (*told).to_owned()).collect::<Vec<_>>()[..], end)
        );
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_arrives_is_given_up() {
    let begun = std::time::Instant::now();
    let (first, rest) = (stream(&[said(Ok(NOTHING)), mail("S1")], false), stream(&[mail("S2")], true));
    let server = Server::start([Act::AnswerLate(first, Duration::from_mins(1), rest)]).await;
    let short = Lifetime { silence: Duration::from_millis(200), ..LIFETIME };
    let (told, ended) = read(&server.client(), short).await;
    assert_eq!(told, ["news S1"]);
    assert_eq!(ended.map_err(|failure| failure.reason), Err(Reason::ProfileDeadlineExceeded));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_connection_that_stands_keeps_nobody_from_the_gate() {
    let standing = stream(&[said(Ok(NOTHING)), mail("S1")], false);
    let server = Server::start([
        Act::AnswerLate(standing, Duration::from_mins(1), Vec::new()),
        Act::Answer(ok(folder_answer())),
        Act::Answer(stream(&[said(Err("ErrorExceededConnectionCount"))], true)),
    ])
    .await;
    let gate = Gate::new(ProfileId::new(1), 1, None, clock);
    let client = Client::new(server.config(), gate.clone()).expect("the configuration is good");
    let (sender, mut stands) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn({
        let watch = client.watch("anna@example.org");
        async move {
            let ids = ["S1".into()];
            watch
                .read(&ids, LIFETIME, |told| {
                    if matches!(told, Told::Stands) {
                        sender.send(()).expect("somebody waits");
                    }
                })
                .await
        }
    });
    stands.recv().await.expect("it stands");
    assert_eq!(gate.view().in_flight, 0);
    client.mailbox("anna@example.org").get_folder(&WellKnown::Inbox.into()).await.expect("it may be asked");
    // The connections that hang are limited apart from requests.
    let before = gate.view().state;
    let (_, ended) = read(&client, LIFETIME).await;
    assert_eq!(ended.map_err(|failure| failure.reason), Err(Reason::ExchangeConnectionLimit));
    assert_eq!((gate.view().state, gate.view().in_flight), (before, 0));
    reading.abort();
}
