//! The fenced transaction on SQLite: the conditional update of the mailbox row first, then everything that depends on it.

use std::{collections::HashSet, time::Duration};

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{MailboxId, OperationId, Org, ProfileId},
    mailbox::{CYCLES, Kept},
    operation::Health,
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    count::Deltas,
    location, outgoing,
    rows::{Columns as _, Key as _, duration_millis, millis},
    script::{ROWS, Script},
    test_run,
    track::{self, Arrived, Met, Plan},
};
use crate::{
    Error, Result,
    holder::{Commit, Committed, Cycle, Fence, Item, SeenItem},
    people::TestOutcome,
};

/// Rows of `inbound` of which something is to become yet.
const WAITS: &str = " WHERE state <> 'quarantined'";
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
    /// Two scripts: the fence with the questions, and then everything that follows from the answers.
    pub(super) async fn write(&self, fence: &Fence, change: Commit) -> Result<Committed> {
        let mut tx = self.begin().await?;
        let Commit {
            cursor,
            forget_cursor,
            start,
            seen,
            items,
            delivery,
            kept,
            test,
            located,
            facts,
            cycle,
            at,
        } = change;
        let seen = waiting(seen, &items);
        let (tracked, others) = divide(items);
        let entry = Entry { at, start, begins_anew: forget_cursor, cycle: cycle.is_some() };
        let (scope, met) = enter(&mut tx, fence, &entry, &tracked).await?;
        let mut plan = Plan::new(at, tracked, met);
        plan.bodies.settle_uploads(&mut tx).await?;
        if let Some(delivery) = delivery {
            outgoing::step(&mut tx, &scope, &delivery).await?;
        }
        let mut script = Script::default();
        if forget_cursor || cursor.is_some() {
            keep_cursor(&mut script, &scope, cursor.as_deref());
        }
        add_seen(&mut script, &scope, &seen);
        for item in others {
            settle(&mut script, &scope, item);
        }
        let (new_records, joined) = (plan.new_records(), plan.joined);
        tell(&mut script, &scope.org, &plan.facts.drain(..).chain(facts).collect::<Vec<_>>());
        let links = plan.store(&mut script, &scope);
        kept.iter().for_each(|kept| keep(&mut script, &scope, kept));
        cycle.iter().for_each(|cycle| keep_cycle(&mut script, &scope, cycle));
        located.iter().for_each(|located| location::keep(&mut script, &scope, located));
        script.run(&mut tx).await?;
        track::link(&mut tx, &scope, links).await?;
        if let Some((operation, outcome)) = test {
            end_test(&mut tx, &scope, operation, &outcome).await?;
        }
        commit(tx).await?;
        let fence = Fence { commit_ver: fence.commit_ver + 1, ..*fence };
        Ok(Committed { fence, new_records, joined })
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
    let mut script = Script::default();
    tell(&mut script, org, facts);
    script.run(tx).await
}

fn tell(script: &mut Script, org: &Org, facts: &[Fact]) {
    for some in facts.chunks(ROWS) {
        script.begin("INSERT INTO fact(org, text, at) ").push_values(some, |mut values, fact| {
            values.push_bind(org.0.clone()).push_bind(fact.to_string()).push_bind(fact.at.as_millis());
        });
    }
}

/// What the conditional update writes beside the commit version.
struct Entry {
    at: Timestamp,
    start: Option<Timestamp>,
    /// The start that is stored does not count any more.
    begins_anew: bool,
    cycle: bool,
}

