//! What accounts may do in the mailboxes of others without impersonation.

use http::Method;
use mailyard_exchange_sim::{Grant, Permission};
use serde_json::json;

use crate::stage::{Answer, Stage, all, attribute, codes, first, soap};

const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";
const WELL: &str = "NoError";
const DENIED: &str = "ErrorAccessDenied";

/// The name of a folder in somebody's mailbox.
fn of(address: &str, folder: &str) -> String {
    format!(
        "<t:DistinguishedFolderId Id=\"{folder}\"><t:Mailbox><t:EmailAddress>{address}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>"
    )
}

fn get(folders: &str) -> String {
    format!(
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:FolderIds>{folders}</m:FolderIds></m:GetFolder>"
    )
}

fn get_items(ids: &str) -> String {
    format!(
        "<m:GetItem><m:ItemShape><t:BaseShape>Default</t:BaseShape></m:ItemShape><m:ItemIds>{ids}</m:ItemIds></m:GetItem>"
    )
}

fn sync(folder: &str) -> String {
    format!(
        "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:SyncFolderId>{folder}</m:SyncFolderId>\
         <m:MaxChangesReturned>10</m:MaxChangesReturned></m:SyncFolderItems>"
    )
}

fn create(folder: &str, from: &str) -> String {
    let person = |element: &str, address: &str| {
        format!(
            "<t:{element}><t:Mailbox><t:EmailAddress>{address}</t:EmailAddress></t:Mailbox></t:{element}>"
        )
    };
    let from = if from.is_empty() { String::new() } else { person("From", from) };
    format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId>{folder}</m:SavedItemFolderId><m:Items><t:Message>\
         <t:Subject>Offer</t:Subject>{}{from}</t:Message></m:Items></m:CreateItem>",
        person("ToRecipients", ONE)
    )
}

fn send(item: &str, folder: &str) -> String {
    let folder = if folder.is_empty() {
        String::new()
    } else {
        format!("<m:SavedItemFolderId>{folder}</m:SavedItemFolderId>")
    };
    format!(
        "<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds><t:ItemId {item}/></m:ItemIds>{folder}</m:SendItem>"
    )
}

/// A stage on which the service account has permissions in the second mailbox.
async fn stage(permissions: &[Permission]) -> Stage {
    let stage = Stage::new(3, |_| {}).await;
    grant(&stage, permissions);
    stage
}

fn grant(stage: &Stage, permissions: &[Permission]) {
    let grant = Grant { mailbox: Some(TWO.to_owned()), to: None, permissions: permissions.to_vec() };
    stage.simulator.grant(&grant).expect("good addresses");
}

/// Asks as an account in its own name.
async fn ask(stage: &Stage, user: &str, operation: &str) -> Answer {
    stage.post(user, TWO, &soap(None, operation)).await.expect("an answer")
}

async fn code(stage: &Stage, operation: &str) -> String {
    codes(&ask(stage, SERVICE, operation).await.body).join(" ")
}

fn listed(stage: &Stage, mailbox: &str, folder: &str) -> usize {
    stage.simulator.list(mailbox, folder).expect("a folder").len()
}

#[tokio::test]
async fn permissions_open_what_they_are_for() {
    let none: &[Permission] = &[];
    let full = &[Permission::FullAccess];
    let delegate = &[Permission::Delegate];
    let cases = [
        (none, of(TWO, "inbox"), DENIED),
        (&[Permission::SendAs], of(TWO, "inbox"), DENIED),
        (full, of("nobody@exchange.test", "inbox"), "ErrorNonExistentMailbox"),
        (full, of("mailbox00003@exchange.test", "inbox"), DENIED),
        (full, of(TWO, "inbox"), WELL),
        (full, of("alias00002@exchange.test", "drafts"), WELL),
        (full, of(TWO, "voicemail"), "ErrorFolderNotFound"),
        (delegate, of(TWO, "inbox"), WELL),
        (delegate, of(TWO, "calendar"), WELL),
        (delegate, of(TWO, "drafts"), DENIED),
        (delegate, of(TWO, "msgfolderroot"), DENIED),
        (none, of(SERVICE, "inbox"), WELL),
    ];
    let stage = stage(none).await;
    for (permissions, folder, expected) in cases {
        grant(&stage, permissions);
        assert_eq!(code(&stage, &get(&folder)).await, expected, "{permissions:?} {folder}");
        assert_eq!(
            code(&stage, &sync(&folder)).await,
            expected.replace("ErrorFolder", "ErrorSyncFolder"),
            "{permissions:?} {folder}"
        );
    }
    grant(&stage, full);
    let own = "<t:DistinguishedFolderId Id=\"inbox\"/>";
    let folders = [own.to_owned(), of(TWO, "inbox"), of(ONE, "inbox"), own.to_owned()].concat();
    assert_eq!(
        code(&stage, &get(&folders)).await,
        [WELL, WELL, DENIED, WELL].join(" "),
        "each part is looked at"
    );
    let other = ask(&stage, ONE, &get(&of(TWO, "inbox"))).await;
    assert_eq!(codes(&other.body), [DENIED], "the permission is that of the service account");
    let acting = stage.answer(ONE, &get(&of(TWO, "inbox"))).await;
    assert_eq!(codes(&acting), [DENIED], "whoever is impersonated acts, and he has none");
    let subscribe = format!(
        "<m:Subscribe><m:StreamingSubscriptionRequest><t:FolderIds>{}</t:FolderIds><t:EventTypes><t:EventType>NewMailEvent</t:EventType>\
         </t:EventTypes></m:StreamingSubscriptionRequest></m:Subscribe>",
        of(TWO, "inbox")
    );
    assert_eq!(code(&stage, &subscribe).await, "ErrorSubscriptionDelegateAccessNotSupported");
}

