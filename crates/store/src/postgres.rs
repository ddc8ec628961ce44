//! The backend of a cluster: PostgreSQL 15 or later.
//!
//! Writings are short transactions at READ COMMITTED: a fenced one begins with the conditional update of its mailbox's
//! row, which it holds locked from then on; others lock what they decide by. The control plane has connections of its
//! own, on which a statement is a transaction, so that no storm of data lets a lease end and no stopped process keeps a
//! lock. Nothing is bound to a connection: no advisory lock, no notification, no setting that outlives its transaction.

mod fleet;
mod migrate;
mod options;
mod session;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgPoolOptions, PgRow},
};

pub use self::options::PostgresOptions;
use self::{
    options::{Role, connect_options},
    session::{PostgresSession, query, render},
};
use crate::{
    Error, Result,
    secret::MasterKey,
    sql::{Backend, Session as _, Statement, begin_life},
};

/// Nobody waits longer than this for an answer of the control plane.
const CONTROL_ANSWER: Duration = Duration::from_secs(3);
const CONTROL_CONNECTIONS: u32 = 2;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    data: PgPool,
    control: PgPool,
    /// Statements stay prepared on their connections; otherwise each goes in a transaction that says its limits.
    prepares: bool,
    key: MasterKey,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PostgresStore").field("key", &self.key).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens the database and brings its schema up to date; several processes may do so at once.
    ///
    /// [`Error::NewerSchema`] if a newer Mailyard wrote it, [`Error::Key`] if `key` is not the one its secrets stand
    /// under, [`Error::Refused`] if the options are no good, [`Error::Unavailable`] if it cannot be reached, is read-only
    /// or too old, [`Error::Corrupt`] if it is another program's.
    pub async fn open(options: &PostgresOptions, key: MasterKey) -> Result<Self> {
        let prepares = !options.pooler;
        let data = PgPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(Duration::from_mins(1))
            .test_before_acquire(false)
            .connect_lazy_with(connect_options(options, Role::Data)?);
        let control = PgPoolOptions::new()
            .max_connections(CONTROL_CONNECTIONS)
            .acquire_timeout(CONTROL_ANSWER)
            .connect_lazy_with(connect_options(options, Role::Control)?);
        let store = Self { data, control, prepares, key };
        store.check_server().await?;
        migrate::run(&store).await?;
        let mut tx = store.begin().await?;
        if tx.row(Statement::new("SELECT 1 FROM store")).await?.is_none() {
            // Of several that find it empty one begins its life, and the others see that.
            tx.run(Statement::new("LOCK TABLE store IN EXCLUSIVE MODE")).await?;
        }
        begin_life(tx, &store.key).await?;
        Ok(store)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.control.close().await;
        self.data.close().await;
    }

    async fn check_server(&self) -> Result<()> {
        use crate::sql::Columns as _;
        let about = Statement::new(
            "SELECT CAST(current_setting('server_version_num') AS bigint) AS version,
               current_setting('server_encoding') AS encoding,
               pg_is_in_recovery() OR CAST(current_setting('transaction_read_only') AS boolean) AS read_only",
        );
        let mut tx = self.begin().await?;
        let row = tx.the_row(about).await?;
        let refuse = |detail: String| Err(Error::Unavailable(detail.into()));
        let version = row.number("version")? / 10_000;
        if version < 15 {
            return refuse(format!("the server is PostgreSQL {version}; 15 or later is needed"));
        }
        if row.flag("read_only")? {
            return refuse(
                "the database is read-only: a standby, or set so; the primary is needed".to_owned(),
            );
        }
        match row.str("encoding")? {
            "UTF8" => Ok(()),
            other => refuse(format!("the database is encoded in {other}; create it with ENCODING 'UTF8'")),
        }
    }

    /// A transaction on a data connection. One that ended meanwhile is found out here, where nothing is lost by it.
    async fn transaction(&self, begin: &'static str) -> Result<Transaction<'static, Postgres>> {
        let mut stale = self.data.size();
        loop {
            match self.data.begin_with(begin).await {
                Err(error) if stale > 0 && is_gone(&error) => stale -= 1,
                begun => return Ok(begun?),
            }
        }
    }

    /// One statement of the control plane, which is a transaction by itself.
    async fn control(&self, statement: Statement) -> Result<Vec<PgRow>> {
        let query = query(statement, self.prepares)?;
        let done = async {
            if self.prepares {
                return query.fetch_all(&self.control).await.map_err(unknown);
            }
            let mut tx = self.control.begin_with(Role::Control.begin(false)).await?;
            let rows = query.fetch_all(&mut *tx).await?;
            tx.commit().await.map_err(|error| Error::InDoubt(error.into()))?;
            Ok(rows)
        };
        tokio::time::timeout(CONTROL_ANSWER, done)
            .await
            .unwrap_or_else(|late| Err(Error::InDoubt(late.into())))
    }
}

#[async_trait]
impl Backend for PostgresStore {
    type Session = PostgresSession;
    type Row = PgRow;

    fn key(&self) -> &MasterKey {
        &self.key
    }

    async fn begin(&self) -> Result<PostgresSession> {
        let tx = self.transaction(Role::Data.begin(self.prepares)).await?;
        Ok(PostgresSession { tx, prepares: self.prepares })
    }

    async fn begin_people(&self) -> Result<PostgresSession> {
        let mut session = self.begin().await?;
        session.rows(Statement::new("SELECT 1 FROM store").lock()).await?;
        Ok(session)
    }

    async fn snapshot(&self) -> Result<PostgresSession> {
        let tx = self.transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(PostgresSession { tx, prepares: self.prepares })
    }

    async fn read(&self, statement: Statement) -> Result<Vec<PgRow>> {
        if !self.prepares {
            return self.begin().await?.rows(statement).await;
        }
        let mut stale = self.data.size();
        let (sql, arguments) = render(statement)?;
        loop {
            let query = sqlx::query_with(sql.clone(), arguments.clone());
            match query.fetch_all(&self.data).await {
                Err(error) if stale > 0 && is_gone(&error) => stale -= 1,
                read => return Ok(read?),
            }
        }
    }

    async fn write(&self, statement: Statement) -> Result<u64> {
        let mut session = self.begin().await?;
        let changed = session.run(statement).await?;
        session.commit().await?;
        Ok(changed)
    }
}

/// The connection is of no use any more.
fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Of a statement that is a transaction by itself: if its connection broke, nobody can say what became of it.
fn unknown(error: sqlx::Error) -> Error {
    if is_gone(&error) { Error::InDoubt(error.into()) } else { error.into() }
}
