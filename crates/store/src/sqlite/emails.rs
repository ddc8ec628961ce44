//! Emails on SQLite as the CRM reads them.

use std::collections::HashMap;

use mailyard_policy::id::{Org, RecordId};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, filter,
    rows::{Columns as _, Key as _, parse, split_lines},
};
use crate::{
    Error, Result,
    query::{Filter, Page, Position},
    records::{Direction, Email, EmailState},
};

const COLUMNS: &str = "SELECT r.*, o.delivery, o.step, o.reason, o.due,
    (SELECT m.address FROM mailbox m WHERE m.mailbox_id = r.mailbox_id) AS address
  FROM record r LEFT JOIN outgoing o USING (record_id)";

impl SqliteStore {
    pub(super) async fn list_emails(&self, org: &Org, wanted: &Filter, page: &Page) -> Result<Vec<Email>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE r.org = ").push_bind(org.0.clone());
        if let Some(after) = &page.after {
            let Position { at, id } = after.parse()?;
            query.push(" AND (r.create_time, r.record_id) < (").push_bind(at.as_millis());
            query.push(", ").push_bind(id.to_be_bytes().to_vec()).push(")");
        }
        filter::push(query.push(" AND "), filter::EMAILS, wanted)?;
        query.push(" ORDER BY r.create_time DESC, r.record_id DESC LIMIT ").push_bind(i64::from(page.limit));
        let mut connection = self.readers.acquire().await?;
        let rows = query.build().fetch_all(&mut *connection).await?;
        read_all(&mut connection, &rows).await
    }

    pub(super) async fn find_email(&self, id: RecordId) -> Result<Option<Email>> {
        let mut connection = self.readers.acquire().await?;
        find(&mut connection, id).await
    }
}

/// The email as this transaction sees it.
pub(super) async fn fetch(tx: &mut Tx, id: RecordId) -> Result<Email> {
    find(tx, id).await?.ok_or_else(|| Error::Corrupt(format!("the email {id} has no record")))
}

async fn find(connection: &mut SqliteConnection, id: RecordId) -> Result<Option<Email>> {
    let rows = sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE r.record_id = ?")))
        .bind(id.key())
        .fetch_all(&mut *connection)
        .await?;
    Ok(read_all(connection, &rows).await?.pop())
}

async fn read_all(connection: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Email>> {
    let mut holders = holders(connection, rows).await?;
    rows.iter().map(|row| read(row, &mut holders)).collect()
}

/// Addresses of the mailboxes in which the records were sighted.
async fn holders(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
) -> Result<HashMap<[u8; 16], Vec<String>>> {
    let mut found: HashMap<[u8; 16], Vec<String>> = HashMap::new();
    for batch in rows.chunks(1000) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT DISTINCT t.record_id, m.address, m.address_key FROM sighting t JOIN mailbox m USING (mailbox_id)
             WHERE t.record_id IN (",
        );
        let mut list = query.separated(", ");
        for row in batch {
            list.push_bind(row.try_get::<Vec<u8>, _>("record_id")?);
        }
        query.push(") ORDER BY m.address_key");
        for row in query.build().fetch_all(&mut *connection).await? {
            found.entry(row.bytes("record_id")?).or_default().push(row.text("address")?);
        }
    }
    Ok(found)
}

fn read(row: &SqliteRow, holders: &mut HashMap<[u8; 16], Vec<String>>) -> Result<Email> {
    let id: [u8; 16] = row.bytes("record_id")?;
    let direction: Direction = row.word("direction")?;
    let mailbox = row.maybe_text("address")?.unwrap_or_default();
    let mut mailboxes = holders.remove(&id).unwrap_or_default();
    let state = match direction {
        Direction::Incoming => EmailState::Received,
        Direction::Outgoing => {
            if !mailboxes.contains(&mailbox) {
                mailboxes.push(mailbox.clone());
            }
            EmailState::Outgoing(parse("state", row.try_get("state")?)?)
        }
    };
    Ok(Email {
        id: RecordId::from_bytes(id),
        org: Org(row.text("org")?),
        direction,
        state,
        step: row.maybe_text("step")?.filter(|step| step != "none"),
        reason: row.maybe_word("reason")?,
        mailbox,
        mailboxes,
        internet_message_id: row.maybe_text("internet_message_id")?,
        subject: row.text("subject")?,
        from: row.text("from_address")?,
        to: split_lines(row.try_get("to_addresses")?),
        cc: split_lines(row.try_get("cc_addresses")?),
        sent_time: row.maybe_time("sent_time")?,
        received_time: row.maybe_time("received_time")?,
        size: row.number("size")?,
        create_time: row.time("create_time")?,
        next_attempt: row.maybe_time("due")?,
        linked: row.maybe_bytes("linked")?.map(RecordId::from_bytes),
    })
}
