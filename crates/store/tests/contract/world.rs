//! A small world for the cases: a leader, a worker, a profile, mailboxes, and messages by number.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{Epoch, Incarnation, MailboxId, Org, OutgoingId, ProfileId, RecordId, Revision, ShardId, WorkerId},
    mailbox::Kept,
    operation::{Kind, Method, Operation, State},
    outbox::Capabilities,
    profile::{CredentialSource, Credentials},
    tracking::{Head, MessageKey},
};
use mailyard_store::{
    Error, Store,
    fleet::{Grant, Leadership, SoleHolder},
    holder::{Body, Claimed, Commit, Fence, Item, Tracked},
    people::{MailboxKind, NewMailbox, Profile, Secrets},
    query::{Filter, Operator, Page, Value},
    records::{NewOutgoing, OutgoingBody, OutgoingContent},
};

/// A lease that does not end during a case.
pub const LONG: Duration = Duration::from_hours(1);

/// A moment, `seconds` after the beginning of a case's time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_772_000_000_000 + seconds * 1000)
}

pub struct World {
    pub store: Arc<dyn Store>,
    pub org: Org,
    pub lead: Leadership,
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    pub profile: ProfileId,
}

impl World {
    /// A leader, a live worker, and a profile; nothing is granted.
    pub async fn new(store: Arc<dyn Store>) -> Self {
        let lead = store.elect("one", LONG, Some(SoleHolder)).await.unwrap().unwrap();
        let (worker, incarnation) = (WorkerId("w1".to_owned()), Incarnation::new(1));
        store.register(&lead, &worker, incarnation, "test", LONG).await.unwrap();
        let world =
            Self { store, org: Org::default(), lead, worker, incarnation, profile: ProfileId::new(77) };
        world.store.create_profile(&profile(77, "Main"), &Secrets::default(), false).await.unwrap();
        world
    }

    /// The same with `count` approved mailboxes, all claimed by the worker.
    pub async fn with_mailboxes(store: Arc<dyn Store>, count: u128) -> (Self, Vec<Claimed>) {
        let world = Self::new(store).await;
        world.add(1..=count).await;
        world.grant_all(world.incarnation).await;
        let mut claimed = world.store.claim(world.incarnation, 10_000).await.unwrap().mailboxes;
        claimed.sort_by_key(|claimed| claimed.fence.mailbox);
        (world, claimed)
    }

    /// Makes mailboxes by number.
    pub async fn add(&self, numbers: impl IntoIterator<Item = u128>) {
        let rows: Vec<NewMailbox> = numbers.into_iter().map(|n| mailbox(n, Some(self.profile))).collect();
        self.store.create_mailboxes(&self.org, &rows, at(0)).await.unwrap();
    }

    /// Grants every free shard that the store tells of.
    pub async fn grant_all(&self, to: Incarnation) -> Vec<Grant> {
        let free: Vec<(ShardId, Epoch)> = self
            .store
            .shards()
            .await
            .unwrap()
            .into_iter()
            .filter(|shard| shard.owner.is_none())
            .map(|shard| (shard.shard, shard.epoch))
            .collect();
        self.store.grant(&self.lead, (&self.worker, to), &free).await.unwrap()
    }

    /// Commits, and keeps the new fence.
    pub async fn commit(&self, fence: &mut Fence, commit: Commit) {
        let committed = self.store.commit(fence, Commit { at: at(1), ..commit }).await.unwrap();
        *fence = committed.fence;
    }

    /// All emails that match.
    pub async fn emails(&self, filter: Filter) -> Vec<mailyard_store::records::Email> {
        self.store.emails(&self.org, &filter, &page(None, 1000)).await.unwrap()
    }
}

pub fn page(after: Option<String>, limit: u32) -> Page {
    Page { after, limit }
}

pub fn compare(field: &'static str, operator: Operator, value: impl Into<Text>) -> Filter {
    Filter::Compare { field, operator, value: Value::Text(value.into().0) }
}

/// A text value.
pub struct Text(String);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

pub fn address(n: u128) -> String {
    format!("M{n:03}@Contoso.example")
}

