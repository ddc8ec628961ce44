//! The embedded backend: one SQLite file, one writer connection, a few readers.
//!
//! Writes are short transactions that begin with `BEGIN IMMEDIATE` on the one writer connection. Each is durable when it
//! returns: the log is synced at every commit.

mod fleet;
mod session;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Row as _, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use self::session::{SqliteSession, query};
use crate::{
    Error, Result,
    secret::{MasterKey, create_private},
    sql::{Backend, Statement, begin_life, check_version},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Marks a file as ours; set by the first migration.
const APPLICATION_ID: i64 = 0x4d41_5958;
const READERS: u32 = 4;
/// KiB, negative as SQLite wants it: what a reader does not hold itself the operating system does.
const READERS_CACHE: &str = "-2048";
const BUSY: Duration = Duration::from_secs(10);

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    key: MasterKey,
}

impl SqliteStore {
    /// Opens the database, or makes it (mode 0600), and brings its schema up to date.
    ///
    /// [`Error::NewerSchema`] if a newer Mailyard wrote it, [`Error::Key`] if `key` is not the one its secrets stand
    /// under, [`Error::Corrupt`] if the file is no database or another program's.
    pub async fn open(path: &Path, key: MasterKey) -> Result<Self> {
        if !path.exists() {
            create_private(path).map_err(|error| {
                Error::Unavailable(format!("{} cannot be made: {error}", path.display()).into())
            })?;
        }
        let options = options(path);
        let writer = pool(1, options.clone()).await.map_err(|error| explain(path, error))?;
        check_schema(&writer, path).await?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|error| Error::Corrupt(format!("{}: the schema: {error}", path.display())))?;
        let readers = pool(READERS, options.read_only(true).pragma("cache_size", READERS_CACHE)).await?;
        let store = Self { writer, readers, key };
        begin_life(store.begin().await?, &store.key).await?;
        Ok(store)
    }

    /// Closes every connection; what was committed is in the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[async_trait]
impl Backend for SqliteStore {
    type Session = SqliteSession;
    type Row = SqliteRow;

    fn key(&self) -> &MasterKey {
        &self.key
    }

    async fn begin(&self) -> Result<SqliteSession> {
        Ok(SqliteSession(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Every writing follows the others.
    async fn begin_people(&self) -> Result<SqliteSession> {
        self.begin().await
    }

    async fn snapshot(&self) -> Result<SqliteSession> {
        Ok(SqliteSession(self.readers.begin().await?))
    }

    async fn read(&self, statement: Statement) -> Result<Vec<SqliteRow>> {
        Ok(query(statement)?.fetch_all(&self.readers).await?)
    }

    async fn write(&self, statement: Statement) -> Result<u64> {
        Ok(query(statement)?.execute(&self.writer).await?.rows_affected())
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .statement_cache_capacity(256)
        .pragma("cache_size", "-8192")
        .pragma("mmap_size", "0")
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
}

async fn pool(connections: u32, options: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(Duration::from_mins(1))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
}

/// Refuses what is not ours, and what a newer Mailyard wrote.
async fn check_schema(pool: &SqlitePool, path: &Path) -> Result<()> {
    let one = async |sql: &'static str| -> Result<i64> {
        let row =
            sqlx::query(AssertSqlSafe(sql)).fetch_one(pool).await.map_err(|error| explain(path, error))?;
        Ok(row.try_get(0)?)
    };
    if one("SELECT count(*) FROM sqlite_schema").await? == 0 {
        return Ok(());
    }
    if one("PRAGMA application_id").await? != APPLICATION_ID {
        return Err(Error::Corrupt(format!("{} is the database of another program", path.display())));
    }
    let found = one("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").await?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    check_version(found, known)
}

/// Tells a file that is no database from one that cannot be reached.
fn explain(path: &Path, error: sqlx::Error) -> Error {
    const NOT_A_DATABASE: &str = "26";
    const CORRUPT: &str = "11";
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        Some(NOT_A_DATABASE) => Error::Corrupt(format!("{} is no SQLite database", path.display())),
        Some(CORRUPT) => Error::Corrupt(format!("{} is damaged; restore it from a backup", path.display())),
        _ => Error::from(error),
    }
}

#[cfg(test)]
mod tests;
