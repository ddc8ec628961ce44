//! Subscriptions and what they tell: on connections that go on answering, and to who fetches.

use http::{Method, Request, header};
use mailyard_exchange_sim::{Made, Settings};

use crate::{
    golden::{count, golden},
    stage::{Answer, Said, Stage, Talk, all, codes, first, soap},
};

const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";
const INBOX: &str = "<t:DistinguishedFolderId Id=\"inbox\"/>";
const KINDS: [&str; 5] = ["NewMailEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent"];
const CREATE: &str = "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId><t:DistinguishedFolderId Id=\"inbox\"/>\
                      </m:SavedItemFolderId><m:Items><t:Message><t:Subject>x</t:Subject></t:Message></m:Items></m:CreateItem>";

/// A subscription to folders, or to all of them.
fn subscribe(way: &str, folders: &str, after: &str) -> String {
    let (attribute, folders) = match folders {
        "" => (" SubscribeToAllFolders=\"true\"", String::new()),
        folders => ("", format!("<t:FolderIds>{folders}</t:FolderIds>")),
    };
    let kinds = KINDS.join("</t:EventType><t:EventType>");
    format!(
        "<m:Subscribe><m:{way}SubscriptionRequest{attribute}>{folders}<t:EventTypes><t:EventType>{kinds}</t:EventType>\
         </t:EventTypes>{after}</m:{way}SubscriptionRequest></m:Subscribe>"
    )
}

fn streaming(folders: &str) -> String {
    subscribe("Streaming", folders, "")
}

fn open(ids: &[String]) -> String {
    let ids = ids.join("</t:SubscriptionId><t:SubscriptionId>");
    format!(
        "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>{ids}</t:SubscriptionId></m:SubscriptionIds>\
         <m:ConnectionTimeout>1</m:ConnectionTimeout></m:GetStreamingEvents>"
    )
}

fn unsubscribe(id: &str) -> String {
    format!("<m:Unsubscribe><m:SubscriptionId>{id}</m:SubscriptionId></m:Unsubscribe>")
}

fn get(id: &str, watermark: &str) -> String {
    format!(
        "<m:GetEvents><m:SubscriptionId>{id}</m:SubscriptionId><m:Watermark>{watermark}</m:Watermark></m:GetEvents>"
    )
}

