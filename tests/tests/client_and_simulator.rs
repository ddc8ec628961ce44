//! Our client against the simulator: two independent readings of the protocol that must agree.

use std::time::Duration;

use mailyard_exchange::{
    Authentication, Client, Config, Gate, Resolver,
    codec::{
        Address, Body, Change, Content, CreateFolder, CreateItem, Criterion, DeleteItem, Deletion, Draft,
        FindFolder, FindItem, Folder, GetFolder, GetItem, Importance, MoveItem, Properties, Property,
        SendItem, Shape, SyncFolderItems, WellKnown,
    },
};
use mailyard_exchange_sim::{Made, Options, Simulator};
use mailyard_policy::{Reason, Timestamp, id::ProfileId, profile::CredentialSource};
use mailyard_tests::{Outcome, made, rule};

const INBOX: Folder = Folder::WellKnown(WellKnown::Inbox);
const DRAFTS: Folder = Folder::WellKnown(WellKnown::Drafts);
const SENT: Folder = Folder::WellKnown(WellKnown::SentItems);

fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}

struct Stage {
    simulator: Simulator,
    client: Client,
    addresses: Vec<String>,
    _folder: tempfile::TempDir,
}

async fn stage(mailboxes: usize) -> Outcome<Stage> {
    let folder = tempfile::tempdir()?;
    let simulator = Simulator::start(Options::new(mailboxes, 1, folder.path())).await?;
    let ready = simulator.ready();
    let config = Config {
        url: ready.ews_url.clone(),
        credential_source: CredentialSource::Profile,
        authentication: Authentication::Basic,
        user: ready.user.clone(),
        password: ready.password.clone().into(),
        oauth: None,
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
        resolver: Resolver::default(),
        impersonate: true,
        request_deadline: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(10),
        largest_content: 64 << 20,
        allow_plain_http: false,
        clock,
        observer: None,
    };
    let client = Client::new(config, Gate::new(ProfileId::new(1), 10, None, clock))?;
    let addresses = simulator.addresses();
    Ok(Stage { simulator, client, addresses, _folder: folder })
}

#[tokio::test]
async fn a_delivered_message_is_synchronized_and_fetched() -> Outcome {
    let stage = stage(2).await?;
    let me = &stage.addresses[0];
    let text = "Grüße & <Küsse> 🦀";
    stage.simulator.deliver(&Made {
        subject: Some(text.to_owned()),
        text: Some(text.to_owned()),
        ..made(me, 1)
    });
    let sync = SyncFolderItems { folder: &INBOX, cursor: None, max: 512, shape: Shape::Known };
    let reply = stage.client.call(me, &sync).await?;
    assert!(reply.date.is_some() && reply.version.is_some_and(|version| version.major == 15));
    let page = reply.one()?;
    assert!(page.last);
    let [Change::Create(entry)] = &page.changes[..] else { panic!("{:?}", page.changes) };
    assert!(entry.received.is_some());
    let properties =
        Properties::of(&[Property::Size, Property::Subject, Property::MessageId, Property::SearchKey]);
    let get = GetItem { ids: std::slice::from_ref(&entry.id), properties, content: true };
    let fetched = stage.client.call(me, &get).await?.one()?;
    let item = fetched.item.ok_or("no item")?;
    assert_eq!(item.subject.as_deref(), Some(text));
    assert!(item.size.is_some() && item.message_id.is_some() && item.search_key.is_some());
    let mime = fetched.content.ok_or("no content")?;
    assert!(!mime.broken);
    let mime = String::from_utf8(mime.bytes)?;
    assert!(mime.contains("Message-ID: <") && mime.contains("\r\n\r\n"), "{mime}");

    let again = SyncFolderItems { cursor: Some(&page.cursor), ..sync };
    let page = stage.client.call(me, &again).await?.one()?;
    assert_eq!((page.changes.len(), page.last), (0, true));
    Ok(())
}

