//! How a supervisor holds what its process has claimed: with a real store, and faults that are put into it by a second
//! hand on the same file.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mailyard_host::{clock, metrics::Metrics};
use mailyard_policy::{
    Reason, Timestamp,
    id::{self, Epoch, Incarnation, MailboxId, Org, ProfileId, Revision, ShardId, WorkerId},
    lease,
    mailbox::Kept,
    operation::{Health, Kind, Method, Operation, State},
    outbox::Capabilities,
    profile::{CredentialSource, Credentials},
};
use mailyard_store::{
    MasterKey, SqliteStore, Store,
    fleet::{Leadership, SoleHolder},
    holder::Commit,
    people::{AccountChange, Approval, MailboxKind, NewMailbox, Profile, Secrets, Selection},
    query::Filter,
};
use mailyard_worker::{
    settings::Settings,
    shared::{Clocks, Shared},
    supervisor::{Message, Supervisor},
};
use ractor::{Actor, ActorRef, rpc::CallResult};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{net::TcpListener, time::timeout};
use tracing::Span;

const LONG: Duration = Duration::from_secs(30);

struct House {
    store: Arc<dyn Store>,
    lead: Leadership,
    worker: WorkerId,
    incarnation: Incarnation,
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
}

impl House {
    /// A leader, and a live worker with a lease; there is no mailbox yet, and nothing runs.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&folder.path().join("master.key")).unwrap();
        let store = SqliteStore::open(&folder.path().join("mailyard.db"), key).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let lead = store.elect("one", LONG, Some(SoleHolder)).await.unwrap().unwrap();
        let (worker, incarnation) = (WorkerId("w".to_owned()), Incarnation::new(1));
        store.register(&lead, &worker, incarnation, "test", LONG).await.unwrap();
        let clocks = Clocks { now: clock::now, boot: clock::boot_time };
        let rules = lease::Rules::default();
        let metrics = Metrics::new("test", None);
        let shared = Arc::new(Shared::new(store.clone(), hurried(), clocks, rules, metrics));
        shared.lease_event(lease::Event::Renewed { sent: clock::boot_time() });
        Self { store, lead, worker, incarnation, shared, folder }
    }

    /// A profile with a password, and mailboxes of it by number; all approved and granted.
    async fn profile(&self, number: u128, url: &str, mailboxes: &[u128]) {
        let profile = profile(number, url);
        let secrets = Secrets { incoming: Some("secret".to_owned().into()), outgoing: None };
        self.store.create_profile(&profile, &secrets, false).await.unwrap();
        let rows: Vec<NewMailbox> = mailboxes.iter().map(|n| mailbox(*n, Some(profile.id))).collect();
        self.store.create_mailboxes(&Org::default(), &rows, clock::now()).await.unwrap();
        let all = Selection::Matching(Filter::All);
        self.store.decide_approval(&Org::default(), &all, Approval::Approved, clock::now()).await.unwrap();
        self.grant_all().await;
    }

    async fn grant_all(&self) {
        let shards = self.store.shards().await.unwrap().into_iter().filter(|shard| shard.owner.is_none());
        let free: Vec<(ShardId, Epoch)> = shards.map(|shard| (shard.shard, shard.epoch)).collect();
        self.store.grant(&self.lead, (&self.worker, self.incarnation), &free).await.unwrap();
    }

    async fn epoch_of(&self, mailbox: u128) -> (ShardId, Epoch) {
        let mailbox = self.store.mailbox(MailboxId::new(mailbox)).await.unwrap().unwrap();
        let held = self.store.held(self.incarnation).await.unwrap();
        let grant = held.into_iter().find(|grant| grant.shard == mailbox.shard).unwrap();
        (grant.shard, grant.epoch)
    }

    /// A second hand on the file.
    async fn hand(&self) -> SqliteConnection {
        let path = self.folder.path().join("mailyard.db");
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap()
    }

    async fn begin(&self) -> Held {
        let arguments = (self.shared.clone(), self.incarnation);
        Held(Actor::spawn(None, Supervisor, arguments).await.unwrap().0)
    }
}

/// What a supervisor holds.
struct Held(ActorRef<Message>);

