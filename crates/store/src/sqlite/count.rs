//! Mailboxes by health, counted per shard and profile in the transactions that change it.

use std::collections::BTreeMap;

use mailyard_policy::{id::ProfileId, operation::Health};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx,
    rows::{Columns as _, Key as _},
    script::{ROWS, Script},
};
use crate::{Result, people::HealthCount};

/// Changes of counts, always written in the same order, so that two writers never wait for each other in a circle.
#[derive(Default)]
pub(super) struct Deltas(BTreeMap<(u16, ProfileId, Health), i64>);

impl Deltas {
    /// Adds `n` mailboxes of this health.
    pub(super) fn add(&mut self, shard: u16, profile: ProfileId, health: Health, n: i64) {
        *self.0.entry((shard, profile, health)).or_default() += n;
    }

    /// Writes them.
    pub(super) async fn store(self, tx: &mut Tx) -> Result<()> {
        let mut script = Script::default();
        self.add_to(&mut script);
        script.run(tx).await
    }

    /// Writes them with other things.
    pub(super) fn add_to(self, script: &mut Script) {
        let changes: Vec<_> = self.0.into_iter().filter(|(_, n)| *n != 0).collect();
        for some in changes.chunks(ROWS) {
            let text = script.begin("INSERT INTO shard_profile_count(shard_id, profile_id, health, n) ");
            text.push_values(some, |mut values, ((shard, profile, health), n)| {
                values.push_bind(i64::from(*shard)).push_bind(profile.key());
                values.push_bind(health.word()).push_bind(*n);
            });
            text.push(" ON CONFLICT (shard_id, profile_id, health) DO UPDATE SET n = n + excluded.n");
        }
    }
}

impl SqliteStore {
    pub(super) async fn stored_counts(&self) -> Result<Vec<HealthCount>> {
        let rows = sqlx::query(
            "SELECT p.profile_id, c.health, coalesce(sum(c.n), 0) AS n
             FROM profile p LEFT JOIN shard_profile_count c USING (profile_id) GROUP BY 1, 2 ORDER BY 1",
        )
        .fetch_all(&self.readers)
        .await?;
        collect(&rows)
    }

    pub(super) async fn counted_anew(&self) -> Result<Vec<HealthCount>> {
        let rows = sqlx::query(
            "SELECT p.profile_id, m.health, count(m.mailbox_id) AS n
             FROM profile p LEFT JOIN mailbox m USING (profile_id) GROUP BY 1, 2 ORDER BY 1",
        )
        .fetch_all(&self.readers)
        .await?;
        collect(&rows)
    }
}

fn collect(rows: &[SqliteRow]) -> Result<Vec<HealthCount>> {
    let mut counts: BTreeMap<ProfileId, HealthCount> = BTreeMap::new();
    for row in rows {
        let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
        let count =
            counts.entry(profile).or_insert(HealthCount { profile, not_eligible: 0, ok: 0, failing: 0 });
        let n = row.try_get::<i64, _>("n")?.unsigned_abs();
        match row.maybe_word("health")? {
            Some(Health::NotEligible) => count.not_eligible = n,
            Some(Health::Ok) => count.ok = n,
            Some(Health::Failing) => count.failing = n,
            None => {}
        }
    }
    Ok(counts.into_values().collect())
}