#[tokio::test]
async fn many_messages_come_in_pages_and_each_once() -> Outcome {
    let stage = stage(1).await?;
    let me = &stage.addresses[0];
    stage.simulator.deliver(&made(me, 1300));
    let mut cursor: Option<Box<[u8]>> = None;
    let mut seen = std::collections::BTreeSet::new();
    let mut pages = 0;
    loop {
        let sync =
            SyncFolderItems { folder: &INBOX, cursor: cursor.as_deref(), max: 512, shape: Shape::IdOnly };
        let page = stage.client.call(me, &sync).await?.one()?;
        pages += 1;
        for change in &page.changes {
            let Change::Create(entry) = change else { panic!("{change:?}") };
            assert!(seen.insert(entry.id.id.clone()), "told twice");
        }
        cursor = Some(page.cursor);
        if page.last {
            break;
        }
    }
    assert_eq!((pages, seen.len()), (3, 1300));
    Ok(())
}

fn draft(to: &str) -> Draft {
    Draft {
        subject: "An answer".to_owned(),
        body: Body::Text("Yes.".to_owned()),
        importance: Importance::High,
        from: None,
        to: vec![Address::new(to)],
        cc: vec![],
        bcc: vec![],
        reply_to: vec![],
        message_id: Some("<op-1@crm.example>".to_owned()),
        in_reply_to: None,
        references: None,
    }
}

#[tokio::test]
async fn a_draft_is_made_found_sent_and_gone() -> Outcome {
    let stage = stage(2).await?;
    let (me, you) = (&stage.addresses[0], &stage.addresses[1]);
    let draft = draft(you);
    let create = CreateItem { folder: &DRAFTS, content: Content::Draft(&draft), operation_id: "op-1" };
    let id = stage.client.call(me, &create).await?.one()?.ok_or("no id")?;
    let find = |folder| FindItem {
        folder,
        criterion: Criterion::OperationId("op-1"),
        properties: Properties::of(&[Property::OperationId]),
        max: 10,
    };
    let found = stage.client.call(me, &find(&DRAFTS)).await?.one()?;
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].id, id);
    stage.client.call(me, &SendItem { id: &id, copy_to: &SENT }).await?.one()?;
    let again = stage.client.call(me, &SendItem { id: &id, copy_to: &SENT }).await?.one();
    assert_eq!(again.err().map(|failure| failure.reason), Some(Reason::ItemNotFound));
    assert_eq!(stage.client.call(me, &find(&DRAFTS)).await?.one()?.items.len(), 0);
    assert_eq!(stage.client.call(me, &find(&SENT)).await?.one()?.items.len(), 1);
    let submissions = stage.simulator.submissions();
    assert_eq!(submissions.len(), 1);
    assert_eq!(submissions[0].send_key.as_deref(), Some("op-1"));
    let inbox = stage.simulator.list(you, "inbox").ok_or("no inbox")?;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].internet_message_id, "<op-1@crm.example>");
    Ok(())
}

#[tokio::test]
async fn folders_are_made_once_and_items_move_into_them() -> Outcome {
    let stage = stage(1).await?;
    let me = &stage.addresses[0];
    stage.simulator.deliver(&made(me, 1));
    let root = Folder::WellKnown(WellKnown::MsgFolderRoot);
    let create = CreateFolder { parent: &root, name: "Undeliverable" };
    let made = stage.client.call(me, &create).await?.one()?;
    let id = made.into_iter().next().and_then(|folder| folder.id).ok_or("no id")?;
    let twice = stage.client.call(me, &create).await?.one();
    assert_eq!(twice.err().and_then(|failure| failure.code).as_deref(), Some("ErrorFolderExists"));
    let found = stage.client.call(me, &FindFolder { parent: &root, name: "Undeliverable" }).await?.one()?;
    assert_eq!(found.len(), 1);
    let sync = SyncFolderItems { folder: &INBOX, cursor: None, max: 512, shape: Shape::IdOnly };
    let page = stage.client.call(me, &sync).await?.one()?;
    let Some(Change::Create(entry)) = page.changes.first() else { panic!("{:?}", page.changes) };
    let to = Folder::Id(id);
    let moved = stage.client.call(me, &MoveItem { id: &entry.id, to: &to }).await?.one()?.ok_or("no id")?;
    assert_ne!(moved.id, entry.id.id);
    let gone = stage.client.call(me, &MoveItem { id: &entry.id, to: &to }).await?.one();
    assert_eq!(gone.err().map(|failure| failure.reason), Some(Reason::ItemNotFound));
    let delete = DeleteItem { ids: std::slice::from_ref(&moved), deletion: Deletion::MoveToDeletedItems };
    stage.client.call(me, &delete).await?.one()?;
    assert_eq!(stage.simulator.list(me, "deleteditems").map(|listed| listed.len()), Some(1));
    Ok(())
}