impl Held {
    async fn count(&self) -> usize {
        match self.0.call(Message::Count, Some(LONG)).await.unwrap() {
            CallResult::Success(count) => count,
            other => panic!("{other:?}"),
        }
    }

    async fn holds(&self, mailbox: u128) -> bool {
        let asked = self.0.call(|reply| Message::Explain(MailboxId::new(mailbox), reply), Some(LONG)).await;
        matches!(asked.unwrap(), CallResult::Success(Some(_)))
    }

    fn drain(&self, epoch: Epoch) -> tokio::task::JoinHandle<bool> {
        let supervisor = self.0.clone();
        tokio::spawn(async move {
            let epochs = BTreeSet::from([epoch]);
            let drained = supervisor.call(|reply| Message::Drain(epochs, reply), Some(LONG)).await;
            matches!(drained, Ok(CallResult::Success(())))
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn hurried() -> Settings {
    let millis = Duration::from_millis;
    let sync = mailyard_policy::mailbox::Rules {
        active_period: millis(100),
        active_min: millis(100),
        active_max: millis(200),
        idle_max: millis(200),
        ..Default::default()
    };
    Settings { sync, allow_plain_http: true, ..Settings::default() }
}

fn profile(number: u128, url: &str) -> Profile {
    Profile {
        id: ProfileId::new(number),
        org: Org::default(),
        display_name: format!("Profile {number}"),
        description: String::new(),
        incoming_url: Some(url.to_owned()),
        outgoing_url: Some(url.to_owned()),
        credentials: Credentials { user: "svc@contoso.example".to_owned(), ..Credentials::none() },
        credential_source: CredentialSource::Profile,
        outgoing_credentials: None,
        ca_pem: None,
        process_email_from: None,
        minimum_interval: Duration::ZERO,
        max_connections: 10,
        idle_max: Duration::from_millis(200),
        move_failed: true,
        alert_owner: false,
        owner_email: None,
        request_deadline: None,
        streaming: false,
        lanes: 1,
        capabilities: Capabilities::default(),
        create_time: Timestamp::EPOCH,
        revision: Revision(0),
    }
}

fn mailbox(number: u128, profile: Option<ProfileId>) -> NewMailbox {
    NewMailbox {
        id: MailboxId::new(number),
        address: format!("m{number}@contoso.example"),
        display_name: format!("Mailbox {number}"),
        kind: MailboxKind::User,
        profile,
        methods: [Method::ServerSide, Method::None, Method::None],
        owner_email: None,
        crm_id: None,
        process_email_from: None,
    }
}

/// What is kept of a mailbox whose incoming operation is enabled.
fn enabled(mailbox: &NewMailbox) -> Kept {
    let subject = format!("{} {}", mailbox.profile.unwrap(), mailbox.address);
    let period = Duration::from_millis(100);
    let incoming =
        Operation { method: Method::ServerSide, state: State::Enabled, period, ..Operation::default() };
    Kept {
        wanted_seen: 2,
        subject: id::hash(subject.as_bytes()).max(1),
        operations: [incoming, Operation::default(), Operation::default()],
        ..Kept::default()
    }
}

const NOWHERE: &str = "http://127.0.0.1:9/";

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_comes_back_after_its_drain_starts_nothing() {
    let house = House::new().await;
    house.profile(10, NOWHERE, &[1]).await;
    house.profile(20, NOWHERE, &[2]).await;
    let mut hand = house.hand().await;
    // While somebody else writes, the round cannot claim.
    hand.execute("BEGIN IMMEDIATE").await.unwrap();
    let held = house.begin().await;
    held.0.cast(Message::Round(Span::none())).unwrap();
    assert_eq!(held.count().await, 0);
    let drained = held.drain(house.epoch_of(1).await.1);
    assert_eq!(held.count().await, 0, "the wish to drain stands behind nothing any more");
    hand.execute("COMMIT").await.unwrap();
    assert!(drained.await.unwrap(), "it is answered");
    until("the other one is held", async || held.holds(2).await).await;
    assert!(!held.holds(1).await, "its grant goes away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_when_the_task_ends_whatever_it_lost() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let house = House::new().await;
    house.profile(10, &url, &[1]).await;
    let claimed = house.store.claim(house.incarnation, 1).await.unwrap().mailboxes.remove(0);
    let kept = Some(enabled(&mailbox(1, Some(ProfileId::new(10)))));
    house.store.commit(&claimed.fence, Commit { kept, ..Commit::default() }).await.unwrap();
    house.hand().await.execute("UPDATE mailbox SET fence = 0").await.unwrap();
    let held = house.begin().await;
    // It never answers: the turn is under way until it is dropped.
    let _silent = timeout(LONG, server.accept()).await.expect("a turn").unwrap();
    let drained = held.drain(house.epoch_of(1).await.1);
    assert_eq!(held.count().await, 1, "it finishes what is under way");
    house.shared.lease_event(lease::Event::ClockJumped);
    assert!(drained.await.unwrap(), "nobody knows what the turn held, and it is over");
    assert_eq!(held.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_which_nobody_knows_is_made_again() {
    let house = House::new().await;
    house.profile(10, NOWHERE, &[1]).await;
    // Its answer was lost.
    assert_eq!(house.store.claim(house.incarnation, 1).await.unwrap().mailboxes.len(), 1);
    house.profile(20, NOWHERE, &[2]).await;
    let mut hand = house.hand().await;
    hand.execute(
        "CREATE TRIGGER doubt BEFORE UPDATE OF fence ON mailbox WHEN OLD.address = 'm2@contoso.example'
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .await
    .unwrap();
    let held = house.begin().await;
    until("the first one is held", async || held.holds(1).await).await;
    assert_eq!(held.count().await, 1);
    hand.execute("DROP TRIGGER doubt").await.unwrap();
    until("the second one is held", async || held.holds(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_wait_for_their_lane_and_keep_nobody_waiting() {
    let house = House::new().await;
    house.profile(10, NOWHERE, &[1]).await;
    house.profile(20, NOWHERE, &[2]).await;
    let mut hand = house.hand().await;
    hand.execute("CREATE TABLE aside AS SELECT * FROM credentials").await.unwrap();
    hand.execute("UPDATE credentials SET sealed = x'00' WHERE profile_id = (SELECT profile_id FROM mailbox WHERE address_key = 'm1@contoso.example')")
        .await
        .unwrap();
    let held = house.begin().await;
    until("the other one is held", async || held.holds(2).await).await;
    until("both are claimed", async || house.store.standing(house.incarnation).await.unwrap().len() == 2)
        .await;
    assert!(!held.holds(1).await, "its secret cannot be opened");
    hand.execute(
        "UPDATE credentials SET sealed = (SELECT a.sealed FROM aside a WHERE a.profile_id = credentials.profile_id)",
    )
    .await
    .unwrap();
    until("it is held", async || held.holds(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_understood_is_set_aside_alone() {
    let house = House::new().await;
    house.profile(10, NOWHERE, &[1, 2, 3]).await;
    house
        .hand()
        .await
        .execute("UPDATE mailbox SET kept = 'of a later version' WHERE address = 'm2@contoso.example'")
        .await
        .unwrap();
    let held = house.begin().await;
    until("the others are held", async || held.count().await == 2).await;
    assert!(!held.holds(2).await);
    let aside = house.store.mailbox(MailboxId::new(2)).await.unwrap().unwrap();
    let incoming = aside.operations[Kind::Incoming as usize];
    assert_eq!((incoming.state, incoming.reason), (State::Disabled, Some(Reason::MailboxStateUnreadable)));
    assert_eq!(aside.health, Health::Failing);
    assert_eq!(house.store.health_counts().await.unwrap(), house.store.recount_health().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_lost_its_profile_is_not_held_any_more() {
    let house = House::new().await;
    house.profile(10, NOWHERE, &[1, 2]).await;
    let held = house.begin().await;
    until("both are held", async || held.count().await == 2).await;
    let before = house.store.mailbox(MailboxId::new(1)).await.unwrap().unwrap();
    house.store.update_mailbox(&mailbox(1, None), &AccountChange::Keep, before.revision).await.unwrap();
    house.grant_all().await;
    until("one is held", async || held.count().await == 1).await;
    assert!(held.holds(2).await);
}
