//! What a mailbox remembers: states of synchronization, change keys, pages, drafts that were sent.

use mailyard_exchange_sim::Behaviour;

use crate::stage::{Stage, all, attribute, codes, first};

const ME: &str = "mailbox00001@exchange.test";
const YOU: &str = "mailbox00002@exchange.test";
const SHAPE: &str = "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>";

fn sync(folder: &str, state: &str, most: u32) -> String {
    let state = if state.is_empty() { String::new() } else { format!("<m:SyncState>{state}</m:SyncState>") };
    format!(
        "<m:SyncFolderItems>{SHAPE}<m:SyncFolderId><t:DistinguishedFolderId Id=\"{folder}\"/></m:SyncFolderId>{state}\
         <m:MaxChangesReturned>{most}</m:MaxChangesReturned></m:SyncFolderItems>"
    )
}

fn update(id: &str, resolution: &str, field: &str, element: &str) -> String {
    format!(
        "<m:UpdateItem ConflictResolution=\"{resolution}\"><m:ItemChanges><t:ItemChange><t:ItemId {id}/><t:Updates><t:SetItemField>\
         <t:FieldURI FieldURI=\"{field}\"/><t:Message>{element}</t:Message></t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges>\
         </m:UpdateItem>"
    )
}

fn delete(id: &str) -> String {
    format!("<m:DeleteItem DeleteType=\"HardDelete\"><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:DeleteItem>")
}

fn get(id: &str) -> String {
    format!("<m:GetItem>{SHAPE}<m:ItemIds><t:ItemId {id}/></m:ItemIds></m:GetItem>")
}

fn send(id: &str) -> String {
    format!("<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:SendItem>")
}

fn shift(id: &str) -> String {
    format!(
        "<m:MoveItem><m:ToFolderId><t:DistinguishedFolderId Id=\"junkemail\"/></m:ToFolderId><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:MoveItem>"
    )
}

/// The kinds of the changes in an answer, in order.
fn kinds(answer: &str) -> Vec<&str> {
    let changes = answer.split("<m:Changes>").nth(1).unwrap_or_default();
    let known = ["Create", "Update", "ReadFlagChange", "Delete"];
    changes
        .split("<t:")
        .filter_map(|tag| known.into_iter().find(|kind| tag.starts_with(&format!("{kind}>"))))
        .collect()
}

fn state(answer: &str) -> String {
    first(answer, "SyncState").expect("a state").to_owned()
}

#[tokio::test]
async fn changes_are_told_one_after_the_other() {
    let stage = Stage::new(1, |_| {}).await;
    let start = state(&stage.answer(ME, &sync("inbox", "", 512)).await);
    stage.deliver(1, 2);
    let answer = stage.answer(ME, &sync("inbox", &start, 512)).await;
    assert_eq!(kinds(&answer), ["Create", "Create"]);
    let ids: Vec<String> = all(&answer, "ItemId").map(ToOwned::to_owned).collect();
    let after_two = state(&answer);
    let steps = [
        (
            update(&ids[0], "AlwaysOverwrite", "message:IsRead", "<t:IsRead>true</t:IsRead>"),
            vec!["ReadFlagChange"],
        ),
        (update(&ids[0], "AlwaysOverwrite", "item:Subject", "<t:Subject>x</t:Subject>"), vec!["Update"]),
        (delete(&ids[1]), vec!["Delete"]),
        (shift(&ids[0]), vec!["Delete"]),
        (get("Id=\"AAMk\""), vec![]),
    ];
    let mut known = after_two.clone();
    for (change, expected) in steps {
        stage.answer(ME, &change).await;
        let answer = stage.answer(ME, &sync("inbox", &known, 512)).await;
        assert_eq!(kinds(&answer), expected, "{change}");
        let now = state(&answer);
        assert_eq!(
            now == known,
            expected.is_empty(),
            "a state is another one if and only if something changed"
        );
        known = now;
    }
    // An older state goes on from where it stood; what came and went since then is not told at all.
    assert_eq!(kinds(&stage.answer(ME, &sync("inbox", &after_two, 512)).await), ["Delete", "Delete"]);
    assert_eq!(kinds(&stage.answer(ME, &sync("inbox", &start, 512)).await), Vec::<&str>::new());
    assert_eq!(kinds(&stage.answer(ME, &sync("junkemail", "", 512)).await), ["Create"]);
}

