//! What only this backend promises.

use std::os::unix::fs::PermissionsExt as _;

use mailyard_policy::{
    Reason,
    alert::What,
    id::{Epoch, Incarnation, ShardId, WorkerId},
    mailbox::Kept,
    operation::{Kind, Method, Operation, State},
};
use sqlx::Executor as _;

use super::*;
use crate::{
    fleet::{Fleet as _, SoleHolder},
    holder::Holder as _,
    notices::Notices as _,
    people::People as _,
};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn key(&self, name: &str) -> MasterKey {
        MasterKey::load_or_create(&self.0.path().join(name)).expect("a key")
    }

    async fn open(&self) -> Result<SqliteStore> {
        SqliteStore::open(&self.0.path().join("mailyard.db"), self.key("master.key")).await
    }
}

async fn pragma(pool: &SqlitePool, name: &str) -> String {
    let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(pool).await.expect("a pragma");
    row.get(0)
}

#[tokio::test]
async fn what_is_committed_is_on_the_disk() {
    let place = Place::new();
    let store = place.open().await.expect("it opens");
    for (name, expected) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
        assert_eq!(pragma(&store.writer, name).await, expected, "{name}; 2 is FULL");
    }
    for _ in 0..READERS {
        let written = store.readers.execute("DELETE FROM mailbox").await;
        assert!(written.is_err(), "a reader cannot write");
    }
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let place = Place::new();
    let store = place.open().await.expect("it opens");
    for name in ["mailyard.db", "mailyard.db-wal", "master.key"] {
        let mode = std::fs::metadata(place.0.path().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
}

#[tokio::test]
async fn what_is_not_ours_or_newer_is_left_alone() {
    let place = Place::new();
    let store = place.open().await.expect("it opens");
    store.writer.execute("UPDATE _sqlx_migrations SET version = version + 1000").await.expect("a wish");
    store.close().await;
    let newer = place.open().await;
    assert!(matches!(newer, Err(Error::NewerSchema { found: 1002, known: 2 })), "{newer:?}");

    let place = Place::new();
    std::fs::write(
        place.0.path().join("mailyard.db"),
        "this is a letter and no database at all\n".repeat(99),
    )
    .expect("a file");
    let letter = place.open().await;
    assert!(matches!(letter, Err(Error::Corrupt(_))), "{letter:?}");

    let place = Place::new();
    place.open().await.expect("it opens").close().await;
    std::fs::remove_file(place.0.path().join("master.key")).expect("the key");
    let another = place.open().await;
    assert!(matches!(another, Err(Error::Key { .. })), "{another:?}");
}

/// Claimed by process 1, with what somebody else wrote into it.
async fn written_by_somebody_else(store: &SqliteStore, sql: &'static str) {
    let lead = store.elect("one", BUSY, Some(SoleHolder)).await.expect("a leader").expect("nobody led");
    let (worker, incarnation) = (WorkerId("w".to_owned()), Incarnation::new(1));
    store.register(&lead, &worker, incarnation, "test", BUSY).await.expect("a worker");
    for statement in [
        "INSERT INTO profile(profile_id, org, display_name, name_key, description, minimum_interval,
           max_connections, idle_max, move_failed, alert_owner, streaming, credential_source, lanes, create_time,
           revision)
         VALUES (zeroblob(16), 'default', 'P', 'p', '', 0, 1, 1, 0, 0, 0, 'profile', 1, 0, 1)",
        "INSERT INTO credentials(profile_id, direction, authentication, access, user_name)
         VALUES (zeroblob(16), 'incoming', 'basic', 'impersonation', 'u')",
        "WITH n(i) AS (VALUES ('a'), ('b'), ('c'))
         INSERT INTO mailbox(mailbox_id, org, address, address_key, display_name, name_key, kind, profile_id, methods,
           approval, create_time, revision, shard_id, hash_version, incoming_state, outgoing_state, act_state, health)
         SELECT CAST(printf('%016s', i) AS BLOB), 'default', i, i, i, i, 'user', zeroblob(16), 'sss,sss,none',
           'approved', 0, 1, 7, 1, 'enabled', 'enabled', 'off', 'ok' FROM n",
        "INSERT INTO shard_profile_count(shard_id, profile_id, health, n) VALUES (7, zeroblob(16), 'ok', 3)",
        sql,
    ] {
        store.writer.execute(statement).await.expect(statement);
    }
    let shard = ShardId::new(7).expect("a shard");
    store.grant(&lead, (&worker, incarnation), &[(shard, Epoch(0))]).await.expect("a grant");
}

