//! Emails as the CRM reads them.

use std::collections::HashMap;

use mailyard_policy::id::{Org, RecordId};

use super::{
    Backend, Columns, Session, Statement, Type, filter,
    rows::{parse, split_lines},
};
use crate::{
    Error, Result,
    query::{Filter, Page, Position},
    records::{Direction, Email, EmailState},
};

const COLUMNS: &str = "SELECT r.*, o.delivery, o.step, o.reason, o.due,
    (SELECT m.address FROM mailbox m WHERE m.mailbox_id = r.mailbox_id) AS address
  FROM record r LEFT JOIN outgoing o USING (record_id)";

pub(super) async fn list<B: Backend>(
    store: &B,
    org: &Org,
    wanted: &Filter,
    page: &Page,
) -> Result<Vec<Email>> {
    let mut query = Statement::new(COLUMNS).push(" WHERE r.org = ").value(org);
    if let Some(after) = &page.after {
        let Position { at, id } = after.parse()?;
        query = query.push(" AND (r.create_time, r.record_id) < (").value(at).push(", ");
        query = query.value(RecordId::new(id)).push(")");
    }
    query.add(" AND ");
    filter::push(&mut query, filter::EMAILS, wanted)?;
    let query = query.push(" ORDER BY r.create_time DESC, r.record_id DESC LIMIT ").value(page.limit);
    let mut session = store.snapshot().await?;
    let rows = session.rows(query).await?;
    read_all(&mut session, &rows).await
}

/// The email, if there is one, as this transaction sees it.
pub(super) async fn find<S: Session>(session: &mut S, id: RecordId) -> Result<Option<Email>> {
    let rows = session.rows(Statement::new(COLUMNS).push(" WHERE r.record_id = ").value(id)).await?;
    Ok(read_all(session, &rows).await?.pop())
}

/// The email as this transaction sees it.
pub(super) async fn fetch<S: Session>(tx: &mut S, id: RecordId) -> Result<Email> {
    find(tx, id).await?.ok_or_else(|| Error::Corrupt(format!("the email {id} has no record")))
}

async fn read_all<S: Session>(session: &mut S, rows: &[S::Row]) -> Result<Vec<Email>> {
    let mut holders = holders(session, rows).await?;
    rows.iter().map(|row| read(row, &mut holders)).collect()
}

/// Addresses of the mailboxes in which the records were sighted.
async fn holders<S: Session>(session: &mut S, rows: &[S::Row]) -> Result<HashMap<[u8; 16], Vec<String>>> {
    let mut found: HashMap<[u8; 16], Vec<String>> = HashMap::new();
    for batch in rows.chunks(1000) {
        let ids = batch.iter().map(|row| row.bytes("record_id").map(RecordId::from_bytes));
        let query = Statement::new(
            "SELECT DISTINCT t.record_id, m.address, m.address_key FROM sighting t JOIN mailbox m USING (mailbox_id)
             WHERE t.record_id",
        );
        let query = query.one_of(Type::Id, ids.collect::<Result<Vec<_>>>()?).push(" ORDER BY m.address_key");
        for row in session.rows(query).await? {
            found.entry(row.bytes("record_id")?).or_default().push(row.text("address")?);
        }
    }
    Ok(found)
}

fn read(row: &impl Columns, holders: &mut HashMap<[u8; 16], Vec<String>>) -> Result<Email> {
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
            EmailState::Outgoing(parse("state", row.str("state")?)?)
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
        to: split_lines(row.str("to_addresses")?),
        cc: split_lines(row.str("cc_addresses")?),
        sent_time: row.maybe_time("sent_time")?,
        received_time: row.maybe_time("received_time")?,
        size: row.number("size")?,
        create_time: row.time("create_time")?,
        next_attempt: row.maybe_time("due")?,
        linked: row.maybe_bytes("linked")?.map(RecordId::from_bytes),
    })
}
