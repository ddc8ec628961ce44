//! EmailService: tracked emails, their contents, and what could not be tracked.

use std::fmt::Write as _;

use bytes::Bytes;
use mailyard_policy::{
    Reason,
    id::{RecordId, UploadId},
    tracking::{Head, MessageKey},
};
use mailyard_store::holder::{Body, Claimed, Commit, Item, SeenItem, Tracked};
use mailyard_wire::records::{
    Direction, EmailState, GetEmailContentRequest, GetEmailRequest, ListEmailsRequest,
    ListQuarantinedItemsRequest, ReplayItemsRequest,
};
use sha2::{Digest as _, Sha256};

use crate::house::{House, PARENT, address, answered, at, name, told};

fn tracked(n: u128, body: Body) -> Item {
    let message_id = format!("<m{n}@contoso.example>");
    Item::Track(Box::new(Tracked {
        record: RecordId::new(n),
        item_id: format!("item-{n}"),
        change_key: "CQ".to_owned(),
        received: at(n as i64),
        key: MessageKey::of_message_id(&message_id).unwrap(),
        head: Head {
            message_id: Some(message_id),
            from: "sender@fabrikam.example".to_owned(),
            to: vec![address(1)],
            subject: format!("Größe {n}"),
            sent: Some(at(n as i64)),
            ..Head::default()
        },
        size: 6000,
        body,
        sending: None,
    }))
}

/// The first mailbox tracks so many small messages.
async fn track(house: &House, count: u128) -> Claimed {
    house.profile("Main").await;
    house.import(1).await;
    let mut claimed = house.hold().await.remove(0);
    let items = (1..=count).map(|n| tracked(n, Body::Whole(Bytes::from(format!("MIME {n}"))))).collect();
    claimed.fence = house.commit(&claimed.fence, Commit { items, ..Commit::default() }).await;
    claimed
}

fn list(filter: &str, page_size: i32, page_token: &str) -> ListEmailsRequest {
    ListEmailsRequest {
        parent: PARENT.into(),
        page_size,
        page_token: page_token.into(),
        filter: filter.into(),
    }
}

#[tokio::test]
async fn more_than_a_thousand_emails_are_listed_each_once() {
    let house = House::new().await;
    track(&house, 1005).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = answered(house.emails().list_emails(list("direction = incoming", 1000, &token)).await);
        seen.extend(page.emails);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let mut subjects: Vec<&str> = seen.iter().map(|email| email.subject.as_str()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!((seen.len(), subjects.len()), (1005, 1005));
    let found = answered(house.emails().list_emails(list("subject = \"größe 77\"", 0, "")).await).emails;
    let email = &found[0];
    assert_eq!((email.direction(), email.state()), (Direction::Incoming, EmailState::Received));
    assert_eq!((email.mailbox.as_str(), &email.mailboxes), (&*address(1), &vec![address(1)]));
    let request = GetEmailRequest { name: email.name.clone() };
    assert_eq!(answered(house.emails().get_email(request).await), *email);
    let mut table = String::new();
    let _ = writeln!(table, "{}", told(house.emails().list_emails(list("body:secret", 0, "")).await));
    let other = told(house.emails().list_emails(list("", 0, &list("", 0, "eA").page_token)).await);
    let _ = writeln!(table, "{other}");
    for last in ["none", "00000000000000000000000000"] {
        let request = GetEmailRequest { name: name("emails", last) };
        let _ = writeln!(table, "{}", told(house.emails().get_email(request).await));
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_content_comes_in_pieces_that_make_the_whole() {
    let house = House::new().await;
    let claimed = track(&house, 1).await;
    let mime: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let upload = UploadId::new(9);
    for (number, chunk) in mime.chunks(200_000).enumerate() {
        house.store.upload(upload, number as u32, Bytes::copy_from_slice(chunk), at(1)).await.unwrap();
    }
    let (hash, size) = (Sha256::digest(&mime).into(), mime.len() as u64);
    let items = vec![tracked(2, Body::Uploaded { upload, hash, size })];
    house.commit(&claimed.fence, Commit { items, ..Commit::default() }).await;
    for (n, expected) in [(1, b"MIME 1".to_vec()), (2, mime)] {
        let request = GetEmailContentRequest { name: name("emails", &RecordId::new(n).to_string()) };
        let mut pieces = house.emails().get_email_content(request).await.unwrap().into_inner();
        let mut whole = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            assert!(!piece.piece.is_empty() && piece.piece.len() <= 256 << 10);
            whole.extend(piece.piece);
        }
        assert!(whole == expected, "{} bytes instead of {}", whole.len(), expected.len());
    }
    let request = GetEmailContentRequest { name: name("emails", &RecordId::new(3).to_string()) };
    let refused = house.emails().get_email_content(request).await;
    insta::assert_snapshot!(told(refused.map(|answer| answer.map(|_| ()))));
}

#[tokio::test]
async fn what_could_not_be_tracked_is_listed_and_tried_anew() {
    let house = House::new().await;
    let claimed = track(&house, 1).await;
    let ids = ["a", "b", "c"].map(|id| format!("item-{id}"));
    let seen = ids.iter().map(|id| SeenItem { item_id: id.clone(), received: None }).collect();
    let items =
        ids.iter().map(|id| Item::Quarantine { item_id: id.clone(), reason: Reason::ItemCorrupt }).collect();
    let fence = house.commit(&claimed.fence, Commit { seen, ..Commit::default() }).await;
    house.commit(&fence, Commit { items, ..Commit::default() }).await;
    let list = |mailbox: &str, page_token: &str| ListQuarantinedItemsRequest {
        parent: PARENT.into(),
        mailbox: mailbox.into(),
        page_size: 2,
        page_token: page_token.into(),
    };
    let first = answered(house.emails().list_quarantined_items(list("", "")).await);
    let second = answered(house.emails().list_quarantined_items(list("", &first.next_page_token)).await);
    let found = first.items.iter().chain(&second.items);
    let found: Vec<_> = found.map(|item| (item.item_id.as_str(), item.reason.as_str())).collect();
    assert_eq!(found, [("item-a", "ITEM_CORRUPT"), ("item-b", "ITEM_CORRUPT"), ("item-c", "ITEM_CORRUPT")]);

    let replay = |mailbox: &str, ids: &[&str]| ReplayItemsRequest {
        parent: PARENT.into(),
        mailbox: mailbox.into(),
        item_ids: ids.iter().map(ToString::to_string).collect(),
    };
    let nudges = house.nudges();
    let replayed = house.emails().replay_items(replay(&address(1), &["item-a", "item-c", "item-x"])).await;
    assert_eq!((answered(replayed).replayed, house.nudges()), (2, nudges + 1));
    let left = answered(house.emails().list_quarantined_items(list(&address(1), "")).await);
    assert_eq!((left.items.len(), left.items[0].item_id.as_str()), (1, "item-b"));

    let mut table = String::new();
    let other = list(&address(1), &first.next_page_token);
    let _ = writeln!(table, "{}", told(house.emails().list_quarantined_items(other).await));
    let _ = writeln!(table, "{}", told(house.emails().list_quarantined_items(list("nobody", "")).await));
    let many = vec!["x"; 1001];
    for (mailbox, ids) in
        [("nobody", &["a"][..]), (&address(1), &[]), (&address(1), &many), (&address(1), &["a\n"])]
    {
        let _ = writeln!(table, "{}", told(house.emails().replay_items(replay(mailbox, ids)).await));
    }
    insta::assert_snapshot!(table);
}
