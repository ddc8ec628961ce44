//! Each kind of fault as a client meets it, and the rules that say whom it strikes.

use std::time::{Duration, Instant};

use crate::stage::{Answer, Stage, all, codes, first};

const ME: &str = "mailbox00001@exchange.test";
const YOU: &str = "mailbox00002@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/><t:DistinguishedFolderId Id=\"drafts\"/></m:FolderIds></m:GetFolder>";
const SYNC: &str = "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:SyncFolderId>\
                    <t:DistinguishedFolderId Id=\"inbox\"/></m:SyncFolderId>STATE<m:MaxChangesReturned>10</m:MaxChangesReturned>\
                    </m:SyncFolderItems>";

fn sync(state: &str) -> String {
    let state = if state.is_empty() { String::new() } else { format!("<m:SyncState>{state}</m:SyncState>") };
    SYNC.replace("STATE", &state)
}

/// What a client sees of an answer: nothing at all, or its status and codes.
fn seen(answer: Option<&Answer>) -> String {
    answer.map_or("nothing".to_owned(), |answer| {
        let codes = codes(&answer.body).join(" ");
        format!("{} {codes}", answer.status).trim_end().to_owned()
    })
}

#[tokio::test]
async fn each_kind_shows_as_it_should() {
    let stage = Stage::new(2, |_| {}).await;
    let cases = [
        (
            r#"{"kind":"mailbox_unavailable"}"#,
            "200 ErrorMailboxStoreUnavailable ErrorMailboxStoreUnavailable",
        ),
        (r#"{"kind":"server_busy"}"#, "500 ErrorServerBusy"),
        (r#"{"kind":"server_busy_hint","hint_ms":1500}"#, "500 ErrorServerBusy"),
        (r#"{"kind":"http_503"}"#, "503"),
        (r#"{"kind":"http_503","hint_ms":1500}"#, "503"),
        (r#"{"kind":"unauthorized"}"#, "401"),
        (r#"{"kind":"html_200"}"#, "200"),
        (r#"{"kind":"concurrency","limit":0}"#, "500 ErrorExceededConnectionCount"),
        (r#"{"kind":"concurrency","limit":0,"hint_ms":1500}"#, "500 ErrorServerBusy"),
        (r#"{"kind":"impersonation_denied"}"#, "500 ErrorImpersonateUserDenied"),
        (r#"{"kind":"no_such_mailbox"}"#, "500 ErrorNonExistentMailbox"),
        (r#"{"kind":"lost_response"}"#, "nothing"),
        (r#"{"kind":"cut_connection"}"#, "nothing"),
        (r#"{"kind":"partial_batch"}"#, "200 NoError ErrorInternalServerTransientError"),
        (r#"{"kind":"down"}"#, "nothing"),
    ];
    for (rule, expected) in cases {
        stage.fault(rule);
        let answer = stage.ask(ME, GET).await;
        assert_eq!(seen(answer.as_ref()), expected, "{rule}");
        let kind = rule.split('"').nth(3).expect("a kind");
        assert!(stage.simulator.stats()["faults"][kind].as_u64() >= Some(1), "{rule}");
        let retry = answer.as_ref().and_then(|answer| answer.headers.get("retry-after"));
        assert_eq!(retry.is_some(), rule.contains("503") && rule.contains("hint"), "{rule}");
        assert!(retry.is_none_or(|retry| retry == "2"), "{rule}");
        let html = answer.as_ref().is_some_and(|answer| {
            answer.body.contains("<html>") && answer.headers["content-type"] == "text/html; charset=utf-8"
        });
        assert_eq!(html, rule.contains("html"), "{rule}");
        let hint = answer.is_some_and(|answer| {
            answer.body.contains("<t:Value Name=\"BackOffMilliseconds\">1500</t:Value>")
        });
        assert_eq!(
            hint,
            rule.contains("busy_hint") || rule.contains("limit") && rule.contains("hint"),
            "{rule}"
        );
        stage.simulator.clear_faults();
        assert_eq!(seen(stage.ask(ME, GET).await.as_ref()), "200 NoError NoError", "{rule} is over");
    }
}

#[tokio::test]
async fn rules_strike_whom_they_name_and_as_often_as_they_say() {
    let stage = Stage::new(2, |_| {}).await;
    let well = "200 NoError NoError";
    let busy = "500 ErrorServerBusy";
    let cases: [(&str, [&str; 3]); 7] = [
        (r#""operation":"GetFolder""#, [busy, busy, busy]),
        (r#""operation":"GetItem""#, [well, well, well]),
        (r#""mailbox":"MAILBOX00001@exchange.test""#, [busy, well, busy]),
        (r#""count":2"#, [busy, busy, well]),
        (r#""rate":0"#, [well, well, well]),
        (r#""for_seconds":0"#, [well, well, well]),
        (r#""for_seconds":60"#, [busy, busy, busy]),
    ];
    for (field, expected) in cases {
        stage.fault(&format!("{{\"kind\":\"server_busy\",{field}}}"));
        for (mailbox, expected) in [ME, YOU, ME].into_iter().zip(expected) {
            assert_eq!(seen(stage.ask(mailbox, GET).await.as_ref()), expected, "{field} {mailbox}");
        }
        stage.simulator.clear_faults();
    }
    stage.fault(r#"{"kind":"http_503","rate":0.3}"#);
    let mut struck = 0;
    for _ in 0..100 {
        struck += u32::from(stage.ask(ME, GET).await.is_some_and(|answer| answer.status == 503));
    }
    assert!((15..45).contains(&struck), "{struck} of 100");
}

#[tokio::test]
async fn a_lost_response_was_executed_and_a_cut_connection_was_not() {
    for (kind, made) in
        [("lost_response", 1), ("cut_connection", 0), ("down", 0), ("http_503", 0), ("server_busy", 0)]
    {
        let stage = Stage::new(1, |_| {}).await;
        stage.fault(&format!("{{\"kind\":\"{kind}\",\"count\":1}}"));
        let create =
            "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message/></m:Items></m:CreateItem>";
        stage.ask(ME, create).await;
        assert_eq!(stage.simulator.list(ME, "drafts").map(|listed| listed.len()), Some(made), "{kind}");
    }
}

#[tokio::test]
async fn a_slow_body_is_executed_at_once_and_answered_late() {
    let stage = Stage::new(1, |_| {}).await;
    stage.fault(r#"{"kind":"slow_body","delay_ms":300,"operation":"CreateItem"}"#);
    let create =
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message/></m:Items></m:CreateItem>";
    let begun = Instant::now();
    let executed = async {
        while stage.simulator.list(ME, "drafts").is_none_or(|listed| listed.is_empty()) {
            tokio::task::yield_now().await;
        }
        stage.simulator.stats()["concurrent"].as_u64()
    };
    let (answer, concurrent) = tokio::join!(stage.ask(ME, create), executed);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(seen(answer.as_ref()), "200 NoError");
    assert_eq!(concurrent, Some(1), "the answer was still under way");
}

#[tokio::test]
async fn poison_strikes_contents_and_stays_on_its_items() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 10);
    let answer = stage.answer(ME, &sync("")).await;
    let ids: Vec<String> = all(&answer, "ItemId").map(|id| format!("<t:ItemId {id}/>")).collect();
    let ids = ids.concat();
    let get = |content: &str| {
        format!(
            "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>{content}</m:ItemShape><m:ItemIds>{ids}</m:ItemIds></m:GetItem>"
        )
    };
    let content = get("<t:IncludeMimeContent>true</t:IncludeMimeContent>");
    stage.fault(r#"{"kind":"poison","rate":0.5}"#);
    let first = stage.answer(ME, &content).await;
    let corrupt = codes(&first).into_iter().filter(|code| *code == "ErrorItemCorrupt").count();
    assert!((1..10).contains(&corrupt), "{corrupt} of 10");
    assert_eq!(codes(&stage.answer(ME, &content).await), codes(&first), "an item once poisoned stays so");
    assert_eq!(codes(&stage.answer(ME, &get("")).await), ["NoError"; 10], "properties can still be read");
    assert_eq!(stage.simulator.stats()["faults"]["poison"], 2 * corrupt);
    stage.simulator.clear_faults();
    stage.fault(r#"{"kind":"poison","count":1}"#);
    let once = stage.answer(ME, &content).await;
    assert_eq!(codes(&once).into_iter().filter(|code| *code == "ErrorItemCorrupt").count(), 1);
}

#[tokio::test]
async fn synchronization_has_faults_of_its_own() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 25);
    stage.fault(r#"{"kind":"bad_sync_state"}"#);
    let answer = stage.answer(ME, &sync("")).await;
    assert_eq!(codes(&answer), ["NoError"], "without a state there is nothing to be bad");
    let state = first(&answer, "SyncState").expect("a state").to_owned();
    assert_eq!(codes(&stage.answer(ME, &sync(&state)).await), ["ErrorInvalidSyncStateData"]);
    stage.simulator.clear_faults();

    stage.fault(r#"{"kind":"repeated_changes"}"#);
    let (mut state, mut told, mut last) = (String::new(), Vec::new(), false);
    while !last {
        let answer = stage.answer(ME, &sync(&state)).await;
        told.extend(all(&answer, "ItemId").map(|id| id.split(' ').next().unwrap_or_default().to_owned()));
        state = first(&answer, "SyncState").expect("a state").to_owned();
        last = first(&answer, "IncludesLastItemInRange") == Some("true");
    }
    let distinct: std::collections::BTreeSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), 25, "all are told");
    assert!(told.len() > 25, "and some twice");
}

#[tokio::test]
async fn a_partial_batch_leaves_the_rest_unattempted() {
    let stage = Stage::new(1, |_| {}).await;
    stage.fault(r#"{"kind":"partial_batch","operation":"CreateItem"}"#);
    let create = |count| {
        let items = "<t:Message/>".repeat(count);
        format!("<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items>{items}</m:Items></m:CreateItem>")
    };
    let answer = stage.answer(ME, &create(4)).await;
    let stopped = "ErrorBatchProcessingStopped";
    assert_eq!(codes(&answer), ["NoError", "ErrorInternalServerTransientError", stopped, stopped]);
    assert_eq!(answer.matches("ResponseClass=\"Warning\"").count(), 2);
    assert_eq!(stage.simulator.list(ME, "drafts").map(|listed| listed.len()), Some(1));
    assert_eq!(codes(&stage.answer(ME, &create(1)).await), ["NoError"], "one item is no batch");
    stage.fault(r#"{"kind":"stopped_batch","operation":"CreateItem"}"#);
    assert_eq!(codes(&stage.answer(ME, &create(2)).await), [stopped, stopped]);
}

#[tokio::test]
async fn a_wrong_clock_is_wrong_everywhere() {
    let stage = Stage::new(1, |_| {}).await;
    let date = async |stage: &Stage| {
        let answer = stage.ask(ME, GET).await.expect("an answer");
        answer.headers["date"].to_str().expect("a date").to_owned()
    };
    assert!(date(&stage).await.contains("01 Jun 2026 08:"));
    stage.fault(r#"{"kind":"clock_skew","skew_ms":-7200000}"#);
    assert!(date(&stage).await.contains("01 Jun 2026 06:"));
    stage.deliver(1, 1);
    let listed = stage.simulator.list(ME, "inbox").expect("an inbox");
    assert!(listed[0].received_time.starts_with("2026-06-01T06:"), "{}", listed[0].received_time);
}