#[tokio::test]
async fn what_cannot_be_understood_is_set_aside_and_comes_back_when_it_can() {
    for sql in [
        "UPDATE mailbox SET kept = 'of a later version' WHERE address = 'b'",
        "UPDATE mailbox SET methods = 'pigeon,sss,none' WHERE address = 'b'",
    ] {
        let place = Place::new();
        let store = place.open().await.expect("it opens");
        written_by_somebody_else(&store, sql).await;
        let incarnation = Incarnation::new(1);
        let claims = store.claim(incarnation, 10).await.expect("claims");
        assert_eq!((claims.mailboxes.len(), claims.unreadable.len()), (2, 1), "{sql}");
        assert!(
            store.claim(incarnation, 10).await.expect("claims").unreadable.is_empty(),
            "it is claimed too"
        );
        assert_eq!(
            store.unapplied(incarnation, 10).await.expect("wishes").len(),
            if sql.contains("kept") { 3 } else { 2 }
        );
        let counts = store.health_counts().await.expect("counts");
        assert_eq!((counts[0].ok, counts[0].failing), (2, 1), "{sql}");
        assert_eq!(counts, store.recount_health().await.expect("counts"));
        let reasons = store.failing_reasons(counts[0].profile).await.expect("reasons");
        assert_eq!(reasons, [(Reason::MailboxStateUnreadable, 1)], "{sql}");
        let disabled = |kind| What::Disabled(kind, Reason::MailboxStateUnreadable);
        assert_eq!(told(&store).await, [disabled(Kind::Incoming), disabled(Kind::Outgoing)], "{sql}");

        let kept = Kept { operations: [enabled(), enabled(), Operation::default()], ..Kept::default() };
        let mended =
            sqlx::query("UPDATE mailbox SET kept = ?, methods = 'sss,sss,none'").bind(kept.to_string());
        mended.execute(&store.writer).await.expect("it is mended");
        let again = store.claim_again(incarnation, &[claims.unreadable[0].mailbox]).await.expect("claims");
        assert_eq!(again.mailboxes[0].kept, kept, "{sql}");
        let counts = store.health_counts().await.expect("counts");
        assert_eq!((counts[0].ok, counts[0].failing), (3, 0), "{sql}");
        assert_eq!(store.failing_reasons(counts[0].profile).await.expect("reasons"), [], "{sql}");
        let ended = [What::Recovered(Kind::Incoming), What::Recovered(Kind::Outgoing)];
        assert_eq!(told(&store).await[2..], ended, "{sql}");
    }
}

/// What the alert book is still to be told.
async fn told(store: &SqliteStore) -> Vec<What> {
    let facts = store.unbooked(9).await.expect("facts");
    facts.into_iter().map(|fact| fact.fact.expect("a fact").what).collect()
}

fn enabled() -> Operation {
    Operation { method: Method::ServerSide, state: State::Enabled, ..Operation::default() }
}

#[tokio::test]
async fn facts_and_alerts_that_cannot_be_understood_hide_no_others() {
    let place = Place::new();
    let store = place.open().await.expect("it opens");
    for sql in [
        "INSERT INTO fact(org, text, at) VALUES ('default', 'of a later version', 0)",
        "INSERT INTO alert(alert_id, org, reason, level, scope, regarding_kind, regarding_id, regarding_text, count,
           operations, summary, first_time, last_time)
         VALUES (randomblob(16), 'default', 'OF_A_LATER_VERSION', 'error', 'mailbox', 'mailbox', randomblob(16), '', 1,
           0, '', 0, 0),
          (randomblob(16), 'default', 'INTERNAL', 'error', 'mailbox', 'mailbox', randomblob(16), '', 1, 0, '', 0, 0)",
    ] {
        store.writer.execute(sql).await.expect(sql);
    }
    let facts = store.unbooked(9).await.expect("facts");
    assert!(facts.len() == 1 && facts[0].fact.is_err(), "{facts:?}");
    let open = store.open_alerts().await.expect("alerts");
    assert_eq!(open.iter().map(|alert| alert.reason).collect::<Vec<_>>(), [Reason::Internal]);
}

/// The questions that are asked of every mailbox again and again are answered by an index.
#[tokio::test]
async fn no_frequent_question_reads_whole_tables() {
    let place = Place::new();
    let store = place.open().await.expect("it opens");
    for sql in [
        "SELECT * FROM mailbox WHERE org = 'default' AND address_key = 'a'",
        "SELECT * FROM mailbox WHERE shard_id = 1 AND fence < 9",
        "SELECT * FROM mailbox WHERE shard_id = 1 AND wanted_revision <> wanted_seen",
        "SELECT * FROM outgoing WHERE mailbox_id = x'00' AND due IS NOT NULL AND due <= 9",
        "SELECT * FROM inbound WHERE mailbox_id = x'00' AND state <> 'quarantined'",
        "SELECT * FROM long_operation WHERE state IN ('running', 'paused') ORDER BY create_time, operation_id",
        "SELECT * FROM long_operation WHERE org = 'default' ORDER BY create_time DESC, operation_id DESC LIMIT 9",
        "SELECT * FROM fact WHERE booked IS NULL",
        "SELECT * FROM notice WHERE due IS NOT NULL AND due <= 9",
        "SELECT * FROM event WHERE position IS NULL",
        "SELECT * FROM record WHERE org = 'default' AND direction = 'incoming' AND message_key = x'00'",
    ] {
        let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(&store.readers)
            .await
            .expect("a plan");
        for row in rows {
            let step: String = row.get("detail");
            assert!(step.starts_with("SEARCH") || step.contains("USING INDEX"), "{sql}: {step}");
        }
    }
}