#[tokio::test]
async fn states_are_bound_to_what_they_were_given_for() {
    let stage = Stage::new(2, |_| {}).await;
    let good = state(&stage.answer(ME, &sync("inbox", "", 512)).await);
    let hierarchy = "<m:SyncFolderHierarchy><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape></m:SyncFolderHierarchy>";
    let folders = state(&stage.answer(ME, hierarchy).await);
    let truncated = &good[..good.len() - 8];
    let cases = [
        (ME, sync("inbox", &good, 512), "NoError"),
        (ME, sync("drafts", &good, 512), "ErrorInvalidSyncStateData"),
        (YOU, sync("inbox", &good, 512), "ErrorInvalidSyncStateData"),
        (ME, sync("inbox", truncated, 512), "ErrorInvalidSyncStateData"),
        (ME, sync("inbox", "nonsense", 512), "ErrorInvalidSyncStateData"),
        (ME, sync("inbox", &folders, 512), "ErrorInvalidSyncStateData"),
        (ME, sync("voicemail", "", 512), "ErrorSyncFolderNotFound"),
    ];
    for (mailbox, request, code) in cases {
        let answer = stage.answer(mailbox, &request).await;
        assert_eq!(codes(&answer), [code], "{mailbox} {request}");
        assert!(answer.contains("IncludesLastItemInRange>"), "{answer}");
    }
    let with_state = format!("</m:FolderShape><m:SyncState>{good}</m:SyncState>");
    let answer = stage.answer(ME, &hierarchy.replace("</m:FolderShape>", &with_state)).await;
    assert_eq!(codes(&answer), ["ErrorInvalidSyncStateData"]);
}

#[tokio::test]
async fn a_folder_comes_in_pages_of_512() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 1300);
    let (mut known, mut seen, mut pages) = (String::new(), std::collections::BTreeSet::new(), Vec::new());
    while pages.last().is_none_or(|(_, last)| last != "true") {
        let answer = stage.answer(ME, &sync("inbox", &known, 512)).await;
        seen.extend(all(&answer, "ItemId").map(ToOwned::to_owned));
        known = state(&answer);
        let last = first(&answer, "IncludesLastItemInRange").expect("a word on more").to_owned();
        pages.push((kinds(&answer).len(), last));
    }
    let [no, yes] = ["false", "true"].map(ToOwned::to_owned);
    assert_eq!(pages, [(512, no.clone()), (512, no), (276, yes)]);
    assert_eq!(seen.len(), 1300);

    let find = |offset, restriction| {
        format!(
            "<m:FindItem Traversal=\"Shallow\">{SHAPE}<m:IndexedPageItemView MaxEntriesReturned=\"1200\" Offset=\"{offset}\" BasePoint=\"Beginning\"/>\
             {restriction}<m:ParentFolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderIds></m:FindItem>"
        )
    };
    let any = "<m:Restriction><t:Exists><t:FieldURI FieldURI=\"item:Subject\"/></t:Exists></m:Restriction>";
    for (offset, restriction, count, next, last) in [
        (0, "", 1000, "1000", "false"),
        (1000, "", 300, "1300", "true"),
        (1300, "", 0, "1300", "true"),
        (0, any, 250, "250", "false"),
    ] {
        let answer = stage.answer(ME, &find(offset, restriction)).await;
        let root = first(&answer, "RootFolder").expect("a page");
        assert_eq!(all(&answer, "ItemId").count(), count);
        assert_eq!(attribute(root, "IndexedPagingOffset"), Some(next));
        assert_eq!(attribute(root, "TotalItemsInView"), Some("1300"));
        assert_eq!(attribute(root, "IncludesLastItemInRange"), Some(last));
    }
}