/// The conditional update, and what the items meet.
async fn enter(tx: &mut Tx, fence: &Fence, entry: &Entry, items: &[Arrived]) -> Result<(Scope, Met)> {
    let mut script = Script::default();
    let text = script.begin("UPDATE mailbox SET commit_ver = commit_ver + 1, cycles = cycles + ");
    text.push_bind(i64::from(entry.cycle));
    if entry.start.is_some() || entry.begins_anew {
        text.push(", start = ").push_bind(millis(entry.start));
    }
    text.push(" WHERE mailbox_id = ").push_bind(fence.mailbox.key());
    text.push(" AND fence = ").push_bind(fence.epoch.0 as i64);
    text.push(" AND fence_nonce = ").push_bind(fence.nonce.key());
    text.push(" AND commit_ver = ").push_bind(fence.commit_ver as i64);
    text.push(" RETURNING 'mailbox' AS what, org, profile_id, shard_id, health, cycles");
    Met::ask(&mut script, fence.mailbox, items);
    let (mut scope, mut met) = (None, Met::default());
    for row in script.rows(tx).await? {
        match row.try_get("what")? {
            "mailbox" => scope = Some(Scope::of(&row, fence.mailbox, entry.at)?),
            _ => met.take(&row)?,
        }
    }
    Ok((scope.ok_or(Error::Fenced)?, met))
}

/// Those that become, or join, records, and the others.
fn divide(items: Vec<Item>) -> (Vec<Arrived>, Vec<Item>) {
    let (mut tracked, mut others) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Track(item) => tracked.push(Arrived::new(*item)),
            other => others.push(other),
        }
    }
    (tracked, others)
}

async fn end_test(tx: &mut Tx, scope: &Scope, operation: OperationId, outcome: &TestOutcome) -> Result<()> {
    sqlx::query("UPDATE mailbox SET test_done = ? WHERE mailbox_id = ?")
        .bind(operation.key())
        .bind(scope.mailbox.key())
        .execute(&mut **tx)
        .await?;
    test_run::end_test(tx, operation, scope.mailbox, outcome).await
}

