//! The control door: what people and scripts rely on.

use http::Method;
use serde_json::{Value, json};

use crate::stage::Stage;

const ME: &str = "mailbox00001@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test]
async fn the_ready_line_tells_all_that_is_needed() {
    let stage = Stage::new(2, |_| {}).await;
    let ready = serde_json::to_value(stage.simulator.ready()).expect("JSON");
    let mut told = keys(&ready);
    told.sort_unstable();
    let wanted = [
        "addresses_file",
        "autodiscover_http_url",
        "autodiscover_url",
        "ca_file",
        "control_url",
        "domain",
        "ews_url",
        "nt_domain",
        "password",
        "user",
    ];
    assert_eq!(told, wanted);
    assert_eq!(ready["user"], "svc-mailyard@exchange.test");
    assert_eq!((&ready["domain"], &ready["nt_domain"]), (&json!("exchange.test"), &json!("EXCHANGE")));
    let file = ready["addresses_file"].as_str().expect("a path");
    let addresses = std::fs::read_to_string(file).expect("a file");
    assert_eq!(addresses, format!("{ME}\nmailbox00002@exchange.test\n"));
    let url = ready["ews_url"].as_str().expect("a URL");
    assert!(url.starts_with("https://127.0.0.1:") && url.ends_with("/EWS/Exchange.asmx"), "{url}");
    let place = url.replace("/EWS/Exchange.asmx", "/autodiscover/autodiscover.svc");
    assert_eq!(ready["autodiscover_url"], place);
}

#[tokio::test]
async fn messages_are_delivered_and_listed() {
    let stage = Stage::new(2, |_| {}).await;
    let mime = "From: a@outside.example\r\nSubject: Whole\r\nMessage-ID: <1@outside.example>\r\nX-Mailyard-Operation-Id: op-1\r\n\r\nHi\r\n";
    let cases = [
        (json!({"to": [ME]}), 1),
        (json!({"to": [ME, "mailbox00002@exchange.test"], "subject": "Both"}), 2),
        (json!({"to": [ME], "from": "jane@outside.example", "subject": "Many", "text": "Hi", "count": 3}), 3),
        (json!({"to": [ME], "subject": "Large", "size": 5000}), 1),
        (json!({"to": [ME], "mime": mime}), 1),
    ];
    for (body, delivered) in cases {
        let answer = stage.control(Method::POST, "/deliver", &body.to_string()).await;
        assert_eq!(answer, (200, json!({ "delivered": delivered })), "{body}");
    }
    let (status, listed) = stage.control(Method::GET, &format!("/mailbox/{ME}/inbox"), "").await;
    assert_eq!(status, 200);
    let column =
        |name: &str| listed.as_array().expect("rows").iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("subject"), ["A message", "Both", "Many 1", "Many 2", "Many 3", "Large", "Whole"]);
    let rows = listed.as_array().expect("rows");
    let last = &rows[6];
    let mut told = keys(last);
    told.sort_unstable();
    assert_eq!(
        told,
        ["from", "internet_message_id", "item_id", "received_time", "send_key", "subject", "to", "told"]
    );
    assert_eq!(last["internet_message_id"], "<1@outside.example>");
    assert_eq!(last["send_key"], "op-1");
    assert_eq!(rows[2]["from"], "jane@outside.example");
    assert_eq!(rows[2]["to"], json!([ME]));
    for path in ["/mailbox/MAILBOX00001%40exchange.test/Inbox", &format!("/mailbox/{ME}/INBOX")] {
        let answer = stage.control(Method::GET, path, "").await;
        assert_eq!(answer, (200, listed.clone()), "{path}");
    }
    let empty = stage.control(Method::GET, &format!("/mailbox/{ME}/sentitems"), "").await;
    assert_eq!(empty, (200, json!([])));
}

#[tokio::test]
async fn the_statistics_count_what_happened() {
    let stage = Stage::new(2, |_| {}).await;
    for _ in 0..3 {
        stage.ask(ME, GET).await;
    }
    let fault = r#"{"kind":"server_busy","count":1}"#;
    assert_eq!(stage.control(Method::POST, "/fault", fault).await.0, 200);
    stage.ask("mailbox00002@exchange.test", GET).await;
    let send = format!(
        "<m:CreateItem MessageDisposition=\"SendOnly\"><m:Items><t:Message><t:ToRecipients><t:Mailbox><t:EmailAddress>{ME}</t:EmailAddress>\
         </t:Mailbox></t:ToRecipients></t:Message></m:Items></m:CreateItem>"
    );
    stage.ask(ME, &send).await;
    let (status, stats) = stage.control(Method::GET, "/stats", "").await;
    assert_eq!(status, 200);
    assert_eq!(stats["requests"], json!({"CreateItem": 1, "GetFolder": 4}));
    assert_eq!(stats["faults"], json!({"server_busy": 1}));
    assert_eq!((&stats["max_concurrent"], &stats["sends_executed"]), (&json!(1), &json!(1)));
    assert_eq!(stats["connections"], 5);
    let (_, one) = stage.control(Method::GET, &format!("/stats?mailbox={ME}"), "").await;
    assert_eq!(one["mailbox_requests"], 4);
    for (query, counts) in [("", [4, 1]), ("?operation=GetFolder", [3, 1]), ("?operation=GetItem", [0, 0])] {
        let (_, each) = stage.control(Method::GET, &format!("/stats/mailboxes{query}"), "").await;
        assert_eq!(each, json!({ ME: counts[0], "mailbox00002@exchange.test": counts[1] }), "{query}");
    }
    for most in [1, 0] {
        let window = stage.control(Method::POST, "/stats/window", "").await;
        assert_eq!(window, (200, json!({ "max_concurrent": most })));
    }
}

