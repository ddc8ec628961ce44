//! The control plane on PostgreSQL. Each call is one statement that is a transaction by itself and carries the guard: the
//! next election waits for it, and under a leadership that has ended it finds nothing to do.

use std::time::Duration;

use async_trait::async_trait;
use mailyard_policy::{
    Timestamp,
    id::{Epoch, Incarnation, Nonce, ShardId, Term, WorkerId},
};
use sqlx::postgres::PgRow;

use super::PostgresStore;
use crate::{
    Error, Result,
    fleet::{Fleet, Grant, Leadership, Shard, SoleHolder, Worker},
    sql::{Columns as _, Statement, Type, Value, fleet, nonce},
};

/// Begins a statement with the guard, as the table `g`; what follows makes more tables.
fn guarded(lead: &Leadership) -> Statement {
    Statement::new("WITH g AS (SELECT 1 AS led FROM coordinator WHERE term = ? AND nonce = ? FOR SHARE)")
        .bind(lead.term)
        .bind(lead.nonce)
}

impl PostgresStore {
    /// Carries out a guarded statement that returns at least one row for who leads.
    async fn led(&self, statement: Statement) -> Result<Vec<PgRow>> {
        let rows = self.control(statement).await?;
        if rows.is_empty() { Err(Error::Fenced) } else { Ok(rows) }
    }
}

/// Shards with their numbers, as rows.
fn shard_rows(shards: &[(ShardId, Epoch)]) -> Vec<Vec<Value>> {
    shards.iter().map(|(shard, epoch)| vec![(*shard).into(), (*epoch).into()]).collect()
}

const SHARD_AND_EPOCH: &[Type] = &[Type::Number, Type::Number];

#[async_trait]
impl Fleet for PostgresStore {
    async fn elect(
        &self,
        holder: &str,
        lease: Duration,
        proof: Option<SoleHolder>,
    ) -> Result<Option<Leadership>> {
        let elected = Statement::new(
            "WITH e AS (UPDATE coordinator SET term = nextval('fence_epoch'), holder = ?, nonce = ?, lease_until = ? + ",
        );
        let elected = elected.bind(holder).bind(nonce()?).bind(lease).now();
        let mut elected = elected.push(" WHERE ? OR lease_until < ").bind(proof.is_some()).now();
        elected = elected.push(" RETURNING term, nonce)");
        if proof.is_some() {
            elected = elected.push(
                ", d AS (UPDATE worker SET state = 'dead' FROM e WHERE state <> 'dead'),
                 s AS (UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL FROM e
                       WHERE owner_inc IS NOT NULL)",
            );
        }
        let rows = self.control(elected.push(" SELECT term, nonce FROM e")).await?;
        let lead = |row: &PgRow| {
            Ok(Leadership { term: Term(row.number("term")?), nonce: Nonce::from_bytes(row.bytes("nonce")?) })
        };
        rows.first().map(lead).transpose()
    }

    /// The row that is changed is the guard itself.
    async fn renew_leadership(&self, lead: &Leadership, lease: Duration) -> Result<()> {
        let renewed = Statement::new("UPDATE coordinator SET lease_until = ? + ").bind(lease).now();
        let renewed =
            renewed.push(" WHERE term = ? AND nonce = ? RETURNING 1").bind(lead.term).bind(lead.nonce);
        self.led(renewed).await.map(drop)
    }

