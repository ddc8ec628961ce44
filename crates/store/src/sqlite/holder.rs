//! The data plane on SQLite: the door to claims, fenced transactions and what holders read.

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Timestamp,
    alert::Fact,
    id::{Epoch, Incarnation, MailboxId, OutgoingId, ProfileId, UploadId},
    outbox::Capabilities,
};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore,
    rows::{Columns as _, Key as _},
};
use crate::{
    Error, Result,
    holder::{
        Claimed, Claims, Commit, Committed, Fence, Holder, Inbound, InboundState, Lane, Located, Outgoing,
        Standing, Wanted,
    },
};

#[async_trait]
impl Holder for SqliteStore {
    async fn claim(&self, incarnation: Incarnation, limit: u32) -> Result<Claims> {
        self.claim_some(incarnation, limit).await
    }

    async fn claim_again(&self, incarnation: Incarnation, mailboxes: &[MailboxId]) -> Result<Claims> {
        self.claim_these(incarnation, mailboxes).await
    }

    async fn standing(&self, incarnation: Incarnation) -> Result<Vec<Standing>> {
        self.list_standing(incarnation).await
    }

    async fn unapplied(&self, incarnation: Incarnation, limit: u32) -> Result<Vec<(MailboxId, Wanted)>> {
        self.not_applied(incarnation, limit).await
    }

    async fn reload(&self, fence: &Fence) -> Result<Claimed> {
        self.read_again(fence).await
    }

    async fn commit(&self, fence: &Fence, commit: Commit) -> Result<Committed> {
        self.write(fence, commit).await
    }

    async fn inbound(&self, mailbox: MailboxId, limit: u32) -> Result<Vec<Inbound>> {
        let rows = sqlx::query(
            "SELECT * FROM inbound WHERE mailbox_id = ? AND state <> 'quarantined'
             ORDER BY attempts, coalesce(received, seen), item_id LIMIT ?",
        )
        .bind(mailbox.key())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read_inbound).collect()
    }

    async fn located(&self, mailbox: MailboxId) -> Result<Option<Located>> {
        self.last_located(mailbox).await
    }

    async fn known_tests(&self, ids: &[OutgoingId]) -> Result<Vec<OutgoingId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT outgoing_id FROM known_test WHERE outgoing_id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.key());
        }
        let rows = query.push(")").build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| row.bytes("outgoing_id").map(OutgoingId::from_bytes)).collect()
    }

    async fn know_test(&self, mailbox: MailboxId, id: OutgoingId, at: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO known_test(outgoing_id, mailbox_id, org, at)
             SELECT ?, mailbox_id, org, ? FROM mailbox WHERE mailbox_id = ? ON CONFLICT DO NOTHING",
        )
        .bind(id.key())
        .bind(at.as_millis())
        .bind(mailbox.key())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn upload(&self, upload: UploadId, number: u32, chunk: Bytes, at: Timestamp) -> Result<()> {
        self.add_chunk(upload, number, chunk, at).await
    }

    async fn sweep_uploads(&self, before: Timestamp) -> Result<u64> {
        self.sweep(before).await
    }

    async fn due_outgoing(
        &self,
        incarnation: Incarnation,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<MailboxId>> {
        self.mailboxes_with_due(incarnation, now, limit).await
    }

    async fn outgoing(&self, mailbox: MailboxId, now: Timestamp, limit: u32) -> Result<Vec<Outgoing>> {
        self.due_emails(mailbox, now, limit).await
    }

    async fn lane(&self, profile: ProfileId, lane: u16) -> Result<Option<Lane>> {
        self.stored_lane(profile, lane).await
    }

    async fn keep_lane(
        &self,
        profile: ProfileId,
        lane: u16,
        epoch: Epoch,
        kept: &Lane,
        facts: &[Fact],
    ) -> Result<()> {
        self.store_lane(profile, lane, epoch, kept, facts).await
    }

    async fn keep_capabilities(
        &self,
        profile: ProfileId,
        epoch: Epoch,
        outgoing_url: Option<&str>,
        capabilities: &Capabilities,
    ) -> Result<()> {
        self.store_capabilities(profile, epoch, outgoing_url, capabilities).await
    }
}

fn read_inbound(row: &SqliteRow) -> Result<Inbound> {
    let reason = || row.word("reason");
    let state = match row.try_get::<&str, _>("state")? {
        "seen" => InboundState::Seen,
        "quarantined" => InboundState::Quarantined(reason()?),
        "moving" => InboundState::Moving {
            reason: reason()?,
            search_key: Bytes::from(row.try_get::<Vec<u8>, _>("search_key")?),
        },
        other => return Err(Error::Corrupt(format!("there is no state {other} of an item"))),
    };
    Ok(Inbound {
        item_id: row.text("item_id")?,
        seen: row.time("seen")?,
        attempts: row.try_get("attempts")?,
        state,
    })
}
