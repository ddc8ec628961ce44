//! What the holder of a profile's lane keeps, on SQLite: breaker, throttle, and what the server can do.

use mailyard_policy::{
    Reason,
    alert::Fact,
    id::{Epoch, Org, ProfileId},
    outbox::Capabilities,
};

use super::{
    SqliteStore, Tx, commit,
    commit::add_facts,
    rows::{Columns as _, Key as _},
};
use crate::{Error, Result, holder::Lane};

impl SqliteStore {
    pub(super) async fn stored_lane(&self, profile: ProfileId, lane: u16) -> Result<Option<Lane>> {
        let row = sqlx::query("SELECT * FROM lane WHERE profile_id = ? AND lane = ?")
            .bind(profile.key())
            .bind(i64::from(lane))
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Lane {
            breaker: row.text("breaker")?,
            open: row.maybe_word("open")?,
            throttle: row.text("throttle")?,
        }))
    }

    pub(super) async fn store_lane(
        &self,
        profile: ProfileId,
        lane: u16,
        epoch: Epoch,
        kept: &Lane,
        facts: &[Fact],
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let org = org(&mut tx, profile).await?;
        let done = sqlx::query(
            "INSERT INTO lane(profile_id, lane, org, epoch, breaker, open, throttle) VALUES (?,?,?,?,?,?,?)
             ON CONFLICT (profile_id, lane) DO UPDATE SET epoch = excluded.epoch, breaker = excluded.breaker,
               open = excluded.open, throttle = excluded.throttle WHERE epoch <= excluded.epoch",
        )
        .bind(profile.key())
        .bind(i64::from(lane))
        .bind(&org.0)
        .bind(epoch.0 as i64)
        .bind(&kept.breaker)
        .bind(kept.open.map(Reason::code))
        .bind(&kept.throttle)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::Fenced);
        }
        add_facts(&mut tx, &org, facts).await?;
        commit(tx).await
    }

    pub(super) async fn store_capabilities(
        &self,
        profile: ProfileId,
        epoch: Epoch,
        outgoing_url: Option<&str>,
        capabilities: &Capabilities,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        org(&mut tx, profile).await?;
        let later = sqlx::query("SELECT 1 FROM lane WHERE profile_id = ? AND lane = 0 AND epoch > ?")
            .bind(profile.key())
            .bind(epoch.0 as i64)
            .fetch_optional(&mut *tx)
            .await?;
        if later.is_some() {
            return Err(Error::Fenced);
        }
        let done = sqlx::query(
            "UPDATE profile SET consumes_draft=?, checks_change_key=?, moved_id_dies=?
             WHERE profile_id=? AND outgoing_url IS ?",
        )
        .bind(capabilities.consumes_draft)
        .bind(capabilities.checks_change_key)
        .bind(capabilities.moved_id_dies)
        .bind(profile.key())
        .bind(outgoing_url)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::Fenced);
        }
        commit(tx).await
    }
}

async fn org(tx: &mut Tx, profile: ProfileId) -> Result<Org> {
    let row = sqlx::query("SELECT org FROM profile WHERE profile_id = ?")
        .bind(profile.key())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| Error::refused(Reason::ResourceNotFound, format!("there is no profile {profile}")))?;
    row.text("org").map(Org)
}
