//! What both backends read of the control plane, and the statements of it that each worker writes itself.

use std::time::Duration;

use mailyard_policy::id::{Epoch, Incarnation, Nonce, ShardId, WorkerId};

use super::{Columns, Statement};
use crate::{
    Error, Result,
    fleet::{Grant, Shard, Worker},
};

pub(crate) fn workers() -> Statement {
    Statement::new("SELECT * FROM worker WHERE state <> 'dead' ORDER BY worker_id, incarnation")
}

pub(crate) fn read_worker(row: &impl Columns) -> Result<Worker> {
    Ok(Worker {
        worker: WorkerId(row.text("worker_id")?),
        incarnation: Incarnation::from_bytes(row.bytes("incarnation")?),
        state: row.word("state")?,
        lease_until: row.time("lease_until")?,
        build: row.text("build")?,
    })
}

pub(crate) fn shards() -> Statement {
    Statement::new(
        "SELECT shard_id, epoch, phase, owner_id, owner_inc FROM shard s
         WHERE owner_inc IS NOT NULL OR EXISTS (SELECT 1 FROM mailbox m WHERE m.shard_id = s.shard_id)
         ORDER BY shard_id",
    )
}

pub(crate) fn read_shard(row: &impl Columns) -> Result<Shard> {
    let owner = row.maybe_bytes("owner_inc")?.map(Incarnation::from_bytes);
    Ok(Shard {
        shard: shard_id(row)?,
        epoch: Epoch(row.number("epoch")?),
        owner: row.maybe_text("owner_id")?.map(WorkerId).zip(owner),
        revoking: row.number("phase")? == 2,
    })
}

pub(crate) fn held(incarnation: Incarnation) -> Statement {
    let held = Statement::new(
        "SELECT shard_id, epoch, nonce, phase FROM shard WHERE owner_inc = ? AND phase <> 0 ORDER BY shard_id",
    );
    held.bind(incarnation)
}

pub(crate) fn read_grant(row: &impl Columns) -> Result<Grant> {
    Ok(Grant {
        shard: shard_id(row)?,
        epoch: Epoch(row.number("epoch")?),
        nonce: Nonce::from_bytes(row.bytes("nonce")?),
        revoking: row.number("phase")? == 2,
    })
}

pub(crate) fn renew_lease(incarnation: Incarnation, lease: Duration) -> Statement {
    let renewed =
        Statement::new("UPDATE worker SET lease_until = CASE WHEN lease_until > ? + ").bind(lease).now();
    let renewed = renewed.push(" THEN lease_until ELSE ? + ").bind(lease).now();
    renewed.push(" END WHERE incarnation = ? AND state <> 'dead'").bind(incarnation)
}

pub(crate) fn drain(incarnation: Incarnation) -> Statement {
    Statement::new("UPDATE worker SET state = 'draining' WHERE incarnation = ? AND state <> 'dead'")
        .bind(incarnation)
}

pub(crate) fn clock() -> Statement {
    Statement::new("SELECT ").now().push(" AS now")
}

/// Fails if what it was about is not there any more.
pub(crate) fn of_the_living(changed: u64) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(Error::Fenced) }
}

fn shard_id(row: &impl Columns) -> Result<ShardId> {
    let number = row.small("shard_id")?;
    ShardId::new(number).ok_or_else(|| Error::Corrupt(format!("there is no shard {number}")))
}
