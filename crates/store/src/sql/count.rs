//! Mailboxes by health, counted per shard and profile in the transactions that change it.

use std::collections::BTreeMap;

use mailyard_policy::{id::ProfileId, operation::Health};

use super::{Backend, Columns, Script, Session, Statement, Type};
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
    pub(super) async fn store<S: Session>(self, tx: &mut S) -> Result<()> {
        let mut script = Script::default();
        self.add_to(&mut script);
        tx.script(script).await
    }

    /// Writes them with other things.
    pub(super) fn add_to(self, script: &mut Script) {
        script.insert(
            "INSERT INTO shard_profile_count(shard_id, profile_id, health, n) ",
            &[Type::Number, Type::Id, Type::Text, Type::Number],
            self.0.into_iter().filter(|(_, n)| *n != 0),
            |((shard, profile, health), n)| vec![shard.into(), profile.into(), health.word().into(), n.into()],
            " ON CONFLICT (shard_id, profile_id, health) DO UPDATE SET n = shard_profile_count.n + excluded.n",
        );
    }
}

pub(super) async fn stored<B: Backend>(store: &B) -> Result<Vec<HealthCount>> {
    let counts = Statement::new(
        "SELECT p.profile_id, c.health, CAST(coalesce(sum(c.n), 0) AS bigint) AS n
         FROM profile p LEFT JOIN shard_profile_count c USING (profile_id) GROUP BY 1, 2 ORDER BY 1",
    );
    collect(&store.read(counts).await?)
}

pub(super) async fn counted_anew<B: Backend>(store: &B) -> Result<Vec<HealthCount>> {
    let counts = Statement::new(
        "SELECT p.profile_id, m.health, count(m.mailbox_id) AS n
         FROM profile p LEFT JOIN mailbox m USING (profile_id) GROUP BY 1, 2 ORDER BY 1",
    );
    collect(&store.read(counts).await?)
}

fn collect(rows: &[impl Columns]) -> Result<Vec<HealthCount>> {
    let mut counts: BTreeMap<ProfileId, HealthCount> = BTreeMap::new();
    for row in rows {
        let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
        let count =
            counts.entry(profile).or_insert(HealthCount { profile, not_eligible: 0, ok: 0, failing: 0 });
        let n = row.number_at("n")?.unwrap_or_default().unsigned_abs();
        match row.maybe_word("health")? {
            Some(Health::NotEligible) => count.not_eligible = n,
            Some(Health::Ok) => count.ok = n,
            Some(Health::Failing) => count.failing = n,
            None => {}
        }
    }
    Ok(counts.into_values().collect())
}
