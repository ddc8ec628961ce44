//! Statements that go to the database's thread in one piece.
//!
//! The way there and back costs more than most statements: those that wait for no answer go together.

use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use super::Tx;
use crate::Result;

/// Rows of one statement: none binds more than 30 values for each, and SQLite takes 32,766.
pub(super) const ROWS: usize = 1000;

/// Statements in the order in which they are carried out; after the first that fails none is.
#[derive(Default)]
pub(super) struct Script {
    text: QueryBuilder<Sqlite>,
    begun: bool,
}

impl Script {
    /// The next statement, to be continued.
    pub(super) fn begin(&mut self, sql: &str) -> &mut QueryBuilder<Sqlite> {
        if std::mem::replace(&mut self.begun, true) {
            self.text.push("; ");
        }
        self.text.push(sql)
    }

    /// Carries them out.
    pub(super) async fn run(mut self, tx: &mut Tx) -> Result<()> {
        if self.begun {
            self.text.build().execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// Carries them out. Returns the rows of all of them.
    pub(super) async fn rows(mut self, tx: &mut Tx) -> Result<Vec<SqliteRow>> {
        if self.begun { Ok(self.text.build().fetch_all(&mut **tx).await?) } else { Ok(Vec::new()) }
    }
}

/// Continues a statement with values in brackets, one or more.
pub(super) fn list<'t, T>(text: &mut QueryBuilder<Sqlite>, values: impl IntoIterator<Item = T>)
where
    T: sqlx::Encode<'t, Sqlite> + sqlx::Type<Sqlite>,
{
    let mut list = text.push("(").separated(", ");
    for value in values {
        list.push_bind(value);
    }
    text.push(")");
}
