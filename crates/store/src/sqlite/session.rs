//! Statements as SQLite takes them, and its rows.

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, Row as _, Sqlite, Transaction,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{
    Error, Result,
    fleet::Leadership,
    sql::{Columns, Entry, Piece, Script, Session, Statement, Type, Value, statement::ROWS},
};

/// A transaction. One that writes is alone.
pub(crate) struct SqliteSession(pub(super) Transaction<'static, Sqlite>);

#[async_trait]
impl Session for SqliteSession {
    type Row = SqliteRow;

    const IS_ALONE: bool = true;

    async fn rows(&mut self, statement: Statement) -> Result<Vec<SqliteRow>> {
        Ok(query(statement)?.fetch_all(&mut *self.0).await?)
    }

    async fn run(&mut self, statement: Statement) -> Result<u64> {
        Ok(query(statement)?.execute(&mut *self.0).await?.rows_affected())
    }

    async fn script(&mut self, script: Script) -> Result<()> {
        if let Some(all) = one_piece(script) {
            self.run(all).await?;
        }
        Ok(())
    }

    async fn enter(&mut self, entry: &Entry) -> Result<Vec<SqliteRow>> {
        let mut script = Script::default();
        let update = entry.push_update(Statement::default());
        script.add(update.push(" RETURNING 'mailbox' AS what, org, profile_id, shard_id, health, cycles"));
        let (mailbox, questions) = (entry.mailbox(), &entry.questions);
        for some in questions.item_ids.chunks(ROWS) {
            let seen = Statement::new("SELECT 'sighting' AS what, item_id FROM sighting WHERE mailbox_id = ");
            script.add(seen.value(mailbox).push(" AND item_id").one_of(Type::Text, some));
        }
        for some in questions.keys.chunks(ROWS) {
            let records = Statement::new(
                "SELECT 'record' AS what, message_key, discriminator, record_id, from_address, sent_time FROM record
                 WHERE direction = 'incoming' AND org = (SELECT org FROM mailbox WHERE mailbox_id = ",
            );
            let records = records.value(mailbox).push(") AND message_key");
            script.add(records.one_of(Type::Bytes, some.iter().copied()));
        }
        for some in questions.hashes.chunks(ROWS) {
            let bodies = Statement::new(
                "SELECT 'body' AS what, hash FROM blob WHERE org = (SELECT org FROM mailbox WHERE mailbox_id = ",
            );
            let bodies = bodies.value(mailbox).push(") AND hash");
            script.add(bodies.one_of(Type::Bytes, some.iter().copied()));
        }
        match one_piece(script) {
            Some(all) => self.rows(all).await,
            None => Ok(Vec::new()),
        }
    }

    async fn lock(&mut self, _: &'static str, _: Value) -> Result<()> {
        Ok(())
    }

    async fn commit(self) -> Result<()> {
        self.0.commit().await.map_err(|error| Error::InDoubt(error.into()))
    }

    /// Nobody can have begun to lead since it was asked.
    async fn commit_led(self, _: &Leadership) -> Result<()> {
        self.commit().await
    }
}

/// The way to the database's thread and back costs more than most statements: those that wait for no answer go together.
fn one_piece(script: Script) -> Option<Statement> {
    let mut statements = script.rounds.into_iter().flatten();
    let mut all = statements.next()?;
    for Statement { pieces, values } in statements {
        all.add("; ");
        all.pieces.extend(pieces);
        all.values.extend(values);
    }
    Some(all)
}

/// The statement with its values.
pub(super) fn query(statement: Statement) -> Result<Query<'static, Sqlite, SqliteArguments>> {
    let Statement { mut pieces, values } = statement;
    let mut arguments = SqliteArguments::default();
    if let [Piece::Text(text)] = pieces.as_mut_slice() {
        let text = std::mem::take(text);
        values.into_iter().try_for_each(|value| bind(&mut arguments, value))?;
        return Ok(sqlx::query_with(AssertSqlSafe(text), arguments));
    }
    let (mut sql, mut values) = (String::new(), values.into_iter());
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                let marks = text.bytes().filter(|byte| *byte == b'?').count();
                sql.push_str(&text);
                values.by_ref().take(marks).try_for_each(|value| bind(&mut arguments, value))?;
            }
            Piece::IsIn(_, list) => {
                sql.push_str(" IN ");
                push_row(&mut sql, &mut arguments, list)?;
            }
            Piece::Rows(_, rows) => {
                for (at, row) in rows.into_iter().enumerate() {
                    sql.push_str(if at > 0 { ", " } else { "VALUES " });
                    push_row(&mut sql, &mut arguments, row)?;
                }
            }
            Piece::Now => sql.push_str("CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"),
            Piece::Position => sql.push_str("instr"),
            Piece::Lock => {}
        }
    }
    Ok(sqlx::query_with(AssertSqlSafe(sql), arguments))
}

/// Values in brackets.
fn push_row(sql: &mut String, arguments: &mut SqliteArguments, row: Vec<Value>) -> Result<()> {
    sql.push('(');
    for (at, value) in row.into_iter().enumerate() {
        sql.push_str(if at > 0 { ",?" } else { "?" });
        bind(arguments, value)?;
    }
    sql.push(')');
    Ok(())
}

fn bind(arguments: &mut SqliteArguments, value: Value) -> Result<()> {
    let bound = match value {
        Value::Id(id) => arguments.add(id.map(Vec::from)),
        Value::Bytes(bytes) => arguments.add(bytes.map(Vec::from)),
        Value::Text(text) => arguments.add(text),
        Value::Number(number) => arguments.add(number),
        Value::Flag(flag) => arguments.add(flag),
    };
    bound.map_err(Error::Unavailable)
}

impl Columns for SqliteRow {
    fn bytes_at(&self, name: &str) -> Result<Option<&[u8]>> {
        Ok(self.try_get(name)?)
    }

    fn text_at(&self, name: &str) -> Result<Option<&str>> {
        Ok(self.try_get(name)?)
    }

    fn number_at(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.try_get(name)?)
    }

    fn flag_at(&self, name: &str) -> Result<Option<bool>> {
        Ok(self.try_get::<Option<i64>, _>(name)?.map(|flag| flag != 0))
    }
}
