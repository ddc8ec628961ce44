//! What is sent: golden files, and texts of every kind.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use crate::codec::{
    Acting, Address, Attachment, Body, Content, CreateAttachment, CreateFolder, CreateItem, Criterion,
    DeleteItem, Deletion, Draft, FindFolder, FindItem, Folder, FolderId, GetFolder, GetItem,
    GetStreamingEvents, Importance, ItemId, MoveItem, Operation, Properties, Property, Reader, SendItem,
    Shape, Subscribe, SyncFolderItems, Unsubscribe, Update, UpdateItem, WellKnown, text::is_legal, write,
};

const MAILBOX: &str = "anna@example.org";
const OPERATION: &str = "01JZ8Q4T5W6X7Y8Z9ABCDEFGHJ";

fn request(operation: &impl Operation) -> String {
    let mut out = Vec::new();
    write(&mut out, Acting::As(MAILBOX), operation);
    String::from_utf8(out).expect("UTF-8")
}

fn draft() -> Draft {
    let named = |name: &str, address: &str| Address { name: Some(name.to_owned()), ..Address::new(address) };
    Draft {
        subject: "Offer <1> & more".to_owned(),
        body: Body::Html("<p>Grüße\r\n\u{1}aus \u{1F3D4}</p>".to_owned()),
        importance: Importance::High,
        from: Some(named("Sales", "sales@example.org")),
        to: vec![named("Doe, \"Jane\"", "jane@example.com"), Address::new("joe@example.com")],
        cc: vec![Address::new("copy@example.com")],
        bcc: vec![Address::new("hidden@example.com")],
        reply_to: vec![Address::new("answers@example.org")],
        message_id: Some("<1@mail.example.org>".to_owned()),
        in_reply_to: Some("<0@mail.example.org>".to_owned()),
        references: Some("<0@mail.example.org>".to_owned()),
    }
}

fn in_mailbox(operation: &impl Operation) -> String {
    let mut out = Vec::new();
    write(&mut out, Acting::In(MAILBOX), operation);
    String::from_utf8(out).expect("UTF-8")
}

/// Every operation, and the variants that differ in more than a value.
fn requests() -> Vec<(&'static str, String)> {
    let id = ItemId { id: "AAMkAGI+/=".into(), change_key: Some("CQAAABYA".into()) };
    let other = ItemId::new("AAMkAGJ");
    let inbox = Folder::WellKnown(WellKnown::Inbox);
    let drafts = Folder::WellKnown(WellKnown::Drafts);
    let own = Folder::Id(FolderId::new("AQMkAD"));
    let all = Properties::of(&[
        Property::Size,
        Property::Received,
        Property::Created,
        Property::Subject,
        Property::Submitted,
        Property::MessageId,
        Property::SearchKey,
        Property::OperationId,
    ]);
    let state = [&[1][..], &[0x1F, 0x8B, 8, 0]].concat();
    let sync = |cursor, shape| SyncFolderItems { folder: &inbox, cursor, max: 512, shape };
    let find = |criterion| FindItem { folder: &drafts, criterion, properties: all, max: 50 };
    let create = |content| CreateItem { folder: &drafts, content, operation_id: OPERATION };
    let attachment = Attachment {
        name: "plan \"a\".txt",
        content_type: "text/plain",
        content_id: Some("plan@mail"),
        inline: true,
        content: b"Hello",
    };
    let hidden = [Address::new("hidden@example.com")];
    vec![
        ("GetFolder", request(&GetFolder { folder: &inbox })),
        ("GetFolder.delegation", in_mailbox(&GetFolder { folder: &inbox })),
        (
            "FindFolder",
            request(&FindFolder { parent: &WellKnown::MsgFolderRoot.into(), name: "Undeliverable" }),
        ),
        (
            "CreateFolder",
            request(&CreateFolder { parent: &WellKnown::MsgFolderRoot.into(), name: "Undeliverable" }),
        ),
        ("SyncFolderItems", request(&sync(Some(&state), Shape::IdOnly))),
        ("SyncFolderItems.first", request(&sync(None, Shape::Known))),
        ("FindItem", request(&find(Criterion::OperationId(OPERATION)))),
        ("FindItem.search_key", request(&find(Criterion::SearchKey(b"\x00\x01key")))),
        ("FindItem.message_id", request(&find(Criterion::MessageId("<1@mail.example.org>")))),
        ("GetItem", request(&GetItem { ids: &[id.clone(), other.clone()], properties: all, content: false })),
        (
            "GetItem.content",
            request(&GetItem {
                ids: std::slice::from_ref(&other),
                properties: Properties::NONE,
                content: true,
            }),
        ),
        ("CreateItem", request(&create(Content::Draft(&draft())))),
        (
            "CreateItem.mime",
            request(&create(Content::Mime { message: b"Subject: x\r\n\r\ny", bcc: &hidden })),
        ),
        ("CreateAttachment", request(&CreateAttachment { parent: &id, attachment })),
        ("UpdateItem", request(&UpdateItem { id: &id, update: Update::Subject("Other") })),
        ("UpdateItem.read", request(&UpdateItem { id: &other, update: Update::Read(true) })),
        ("SendItem", request(&SendItem { id: &id, copy_to: &WellKnown::SentItems.into() })),
        ("MoveItem", request(&MoveItem { id: &id, to: &own })),
        (
            "DeleteItem",
            request(&DeleteItem { ids: &[id.clone(), other.clone()], deletion: Deletion::HardDelete }),
        ),
        ("Subscribe", request(&Subscribe { folder: &inbox })),
        ("Unsubscribe", request(&Unsubscribe { subscription: "JAByAHMAbQ==" })),
        (
            "GetStreamingEvents",
            request(&GetStreamingEvents {
                subscriptions: &["JAByAHMAbQ==".into(), "S&2".into()],
                minutes: 29,
            }),
        ),
    ]
}

