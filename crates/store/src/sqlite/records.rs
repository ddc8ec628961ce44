//! The CRM's side on SQLite: the door to emails, the quarantine, and the feed of events.

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, Org, RecordId},
    outbox::State,
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, commit,
    fleet::{awaits, guard},
    mailbox::wish_poll,
    outgoing::settled,
    rows::{Columns as _, Key as _},
};
use crate::{
    Error, Result,
    fleet::Leadership,
    query::{Filter, Page, invalid_position},
    records::{Email, Event, NewOutgoing, Quarantined, Records},
};

#[async_trait]
impl Records for SqliteStore {
    async fn emails(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Email>> {
        self.list_emails(org, filter, page).await
    }

    async fn email(&self, id: RecordId) -> Result<Option<Email>> {
        self.find_email(id).await
    }

    async fn email_content(&self, id: RecordId, offset: u64) -> Result<Option<Bytes>> {
        self.content(id, offset).await
    }

    async fn enqueue(&self, org: &Org, email: &NewOutgoing) -> Result<(Email, bool)> {
        self.take(org, email).await
    }

    async fn enqueued(&self, org: &Org, email: &NewOutgoing) -> Result<Option<Email>> {
        self.taken_before(org, email).await
    }

    async fn cancel(&self, id: RecordId, at: Timestamp) -> Result<Email> {
        self.decide(id, State::PendingSend, State::Canceled, &[], at).await
    }

    async fn settle_doubt(&self, id: RecordId, sent: bool, at: Timestamp) -> Result<Email> {
        let state = if sent { State::Sent } else { State::Canceled };
        self.decide(id, State::NeedsPerson, state, &[settled(id, at)], at).await
    }

    async fn quarantined(
        &self,
        org: &Org,
        mailbox: Option<MailboxId>,
        page: &Page,
    ) -> Result<Vec<Quarantined>> {
        let after = page.after.as_deref().map(|after| after.split_once('\n').ok_or_else(invalid_position));
        let (address, item) = after.transpose()?.unwrap_or_default();
        let rows = sqlx::query(
            "SELECT i.*, m.address FROM inbound i JOIN mailbox m USING (mailbox_id)
             WHERE i.state = 'quarantined' AND m.org = ?1 AND (?2 IS NULL OR i.mailbox_id = ?2)
               AND (m.address_key, i.item_id) > (?3, ?4) ORDER BY m.address_key, i.item_id LIMIT ?5",
        )
        .bind(&org.0)
        .bind(mailbox.map(|mailbox| mailbox.key()))
        .bind(address)
        .bind(item)
        .bind(i64::from(page.limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read_quarantined).collect()
    }

    async fn replay(&self, mailbox: MailboxId, item_ids: &[String]) -> Result<u64> {
        let mut tx = self.begin().await?;
        let mut replayed = 0;
        for item in item_ids {
            let done = sqlx::query(
                "UPDATE inbound SET state = 'seen', attempts = 0, reason = NULL
                 WHERE mailbox_id = ? AND item_id = ? AND state = 'quarantined'",
            )
            .bind(mailbox.key())
            .bind(item)
            .execute(&mut *tx)
            .await?;
            replayed += done.rows_affected();
        }
        if replayed > 0 {
            wish_poll(&mut tx, mailbox).await?;
        }
        commit(tx).await?;
        Ok(replayed)
    }

    async fn publish(&self, lead: &Leadership, limit: u32) -> Result<u64> {
        if !awaits(self, lead, "SELECT 1 FROM event WHERE position IS NULL", &[]).await? {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let rows =
            sqlx::query("SELECT event_id, org FROM event WHERE position IS NULL ORDER BY event_id LIMIT ?")
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await?;
        for row in &rows {
            sqlx::query("UPDATE org SET feed_position = feed_position + 1 WHERE org = ?")
                .bind(row.text("org")?)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "UPDATE event SET position = (SELECT g.feed_position FROM org g WHERE g.org = event.org)
                 WHERE event_id = ?",
            )
            .bind(row.try_get::<i64, _>("event_id")?)
            .execute(&mut *tx)
            .await?;
        }
        if rows.is_empty() {
            return Ok(0);
        }
        commit(tx).await?;
        Ok(rows.len() as u64)
    }

    async fn feed_incarnation(&self) -> Result<u128> {
        let row = sqlx::query("SELECT feed_incarnation FROM store").fetch_one(&self.readers).await?;
        row.bytes("feed_incarnation").map(u128::from_be_bytes)
    }

    async fn events(&self, org: &Org, after: u64, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT position, record_id, change, at FROM event
             WHERE org = ? AND position > ? AND position IS NOT NULL ORDER BY position LIMIT ?",
        )
        .bind(&org.0)
        .bind(i64::try_from(after).map_err(|_| Error::refused(Reason::FieldInvalid, "no such position"))?)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let event = |row: &SqliteRow| {
            Ok(Event {
                position: row.number("position")?,
                record: RecordId::from_bytes(row.bytes("record_id")?),
                change: row.text("change")?,
                at: row.time("at")?,
            })
        };
        rows.iter().map(event).collect()
    }
}

fn read_quarantined(row: &SqliteRow) -> Result<Quarantined> {
    Ok(Quarantined {
        mailbox: MailboxId::from_bytes(row.bytes("mailbox_id")?),
        address: row.text("address")?,
        item_id: row.text("item_id")?,
        reason: row.word("reason")?,
        attempts: row.try_get("attempts")?,
        moved: row.flag("moved")?,
        seen: row.time("seen")?,
    })
}