/// A subscription to the Inbox of a mailbox.
async fn subscribed(stage: &Stage, mailbox: &str) -> String {
    let answer = stage.answer(mailbox, &streaming(INBOX)).await;
    first(&answer, "SubscriptionId").unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A connection of the service account for subscriptions, past its first envelope.
async fn talk(stage: &Stage, ids: &[String]) -> Talk {
    let mut talk = talk_as(stage, SERVICE, ids).await;
    let opened = talk.document().await;
    assert_eq!(
        (codes(&opened), first(&opened, "ConnectionStatus")),
        (vec!["NoError"], Some("OK")),
        "{opened}"
    );
    talk
}

async fn talk_as(stage: &Stage, user: &str, ids: &[String]) -> Talk {
    let request = Request::post("/EWS/Exchange.asmx").header(header::AUTHORIZATION, stage.basic(user));
    stage.line().await.talk(request, &soap(None, &open(ids))).await
}

/// The code of an envelope, and whether the connection goes on.
fn state(document: &str) -> (&str, Option<&str>) {
    (codes(document)[0], first(document, "ConnectionStatus"))
}

/// The names of the events in a document, in order.
fn events(document: &str) -> Vec<&str> {
    let starts = document.match_indices("<t:").map(|(at, _)| &document[at + 3..]);
    let names = starts.filter_map(|rest| rest.split(['>', ' ', '/']).next());
    names.filter(|name| name.ends_with("Event")).collect()
}

#[tokio::test]
async fn answers_are_those_of_the_golden_files() {
    let stage = Stage::new(2, |options| options.settings.minute_ms = 1).await;
    let mut files = 0;
    let mut keep = |name: &str, request: &str, answer: &str| {
        golden(&format!("notifications/{name}.request.xml"), &soap(Some(ONE), request));
        golden(&format!("notifications/{name}.answer.xml"), answer);
        files += 2;
    };
    stage.simulator.set(Settings::default());
    let foreign = format!(
        "{INBOX}<t:DistinguishedFolderId Id=\"inbox\"><t:Mailbox><t:EmailAddress>{TWO}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>"
    );
    let push = subscribe(
        "Push",
        INBOX,
        "<t:StatusFrequency>5</t:StatusFrequency><t:URL>https://listener.test/</t:URL>",
    );
    let mut made = Vec::new();
    for (name, request) in [
        ("Subscribe", streaming(INBOX)),
        ("Subscribe.pull", subscribe("Pull", "", "<t:Timeout>30</t:Timeout>")),
        ("Subscribe.foreign", streaming(&foreign)),
        ("Subscribe.push", push),
    ] {
        let answer = stage.answer(ONE, &request).await;
        keep(name, &request, &answer);
        made.push(answer);
    }
    let id = first(&made[0], "SubscriptionId").expect("an id").to_owned();
    let (pull, start) = (first(&made[1], "SubscriptionId").expect("an id"), first(&made[1], "Watermark"));
    stage.deliver(1, 1);
    let request = get(pull, start.expect("a watermark"));
    let fetched = stage.answer(ONE, &request).await;
    keep("GetEvents", &request, &fetched);
    let item = first(&fetched, "ItemId").expect("an item");
    let shift = format!(
        "<m:MoveItem><m:ToFolderId><t:DistinguishedFolderId Id=\"drafts\"/></m:ToFolderId><m:ItemIds><t:ItemId {item}/></m:ItemIds></m:MoveItem>"
    );
    stage.answer(ONE, &shift).await;
    let latest = all(&fetched, "Watermark").last().expect("a watermark");
    let request = get(pull, latest);
    let fetched = stage.answer(ONE, &request).await;
    keep("GetEvents.moved", &request, &fetched);
    let request = get(pull, all(&fetched, "Watermark").last().expect("a watermark"));
    keep("GetEvents.none", &request, &stage.answer(ONE, &request).await);
    let request = get(&id, latest);
    keep("GetEvents.streaming", &request, &stage.answer(ONE, &request).await);
    // What waits is told at once, and the shortest minute is over then.
    stage.simulator.set(Settings { minute_ms: 1, ..Settings::default() });
    let request = open(std::slice::from_ref(&id));
    keep("GetStreamingEvents", &request, &stage.answer(ONE, &request).await);
    let request = open(&[id.clone(), "AAAA".to_owned(), pull.to_owned()]);
    keep("GetStreamingEvents.unknown", &request, &stage.answer(ONE, &request).await);
    let request = unsubscribe(&id);
    for name in ["Unsubscribe", "Unsubscribe.again"] {
        keep(name, &request, &stage.answer(ONE, &request).await);
    }
    assert_eq!(count("notifications"), files, "every golden file has its step");
}

#[tokio::test]
async fn one_connection_tells_of_two_hundred_mailboxes() {
    let stage = Stage::new(201, |_| {}).await;
    let mut ids = Vec::new();
    for number in 1..=200 {
        ids.push(subscribed(&stage, &stage.address(number)).await);
    }
    let mut talk = talk(&stage, &ids).await;
    assert_eq!(talk.headers["content-type"], "text/xml; charset=utf-8");
    for number in [200, 1, 77] {
        stage.deliver(number, 1);
        let news = talk.news().await;
        assert_eq!(first(&news, "SubscriptionId"), Some(ids[number - 1].as_str()));
        assert_eq!(events(&news), ["NewMailEvent", "CreatedEvent", "ModifiedEvent"]);
        let listed = stage.simulator.list(&stage.address(number), "inbox").expect("an Inbox");
        assert!(news.contains(&format!("<t:ItemId Id=\"{}\"", listed[0].item_id)), "{news}");
    }
    let stats = stage.simulator.stats();
    assert_eq!((&stats["streams"], &stats["subscriptions"]), (&1.into(), &200.into()));
    assert_eq!(stats["concurrent"], 0, "a connection that hangs is no request under way");
    ids.push("x".to_owned());
    let many = stage.ask(ONE, &open(&ids)).await.expect("an answer");
    assert_eq!((many.status, codes(&many.body)), (500, vec!["ErrorInvalidRequest"]));
    drop(talk);
    while stage.simulator.stats()["streams"] != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_shows_that_it_stands_and_closes_in_time() {
    let stage = Stage::new(1, |options| {
        options.settings.minute_ms = 400;
        options.settings.status_ms = 50;
    });
    let stage = stage.await;
    let id = subscribed(&stage, ONE).await;
    let begun = std::time::Instant::now();
    let mut talk = talk(&stage, &[id]).await;
    assert_eq!(events(&talk.document().await), ["StatusEvent"]);
    assert_eq!(state(&talk.news().await), ("NoError", Some("Closed")));
    assert_eq!(talk.next().await, Said::End);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(400));
}

#[tokio::test]
async fn what_happens_is_told_as_what_it_is() {
    let stage = Stage::new(1, |_| {}).await;
    let mut talk = talk(&stage, &[subscribed(&stage, ONE).await]).await;
    let created = stage.answer(ONE, CREATE).await;
    assert_eq!(events(&talk.news().await), ["CreatedEvent", "ModifiedEvent"]);
    let (id, _) = first(&created, "ItemId").and_then(|item| item.split_once(' ')).expect("an item");
    let update = format!(
        "<m:UpdateItem ConflictResolution=\"AlwaysOverwrite\" MessageDisposition=\"SaveOnly\"><m:ItemChanges><t:ItemChange><t:ItemId {id}/><t:Updates><t:SetItemField>\
         <t:FieldURI FieldURI=\"message:IsRead\"/><t:Message><t:IsRead>true</t:IsRead></t:Message></t:SetItemField></t:Updates>\
         </t:ItemChange></m:ItemChanges></m:UpdateItem>"
    );
    let shift = |to: &str, id: &str| {
        format!(
            "<m:MoveItem><m:ToFolderId><t:DistinguishedFolderId Id=\"{to}\"/></m:ToFolderId><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:MoveItem>"
        )
    };
    let delete = |kind: &str, id: &str| {
        format!("<m:DeleteItem DeleteType=\"{kind}\"><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:DeleteItem>")
    };
    let folder = |parent: &str| {
        format!(
            "<m:CreateFolder><m:ParentFolderId><t:DistinguishedFolderId Id=\"{parent}\"/></m:ParentFolderId><m:Folders><t:Folder>\
             <t:DisplayName>New</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>"
        )
    };
    stage.answer(ONE, &update).await;
    assert_eq!(events(&talk.news().await), ["ModifiedEvent"]);
    let moved = stage.answer(ONE, &shift("drafts", id)).await;
    let news = talk.news().await;
    assert_eq!(events(&news), ["MovedEvent", "ModifiedEvent"], "only the Inbox is watched: {news}");
    assert!(news.contains(&format!("<t:OldItemId {id}")), "{news}");
    // What happens elsewhere is not told.
    let (id, _) = first(&moved, "ItemId").and_then(|item| item.split_once(' ')).expect("an item");
    stage.answer(ONE, &folder("drafts")).await;
    let back = stage.answer(ONE, &shift("inbox", id)).await;
    assert_eq!(events(&talk.news().await), ["MovedEvent", "ModifiedEvent"]);
    let (id, _) = first(&back, "ItemId").and_then(|item| item.split_once(' ')).expect("an item");
    stage.answer(ONE, &delete("HardDelete", id)).await;
    assert_eq!(events(&talk.news().await), ["DeletedEvent", "ModifiedEvent"]);
    stage.answer(ONE, &folder("inbox")).await;
    let news = talk.news().await;
    assert_eq!(events(&news), ["CreatedEvent"]);
    assert!(first(&news, "FolderId").is_some() && first(&news, "ItemId").is_none(), "{news}");
}

#[tokio::test]
async fn who_may_not_read_is_told_so() {
    let stage = Stage::new(2, |_| {}).await;
    let (mine, yours) = (subscribed(&stage, ONE).await, subscribed(&stage, TWO).await);
    let pull = stage.answer(ONE, &subscribe("Pull", "", "<t:Timeout>30</t:Timeout>")).await;
    let (pull, start) =
        (first(&pull, "SubscriptionId").expect("an id"), first(&pull, "Watermark").expect("a watermark"));
    let owned = stage.post(ONE, ONE, &soap(None, &streaming(INBOX))).await.expect("an answer").body;
    let owned = first(&owned, "SubscriptionId").expect("an id");
    for (user, ids, code, bad) in [
        (SERVICE, vec!["AAAA"], "ErrorSubscriptionNotFound", vec!["AAAA"]),
        (SERVICE, vec![mine.as_str(), "AAAA", "BBBB"], "ErrorSubscriptionNotFound", vec!["AAAA", "BBBB"]),
        (SERVICE, vec![pull], "ErrorInvalidSubscription", vec![pull]),
        (SERVICE, vec![&mine, owned], "ErrorSubscriptionAccessDenied", vec![owned]),
        (ONE, vec![&mine], "ErrorSubscriptionAccessDenied", vec![&mine]),
    ] {
        let ids: Vec<String> = ids.into_iter().map(ToOwned::to_owned).collect();
        let mut talk = talk_as(&stage, user, &ids).await;
        let refused = talk.document().await;
        assert_eq!(state(&refused), (code, Some("Closed")), "{ids:?}");
        assert_eq!(all(&refused, "SubscriptionId").collect::<Vec<_>>(), bad, "{refused}");
        assert_eq!(talk.next().await, Said::End);
    }
    let foreign = format!(
        "<t:DistinguishedFolderId Id=\"inbox\"><t:Mailbox><t:EmailAddress>{TWO}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>"
    );
    let late = subscribe("Pull", INBOX, "<t:Watermark>AAAA</t:Watermark><t:Timeout>30</t:Timeout>");
    let nowhere = "<t:DistinguishedFolderId Id=\"voicemail\"/>";
    for (operation, code) in [
        (streaming(&foreign), "ErrorSubscriptionDelegateAccessNotSupported"),
        (streaming(&format!("{INBOX}{foreign}")), "ErrorInvalidSubscriptionRequest"),
        (streaming(nowhere), "ErrorFolderNotFound"),
        (late, "ErrorEventNotFound"),
        (unsubscribe("AAAA"), "ErrorSubscriptionNotFound"),
        (unsubscribe(owned), "ErrorSubscriptionAccessDenied"),
        (get(&yours, start), "ErrorInvalidPullSubscriptionId"),
        (get(pull, start), "NoError"),
        (get(pull, "AAAA"), "ErrorInvalidWatermark"),
        (get(pull, start), "ErrorSubscriptionNotFound"),
    ] {
        assert_eq!(codes(&stage.answer(ONE, &operation).await), [code], "{operation}");
    }
    let minutes = open(&[mine]).replace(">1<", ">31<");
    assert_eq!(codes(&stage.answer(ONE, &minutes).await), ["ErrorSchemaValidation"]);
}

#[tokio::test]
async fn there_are_no_more_than_the_limits_allow() {
    let stage = Stage::new(2, |options| {
        options.settings.max_subscriptions = 2;
        options.settings.hanging_connections = Some(1);
    });
    let stage = stage.await;
    let ids = [subscribed(&stage, ONE).await, subscribed(&stage, ONE).await];
    assert_eq!(codes(&stage.answer(ONE, &streaming(INBOX)).await), ["ErrorExceededSubscriptionCount"]);
    assert_eq!(codes(&stage.answer(TWO, &streaming(INBOX)).await), ["NoError"], "each mailbox has its own");
    let talk = talk(&stage, &ids[..1]).await;
    let refused = stage.post(SERVICE, ONE, &soap(None, &open(&ids[1..]))).await.expect("an answer");
    assert_eq!((refused.status, codes(&refused.body)), (500, vec!["ErrorExceededConnectionCount"]));
    // Who impersonates a mailbox has its budget pay.
    let request = Request::post("/EWS/Exchange.asmx").header(header::AUTHORIZATION, stage.basic(SERVICE));
    let mut other = stage.line().await.talk(request, &soap(Some(ONE), &open(&ids[1..]))).await;
    assert_eq!(state(&other.document().await), ("NoError", Some("OK")));
    drop((talk, other));
    while stage.simulator.stats()["streams"] != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.simulator.stats()["max_streams"], 2);
    stage.answer(ONE, &unsubscribe(&ids[0])).await;
    assert_eq!(codes(&stage.answer(ONE, &streaming(INBOX)).await), ["NoError"]);
}