#[tokio::test]
async fn rules_are_taken_away() {
    let stage = Stage::new(1, |_| {}).await;
    for kind in ["http_503", "cut_connection", "unauthorized"] {
        let body = json!({ "kind": kind }).to_string();
        assert_eq!(stage.control(Method::POST, "/fault", &body).await, (200, json!({})));
    }
    assert!(stage.ask(ME, GET).await.is_none_or(|answer| answer.status != 200));
    assert_eq!(stage.control(Method::DELETE, "/fault", "").await, (200, json!({})));
    assert_eq!(stage.ask(ME, GET).await.map(|answer| answer.status), Some(200));
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong_with_it() {
    let stage = Stage::new(1, |_| {}).await;
    let cases = [
        (
            Method::POST,
            "/deliver",
            r#"{"to":["nobody@exchange.test"]}"#,
            400,
            "to: there is no mailbox nobody@exchange.test",
        ),
        (Method::POST, "/deliver", r#"{"to":[]}"#, 400, "to: at least one address is needed"),
        (Method::POST, "/deliver", "{}", 400, "missing field `to`"),
        (Method::POST, "/deliver", r#"{"to":["a"],"colour":1}"#, 400, "unknown field `colour`"),
        (Method::POST, "/deliver", r#"{"to":["a"],"count":-1}"#, 400, "invalid value: integer `-1`"),
        (Method::POST, "/deliver", "", 400, "EOF"),
        (Method::POST, "/fault", "{}", 400, "missing field `kind`"),
        (Method::POST, "/fault", r#"{"kind":"nonsense"}"#, 400, "unknown variant `nonsense`"),
        (Method::POST, "/fault", r#"{"kind":"down","rate":2}"#, 400, "rate: must be between 0 and 1"),
        (Method::POST, "/fault", r#"{"kind":"slow_body"}"#, 400, "delay_ms: slow_body needs it"),
        (Method::POST, "/fault", r#"{"kind":"clock_skew"}"#, 400, "skew_ms: clock_skew needs it"),
        (
            Method::POST,
            "/fault",
            r#"{"kind":"down","mailbox":"mailbox00001@exchange.test"}"#,
            400,
            "mailbox: this kind concerns every mailbox",
        ),
        (
            Method::POST,
            "/fault",
            r#"{"kind":"poison","mailbox":"x@y"}"#,
            400,
            "mailbox: there is no mailbox x@y",
        ),
        (
            Method::POST,
            "/fault",
            r#"{"kind":"poison","operation":"Dance"}"#,
            400,
            "operation: there is no operation Dance",
        ),
        (Method::POST, "/fault", r#"{"kind":"poison","count":-1}"#, 400, "invalid value: integer `-1`"),
        (Method::GET, "/mailbox/nobody/inbox", "", 404, "there is no mailbox nobody"),
        (Method::GET, "/mailbox/mailbox00001@exchange.test/attic", "", 404, "there is no folder attic"),
        (Method::GET, "/stats?mailbox=nobody", "", 404, "there is no mailbox nobody"),
        (Method::GET, "/stats/mailboxes?operation=Dance", "", 400, "operation: there is no operation Dance"),
        (Method::POST, "/settings", r#"{"colour":1}"#, 400, "unknown field `colour`"),
        (Method::GET, "/nothing", "", 404, "there is no GET /nothing"),
        (Method::PUT, "/fault", "{}", 404, "there is no PUT /fault"),
    ];
    for (method, path, body, status, error) in cases {
        let (answered, told) = stage.control(method.clone(), path, body).await;
        let text = told["error"].as_str().unwrap_or_default();
        assert!(answered == status && text.contains(error), "{method} {path} {body}: {answered} {text}");
    }
    assert_eq!(stage.simulator.stats()["faults"], json!({}));
}

#[tokio::test]
async fn settings_are_told_and_changed() {
    let stage = Stage::new(1, |_| {}).await;
    let mut wanted = json!({
        "extended_protection": "allow", "auth_persist_single_request": false, "token_seconds": 3599,
        "max_concurrency": null, "max_budget_concurrency": null, "budget": null, "max_subscriptions": 5000,
        "hanging_connections": null, "minute_ms": 60000, "status_ms": 45000, "backends": 1,
    });
    assert_eq!(stage.control(Method::GET, "/settings", "").await, (200, wanted.clone()));
    wanted["max_concurrency"] = json!(3);
    assert_eq!(
        stage.control(Method::POST, "/settings", r#"{"max_concurrency":3}"#).await,
        (200, wanted.clone())
    );
    assert_eq!(stage.control(Method::GET, "/settings", "").await, (200, wanted));
}