#[tokio::test]
async fn full_access_reads_and_writes() {
    let stage = stage(&[Permission::FullAccess, Permission::SendAs]).await;
    stage.deliver(2, 2);
    stage.deliver(3, 1);
    let mine = Grant { mailbox: None, to: Some(TWO.to_owned()), permissions: vec![Permission::FullAccess] };
    stage.simulator.grant(&mine).expect("good addresses");
    let synced = ask(&stage, SERVICE, &sync(&of(TWO, "inbox"))).await.body;
    let ids: Vec<_> = all(&synced, "ItemId").map(|id| format!("<t:ItemId {id}/>")).collect();
    let ids = ids.concat();
    assert_eq!(code(&stage, &get_items(&ids)).await, [WELL, WELL].join(" "));
    let strange =
        stage.answer("mailbox00003@exchange.test", &sync("<t:DistinguishedFolderId Id=\"inbox\"/>")).await;
    let strange = format!("<t:ItemId {}/>", first(&strange, "ItemId").expect("an item"));
    assert_eq!(
        code(&stage, &get_items(&format!("{ids}{strange}"))).await,
        [WELL, WELL, "ErrorItemNotFound"].join(" ")
    );
    let several = ask(&stage, TWO, &get_items(&format!("{ids}{strange}"))).await;
    assert_eq!(codes(&several.body), [WELL; 3], "a request may come to several mailboxes");

    let folder = ask(&stage, SERVICE, &get(&of(TWO, "drafts"))).await.body;
    let drafts = format!("<t:FolderId {}/>", first(&folder, "FolderId").expect("an id"));
    let made = ask(&stage, SERVICE, &create(&drafts, "")).await.body;
    assert_eq!(codes(&made), [WELL]);
    assert_eq!((listed(&stage, TWO, "drafts"), listed(&stage, SERVICE, "drafts")), (1, 0));
    let item = first(&made, "ItemId").expect("an item").to_owned();
    assert_eq!(code(&stage, &send(&item, &of(TWO, "sentitems"))).await, WELL);
    assert_eq!((listed(&stage, TWO, "drafts"), listed(&stage, TWO, "sentitems")), (0, 1));
    let sent = &stage.simulator.submissions()[0];
    assert_eq!(
        (sent.mailbox.as_str(), stage.simulator.list(ONE, "inbox").expect("an Inbox")[0].from.as_str()),
        (TWO, TWO)
    );

    // What comes from one mailbox does not go to another.
    let first_id = all(&synced, "ItemId").next().expect("an item");
    let shift = |to: &str| {
        format!(
            "<m:MoveItem><m:ToFolderId>{to}</m:ToFolderId><m:ItemIds><t:ItemId {first_id}/></m:ItemIds></m:MoveItem>"
        )
    };
    assert_eq!(code(&stage, &shift("<t:DistinguishedFolderId Id=\"drafts\"/>")).await, "ErrorMoveCopyFailed");
    assert_eq!(code(&stage, &shift(&of(ONE, "drafts"))).await, DENIED);
    assert_eq!(code(&stage, &shift(&of(TWO, "deleteditems"))).await, WELL);
    let folder = format!(
        "<m:CreateFolder><m:ParentFolderId>{}</m:ParentFolderId><m:Folders><t:Folder><t:DisplayName>Undeliverable</t:DisplayName>\
         </t:Folder></m:Folders></m:CreateFolder>",
        of(TWO, "msgfolderroot")
    );
    assert_eq!(code(&stage, &folder).await, WELL);
    assert_eq!(listed(&stage, TWO, "Undeliverable"), 0);
}