#[tokio::test]
async fn the_newest_reader_has_it_and_what_was_ended_is_told() {
    let stage = Stage::new(2, |_| {}).await;
    let (mine, yours) = (subscribed(&stage, ONE).await, subscribed(&stage, TWO).await);
    let mut first_talk = talk(&stage, &[mine.clone(), yours.clone()]).await;
    let mut second = talk(&stage, std::slice::from_ref(&yours)).await;
    let told = first_talk.news().await;
    assert_eq!(state(&told), ("ErrorNewEventStreamConnectionOpened", Some("OK")));
    assert_eq!(first(&told, "SubscriptionId"), Some(yours.as_str()));
    stage.deliver(1, 1);
    stage.deliver(2, 1);
    assert_eq!(first(&first_talk.news().await, "SubscriptionId"), Some(mine.as_str()));
    assert_eq!(first(&second.news().await, "SubscriptionId"), Some(yours.as_str()));
    assert_eq!(codes(&stage.answer(ONE, &unsubscribe(&mine)).await), ["NoError"]);
    assert_eq!(state(&first_talk.news().await), ("ErrorSubscriptionUnsubscribed", Some("Closed")));
    assert_eq!(first_talk.next().await, Said::End);
    // Nobody reads it for a while: what happens waits.
    drop(second);
    while stage.simulator.stats()["streams"] != 0 {
        tokio::task::yield_now().await;
    }
    stage.simulator.deliver(&Made { to: vec![TWO.to_owned()], count: Some(20), ..Made::default() });
    let news = talk(&stage, &[yours]).await.news().await;
    let batches: Vec<usize> =
        news.split("<m:Notification>").skip(1).map(|batch| events(batch).len()).collect();
    assert_eq!(batches, [50, 10], "no notification tells more than 50 events");
}

