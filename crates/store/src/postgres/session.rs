//! Statements as PostgreSQL takes them, and its rows.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{
    Arguments as _, AssertSqlSafe, Postgres, Row as _, SqlSafeStr as _, SqlStr, Transaction, ValueRef as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    types::Uuid,
};

use crate::{
    Error, Result,
    fleet::Leadership,
    sql::{Columns, Entry, Piece, Script, Session, Statement, Type, Value},
};

/// Nobody waits longer than this to hear that something was committed.
const ANSWER: Duration = Duration::from_secs(15);

/// A transaction.
pub(crate) struct PostgresSession {
    pub(super) tx: Transaction<'static, Postgres>,
    /// Statements stay prepared on their connection.
    pub(super) prepares: bool,
}

#[async_trait]
impl Session for PostgresSession {
    type Row = PgRow;

    const IS_ALONE: bool = false;

    async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>> {
        Ok(query(statement, self.prepares)?.fetch_all(&mut *self.tx).await?)
    }

    async fn run(&mut self, statement: Statement) -> Result<u64> {
        Ok(query(statement, self.prepares)?.execute(&mut *self.tx).await?.rows_affected())
    }

    /// The statements of a round touch different rows: they go as one.
    async fn script(&mut self, script: Script) -> Result<()> {
        for mut round in script.rounds {
            match round.len() {
                0 => continue,
                1 => self.run(round.remove(0)).await?,
                _ => self.run(together(round)).await?,
            };
        }
        Ok(())
    }

    /// One statement. What it sees of the mailbox's items is exact, although it may wait for the mailbox's row after it
    /// has begun to look: whoever changes them raises the commit version, and then this finds no row. Records and
    /// bodies of others may be newer; that is found out when they are made.
    async fn enter(&mut self, entry: &Entry) -> Result<Vec<PgRow>> {
        let update = entry.push_update(Statement::new("WITH f AS ("));
        let mut all = update.push(
            " RETURNING org, profile_id, shard_id, health, cycles)
             SELECT 'mailbox' AS what, f.*, NULL::text AS item_id, NULL::bytea AS message_key,
               NULL::bigint AS discriminator, NULL::uuid AS record_id, NULL::text AS from_address,
               NULL::bigint AS sent_time, NULL::bytea AS hash FROM f",
        );
        let questions = &entry.questions;
        if !questions.item_ids.is_empty() {
            const NO_MAILBOX: &str = "NULL, NULL, NULL, NULL, NULL";
            all = all.push(" UNION ALL SELECT 'sighting', ").push(NO_MAILBOX);
            all = all.push(", item_id, NULL, NULL, NULL, NULL, NULL, NULL FROM sighting WHERE mailbox_id = ");
            all = all.value(entry.mailbox()).push(" AND item_id").one_of(Type::Text, &questions.item_ids);
            all = all.push(" UNION ALL SELECT 'record', ").push(NO_MAILBOX).push(
                ", NULL, message_key, discriminator, record_id, from_address, sent_time, NULL
                 FROM record r JOIN f USING (org) WHERE r.direction = 'incoming' AND r.message_key",
            );
            all = all.one_of(Type::Bytes, questions.keys.iter().copied());
            all = all.push(" UNION ALL SELECT 'body', ").push(NO_MAILBOX);
            all = all.push(
                ", NULL, NULL, NULL, NULL, NULL, NULL, hash FROM blob b JOIN f USING (org) WHERE b.hash",
            );
            all = all.one_of(Type::Bytes, questions.hashes.iter().copied());
        }
        self.rows(all).await
    }

    async fn lock(&mut self, rows: &'static str, key: Value) -> Result<()> {
        self.rows(Statement::new("SELECT 1 FROM ").push(rows).bind(key).lock()).await?;
        Ok(())
    }

    async fn commit(self) -> Result<()> {
        match tokio::time::timeout(ANSWER, self.tx.commit()).await {
            Ok(done) => done.map_err(|error| Error::InDoubt(error.into())),
            Err(late) => Err(Error::InDoubt(late.into())),
        }
    }

    /// Whoever is elected next waits for this commit, or this finds that it leads no more.
    async fn commit_led(mut self, lead: &Leadership) -> Result<()> {
        let leads = Statement::new("SELECT 1 FROM coordinator WHERE term = ? AND nonce = ? FOR SHARE");
        self.row(leads.bind(lead.term).bind(lead.nonce)).await?.ok_or(Error::Fenced)?;
        self.commit().await
    }
}

fn together(round: Vec<Statement>) -> Statement {
    let mut all = Statement::default();
    for (at, Statement { pieces, values }) in round.into_iter().enumerate() {
        all.add(&format!("{} s{at} AS (", if at > 0 { ")," } else { "WITH" }));
        all.pieces.extend(pieces);
        all.values.extend(values);
    }
    all.push(") SELECT 1")
}

