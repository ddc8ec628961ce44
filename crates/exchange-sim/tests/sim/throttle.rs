//! Throttling: requests under way at once, and budgets that run dry.

use http::Method;
use mailyard_exchange_sim::{Budget, Settings};

use crate::stage::{Answer, Stage, codes, soap};

const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";
/// It is answered late, and so is under way for a while.
const SLOW: &str = "<m:ResolveNames ReturnFullContactData=\"false\"><m:UnresolvedEntry>mailbox</m:UnresolvedEntry></m:ResolveNames>";

fn code(answer: Option<&Answer>) -> String {
    let answer = answer.expect("an answer");
    format!("{} {}", answer.status, codes(&answer.body)[0])
}

/// What three requests get while one of the service account for the first mailbox is under way: another one for it, one
/// for the second mailbox, and one of the second mailbox's owner.
async fn meanwhile(stage: &Stage) -> [String; 3] {
    stage.fault(r#"{"kind":"slow_body","operation":"ResolveNames","delay_ms":600000}"#);
    let others = async {
        while stage.simulator.stats()["concurrent"] != 1 {
            tokio::task::yield_now().await;
        }
        let (again, other) = (stage.ask(ONE, GET).await, stage.ask(TWO, GET).await);
        let own = stage.post(TWO, TWO, &soap(None, GET)).await;
        [again, other, own].map(|answer| code(answer.as_ref()))
    };
    let told = tokio::select! {
        _ = stage.ask(ONE, SLOW) => panic!("it was answered at once"),
        told = others => told,
    };
    stage.simulator.clear_faults();
    told
}

#[tokio::test]
async fn one_request_too_many_is_refused() {
    let stage = Stage::new(2, |_| {}).await;
    let (well, many, busy) = ("200 NoError", "500 ErrorExceededConnectionCount", "500 ErrorServerBusy");
    let settings = |max_concurrency, max_budget_concurrency| Settings {
        max_concurrency,
        max_budget_concurrency,
        ..Settings::default()
    };
    let cases = [
        (settings(None, None), "", [well, well, well]),
        (settings(Some(1), None), "", [many, many, well]),
        (settings(Some(2), None), "", [well, well, well]),
        (settings(None, Some(1)), "", [many, well, well]),
        (settings(None, None), r#""limit":1"#, [many, many, well]),
        (settings(None, None), r#""limit":1,"hint_ms":700"#, [busy, busy, well]),
        (settings(None, None), r#""limit":1,"mailbox":"mailbox00001@exchange.test""#, [many, well, well]),
        (settings(None, None), r#""limit":2"#, [well, well, well]),
    ];
    for (settings, rule, expected) in cases {
        stage.simulator.set(settings);
        if !rule.is_empty() {
            stage.fault(&format!("{{\"kind\":\"concurrency\",{rule}}}"));
        }
        assert_eq!(meanwhile(&stage).await, expected, "{settings:?} {rule}");
        // Who went away without an answer is not counted any more.
        while stage.simulator.stats()["concurrent"] != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(code(stage.ask(ONE, GET).await.as_ref()), well);
    }
}

#[tokio::test]
async fn each_mailbox_has_a_budget_and_its_owner_another() {
    let stage = Stage::new(2, |_| {}).await;
    let budget = Budget { burst_ms: 100.0, recharge_ms_per_hour: 1.0, cutoff_ms: 0.0, cost_ms: 100.0 };
    let json = serde_json::json!({ "budget": budget }).to_string();
    assert_eq!(stage.control(Method::POST, "/settings", &json).await.0, 200);
    let (well, busy) = ("200 NoError", "500 ErrorServerBusy");
    for (user, mailbox, expected) in [
        (SERVICE, Some(ONE), well),
        (SERVICE, Some(ONE), busy),
        (SERVICE, Some(TWO), well),
        (ONE, None, well),
        (ONE, None, busy),
        (TWO, Some(TWO), busy),
        (SERVICE, None, well),
    ] {
        let answer = stage.post(user, ONE, &soap(mailbox, GET)).await;
        assert_eq!(code(answer.as_ref()), expected, "{user} {mailbox:?}");
        let hinted =
            answer.is_some_and(|answer| answer.body.contains("<t:Value Name=\"BackOffMilliseconds\">"));
        assert_eq!(hinted, expected == busy);
    }
}