/// `MAILYARD_GOLDEN=write` writes the files anew: what changed is then seen in the difference.
#[test]
fn requests_are_those_of_the_golden_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, request) in requests() {
        let file = folder.join(format!("{name}.request.xml"));
        if std::env::var("MAILYARD_GOLDEN").is_ok_and(|value| value == "write") {
            fs::write(&file, format!("{request}\n")).expect("the folder can be written");
        }
        let golden = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(request, golden.trim_end_matches('\n'), "{}", file.display());
    }
    let files = fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(files, requests().len(), "every golden file has its request");
}

#[test]
fn limits_of_the_schema_are_kept() {
    let inbox = Folder::WellKnown(WellKnown::Inbox);
    for (max, expected) in [(0, ">1<"), (1, ">1<"), (512, ">512<"), (513, ">512<"), (u16::MAX, ">512<")] {
        let request = request(&SyncFolderItems { folder: &inbox, cursor: None, max, shape: Shape::IdOnly });
        assert!(request.contains(&format!("MaxChangesReturned{expected}")), "{max}: {request}");
    }
    let mut out = Vec::new();
    write(&mut out, Acting::AsItself, &GetFolder { folder: &inbox });
    assert!(!String::from_utf8_lossy(&out).contains("Impersonation"));
}

/// Every text and every attribute of a document, as a parser sees them.
fn texts(document: &str) -> Vec<String> {
    fn walk(reader: &mut Reader<'_>, found: &mut Vec<String>) {
        let read = reader.children(|reader, element| {
            match element.name() {
                "Subject" | "Name" | "EmailAddress" | "InReplyTo" | "Value" => {
                    found.push(reader.text()?.into_owned());
                }
                // The text of the message, and not the body of the envelope.
                "Body" if element.attribute("BodyType")?.is_some() => found.push(reader.text()?.into_owned()),
                "FolderId" => found.push(element.attribute("Id")?.expect("an id").into()),
                _ => walk(reader, found),
            }
            Ok(())
        });
        read.expect("well-formed");
    }
    let mut reader = Reader::new(document, Vec::new());
    reader.root().expect("a root element");
    let mut found = Vec::new();
    walk(&mut reader, &mut found);
    found
}

proptest! {
    #[test]
    fn any_text_arrives_but_for_what_xml_cannot_carry(text in any::<String>(), more in "[\\PC\\x00-\\x1F<>&\"']{0,40}") {
        let folder = Folder::Id(FolderId::new(more.clone()));
        let content = Draft {
            subject: text.clone(),
            body: Body::Text(more.clone()),
            to: vec![Address { name: Some(text.clone()), address: more.clone() }],
            in_reply_to: Some(text.clone()),
            importance: Importance::Normal,
            from: None,
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            message_id: None,
            references: None,
        };
        let operation = CreateItem { folder: &folder, content: Content::Draft(&content), operation_id: &more };
        let mut out = Vec::new();
        write(&mut out, Acting::As(&text), &operation);
        let document = String::from_utf8(out).expect("UTF-8");
        prop_assert!(document.chars().all(is_legal));
        let [text, more] = [text, more].map(|text| text.chars().filter(|letter| is_legal(*letter)).collect::<String>());
        let expected = [&more, &text, &more, &text, &more, &more, &text, &more];
        prop_assert_eq!(texts(&document), expected.map(String::as_str));
    }

    #[test]
    fn any_content_arrives(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = Folder::WellKnown(WellKnown::Drafts);
        let content = Content::Mime { message: &message, bcc: &[] };
        let request = request(&CreateItem { folder: &folder, content, operation_id: "x" });
        let mut sieve = crate::codec::Sieve::new(super::LIMITS);
        sieve.push(request.as_bytes()).expect("small");
        let (_, mimes) = sieve.finish();
        prop_assert_eq!(&mimes.first().expect("a content").bytes, &message);
    }
}
