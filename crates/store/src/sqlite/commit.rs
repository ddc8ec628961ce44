//! The fenced transaction on SQLite: the conditional update of the mailbox row first, then everything that depends on it.

use std::{collections::HashSet, time::Duration};

use mailyard_policy::{
    Reason, Timestamp,
    alert::Fact,
    id::{MailboxId, Org, ProfileId},
    mailbox::Kept,
    operation::Health,
};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    count::Deltas,
    outgoing,
    rows::{Columns as _, Key as _, duration_millis, millis},
    test_run, track,
};
use crate::{
    Error, Result,
    holder::{Commit, Committed, Cycle, Fence, Item, SeenItem},
};

/// How many cycles of a mailbox are kept.
const CYCLES: u64 = 16;
const OUTCOMES: [&str; 6] = ["success", "transient", "throttled", "permanent", "server_fault", "fenced"];

/// The mailbox that a fenced transaction is about, as the conditional update found it.
pub(super) struct Scope {
    pub(super) mailbox: MailboxId,
    pub(super) org: Org,
    pub(super) at: Timestamp,
    profile: Option<ProfileId>,
    shard: u16,
    health: Health,
    cycles: u64,
}

impl Scope {
    /// Of a row of `mailbox`.
    pub(super) fn of(row: &SqliteRow, mailbox: MailboxId, at: Timestamp) -> Result<Self> {
        Ok(Self {
            mailbox,
            org: Org(row.text("org")?),
            at,
            profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
            shard: row.try_get("shard_id")?,
            health: row.word("health")?,
            cycles: row.number("cycles")?,
        })
    }
}

impl SqliteStore {
    pub(super) async fn write(&self, fence: &Fence, change: Commit) -> Result<Committed> {
        let mut tx = self.begin().await?;
        let scope = enter(&mut tx, fence, &change).await?;
        if change.forget_cursor || change.cursor.is_some() {
            keep_cursor(&mut tx, &scope, change.cursor.as_deref()).await?;
        }
        add_seen(&mut tx, &scope, &waiting(change.seen, &change.items)).await?;
        let mut tracked = Vec::new();
        for item in change.items {
            match item {
                Item::Track(item) => tracked.push(*item),
                other => settle(&mut tx, &scope, other).await?,
            }
        }
        let (counts, mut facts) = track::store(&mut tx, &scope, tracked).await?;
        facts.extend(change.facts);
        if let Some(delivery) = change.delivery {
            outgoing::step(&mut tx, &scope, &delivery).await?;
        }
        if let Some(kept) = change.kept {
            keep(&mut tx, &scope, &kept).await?;
        }
        if let Some((operation, outcome)) = change.test {
            sqlx::query("UPDATE mailbox SET test_done = ? WHERE mailbox_id = ?")
                .bind(operation.key())
                .bind(scope.mailbox.key())
                .execute(&mut *tx)
                .await?;
            test_run::end_test(&mut tx, operation, scope.mailbox, &outcome).await?;
        }
        add_facts(&mut tx, &scope.org, &facts).await?;
        if let Some(cycle) = change.cycle {
            keep_cycle(&mut tx, &scope, &cycle).await?;
        }
        commit(tx).await?;
        let fence = Fence { commit_ver: fence.commit_ver + 1, ..*fence };
        Ok(Committed { fence, new_records: counts.new, joined: counts.joined })
    }

    pub(super) async fn stored_cycles(&self, mailbox: MailboxId) -> Result<Vec<Cycle>> {
        let rows = sqlx::query("SELECT * FROM cycle WHERE mailbox_id = ? ORDER BY number DESC")
            .bind(mailbox.key())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read_cycle).collect()
    }
}