#[tokio::test]
async fn who_may_not_send_keeps_the_draft() {
    let stage = stage(&[Permission::FullAccess]).await;
    let made = ask(&stage, SERVICE, &create(&of(TWO, "drafts"), "")).await.body;
    let item = first(&made, "ItemId").expect("an item").to_owned();
    assert_eq!(code(&stage, &send(&item, "")).await, "ErrorSendAsDenied");
    assert_eq!((listed(&stage, TWO, "drafts"), stage.simulator.submissions().len()), (1, 0));
    grant(&stage, &[Permission::FullAccess, Permission::SendAs]);
    assert_eq!(code(&stage, &send(&item, "")).await, WELL);
    assert_eq!(
        (listed(&stage, TWO, "sentitems"), listed(&stage, SERVICE, "sentitems")),
        (0, 1),
        "who sends keeps the copy"
    );

    // A delegate writes in a mailbox of his own, and is seen as the sender.
    for (permissions, expected, sender) in [
        (&[][..], "ErrorSendAsDenied", ""),
        (&[Permission::Delegate], WELL, SERVICE),
        (&[Permission::SendAs], WELL, TWO),
    ] {
        grant(&stage, permissions);
        let made = ask(&stage, SERVICE, &create("<t:DistinguishedFolderId Id=\"drafts\"/>", TWO)).await.body;
        let item = first(&made, "ItemId").expect("an item");
        assert_eq!(code(&stage, &send(item, "")).await, expected, "{permissions:?}");
        if sender.is_empty() {
            continue;
        }
        let arrived = stage.simulator.list(ONE, "inbox").expect("an Inbox").pop().expect("a message");
        let read = format!("<t:ItemId Id=\"{}\"/>", arrived.item_id);
        let shape = "<t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI=\"message:Sender\"/><t:FieldURI FieldURI=\"message:From\"/></t:AdditionalProperties>";
        let read = get_items(&read).replace("<t:BaseShape>Default</t:BaseShape>", shape);
        let read = stage.answer(ONE, &read).await;
        let people: Vec<&str> = all(&read, "EmailAddress").collect();
        assert_eq!(people, [sender, TWO], "{permissions:?} {read}");
    }
}

#[tokio::test]
async fn permissions_are_given_and_taken_at_the_control_door() {
    let stage = stage(&[]).await;
    let post = async |grant: serde_json::Value| {
        stage.control(Method::POST, "/permissions", &grant.to_string()).await
    };
    let (status, all) = post(json!({ "permissions": ["full_access"] })).await;
    assert_eq!(status, 200);
    let everywhere = json!({ "mailbox": null, "to": SERVICE, "permissions": ["full_access"] });
    assert_eq!(all, json!([everywhere, { "mailbox": TWO, "to": SERVICE, "permissions": [] }]));
    assert_eq!(code(&stage, &get(&of(ONE, "inbox"))).await, WELL);
    assert_eq!(
        code(&stage, &get(&of(TWO, "inbox"))).await,
        DENIED,
        "a grant of its own goes before that for all"
    );
    post(json!({ "permissions": [] })).await;
    assert_eq!(code(&stage, &get(&of(ONE, "inbox"))).await, DENIED);
    for (grant, error) in [
        (json!({ "mailbox": "nobody@x", "permissions": [] }), "mailbox: there is no mailbox nobody@x"),
        (json!({ "to": "nobody@x", "permissions": [] }), "to: there is no mailbox nobody@x"),
        (json!({ "permissions": ["all"] }), "unknown variant `all`"),
        (json!({}), "missing field `permissions`"),
    ] {
        let (status, told) = post(grant).await;
        assert_eq!(status, 400);
        assert!(told["error"].as_str().is_some_and(|told| told.starts_with(error)), "{told}");
    }
    let (_, told) = stage.control(Method::GET, "/permissions", "").await;
    assert_eq!(told.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn whoever_acts_pays_and_rules_look_at_the_mailbox() {
    let stage = stage(&[Permission::FullAccess]).await;
    let request = get(&of(TWO, "inbox"));
    stage.fault(r#"{"kind":"server_busy","mailbox":"mailbox00002@exchange.test","count":1}"#);
    assert_eq!(code(&stage, &get(&of(SERVICE, "inbox"))).await, WELL);
    assert_eq!(code(&stage, &request).await, "ErrorServerBusy");
    let (_, stats) = stage.control(Method::GET, &format!("/stats?mailbox={TWO}"), "").await;
    assert_eq!((&stats["mailbox_requests"], &stats["wrong_anchor_mailbox"]), (&json!(1), &json!(1)));
    let budget = json!({ "burst_ms": 100, "recharge_ms_per_hour": 1, "cutoff_ms": 0, "cost_ms": 100 });
    stage.control(Method::POST, "/settings", &json!({ "budget": budget }).to_string()).await;
    assert_eq!(code(&stage, &request).await, WELL);
    assert_eq!(
        code(&stage, &get(&of(SERVICE, "inbox"))).await,
        "ErrorServerBusy",
        "the service account has paid"
    );
    let impersonated = stage.answer(TWO, &get(&of(TWO, "inbox"))).await;
    assert_eq!(codes(&impersonated), [WELL], "the mailbox has not");
    let version = first(&impersonated, "ServerVersionInfo").and_then(|info| attribute(info, "MajorVersion"));
    assert_eq!(version, Some("15"));
}