#[tokio::test]
async fn ignored_items_are_not_told() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 2);
    let answer = stage.answer(ME, &sync("inbox", "", 512)).await;
    let id = first(&answer, "ItemId").expect("an item");
    let ignoring =
        sync("inbox", "", 512).replace("<m:Max", &format!("<m:Ignore><t:ItemId {id}/></m:Ignore><m:Max"));
    let answer = stage.answer(ME, &ignoring).await;
    assert_eq!(all(&answer, "ItemId").count(), 1);
    assert!(!answer.contains(id));
}

#[tokio::test]
async fn change_keys_guard_what_is_written() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 1);
    let synced = stage.answer(ME, &sync("inbox", "", 512)).await;
    let stale = first(&synced, "ItemId").expect("an item").to_owned();
    let got = stage.answer(ME, &get(&stale)).await;
    let current = first(&got, "ItemId").expect("an item").to_owned();
    assert_ne!(stale, current, "Exchange saves an item once more after it has come");
    let id = stale.split(' ').next().expect("an id").to_owned();
    let subject = "<t:Subject>x</t:Subject>";
    let cases = [
        (&stale, "NeverOverwrite", "ErrorIrresolvableConflict"),
        (&id, "NeverOverwrite", "ErrorChangeKeyRequiredForWriteOperations"),
        (&id, "AutoResolve", "ErrorChangeKeyRequiredForWriteOperations"),
        (&stale, "AutoResolve", "NoError"),
        (&id, "AlwaysOverwrite", "NoError"),
        (&stale, "AlwaysOverwrite", "NoError"),
        (&current, "NeverOverwrite", "ErrorIrresolvableConflict"),
    ];
    for (id, resolution, code) in cases {
        let answer = stage.answer(ME, &update(id, resolution, "item:Subject", subject)).await;
        assert_eq!(codes(&answer), [code], "{resolution} {id}");
    }
    let got = stage.answer(ME, &get(&id)).await;
    let current = first(&got, "ItemId").expect("an item");
    let answer = stage.answer(ME, &update(current, "NeverOverwrite", "item:Subject", subject)).await;
    assert_eq!(codes(&answer), ["NoError"]);
    assert_ne!(first(&answer, "ItemId"), Some(current), "each save has a key of its own");
}

/// Makes a draft that goes to the other mailbox.
async fn draft(stage: &Stage) -> String {
    let create = format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message><t:Subject>x</t:Subject><t:ToRecipients><t:Mailbox>\
         <t:EmailAddress>{YOU}</t:EmailAddress></t:Mailbox></t:ToRecipients></t:Message></m:Items></m:CreateItem>"
    );
    first(&stage.answer(ME, &create).await, "ItemId").expect("a draft").to_owned()
}

#[tokio::test]
async fn a_second_sending_does_what_the_behaviour_says() {
    let real = Behaviour::default();
    let cases =
        [(real, "ErrorItemNotFound", 1), (Behaviour { send_consumes_draft: false, ..real }, "NoError", 2)];
    for (behaviour, code, sent) in cases {
        let stage = Stage::new(2, |options| options.behaviour = behaviour).await;
        let id = draft(&stage).await;
        assert_eq!(codes(&stage.answer(ME, &send(&id)).await), ["NoError"]);
        assert_eq!(codes(&stage.answer(ME, &send(&id)).await), [code]);
        assert_eq!(stage.simulator.submissions().len(), sent);
        assert_eq!(stage.simulator.list(YOU, "inbox").map(|listed| listed.len()), Some(sent));
        assert_eq!(stage.simulator.list(ME, "sentitems").map(|listed| listed.len()), Some(sent));
    }
}