/// Writes facts for the alert book.
pub(super) async fn add_facts(tx: &mut Tx, org: &Org, facts: &[Fact]) -> Result<()> {
    if facts.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO fact(org, text, at) ");
    query.push_values(facts, |mut values, fact| {
        values.push_bind(org.0.clone()).push_bind(fact.to_string()).push_bind(fact.at.as_millis());
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

async fn enter(tx: &mut Tx, fence: &Fence, change: &Commit) -> Result<Scope> {
    let row = sqlx::query(
        "UPDATE mailbox SET commit_ver = commit_ver + 1, cycles = cycles + ?, start = coalesce(?, start)
         WHERE mailbox_id = ? AND fence = ? AND fence_nonce = ? AND commit_ver = ?
         RETURNING org, profile_id, shard_id, health, cycles",
    )
    .bind(i64::from(change.cycle.is_some()))
    .bind(millis(change.start))
    .bind(fence.mailbox.key())
    .bind(fence.epoch.0 as i64)
    .bind(fence.nonce.key())
    .bind(fence.commit_ver as i64)
    .fetch_optional(&mut **tx)
    .await?;
    Scope::of(&row.ok_or(Error::Fenced)?, fence.mailbox, change.at)
}

async fn keep_cursor(tx: &mut Tx, scope: &Scope, cursor: Option<&[u8]>) -> Result<()> {
    let query = match cursor {
        Some(cursor) => sqlx::query(
            "INSERT INTO cursor(mailbox_id, org, value) VALUES (?,?,?)
             ON CONFLICT (mailbox_id) DO UPDATE SET value = excluded.value",
        )
        .bind(scope.mailbox.key())
        .bind(&scope.org.0)
        .bind(cursor.to_vec()),
        None => sqlx::query("DELETE FROM cursor WHERE mailbox_id = ?").bind(scope.mailbox.key()),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Without those whose end is in the same transaction: they need not wait first.
fn waiting(mut seen: Vec<SeenItem>, items: &[Item]) -> Vec<SeenItem> {
    let mut ended = HashSet::new();
    for item in items {
        match item {
            Item::Track(tracked) => _ = ended.insert(&tracked.item_id),
            Item::Drop { item_id } => _ = ended.insert(item_id),
            Item::Again { .. } | Item::Quarantine { .. } | Item::Move { .. } | Item::Moved { .. } => {}
        }
    }
    seen.retain(|item| !ended.contains(&item.item_id));
    seen
}

async fn add_seen(tx: &mut Tx, scope: &Scope, seen: &[SeenItem]) -> Result<()> {
    for batch in seen.chunks(1000) {
        let mut query = QueryBuilder::<Sqlite>::new("WITH v(item_id, received) AS (");
        query.push_values(batch, |mut values, item| {
            values.push_bind(item.item_id.clone()).push_bind(millis(item.received));
        });
        query.push(") INSERT INTO inbound(mailbox_id, item_id, org, state, received, seen) SELECT ");
        query.push_bind(scope.mailbox.key()).push(", v.item_id, ").push_bind(scope.org.0.clone());
        query.push(", 'seen', v.received, ").push_bind(scope.at.as_millis());
        query.push(" FROM v WHERE NOT EXISTS (SELECT 1 FROM sighting s WHERE s.mailbox_id = ");
        query.push_bind(scope.mailbox.key());
        query.push(" AND s.item_id = v.item_id) ON CONFLICT DO NOTHING");
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// What happens to a row of `inbound` that does not become a sighting.
async fn settle(tx: &mut Tx, scope: &Scope, item: Item) -> Result<()> {
    let query = match item {
        Item::Track(_) => return Ok(()),
        Item::Drop { item_id } => {
            sqlx::query("DELETE FROM inbound WHERE item_id = ? AND mailbox_id = ?").bind(item_id)
        }
        Item::Again { item_id, reason } => sqlx::query(
            "UPDATE inbound SET attempts = attempts + 1, reason = ? WHERE item_id = ? AND mailbox_id = ?",
        )
        .bind(reason.code())
        .bind(item_id),
        Item::Quarantine { item_id, reason } => sqlx::query(
            "UPDATE inbound SET state = 'quarantined', attempts = attempts + 1, reason = ?, search_key = NULL
             WHERE item_id = ? AND mailbox_id = ?",
        )
        .bind(reason.code())
        .bind(item_id),
        Item::Move { item_id, reason, search_key } => sqlx::query(
            "UPDATE inbound SET state = 'moving', attempts = attempts + 1, reason = ?, search_key = ?
             WHERE item_id = ? AND mailbox_id = ?",
        )
        .bind(reason.code())
        .bind(search_key.to_vec())
        .bind(item_id),
        Item::Moved { item_id, moved_id } => sqlx::query(
            "UPDATE OR REPLACE inbound SET state = 'quarantined', moved = 1, search_key = NULL, item_id = ?
             WHERE item_id = ? AND mailbox_id = ?",
        )
        .bind(moved_id)
        .bind(item_id),
    };
    query.bind(scope.mailbox.key()).execute(&mut **tx).await?;
    Ok(())
}

/// Stores the machine's part, and the health that follows from it; the counts move with the health.
pub(super) async fn keep(tx: &mut Tx, scope: &Scope, kept: &Kept) -> Result<()> {
    let health = kept.health();
    let [incoming, outgoing, act] = kept.operations;
    sqlx::query(
        "UPDATE mailbox SET kept=?, wanted_seen=?, test_done=?, polls_done=?, health=?, incoming_state=?, outgoing_state=?,
           act_state=?, incoming_reason=?, outgoing_reason=?, act_reason=? WHERE mailbox_id=?",
    )
    .bind(kept.to_string())
    .bind(kept.wanted_seen as i64)
    .bind(kept.test_done.map(|test| test.key()))
    .bind(kept.polls_done as i64)
    .bind(health.word())
    .bind(incoming.state.word())
    .bind(outgoing.state.word())
    .bind(act.state.word())
    .bind(incoming.reason.map(Reason::code))
    .bind(outgoing.reason.map(Reason::code))
    .bind(act.reason.map(Reason::code))
    .bind(scope.mailbox.key())
    .execute(&mut **tx)
    .await?;
    count_health(tx, scope, health).await
}

/// Counts a mailbox with its new health and not with the one it had.
pub(super) async fn count_health(tx: &mut Tx, scope: &Scope, health: Health) -> Result<()> {
    let mut deltas = Deltas::default();
    if let Some(profile) = scope.profile.filter(|_| scope.health != health) {
        deltas.add(scope.shard, profile, scope.health, -1);
        deltas.add(scope.shard, profile, health, 1);
    }
    deltas.store(tx).await
}

async fn keep_cycle(tx: &mut Tx, scope: &Scope, cycle: &Cycle) -> Result<()> {
    sqlx::query(
        "INSERT OR REPLACE INTO cycle(mailbox_id, slot, number, org, operation, start, duration, items, outcome, reason)
         VALUES (?,?,?,?,?,?,?,?,?,?)",
    )
    .bind(scope.mailbox.key())
    .bind((scope.cycles % CYCLES) as i64)
    .bind(scope.cycles as i64)
    .bind(&scope.org.0)
    .bind(cycle.operation.word())
    .bind(cycle.start.as_millis())
    .bind(duration_millis(cycle.duration))
    .bind(i64::from(cycle.items))
    .bind(cycle.outcome)
    .bind(cycle.reason.map(Reason::code))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn read_cycle(row: &SqliteRow) -> Result<Cycle> {
    let outcome = row.text("outcome")?;
    Ok(Cycle {
        operation: row.word("operation")?,
        start: row.time("start")?,
        duration: Duration::from_millis(row.number("duration")?),
        items: row.try_get("items")?,
        outcome: OUTCOMES
            .into_iter()
            .find(|known| *known == outcome)
            .ok_or_else(|| Error::Corrupt(format!("there is no outcome {outcome} of a cycle")))?,
        reason: row.maybe_word("reason")?,
    })
}