#[tokio::test]
async fn rules_break_off_silence_lose_and_refuse() {
    let stage = Stage::new(2, |options| options.settings.status_ms = 20).await;
    let ids = [subscribed(&stage, ONE).await, subscribed(&stage, TWO).await];
    let mut cut = talk(&stage, &ids).await;
    stage.fault(r#"{"kind":"cut_stream","mailbox":"mailbox00002@exchange.test","count":1}"#);
    let end = loop {
        match cut.next().await {
            Said::Document(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, Said::Cut);
    let mut over = talk(&stage, &ids).await;
    stage.fault(r#"{"kind":"cut_stream","code":"ErrorMailboxFailover","count":1}"#);
    let told = over.news().await;
    assert_eq!(state(&told), ("ErrorMailboxFailover", Some("Closed")));
    assert_eq!(all(&told, "SubscriptionId").collect::<Vec<_>>(), ids);

    stage.fault(r#"{"kind":"lost_events","mailbox":"mailbox00001@exchange.test","count":1}"#);
    let mut lossy = talk(&stage, &ids).await;
    for number in [1, 2] {
        stage.deliver(number, 1);
    }
    let news = lossy.news().await;
    assert_eq!(all(&news, "SubscriptionId").collect::<Vec<_>>(), [&ids[1]]);
    stage.simulator.clear_faults();

    let mut silent = talk(&stage, &ids).await;
    stage.fault(r#"{"kind":"silent_stream"}"#);
    while stage.simulator.stats()["faults"]["silent_stream"].is_null() {
        tokio::task::yield_now().await;
    }
    stage.deliver(1, 1);
    let mut signs = 0;
    let patience = std::time::Duration::from_millis(200);
    // What was said before the rule stood may still be on its way.
    while let Ok(said) = tokio::time::timeout(patience, silent.next()).await {
        assert!(matches!(&said, Said::Document(sign) if events(sign) == ["StatusEvent"]), "{said:?}");
        signs += 1;
    }
    assert!(signs < 10, "{signs} signs of life");
    stage.simulator.clear_faults();

    stage.fault(r#"{"kind":"response_code","operation":"Subscribe","code":"ErrorServerBusy","hint_ms":700,"count":1}"#);
    let answer: Answer = stage.ask(ONE, &streaming(INBOX)).await.expect("an answer");
    assert_eq!((answer.status, codes(&answer.body)), (200, vec!["ErrorServerBusy"]));
    assert!(answer.body.contains("<t:Value Name=\"BackOffMilliseconds\">700</t:Value>"), "{}", answer.body);
    stage.fault(
        r#"{"kind":"response_code","operation":"GetStreamingEvents","code":"ErrorSubscriptionNotFound"}"#,
    );
    let refused = talk_as(&stage, SERVICE, &ids).await.document().await;
    assert_eq!(state(&refused), ("ErrorSubscriptionNotFound", Some("Closed")));
}

#[tokio::test]
async fn subscriptions_are_known_where_they_were_made() {
    let stage = Stage::new(4, |options| options.settings.backends = 2).await;
    let ask = async |anchor: &str, cookie: &str, mailbox: &str, operation: &str| {
        let mut request = Request::post("/EWS/Exchange.asmx")
            .header(header::AUTHORIZATION, stage.basic(SERVICE))
            .header("x-anchormailbox", anchor)
            .header("x-preferserveraffinity", "true");
        if !cookie.is_empty() {
            request = request.header(header::COOKIE, cookie);
        }
        stage.line().await.send(request, &soap(Some(mailbox), operation)).await.expect("an answer")
    };
    let made = ask(ONE, "", ONE, &streaming(INBOX)).await;
    let cookie =
        made.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    assert!(cookie.starts_with("X-BackEndOverrideCookie="), "{cookie}");
    let id = first(&made.body, "SubscriptionId").expect("an id");
    let three = stage.address(3);
    for (anchor, cookie, code) in [
        (ONE, "", "NoError"),
        (three.as_str(), "", "NoError"),
        (TWO, "", "ErrorSubscriptionNotFound"),
        (TWO, cookie.as_str(), "NoError"),
        (TWO, "other=1; X-BackEndOverrideCookie=ex00.exchange.test~1", "ErrorSubscriptionNotFound"),
    ] {
        stage.simulator.set(Settings { backends: 2, minute_ms: 1, ..Settings::default() });
        let answer = ask(anchor, cookie, TWO, &open(&[id.to_owned()])).await;
        assert_eq!(codes(&answer.body)[0], code, "{anchor} {cookie}");
        stage.simulator.set(Settings { backends: 2, ..Settings::default() });
        let live = ask(ONE, "", ONE, &streaming(INBOX)).await;
        assert_eq!(codes(&live.body), ["NoError"]);
    }
    let stats = stage.simulator.stats();
    assert_eq!((&stats["wrong_anchor_mailbox"], &stats["wrong_affinity"]), (&0.into(), &0.into()));
    ask(ONE, "", ONE, CREATE).await;
    assert_eq!(stage.simulator.stats()["wrong_affinity"], 1, "elsewhere affinity is not asked for");
}

#[tokio::test]
async fn a_connection_ends_as_it_should_with_the_simulator() {
    let stage = Stage::new(1, |_| {}).await;
    let mut talk = talk(&stage, &[subscribed(&stage, ONE).await]).await;
    let (status, settings) = stage.control(Method::GET, "/settings", "").await;
    assert_eq!((status, &settings["minute_ms"]), (200, &60_000.into()));
    let ((), told) = tokio::join!(stage.simulator.shutdown(), talk.news());
    assert_eq!(state(&told), ("NoError", Some("Closed")));
    assert_eq!(talk.next().await, Said::End);
}
