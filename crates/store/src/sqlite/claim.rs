//! Claiming on SQLite: a mailbox is read in the transaction that takes its fence.

use bytes::Bytes;
use mailyard_policy::id::{Epoch, Incarnation, MailboxId, Nonce, OperationId, Org, ProfileId};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, commit,
    rows::{Columns as _, Key as _, methods},
    test_run::approved,
};
use crate::{
    Error, Result,
    holder::{Claimed, Fence, Wanted},
};

/// The most mailboxes that one call claims: each is one bound value.
const MOST: u32 = 10_000;

const CLAIMED: &str = concat!(
    "SELECT m.*, c.value AS cursor, ",
    approved!(),
    " AS may, EXISTS (SELECT 1 FROM inbound i WHERE i.mailbox_id = m.mailbox_id AND i.state <> 'quarantined') AS waiting
     FROM mailbox m JOIN org g USING (org) LEFT JOIN cursor c USING (mailbox_id) WHERE "
);

impl SqliteStore {
    pub(super) async fn claim_some(&self, incarnation: Incarnation, limit: u32) -> Result<Vec<Claimed>> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query(
            "UPDATE mailbox SET fence = n.epoch, fence_nonce = n.nonce
             FROM (SELECT m.mailbox_id AS id, s.epoch, s.nonce FROM shard s
                   JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence < s.epoch
                   WHERE s.owner_inc = ? AND s.phase = 1 LIMIT ?) n
             WHERE mailbox_id = n.id RETURNING mailbox_id",
        )
        .bind(incarnation.key())
        .bind(i64::from(limit.min(MOST)))
        .fetch_all(&mut *tx)
        .await?;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new(CLAIMED);
        query.push("m.mailbox_id IN (");
        let mut list = query.separated(", ");
        for row in &taken {
            list.push_bind(row.try_get::<Vec<u8>, _>("mailbox_id")?);
        }
        let rows = query.push(")").build().fetch_all(&mut *tx).await?;
        let claimed = rows.iter().map(read).collect::<Result<_>>()?;
        commit(tx).await?;
        Ok(claimed)
    }

    pub(super) async fn not_applied(
        &self,
        incarnation: Incarnation,
        limit: u32,
    ) -> Result<Vec<(MailboxId, Wanted)>> {
        let rows = sqlx::query(concat!(
            "SELECT m.*, ",
            approved!(),
            " AS may FROM shard s JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence = s.epoch
               JOIN org g ON g.org = m.org
             WHERE m.wanted_revision <> m.wanted_seen AND m.profile_id IS NOT NULL AND s.owner_inc = ?
             ORDER BY random() LIMIT ?"
        ))
        .bind(incarnation.key())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((id(row)?, wanted(row)?))).collect()
    }

    /// On the writer: behind whatever may still be under way there.
    pub(super) async fn read_again(&self, fence: &Fence) -> Result<Claimed> {
        let mut tx = self.begin().await?;
        let sql = format!("{CLAIMED} m.mailbox_id = ? AND m.fence = ? AND m.fence_nonce = ?");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(fence.mailbox.key())
            .bind(fence.epoch.0 as i64)
            .bind(fence.nonce.key())
            .fetch_optional(&mut *tx)
            .await?;
        row.as_ref().map(read).transpose()?.ok_or(Error::Fenced)
    }
}

fn id(row: &SqliteRow) -> Result<MailboxId> {
    row.bytes("mailbox_id").map(MailboxId::from_bytes)
}

fn read(row: &SqliteRow) -> Result<Claimed> {
    Ok(Claimed {
        fence: Fence {
            mailbox: id(row)?,
            epoch: Epoch(row.number("fence")?),
            nonce: Nonce::from_bytes(row.bytes("fence_nonce")?),
            commit_ver: row.number("commit_ver")?,
        },
        wanted: wanted(row)?,
        kept: row.maybe_word("kept")?.unwrap_or_default(),
        cursor: row.try_get::<Option<Vec<u8>>, _>("cursor")?.map(Bytes::from),
        start: row.maybe_time("start")?,
        has_inbound: row.flag("waiting")?,
    })
}

fn wanted(row: &SqliteRow) -> Result<Wanted> {
    let test = row.maybe_bytes::<16>("test_wanted")?;
    let done = row.maybe_bytes::<16>("test_done")?;
    Ok(Wanted {
        revision: row.number("wanted_revision")?,
        org: Org(row.text("org")?),
        address: row.text("address")?,
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        methods: methods("methods", row.try_get("methods")?)?,
        approved: row.flag("may")?,
        test: test.filter(|test| done != Some(*test)).map(OperationId::from_bytes),
        polls: row.number("polls_wanted")?,
        process_email_from: row.maybe_time("process_email_from")?,
        create_time: row.time("create_time")?,
    })
}