/// The statement with its values; `prepares`: it stays prepared on its connection.
pub(super) fn query(statement: Statement, prepares: bool) -> Result<Query<'static, Postgres, PgArguments>> {
    let (sql, arguments) = render(statement)?;
    Ok(sqlx::query_with(sql, arguments).persistent(prepares))
}

/// The statement's text and its values.
pub(super) fn render(statement: Statement) -> Result<(SqlStr, PgArguments)> {
    let mut text = Text::default();
    let mut values = statement.values.into_iter();
    for piece in statement.pieces {
        match piece {
            Piece::Text(sql) => text.push(&sql, &mut values)?,
            Piece::IsIn(of, list) => {
                text.sql.push_str(" = ANY(");
                text.push_array(of, list)?;
                text.sql.push(')');
            }
            Piece::Rows(kinds, rows) => text.push_rows(kinds, rows)?,
            Piece::Now => text.sql.push_str("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"),
            Piece::Position => text.sql.push_str("strpos"),
            Piece::Lock => text.sql.push_str(" FOR NO KEY UPDATE"),
        }
    }
    Ok((AssertSqlSafe(text.sql).into_sql_str(), text.arguments))
}

#[derive(Default)]
struct Text {
    sql: String,
    arguments: PgArguments,
}

impl Text {
    /// Text in which each `?` is the next value.
    fn push(&mut self, sql: &str, values: &mut impl Iterator<Item = Value>) -> Result<()> {
        let mut parts = sql.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let value =
                values.next().ok_or_else(|| Error::Corrupt("a statement lacks a value".to_owned()))?;
            self.bind(value)?;
            self.sql.push_str(part);
        }
        Ok(())
    }

    fn bind(&mut self, value: Value) -> Result<()> {
        match value {
            Value::Id(id) => self.add(id.map(Uuid::from_bytes)),
            Value::Bytes(bytes) => self.add(bytes.map(Vec::from)),
            Value::Text(text) => self.add(text.map(storable)),
            Value::Number(number) => self.add(number),
            Value::Flag(flag) => self.add(flag),
        }
    }

    fn add<T>(&mut self, value: T) -> Result<()>
    where
        T: sqlx::Encode<'static, Postgres> + sqlx::Type<Postgres>,
    {
        self.arguments.add(value).map_err(Error::Unavailable)?;
        self.sql.push_str(&format!("${}", self.arguments.len()));
        Ok(())
    }

    fn push_array(&mut self, of: Type, list: Vec<Value>) -> Result<()> {
        match of {
            Type::Id => self.add(list.iter().map(id).collect::<Result<Vec<_>>>()?),
            Type::Bytes => self.add(list.into_iter().map(bytes).collect::<Result<Vec<_>>>()?),
            Type::Text => self.add(list.into_iter().map(text).collect::<Result<Vec<_>>>()?),
            Type::Number => self.add(list.iter().map(number).collect::<Result<Vec<_>>>()?),
        }
    }

    /// A table of which each column is one array.
    fn push_rows(&mut self, kinds: &[Type], rows: Vec<Vec<Value>>) -> Result<()> {
        let mut columns: Vec<Vec<Value>> = kinds.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        self.sql.push_str("SELECT * FROM unnest(");
        for (at, (of, column)) in kinds.iter().zip(columns).enumerate() {
            self.sql.push_str(if at > 0 { ", " } else { "" });
            self.push_array(*of, column)?;
        }
        self.sql.push(')');
        Ok(())
    }
}

fn id(value: &Value) -> Result<Option<Uuid>> {
    if let Value::Id(id) = value { Ok(id.map(Uuid::from_bytes)) } else { Err(unfit("an id")) }
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>> {
    if let Value::Bytes(bytes) = value { Ok(bytes.map(Bytes::into)) } else { Err(unfit("bytes")) }
}

fn text(value: Value) -> Result<Option<String>> {
    if let Value::Text(text) = value { Ok(text.map(storable)) } else { Err(unfit("a text")) }
}

fn number(value: &Value) -> Result<Option<i64>> {
    if let Value::Number(number) = value { Ok(*number) } else { Err(unfit("a number")) }
}

fn unfit(what: &str) -> Error {
    Error::Corrupt(format!("a column of a statement has something else than {what}"))
}

/// PostgreSQL keeps no text with a NUL, and mail has them.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl Columns for PgRow {
    /// An id comes as its bytes too.
    fn bytes_at(&self, name: &str) -> Result<Option<&[u8]>> {
        let value = self.try_get_raw(name)?;
        if value.is_null() {
            return Ok(None);
        }
        value.as_bytes().map(Some).map_err(|error| Error::Corrupt(format!("{name}: {error}")))
    }

    fn text_at(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.try_get(name)?)
    }

    fn number_at(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.try_get(name)?)
    }

    fn flag_at(&self, name: &str) -> Result<Option<bool>> {
        Ok(self.try_get(name)?)
    }
}