fn keep_cursor(script: &mut Script, scope: &Scope, cursor: Option<&[u8]>) {
    match cursor {
        Some(cursor) => {
            let mut values =
                script.begin("INSERT INTO cursor(mailbox_id, org, value) VALUES (").separated(", ");
            values.push_bind(scope.mailbox.key()).push_bind(scope.org.0.clone()).push_bind(cursor.to_vec());
            values.push_unseparated(") ON CONFLICT (mailbox_id) DO UPDATE SET value = excluded.value");
        }
        None => {
            script.begin("DELETE FROM cursor WHERE mailbox_id = ").push_bind(scope.mailbox.key());
        }
    }
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

fn add_seen(script: &mut Script, scope: &Scope, seen: &[SeenItem]) {
    for some in seen.chunks(ROWS) {
        let text = script.begin("WITH v(item_id, received) AS (");
        text.push_values(some, |mut values, item| {
            values.push_bind(item.item_id.clone()).push_bind(millis(item.received));
        });
        text.push(") INSERT INTO inbound(mailbox_id, item_id, org, state, received, seen) SELECT ");
        text.push_bind(scope.mailbox.key()).push(", v.item_id, ").push_bind(scope.org.0.clone());
        text.push(", 'seen', v.received, ").push_bind(scope.at.as_millis());
        text.push(" FROM v WHERE NOT EXISTS (SELECT 1 FROM sighting s WHERE s.mailbox_id = ");
        text.push_bind(scope.mailbox.key());
        text.push(" AND s.item_id = v.item_id) ON CONFLICT DO NOTHING");
    }
}

/// What happens to a row of `inbound` that does not become a sighting. What is in quarantine already stays as it is.
fn settle(script: &mut Script, scope: &Scope, item: Item) {
    let failed = "attempts = attempts + 1, reason = ";
    let (text, item_id) = match item {
        Item::Track(_) => return,
        Item::Drop { item_id } => (script.begin("DELETE FROM inbound WHERE TRUE"), item_id),
        Item::Again { item_id, reason } => {
            (script.begin("UPDATE inbound SET ").push(failed).push_bind(reason.code()).push(WAITS), item_id)
        }
        Item::Quarantine { item_id, reason } => {
            tell_failed(script, scope, &item_id, reason);
            let text = script.begin("UPDATE inbound SET state = 'quarantined', search_key = NULL, ");
            (text.push(failed).push_bind(reason.code()).push(WAITS), item_id)
        }
        Item::Move { item_id, reason, search_key } => {
            tell_failed(script, scope, &item_id, reason);
            let text = script.begin("UPDATE inbound SET state = 'moving', search_key = ");
            text.push_bind(search_key.to_vec()).push(", ");
            (text.push(failed).push_bind(reason.code()).push(WAITS), item_id)
        }
        Item::Moved { item_id, moved_id } => {
            let text = script.begin(
                "UPDATE OR REPLACE inbound SET state = 'quarantined', moved = 1, search_key = NULL, item_id = ",
            );
            (text.push_bind(moved_id).push(WAITS), item_id)
        }
    };
    text.push(" AND item_id = ").push_bind(item_id);
    text.push(" AND mailbox_id = ").push_bind(scope.mailbox.key());
}

/// An item that nobody knows to have failed raises an alert; its move, or a second look at it, raises no other.
fn tell_failed(script: &mut Script, scope: &Scope, item_id: &str, reason: Reason) {
    let regarding = Regarding::Mailbox(scope.mailbox);
    let fact = Fact { regarding, what: What::Quarantined(reason), at: scope.at };
    let text = script.begin("INSERT INTO fact(org, text, at) SELECT org, ");
    text.push_bind(fact.to_string()).push(", ").push_bind(scope.at.as_millis());
    text.push(" FROM inbound WHERE state = 'seen' AND item_id = ").push_bind(item_id.to_owned());
    text.push(" AND mailbox_id = ").push_bind(scope.mailbox.key());
}

/// Stores the machine's part, and the health that follows from it; the counts move with the health.
pub(super) fn keep(script: &mut Script, scope: &Scope, kept: &Kept) {
    let health = kept.health();
    let [incoming, outgoing, act] = kept.operations;
    let text = script.begin(
        "UPDATE mailbox SET (kept, wanted_seen, test_done, polls_done, health, incoming_state, outgoing_state,
           act_state, incoming_reason, outgoing_reason, act_reason) = (",
    );
    let mut values = text.separated(", ");
    values
        .push_bind(kept.to_string())
        .push_bind(kept.wanted_seen as i64)
        .push_bind(kept.test_done.map(|test| test.key()))
        .push_bind(kept.polls_done as i64)
        .push_bind(health.word())
        .push_bind(incoming.state.word())
        .push_bind(outgoing.state.word())
        .push_bind(act.state.word())
        .push_bind(incoming.reason.map(Reason::code))
        .push_bind(outgoing.reason.map(Reason::code))
        .push_bind(act.reason.map(Reason::code));
    text.push(") WHERE mailbox_id = ").push_bind(scope.mailbox.key());
    count_health(script, scope, health);
}

/// Counts a mailbox with its new health and not with the one it had.
pub(super) fn count_health(script: &mut Script, scope: &Scope, health: Health) {
    let mut deltas = Deltas::default();
    if let Some(profile) = scope.profile.filter(|_| scope.health != health) {
        deltas.add(scope.shard, profile, scope.health, -1);
        deltas.add(scope.shard, profile, health, 1);
    }
    deltas.add_to(script);
}

fn keep_cycle(script: &mut Script, scope: &Scope, cycle: &Cycle) {
    let text = script.begin(
        "INSERT OR REPLACE INTO cycle(mailbox_id, slot, number, org, operation, start, duration, items, outcome, reason)
         VALUES (",
    );
    let mut values = text.separated(", ");
    values
        .push_bind(scope.mailbox.key())
        .push_bind((scope.cycles % CYCLES as u64) as i64)
        .push_bind(scope.cycles as i64)
        .push_bind(scope.org.0.clone())
        .push_bind(cycle.operation.word())
        .push_bind(cycle.start.as_millis())
        .push_bind(duration_millis(cycle.duration))
        .push_bind(i64::from(cycle.items))
        .push_bind(cycle.outcome)
        .push_bind(cycle.reason.map(Reason::code));
    text.push(")");
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