#[tokio::test]
async fn each_fault_has_its_reason() -> Outcome {
    let stage = stage(1).await?;
    let me = &stage.addresses[0];
    let get = GetFolder { folder: &INBOX };
    let cases = [
        (r#"{"kind":"mailbox_unavailable"}"#, Reason::MailboxUnavailable),
        (r#"{"kind":"server_busy","count":1}"#, Reason::ExchangeServerBusy),
        (r#"{"kind":"server_busy_hint","hint_ms":1,"count":1}"#, Reason::ExchangeServerBusy),
        (r#"{"kind":"http_503"}"#, Reason::ExchangeUnavailable),
        (r#"{"kind":"http_503","hint_ms":1,"count":1}"#, Reason::ExchangeServerBusy),
        (r#"{"kind":"unauthorized"}"#, Reason::ProfileAuthRejected),
        (r#"{"kind":"impersonation_denied"}"#, Reason::ImpersonationDenied),
        (r#"{"kind":"no_such_mailbox"}"#, Reason::MailboxNotFoundOnServer),
        (r#"{"kind":"lost_response"}"#, Reason::ProfileConnectionLost),
        (r#"{"kind":"cut_connection"}"#, Reason::ProfileConnectionLost),
    ];
    for (json, reason) in cases {
        // With a gate of its own: at one that was told to wait, nothing is asked for a while.
        let stage = self::stage(1).await?;
        stage.simulator.fault(rule(json)?)?;
        let reply = stage.client.call(me, &get).await.and_then(mailyard_exchange::Reply::one);
        assert_eq!(reply.err().map(|failure| failure.reason), Some(reason), "{json}");
        stage.simulator.clear_faults();
    }
    assert!(stage.client.call(me, &get).await?.one()?[0].id.is_some(), "all is well again");
    let stranger =
        stage.client.call("nobody@exchange.test", &get).await.and_then(mailyard_exchange::Reply::one);
    assert_eq!(stranger.err().map(|failure| failure.reason), Some(Reason::MailboxNotFoundOnServer));
    Ok(())
}

#[tokio::test]
async fn of_a_batch_that_was_stopped_the_rest_was_not_attempted() -> Outcome {
    let stage = stage(1).await?;
    let me = &stage.addresses[0];
    stage.simulator.deliver(&made(me, 3));
    let sync = SyncFolderItems { folder: &INBOX, cursor: None, max: 512, shape: Shape::IdOnly };
    let page = stage.client.call(me, &sync).await?.one()?;
    let ids: Vec<_> = page
        .changes
        .into_iter()
        .filter_map(|change| if let Change::Create(entry) = change { Some(entry.id) } else { None })
        .collect();
    stage.simulator.fault(rule(r#"{"kind":"partial_batch"}"#)?)?;
    let get = GetItem { ids: &ids, properties: Properties::of(&[Property::Size]), content: false };
    let parts = stage.client.call(me, &get).await?.parts;
    let reasons: Vec<_> =
        parts.iter().map(|part| part.as_ref().err().map(|failure| failure.reason)).collect();
    assert_eq!(reasons, [None, Some(Reason::MailboxTransientError), Some(Reason::ItemNotAttempted)]);
    Ok(())
}
