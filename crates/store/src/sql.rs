//! What the backends have in common: the statements that both databases understand, and what is decided between them.
//!
//! A backend is a way to carry out [`Statement`]s and to read [`Columns`], and the few statements that it says in words
//! of its own. Writers take their locks in one order, so that none waits for another in a circle: the row of the store
//! (writings of people, one after the other), mailboxes by id, operations, sendings, records and bodies by key, counts.

mod account;
mod blob;
mod claim;
mod commit;
mod connection_test;
mod count;
mod credentials;
mod emails;
mod filter;
pub(crate) mod fleet;
mod holder;
mod lane;
mod life;
mod location;
mod mailbox;
mod notices;
mod outgoing;
mod people;
mod profile;
mod records;
pub(crate) mod rows;
pub(crate) mod statement;
mod test_run;
mod track;

use async_trait::async_trait;

pub(crate) use self::{
    commit::Entry,
    life::{begin_life, check_version},
    rows::Columns,
    statement::{Piece, Script, Statement, Type, Value},
};
use crate::{Error, MasterKey, Result, fleet::Leadership, secret::random};

/// Statements that belong together: all of them happen when it is committed, or none.
#[async_trait]
pub(crate) trait Session: Send + Sized {
    /// What comes back.
    type Row: Columns + Send + Sync;

    /// True if nobody else writes before this ends.
    const IS_ALONE: bool;

    /// Carries a statement out and returns its rows.
    async fn rows(&mut self, statement: Statement) -> Result<Vec<Self::Row>>;

    /// Carries a statement out and returns how many rows it changed.
    async fn run(&mut self, statement: Statement) -> Result<u64>;

    /// Carries statements out.
    async fn script(&mut self, script: Script) -> Result<()>;

    /// The conditional update that every fenced transaction begins with, and what its items meet.
    async fn enter(&mut self, entry: &Entry) -> Result<Vec<Self::Row>>;

    /// Waits until nobody else is writing these rows (`mailbox WHERE mailbox_id = ?`) and keeps others from it.
    async fn lock(&mut self, rows: &'static str, key: Value) -> Result<()>;

    /// Makes it happen; an error leaves the outcome unknown.
    async fn commit(self) -> Result<()>;

    /// The same, if `lead` is the leadership of that moment.
    async fn commit_led(self, lead: &Leadership) -> Result<()>;

    /// The first row of a statement.
    async fn row(&mut self, statement: Statement) -> Result<Option<Self::Row>> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// The row of a statement that always has one.
    async fn the_row(&mut self, statement: Statement) -> Result<Self::Row> {
        self.row(statement)
            .await?
            .ok_or_else(|| Error::Corrupt("a row is missing that is always there".to_owned()))
    }

    /// Fails unless `lead` is the leadership of now.
    async fn guard(&mut self, lead: &Leadership) -> Result<()> {
        let found = Statement::new("SELECT 1 FROM coordinator WHERE term = ? AND nonce = ?");
        self.row(found.bind(lead.term).bind(lead.nonce)).await?.map(drop).ok_or(Error::Fenced)
    }
}

/// A database.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Its transactions.
    type Session: Session<Row = Self::Row>;
    /// Its rows.
    type Row: Columns + Send + Sync;

    /// The key of its secrets.
    fn key(&self) -> &MasterKey;

    /// Begins to write. Dropped without [`Session::commit`], it changes nothing.
    async fn begin(&self) -> Result<Self::Session>;

    /// Begins to write what people want: such writings follow one another.
    async fn begin_people(&self) -> Result<Self::Session>;

    /// Begins to read several things as they stand at one moment.
    async fn snapshot(&self) -> Result<Self::Session>;

    /// Reads.
    async fn read(&self, statement: Statement) -> Result<Vec<Self::Row>>;

    /// Carries out one statement that is a transaction by itself; returns how many rows it changed.
    async fn write(&self, statement: Statement) -> Result<u64>;

    /// Reads the first row.
    async fn read_one(&self, statement: Statement) -> Result<Option<Self::Row>> {
        Ok(self.read(statement).await?.into_iter().next())
    }
}

/// A new word that nobody else knows.
pub(crate) fn nonce() -> Result<mailyard_policy::id::Nonce> {
    Ok(mailyard_policy::id::Nonce::from_bytes(*random::<16>()?))
}

/// Everything that fails before a commit changed nothing.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}
