//! The control plane on SQLite: leadership, leases, ownership of shards.

use std::time::Duration;

use async_trait::async_trait;
use mailyard_policy::{
    Timestamp,
    id::{Epoch, Incarnation, Nonce, ShardId, Term, WorkerId},
};
use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    rows::{Columns as _, Key as _, duration_millis, now},
};
use crate::{
    Error, Result,
    fleet::{Fleet, Grant, Leadership, Shard, SoleHolder, Worker, WorkerState},
    secret::random,
};

/// Fails unless `lead` is the leadership of now.
pub(super) async fn guard(tx: &mut Tx, lead: &Leadership) -> Result<()> {
    let found = sqlx::query("SELECT 1 FROM coordinator WHERE term = ? AND nonce = ?")
        .bind(lead.term.0 as i64)
        .bind(lead.nonce.key())
        .fetch_optional(&mut **tx)
        .await?;
    found.map(drop).ok_or(Error::Fenced)
}

/// True if there is something to write for the leader: told by a reader, so that looking in vain leaves the one writer
/// alone. The condition is a query, with these bound to it.
pub(super) async fn awaits(
    store: &SqliteStore,
    lead: &Leadership,
    condition: &'static str,
    bound: &[i64],
) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM coordinator WHERE term = ? AND nonce = ?) AS leads, EXISTS ({condition}) AS waits"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(lead.term.0 as i64).bind(lead.nonce.key());
    for value in bound {
        query = query.bind(*value);
    }
    let row = query.fetch_one(&store.readers).await?;
    if row.flag("leads")? { row.flag("waits") } else { Err(Error::Fenced) }
}

/// The next number of all terms and grants.
async fn next_epoch(tx: &mut Tx, count: u64) -> Result<u64> {
    let row = sqlx::query("UPDATE store SET epoch = epoch + ? RETURNING epoch")
        .bind(count as i64)
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.number("epoch")? - count + 1)
}

pub(super) fn nonce() -> Result<Nonce> {
    Ok(Nonce::from_bytes(*random::<16>()?))
}

fn shard_id(row: &SqliteRow) -> Result<ShardId> {
    let number: u16 = row.try_get("shard_id")?;
    ShardId::new(number).ok_or_else(|| Error::Corrupt(format!("there is no shard {number}")))
}