#[tokio::test]
async fn sending_looks_at_change_keys_unless_it_does_not() {
    let real = Behaviour::default();
    for (behaviour, code) in
        [(real, "ErrorStaleObject"), (Behaviour { send_checks_change_key: false, ..real }, "NoError")]
    {
        let stage = Stage::new(2, |options| options.behaviour = behaviour).await;
        let id = draft(&stage).await;
        stage.answer(ME, &update(&id, "AlwaysOverwrite", "item:Subject", "<t:Subject>y</t:Subject>")).await;
        assert_eq!(codes(&stage.answer(ME, &send(&id)).await), [code]);
    }
    let stage = Stage::new(2, |_| {}).await;
    let id = draft(&stage).await;
    let bare = id.split(' ').next().expect("an id");
    assert_eq!(codes(&stage.answer(ME, &send(bare)).await), ["ErrorChangeKeyRequiredForWriteOperations"]);
    let nowhere = send(&id).replace("\"true\"", "\"false\"").replace(
        "</m:ItemIds>",
        "</m:ItemIds><m:SavedItemFolderId><t:DistinguishedFolderId Id=\"drafts\"/></m:SavedItemFolderId>",
    );
    assert_eq!(codes(&stage.answer(ME, &nowhere).await), ["ErrorInvalidSendItemSaveSettings"]);
}

#[tokio::test]
async fn a_moved_item_has_another_id_unless_it_has_not() {
    let real = Behaviour::default();
    for (behaviour, code) in
        [(real, "ErrorItemNotFound"), (Behaviour { moved_id_dies: false, ..real }, "NoError")]
    {
        let stage = Stage::new(1, |options| options.behaviour = behaviour).await;
        stage.deliver(1, 1);
        let synced = stage.answer(ME, &sync("inbox", "", 512)).await;
        let id = first(&synced, "ItemId").and_then(|id| attribute(id, "Id")).expect("an item").to_owned();
        let moved = stage.answer(ME, &shift(&format!("Id=\"{id}\""))).await;
        let new = first(&moved, "ItemId").and_then(|id| attribute(id, "Id")).expect("an item");
        assert_eq!(new == id, code == "NoError");
        assert_eq!(codes(&stage.answer(ME, &get(&format!("Id=\"{id}\""))).await), [code]);
        assert_eq!(codes(&stage.answer(ME, &get(&format!("Id=\"{new}\""))).await), ["NoError"]);
    }
}

#[tokio::test]
async fn the_same_seed_and_the_same_requests_give_the_same_answers() {
    let talk = async |seed| {
        let stage = Stage::new(2, |options| {
            options.seed = seed;
            options.initial_messages = 3;
        })
        .await;
        stage.fault(r#"{"kind":"server_busy","rate":0.5,"operation":"GetFolder"}"#);
        stage.fault(r#"{"kind":"poison","rate":0.5}"#);
        let mut answers = Vec::new();
        for _ in 0..20 {
            let get = "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
                       <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";
            answers.push(stage.answer(ME, get).await);
        }
        answers.push(stage.answer(ME, &sync("inbox", "", 2)).await);
        let content = SHAPE.replace("</m:", "<t:IncludeMimeContent>true</t:IncludeMimeContent></m:");
        for id in all(&answers[20].clone(), "ItemId") {
            answers.push(stage.answer(ME, &get(id).replace(SHAPE, &content)).await);
        }
        let id = draft(&stage).await;
        answers.push(stage.answer(ME, &send(&id)).await);
        let listed = stage.simulator.list(YOU, "inbox");
        answers.push(serde_json::to_string(&listed).expect("JSON"));
        answers.push(stage.simulator.ready().password.clone());
        answers
    };
    let first = talk(1).await;
    assert_eq!(first, talk(1).await);
    assert_ne!(first, talk(2).await);
}