pub fn mailbox(n: u128, profile: Option<ProfileId>) -> NewMailbox {
    NewMailbox {
        id: MailboxId::new(n),
        address: address(n),
        display_name: format!("Mailbox {n}"),
        kind: MailboxKind::User,
        profile,
        methods: [Method::ServerSide, Method::ServerSide, Method::None],
        owner_email: Some(format!("Owner{n}@contoso.example")),
        crm_id: Some(format!("CRM-{n}")),
        process_email_from: None,
    }
}

pub fn profile(id: u128, name: &str) -> Profile {
    Profile {
        id: ProfileId::new(id),
        org: Org::default(),
        display_name: name.to_owned(),
        description: "for tests".to_owned(),
        incoming_url: Some("https://mail.contoso.example/ews".to_owned()),
        outgoing_url: Some("https://mail.contoso.example/ews".to_owned()),
        credential_source: CredentialSource::Profile,
        credentials: Credentials { user: "svc@contoso.example".to_owned(), ..Credentials::none() },
        outgoing_credentials: None,
        ca_pem: None,
        process_email_from: Some(at(-5)),
        minimum_interval: Duration::from_mins(1),
        max_connections: 10,
        idle_max: Duration::from_hours(1),
        move_failed: true,
        alert_owner: true,
        owner_email: Some("boss@contoso.example".to_owned()),
        request_deadline: Some(Duration::from_secs(10)),
        streaming: false,
        lanes: 1,
        capabilities: Capabilities::default(),
        create_time: at(0),
        revision: Revision(1),
    }
}

/// The message with this number, as `item` in a mailbox.
pub fn message(number: u128, item: &str) -> Tracked {
    let message_id = format!("<m{number}@contoso.example>");
    Tracked {
        record: RecordId::new(
            item.bytes().fold(number << 64, |id, byte| id.wrapping_mul(31) + u128::from(byte)),
        ),
        item_id: item.to_owned(),
        change_key: "CQ".to_owned(),
        received: at(10),
        key: MessageKey::of_message_id(&message_id).unwrap(),
        head: Head {
            message_id: Some(message_id),
            from: "Sender@contoso.example".to_owned(),
            to: vec!["A@contoso.example".to_owned(), "b@contoso.example".to_owned()],
            subject: format!("Größe {number}"),
            sent: Some(at(9)),
            ..Head::default()
        },
        size: 6000,
        body: Body::Whole(Bytes::from(format!("MIME of message {number}"))),
        sending: None,
    }
}

pub fn track(messages: impl IntoIterator<Item = Tracked>) -> Commit {
    let items = messages.into_iter().map(|message| Item::Track(Box::new(message))).collect();
    Commit { items, ..Commit::default() }
}

/// What a holder keeps with these states of incoming and outgoing.
pub fn kept(incoming: State, outgoing: State) -> Kept {
    let operation =
        |method, state| Operation { method, state, period: Duration::from_mins(5), ..Operation::default() };
    Kept {
        wanted_seen: 1,
        subject: 5,
        operations: [
            operation(Method::ServerSide, incoming),
            operation(Method::ServerSide, outgoing),
            operation(Method::None, State::Off),
        ],
        ..Kept::default()
    }
}

pub fn outgoing(n: u128, mailbox: MailboxId, key: Option<&str>) -> NewOutgoing {
    NewOutgoing {
        id: OutgoingId::new(n),
        mailbox,
        idempotency_key: key.map(ToOwned::to_owned),
        content: OutgoingContent {
            from: address(mailbox.get()),
            to: vec!["guest@fabrikam.example".to_owned()],
            cc: vec![],
            bcc: vec!["audit@contoso.example".to_owned()],
            subject: format!("Offer {n}"),
            body: OutgoingBody::Text("Hello".to_owned()),
            attachments: vec![mailyard_store::records::Attachment {
                name: "a.txt".to_owned(),
                content_type: "text/plain".to_owned(),
                content: Bytes::from_static(b"file"),
            }],
        },
        expires: None,
        at: at(n as i64),
    }
}

/// The reason with which a call was refused, and the field.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (Reason, String) {
    match result {
        Err(Error::Refused { reason, field, .. }) => (reason, field),
        other => panic!("this should have been refused: {other:?}"),
    }
}

pub fn fenced<T: std::fmt::Debug>(result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::Fenced)), "this should have been fenced: {result:?}");
}

pub const KINDS: [Kind; 3] = Kind::ALL;