#[async_trait]
impl Fleet for SqliteStore {
    async fn elect(
        &self,
        holder: &str,
        lease: Duration,
        proof: Option<SoleHolder>,
    ) -> Result<Option<Leadership>> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query(concat!("SELECT 1 FROM coordinator WHERE lease_until >= ", now!()))
            .fetch_optional(&mut *tx)
            .await?;
        if taken.is_some() && proof.is_none() {
            return Ok(None);
        }
        let lead = Leadership { term: Term(next_epoch(&mut tx, 1).await?), nonce: nonce()? };
        sqlx::query(concat!(
            "INSERT INTO coordinator(one, term, holder, nonce, lease_until) VALUES (1, ?, ?, ?, ? + ",
            now!(),
            ") ON CONFLICT (one) DO UPDATE SET term = excluded.term, holder = excluded.holder,
               nonce = excluded.nonce, lease_until = excluded.lease_until"
        ))
        .bind(lead.term.0 as i64)
        .bind(holder)
        .bind(lead.nonce.key())
        .bind(duration_millis(lease))
        .execute(&mut *tx)
        .await?;
        if proof.is_some() {
            sqlx::query("UPDATE worker SET state = 'dead' WHERE state <> 'dead'").execute(&mut *tx).await?;
            free_shards_of_the_dead(&mut tx).await?;
        }
        commit(tx).await?;
        Ok(Some(lead))
    }

    async fn renew_leadership(&self, lead: &Leadership, lease: Duration) -> Result<()> {
        let done = sqlx::query(concat!(
            "UPDATE coordinator SET lease_until = ? + ",
            now!(),
            " WHERE term = ? AND nonce = ?"
        ))
        .bind(duration_millis(lease))
        .bind(lead.term.0 as i64)
        .bind(lead.nonce.key())
        .execute(&self.writer)
        .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced) }
    }

    async fn register(
        &self,
        lead: &Leadership,
        worker: &WorkerId,
        incarnation: Incarnation,
        build: &str,
        lease: Duration,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let row = sqlx::query(concat!(
            "INSERT INTO worker(incarnation, worker_id, state, lease_until, build) VALUES (?, ?, 'live', ? + ",
            now!(),
            ", ?) ON CONFLICT (incarnation) DO UPDATE
               SET lease_until = max(lease_until, excluded.lease_until), build = excluded.build
               WHERE state <> 'dead' AND worker_id = excluded.worker_id
             RETURNING 1"
        ))
        .bind(incarnation.key())
        .bind(&worker.0)
        .bind(duration_millis(lease))
        .bind(build)
        .fetch_optional(&mut *tx)
        .await?;
        row.ok_or(Error::Fenced)?;
        commit(tx).await
    }

    async fn renew_lease(&self, incarnation: Incarnation, lease: Duration) -> Result<()> {
        let done = sqlx::query(concat!(
            "UPDATE worker SET lease_until = max(lease_until, ? + ",
            now!(),
            ") WHERE incarnation = ? AND state <> 'dead'"
        ))
        .bind(duration_millis(lease))
        .bind(incarnation.key())
        .execute(&self.writer)
        .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced) }
    }

    async fn drain(&self, incarnation: Incarnation) -> Result<()> {
        let done =
            sqlx::query("UPDATE worker SET state = 'draining' WHERE incarnation = ? AND state <> 'dead'")
                .bind(incarnation.key())
                .execute(&self.writer)
                .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced) }
    }

    async fn declare_dead(&self, lead: &Leadership, grace: Duration) -> Result<Vec<Incarnation>> {
        let silent = concat!("SELECT 1 FROM worker WHERE state <> 'dead' AND lease_until + ? < ", now!());
        if !awaits(self, lead, silent, &[duration_millis(grace)]).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let rows = sqlx::query(concat!(
            "UPDATE worker SET state = 'dead' WHERE state <> 'dead' AND lease_until + ? < ",
            now!(),
            " RETURNING incarnation"
        ))
        .bind(duration_millis(grace))
        .fetch_all(&mut *tx)
        .await?;
        free_shards_of_the_dead(&mut tx).await?;
        commit(tx).await?;
        rows.iter().map(|row| row.bytes("incarnation").map(Incarnation::from_bytes)).collect()
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        let rows = sqlx::query("SELECT * FROM worker WHERE state <> 'dead' ORDER BY worker_id, incarnation")
            .fetch_all(&self.readers)
            .await?;
        let worker = |row: &SqliteRow| {
            Ok(Worker {
                worker: WorkerId(row.text("worker_id")?),
                incarnation: Incarnation::from_bytes(row.bytes("incarnation")?),
                state: row.word::<WorkerState>("state")?,
                lease_until: row.time("lease_until")?,
                build: row.text("build")?,
            })
        };
        rows.iter().map(worker).collect()
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        let rows = sqlx::query(
            "SELECT shard_id, epoch, phase, owner_id, owner_inc FROM shard s
             WHERE owner_inc IS NOT NULL OR EXISTS (SELECT 1 FROM mailbox m WHERE m.shard_id = s.shard_id)
             ORDER BY shard_id",
        )
        .fetch_all(&self.readers)
        .await?;
        let shard = |row: &SqliteRow| {
            let owner = row.maybe_bytes("owner_inc")?.map(Incarnation::from_bytes);
            Ok(Shard {
                shard: shard_id(row)?,
                epoch: Epoch(row.number("epoch")?),
                owner: row.maybe_text("owner_id")?.map(WorkerId).zip(owner),
                revoking: row.number("phase")? == 2,
            })
        };
        rows.iter().map(shard).collect()
    }

    async fn grant(
        &self,
        lead: &Leadership,
        to: (&WorkerId, Incarnation),
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<Grant>> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let live =
            sqlx::query("SELECT 1 FROM worker WHERE worker_id = ? AND incarnation = ? AND state = 'live'")
                .bind(&to.0.0)
                .bind(to.1.key())
                .fetch_optional(&mut *tx)
                .await?;
        if live.is_none() || shards.is_empty() {
            return Ok(Vec::new());
        }
        let first = next_epoch(&mut tx, shards.len() as u64).await?;
        let mut grants = Vec::new();
        for ((shard, seen), epoch) in shards.iter().zip(first..) {
            let grant = Grant { shard: *shard, epoch: Epoch(epoch), nonce: nonce()?, revoking: false };
            let done = sqlx::query(
                "UPDATE shard SET epoch = ?, nonce = ?, phase = 1, owner_id = ?, owner_inc = ?
                 WHERE shard_id = ? AND epoch = ? AND phase = 0",
            )
            .bind(epoch as i64)
            .bind(grant.nonce.key())
            .bind(&to.0.0)
            .bind(to.1.key())
            .bind(i64::from(shard.get()))
            .bind(seen.0 as i64)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 1 {
                grants.push(grant);
            }
        }
        commit(tx).await?;
        Ok(grants)
    }

    async fn revoke(&self, lead: &Leadership, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        for (shard, seen) in shards {
            sqlx::query("UPDATE shard SET phase = 2 WHERE shard_id = ? AND epoch = ? AND phase = 1")
                .bind(i64::from(shard.get()))
                .bind(seen.0 as i64)
                .execute(&mut *tx)
                .await?;
        }
        commit(tx).await
    }

    async fn held(&self, incarnation: Incarnation) -> Result<Vec<Grant>> {
        let rows = sqlx::query(
            "SELECT shard_id, epoch, nonce, phase FROM shard WHERE owner_inc = ? AND phase <> 0 ORDER BY shard_id",
        )
        .bind(incarnation.key())
        .fetch_all(&self.readers)
        .await?;
        let grant = |row: &SqliteRow| {
            Ok(Grant {
                shard: shard_id(row)?,
                epoch: Epoch(row.number("epoch")?),
                nonce: Nonce::from_bytes(row.bytes("nonce")?),
                revoking: row.number("phase")? == 2,
            })
        };
        rows.iter().map(grant).collect()
    }

    async fn release(&self, incarnation: Incarnation, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (shard, epoch) in shards {
            sqlx::query(
                "UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL
                 WHERE shard_id = ? AND epoch = ? AND owner_inc = ? AND phase <> 0",
            )
            .bind(i64::from(shard.get()))
            .bind(epoch.0 as i64)
            .bind(incarnation.key())
            .execute(&mut *tx)
            .await?;
        }
        commit(tx).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        sqlx::query(concat!("SELECT ", now!(), " AS now")).fetch_one(&self.readers).await?.time("now")
    }
}

async fn free_shards_of_the_dead(tx: &mut Tx) -> Result<()> {
    sqlx::query(
        "UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL
         WHERE owner_inc IN (SELECT incarnation FROM worker WHERE state = 'dead')",
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