    async fn register(
        &self,
        lead: &Leadership,
        worker: &WorkerId,
        incarnation: Incarnation,
        build: &str,
        lease: Duration,
    ) -> Result<()> {
        let known = guarded(lead).push(
            ", w AS (INSERT INTO worker(incarnation, worker_id, state, lease_until, build)
                     SELECT ?, ?, 'live', ? + ",
        );
        let known = known.bind(incarnation).bind(worker).bind(lease).now().push(
            ", ? FROM g ON CONFLICT (incarnation) DO UPDATE
               SET lease_until = greatest(worker.lease_until, excluded.lease_until), build = excluded.build
               WHERE worker.state <> 'dead' AND worker.worker_id = excluded.worker_id
             RETURNING 1)
             SELECT 1 FROM w",
        );
        self.led(known.bind(build)).await.map(drop)
    }

    async fn renew_lease(&self, incarnation: Incarnation, lease: Duration) -> Result<()> {
        let renewed = fleet::renew_lease(incarnation, lease).push(" RETURNING 1");
        fleet::of_the_living(self.control(renewed).await?.len() as u64)
    }

    async fn drain(&self, incarnation: Incarnation) -> Result<()> {
        let drained = fleet::drain(incarnation).push(" RETURNING 1");
        fleet::of_the_living(self.control(drained).await?.len() as u64)
    }

    async fn declare_dead(&self, lead: &Leadership, grace: Duration) -> Result<Vec<Incarnation>> {
        let dead = guarded(lead).push(
            ", d AS (UPDATE worker SET state = 'dead' FROM g WHERE state <> 'dead' AND lease_until + ? < ",
        );
        let dead = dead.bind(grace).now().push(
            " RETURNING incarnation),
             s AS (UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL FROM g
                   WHERE owner_inc IN (SELECT incarnation FROM d
                                       UNION ALL SELECT incarnation FROM worker WHERE state = 'dead'))
             SELECT g.led, d.incarnation FROM g LEFT JOIN d ON true",
        );
        let rows = self.led(dead).await?;
        let incarnations = rows.iter().map(|row| row.maybe_bytes("incarnation").transpose());
        incarnations.flatten().map(|bytes| bytes.map(Incarnation::from_bytes)).collect()
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        self.control(fleet::workers()).await?.iter().map(fleet::read_worker).collect()
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.control(fleet::shards()).await?.iter().map(fleet::read_shard).collect()
    }

    async fn grant(
        &self,
        lead: &Leadership,
        to: (&WorkerId, Incarnation),
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<Grant>> {
        let given = guarded(lead).push(", n(id, seen) AS (").rows(SHARD_AND_EPOCH, shard_rows(shards));
        let given = given.push(
            "), s AS (UPDATE shard SET epoch = nextval('fence_epoch'), nonce = gen_random_uuid(), phase = 1,
                        owner_id = w.worker_id, owner_inc = w.incarnation
                      FROM g, n, worker w
                      WHERE shard_id = n.id AND shard.epoch = n.seen AND phase = 0
                        AND w.worker_id = ? AND w.incarnation = ? AND w.state = 'live'
                      RETURNING shard_id, shard.epoch, shard.nonce, phase)
             SELECT g.led, s.* FROM g LEFT JOIN s ON true ORDER BY shard_id",
        );
        let rows = self.led(given.bind(to.0).bind(to.1)).await?;
        let made = |row: &&PgRow| !matches!(row.number_at("shard_id"), Ok(None));
        rows.iter().filter(made).map(fleet::read_grant).collect()
    }

    async fn revoke(&self, lead: &Leadership, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let asked = guarded(lead).push(", n(id, seen) AS (").rows(SHARD_AND_EPOCH, shard_rows(shards));
        let asked = asked.push(
            "), s AS (UPDATE shard SET phase = 2 FROM g, n
                      WHERE shard_id = n.id AND epoch = n.seen AND phase = 1)
             SELECT led FROM g",
        );
        self.led(asked).await.map(drop)
    }

    async fn held(&self, incarnation: Incarnation) -> Result<Vec<Grant>> {
        self.control(fleet::held(incarnation)).await?.iter().map(fleet::read_grant).collect()
    }

    /// Written by the owner, whoever leads.
    async fn release(&self, incarnation: Incarnation, shards: &[(ShardId, Epoch)]) -> Result<()> {
        let free = Statement::new("WITH n(id, seen) AS (").rows(SHARD_AND_EPOCH, shard_rows(shards));
        let free = free.push(
            ") UPDATE shard SET phase = 0, owner_id = NULL, owner_inc = NULL FROM n
             WHERE shard_id = n.id AND epoch = n.seen AND owner_inc = ? AND phase <> 0",
        );
        self.control(free.bind(incarnation)).await.map(drop)
    }

    async fn clock(&self) -> Result<Timestamp> {
        let now = self.control(fleet::clock()).await?;
        now.first().ok_or_else(|| Error::Corrupt("the database has no clock".to_owned()))?.time("now")
    }
}
