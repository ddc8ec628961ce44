//! What the holder of a profile's lane keeps: breaker, throttle, and what the server can do.

use mailyard_policy::{
    Reason,
    alert::Fact,
    id::{Epoch, Org, ProfileId},
    outbox::Capabilities,
};

use super::{Backend, Columns as _, Session, Statement, commit::add_facts};
use crate::{Error, Result, holder::Lane};

pub(super) async fn stored<B: Backend>(store: &B, profile: ProfileId, lane: u16) -> Result<Option<Lane>> {
    let found =
        Statement::new("SELECT * FROM lane WHERE profile_id = ? AND lane = ?").bind(profile).bind(lane);
    let Some(row) = store.read_one(found).await? else { return Ok(None) };
    Ok(Some(Lane {
        breaker: row.text("breaker")?,
        open: row.maybe_word("open")?,
        throttle: row.text("throttle")?,
    }))
}

pub(super) async fn keep<B: Backend>(
    store: &B,
    profile: ProfileId,
    lane: u16,
    epoch: Epoch,
    kept: &Lane,
    facts: &[Fact],
) -> Result<()> {
    let mut tx = store.begin().await?;
    let org = org(&mut tx, profile).await?;
    let newer = Statement::new(
        "INSERT INTO lane(profile_id, lane, org, epoch, breaker, open, throttle) VALUES (?,?,?,?,?,?,?)
         ON CONFLICT (profile_id, lane) DO UPDATE SET epoch = excluded.epoch, breaker = excluded.breaker,
           open = excluded.open, throttle = excluded.throttle WHERE lane.epoch <= excluded.epoch",
    );
    let newer = newer.bind(profile).bind(lane).bind(&org).bind(epoch);
    if tx.run(newer.bind(&kept.breaker).bind(kept.open).bind(&kept.throttle)).await? == 0 {
        return Err(Error::Fenced);
    }
    add_facts(&mut tx, &org, facts).await?;
    tx.commit().await
}

pub(super) async fn keep_capabilities<B: Backend>(
    store: &B,
    profile: ProfileId,
    epoch: Epoch,
    outgoing_url: Option<&str>,
    capabilities: &Capabilities,
) -> Result<()> {
    let mut tx = store.begin().await?;
    org(&mut tx, profile).await?;
    tx.lock("lane WHERE lane = 0 AND profile_id = ?", profile.into()).await?;
    let later = Statement::new("SELECT 1 FROM lane WHERE profile_id = ? AND lane = 0 AND epoch > ?");
    if tx.row(later.bind(profile).bind(epoch)).await?.is_some() {
        return Err(Error::Fenced);
    }
    let known = Statement::new(
        "UPDATE profile SET consumes_draft=?, checks_change_key=?, moved_id_dies=?
         WHERE profile_id=? AND outgoing_url IS NOT DISTINCT FROM ?",
    );
    let known = known
        .bind(capabilities.consumes_draft)
        .bind(capabilities.checks_change_key)
        .bind(capabilities.moved_id_dies)
        .bind(profile)
        .bind(outgoing_url);
    if tx.run(known).await? == 0 {
        return Err(Error::Fenced);
    }
    tx.commit().await
}

async fn org<S: Session>(tx: &mut S, profile: ProfileId) -> Result<Org> {
    let row = tx.row(Statement::new("SELECT org FROM profile WHERE profile_id = ?").bind(profile)).await?;
    let none = || Error::refused(Reason::ResourceNotFound, format!("there is no profile {profile}"));
    row.ok_or_else(none)?.text("org").map(Org)
}
