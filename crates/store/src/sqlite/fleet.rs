//! The control plane on SQLite: leadership, leases, ownership of shards.

use std::time::Duration;

use async_trait::async_trait;
use mailyard_policy::{
    Timestamp,
    id::{Epoch, Incarnation, ShardId, Term, WorkerId},
};

use super::{SqliteStore, session::SqliteSession};
use crate::{
    Error, Result,
    fleet::{Fleet, Grant, Leadership, Shard, SoleHolder, Worker},
    sql::{Backend as _, Columns as _, Session as _, Statement, fleet, nonce},
};

/// The next number of all terms and grants.
async fn next_epoch(tx: &mut SqliteSession, count: usize) -> Result<u64> {
    let row =
        tx.the_row(Statement::new("UPDATE store SET epoch = epoch + ? RETURNING epoch").bind(count)).await?;
    Ok(row.number("epoch")? - count as u64 + 1)
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
        let taken = tx.row(Statement::new("SELECT 1 FROM coordinator WHERE lease_until >= ").now()).await?;
        if taken.is_some() && proof.is_none() {
            return Ok(None);
        }
        let lead = Leadership { term: Term(next_epoch(&mut tx, 1).await?), nonce: nonce()? };
        let elected = Statement::new(
            "INSERT INTO coordinator(one, term, holder, nonce, lease_until) VALUES (1, ?, ?, ?, ? + ",
        );
        let elected = elected.bind(lead.term).bind(holder).bind(lead.nonce).bind(lease).now().push(
            ") ON CONFLICT (one) DO UPDATE SET term = excluded.term, holder = excluded.holder,
               nonce = excluded.nonce, lease_until = excluded.lease_until",
        );
        tx.run(elected).await?;
        if proof.is_some() {
            tx.run(Statement::new("UPDATE worker SET state = 'dead' WHERE state <> 'dead'")).await?;
            free_shards_of_the_dead(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(Some(lead))
    }

    async fn renew_leadership(&self, lead: &Leadership, lease: Duration) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        tx.run(Statement::new("UPDATE coordinator SET lease_until = ? + ").bind(lease).now()).await?;
        tx.commit().await
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
        tx.guard(lead).await?;
        let known = Statement::new(
            "INSERT INTO worker(incarnation, worker_id, state, lease_until, build) VALUES (?, ?, 'live', ? + ",
        );
        let known = known.bind(incarnation).bind(worker).bind(lease).now().push(
            ", ?) ON CONFLICT (incarnation) DO UPDATE
               SET lease_until = max(lease_until, excluded.lease_until), build = excluded.build
               WHERE state <> 'dead' AND worker_id = excluded.worker_id
             RETURNING 1",
        );
        tx.row(known.bind(build)).await?.ok_or(Error::Fenced)?;
        tx.commit().await
    }

    async fn renew_lease(&self, incarnation: Incarnation, lease: Duration) -> Result<()> {
        fleet::of_the_living(self.write(fleet::renew_lease(incarnation, lease)).await?)
    }

    async fn drain(&self, incarnation: Incarnation) -> Result<()> {
        fleet::of_the_living(self.write(fleet::drain(incarnation)).await?)
    }

    async fn declare_dead(&self, lead: &Leadership, grace: Duration) -> Result<Vec<Incarnation>> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        let dead =
            Statement::new("UPDATE worker SET state = 'dead' WHERE state <> 'dead' AND lease_until + ? < ");
        let rows = tx.rows(dead.bind(grace).now().push(" RETURNING incarnation")).await?;
        free_shards_of_the_dead(&mut tx).await?;
        tx.commit().await?;
        rows.iter().map(|row| row.bytes("incarnation").map(Incarnation::from_bytes)).collect()
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        self.read(fleet::workers()).await?.iter().map(fleet::read_worker).collect()
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.read(fleet::shards()).await?.iter().map(fleet::read_shard).collect()
    }

    async fn grant(
        &self,
        lead: &Leadership,
        to: (&WorkerId, Incarnation),
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<Grant>> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        let live =
            Statement::new("SELECT 1 FROM worker WHERE worker_id = ? AND incarnation = ? AND state = 'live'");
        if tx.row(live.bind(to.0).bind(to.1)).await?.is_none() || shards.is_empty() {
            return Ok(Vec::new());
        }
        let first = next_epoch(&mut tx, shards.len()).await?;
        let mut grants = Vec::new();
        for ((shard, seen), epoch) in shards.iter().zip(first..) {
            let grant = Grant { shard: *shard, epoch: Epoch(epoch), nonce: nonce()?, revoking: false };
            let given = Statement::new(
                "UPDATE shard SET epoch = ?, nonce = ?, phase = 1, owner_id = ?, owner_inc = ?
                 WHERE shard_id = ? AND epoch = ? AND phase = 0",
            );
            let given = given.bind(grant.epoch).bind(grant.nonce).bind(to.0).bind(to.1);
            if tx.run(given.bind(*shard).bind(*seen)).await? == 1 {
                grants.push(grant);
            }
        }
        tx.commit().await?;
        Ok(grants)
    }

    async fn revoke(&self, lead: &Leadership, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        for (shard, seen) in shards {
            let asked =
                Statement::new("UPDATE shard SET phase = 2 WHERE shard_id = ? AND epoch = ? AND phase = 1");
            tx.run(asked.bind(*shard).bind(*seen)).await?;
        }
        tx.commit().await
    }

    async fn held(&self, incarnation: Incarnation) -> Result<Vec<Grant>> {
        self.read(fleet::held(incarnation)).await?.iter().map(fleet::read_grant).collect()
    }

    async fn release(&self, incarnation: Incarnation, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (shard, epoch) in shards {
            let free = Statement::new(
                "UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL
                 WHERE shard_id = ? AND epoch = ? AND owner_inc = ? AND phase <> 0",
            );
            tx.run(free.bind(*shard).bind(*epoch).bind(incarnation)).await?;
        }
        tx.commit().await
    }

    async fn clock(&self) -> Result<Timestamp> {
        let now = self.read_one(fleet::clock()).await?;
        now.ok_or_else(|| Error::Corrupt("the database has no clock".to_owned()))?.time("now")
    }
}

async fn free_shards_of_the_dead(tx: &mut SqliteSession) -> Result<()> {
    let free = Statement::new(
        "UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL
         WHERE owner_inc IN (SELECT incarnation FROM worker WHERE state = 'dead')",
    );
    tx.run(free).await?;
    Ok(())
}
