//! What only this backend promises.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::Executor as _;

use super::*;

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
