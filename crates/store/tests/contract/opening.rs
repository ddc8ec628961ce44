//! What a database on PostgreSQL must be, and what is said of one that is not.

use mailyard_policy::Reason;
use mailyard_store::{Error, MasterKey, PostgresOptions, PostgresStore};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::private::Database;

#[tokio::test]
async fn what_is_newer_changed_or_under_another_key_is_left_alone() {
    let Some(database) = Database::new().await else { return };
    let mut admin = database.connect().await;
    let other = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&other.path().join("another.key")).unwrap();
    let options = PostgresOptions::new(database.url.as_str());
    let opened = PostgresStore::open(&options, key).await;
    assert!(matches!(opened, Err(Error::Key { .. })), "{opened:?}");
    admin.execute("UPDATE mailyard_migration SET checksum = '\\x00'").await.unwrap();
    let opened = database.open(false).await;
    assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
    admin.execute("UPDATE mailyard_migration SET version = version + 1000").await.unwrap();
    let opened = database.open(false).await;
    assert!(matches!(opened, Err(Error::NewerSchema { found: 1001, known: 1 })), "{opened:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_said_to_be_unavailable() {
    let Some(database) = Database::new().await else { return };
    let name = database.direct.rsplit('/').next().unwrap().to_owned();
    let mut admin = database.connect().await;
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    let opened = database.open(false).await;
    assert!(
        matches!(&opened, Err(Error::Unavailable(why)) if why.to_string().contains("read-only")),
        "{opened:?}"
    );
}

#[tokio::test]
async fn several_begin_the_life_of_an_empty_database_at_once() {
    let Some(database) = Database::empty().await else { return };
    let all =
        tokio::join!(database.open(false), database.open(false), database.open(false), database.open(false));
    for opened in [all.0, all.1, all.2, all.3] {
        opened.unwrap();
    }
}

#[tokio::test]
async fn a_server_elsewhere_is_verified_or_not_asked() {
    let key = || MasterKey::load_or_create(&tempfile::tempdir().unwrap().path().join("master.key")).unwrap();
    for url in [
        "postgres://mailyard:secret@db.example/mailyard?sslmode=require",
        "postgres://mailyard:secret@db.example/mailyard?sslmode=disable",
        "mysql://mailyard:secret@db.example/mailyard?sslmode=prefer",
        "no URL: secret",
    ] {
        let options = PostgresOptions::new(url);
        assert!(!format!("{options:?}").contains("secret"));
        match PostgresStore::open(&options, key()).await {
            Err(Error::Refused { reason: Reason::ConfigInvalid, detail, field }) => {
                assert!(field == "database" && !detail.contains("secret"), "{detail}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
