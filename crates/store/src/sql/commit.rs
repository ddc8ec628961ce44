//! The fenced transaction: the conditional update of the mailbox row first, then everything that depends on it.

use std::collections::HashSet;

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{MailboxId, OperationId, Org, ProfileId},
    mailbox::{CYCLES, Kept},
    operation::Health,
};

use super::{
    Backend, Columns, Script, Session, Statement, Type,
    count::Deltas,
    location, outgoing,
    statement::ROWS,
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
    pub(super) fn of(row: &impl Columns, mailbox: MailboxId, at: Timestamp) -> Result<Self> {
        Ok(Self {
            mailbox,
            org: Org(row.text("org")?),
            at,
            profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
            shard: row.small("shard_id")?,
            health: row.word("health")?,
            cycles: row.number("cycles")?,
        })
    }
}

/// The conditional update with what it writes beside the commit version, and what is asked together with it.
pub(crate) struct Entry {
    fence: Fence,
    /// It has another start than before: this one, or none.
    begins_anew: bool,
    start: Option<Timestamp>,
    cycle: bool,
    /// What the items meet is asked by these.
    pub(crate) questions: track::Questions,
}

impl Entry {
    /// Writes the update up to what it returns.
    pub(crate) fn push_update(&self, statement: Statement) -> Statement {
        let Fence { mailbox, epoch, nonce, commit_ver } = self.fence;
        let mut update = statement.push("UPDATE mailbox SET commit_ver = commit_ver + 1, cycles = cycles + ");
        update = update.value(i64::from(self.cycle));
        if self.begins_anew {
            update = update.push(", start = ").value(self.start);
        }
        update = update.push(" WHERE mailbox_id = ").value(mailbox).push(" AND fence = ").value(epoch);
        update.push(" AND fence_nonce = ").value(nonce).push(" AND commit_ver = ").value(commit_ver)
    }

    /// Whose mailbox it is.
    pub(crate) fn mailbox(&self) -> MailboxId {
        self.fence.mailbox
    }
}

/// The fence with the questions, and then everything that follows from the answers.
pub(super) async fn write<B: Backend>(store: &B, fence: &Fence, change: Commit) -> Result<Committed> {
    let mut tx = store.begin().await?;
    let Commit { cursor, forget_cursor, start, seen, items, delivery, kept, test, located, facts, cycle, at } =
        change;
    let seen = waiting(seen, &items);
    let (tracked, others) = divide(items);
    let questions = track::Questions::of(&tracked);
    let begins_anew = forget_cursor || start.is_some();
    let entry = Entry { fence: *fence, begins_anew, start, cycle: cycle.is_some(), questions };
    let (scope, met) = enter(&mut tx, &entry, at).await?;
    if let Some(delivery) = delivery {
        outgoing::step(&mut tx, &scope, &delivery).await?;
    }
    let mut plan = Plan::settled(&mut tx, &scope, &tracked, met, &entry.questions).await?;
    let mut script = Script::default();
    if forget_cursor || cursor.is_some() {
        script.add(keep_cursor(&scope, cursor));
    }
    add_seen(&mut script, &scope, &seen);
    settle_all(&mut script, &scope, others);
    tell(&mut script, &scope.org, &plan.facts.drain(..).chain(facts).collect::<Vec<_>>());
    let (new_records, joined) = (plan.new_records(), plan.joined);
    let links = plan.store(&mut script, &scope, !B::Session::IS_ALONE);
    cycle.iter().for_each(|cycle| script.add(keep_cycle(&scope, cycle)));
    located.iter().for_each(|located| location::keep(&mut script, &scope, located));
    kept.iter().for_each(|kept| keep(&mut script, &scope, kept));
    tx.script(script).await?;
    track::link(&mut tx, &scope, links).await?;
    if let Some((operation, outcome)) = test {
        end_test(&mut tx, &scope, operation, &outcome).await?;
    }
    tx.commit().await?;
    let fence = Fence { commit_ver: fence.commit_ver + 1, ..*fence };
    Ok(Committed { fence, new_records, joined })
}

pub(super) async fn stored_cycles<B: Backend>(store: &B, mailbox: MailboxId) -> Result<Vec<Cycle>> {
    let cycles =
        Statement::new("SELECT * FROM cycle WHERE mailbox_id = ? ORDER BY number DESC").bind(mailbox);
    store.read(cycles).await?.iter().map(read_cycle).collect()
}

/// Writes facts for the alert book.
pub(super) async fn add_facts<S: Session>(tx: &mut S, org: &Org, facts: &[Fact]) -> Result<()> {
    let mut script = Script::default();
    tell(&mut script, org, facts);
    tx.script(script).await
}

fn tell(script: &mut Script, org: &Org, facts: &[Fact]) {
    script.insert(
        "INSERT INTO fact(org, text, at) ",
        &[Type::Text, Type::Text, Type::Number],
        facts,
        |fact| vec![org.into(), fact.to_string().into(), fact.at.into()],
        "",
    );
}

/// The conditional update, and what the items meet.
async fn enter<S: Session>(tx: &mut S, entry: &Entry, at: Timestamp) -> Result<(Scope, Met)> {
    let (mut scope, mut met) = (None, Met::default());
    for row in tx.enter(entry).await? {
        match row.str("what")? {
            "mailbox" => scope = Some(Scope::of(&row, entry.mailbox(), at)?),
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

async fn end_test<S: Session>(
    tx: &mut S,
    scope: &Scope,
    operation: OperationId,
    outcome: &TestOutcome,
) -> Result<()> {
    let done = Statement::new("UPDATE mailbox SET test_done = ? WHERE mailbox_id = ?");
    tx.run(done.bind(operation).bind(scope.mailbox)).await?;
    test_run::end(tx, operation, scope.mailbox, outcome).await
}

fn keep_cursor(scope: &Scope, cursor: Option<bytes::Bytes>) -> Statement {
    let Some(cursor) = cursor else {
        return Statement::new("DELETE FROM cursor WHERE mailbox_id = ?").bind(scope.mailbox);
    };
    let kept = Statement::new(
        "INSERT INTO cursor(mailbox_id, org, value) VALUES (?,?,?)
         ON CONFLICT (mailbox_id) DO UPDATE SET value = excluded.value",
    );
    kept.bind(scope.mailbox).bind(&scope.org).bind(cursor)
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
        let rows = some.iter().map(|item| vec![(&item.item_id).into(), item.received.into()]).collect();
        let added = Statement::new("WITH v(item_id, received) AS (").rows(&[Type::Text, Type::Number], rows);
        let added = added.push(
            ") INSERT INTO inbound(mailbox_id, item_id, org, state, received, seen)
             SELECT ?, v.item_id, ?, 'seen', v.received, ? FROM v
             WHERE NOT EXISTS (SELECT 1 FROM sighting s WHERE s.mailbox_id = ? AND s.item_id = v.item_id)
             ON CONFLICT DO NOTHING",
        );
        script.add(added.bind(scope.mailbox).bind(&scope.org).bind(scope.at).bind(scope.mailbox));
    }
}

/// What happens to rows of `inbound` that do not become sightings: after those of this transaction were added.
fn settle_all(script: &mut Script, scope: &Scope, items: Vec<Item>) {
    if items.is_empty() {
        return;
    }
    script.then();
    let (mut dropped, mut touched) = (Vec::new(), HashSet::new());
    for item in items {
        match item {
            Item::Drop { item_id } => dropped.push(item_id),
            Item::Track(_) => {}
            other => settle(script, scope, other, &mut touched),
        }
    }
    if dropped.iter().any(|item_id| touched.contains(item_id)) {
        script.then();
    }
    for some in dropped.chunks(ROWS) {
        let gone = Statement::new("DELETE FROM inbound WHERE mailbox_id = ? AND item_id").bind(scope.mailbox);
        script.add(gone.one_of(Type::Text, some));
    }
    script.then();
}

/// What is in quarantine already stays as it is.
fn settle(script: &mut Script, scope: &Scope, item: Item, touched: &mut HashSet<String>) {
    let (set, item_id) = match item {
        Item::Track(_) | Item::Drop { .. } => return,
        Item::Again { item_id, reason } => (failed("", reason), item_id),
        Item::Quarantine { item_id, reason } => {
            tell_failed(script, scope, &item_id, reason);
            (failed("state = 'quarantined', search_key = NULL, ", reason), item_id)
        }
        Item::Move { item_id, reason, search_key } => {
            tell_failed(script, scope, &item_id, reason);
            (failed("state = 'moving', search_key = ?, ", reason).first(search_key), item_id)
        }
        Item::Moved { item_id, moved_id } => {
            make_room(script, scope, &item_id, &moved_id);
            let moved = Statement::new(
                "UPDATE inbound SET state = 'quarantined', moved = TRUE, search_key = NULL, item_id = ?",
            );
            touched.insert(moved_id.clone());
            (moved.bind(moved_id), item_id)
        }
    };
    if !touched.insert(item_id.clone()) {
        script.then();
    }
    let of = set.push(WAITS).push(" AND item_id = ").value(item_id);
    script.add(of.push(" AND mailbox_id = ").value(scope.mailbox));
}

fn failed(before: &str, reason: Reason) -> Statement {
    let text = Statement::new("UPDATE inbound SET ").push(before);
    text.push("attempts = attempts + 1, reason = ?").bind(reason)
}

/// What stands under the id that an item gets by its move gives way to it.
fn make_room(script: &mut Script, scope: &Scope, item_id: &str, moved_id: &str) {
    let room = Statement::new(
        "DELETE FROM inbound WHERE mailbox_id = ? AND item_id = ? AND item_id <> ?
           AND EXISTS (SELECT 1 FROM inbound o
                       WHERE o.mailbox_id = ? AND o.item_id = ? AND o.state <> 'quarantined')",
    );
    let room = room.bind(scope.mailbox).bind(moved_id).bind(item_id).bind(scope.mailbox).bind(item_id);
    script.then();
    script.add(room);
    script.then();
}

/// An item that nobody knows to have failed raises an alert; its move, or a second look at it, raises no other.
fn tell_failed(script: &mut Script, scope: &Scope, item_id: &str, reason: Reason) {
    let regarding = Regarding::Mailbox(scope.mailbox);
    let fact = Fact { regarding, what: What::Quarantined(reason), at: scope.at };
    let told = Statement::new(
        "INSERT INTO fact(org, text, at)
         SELECT org, ?, ? FROM inbound WHERE state = 'seen' AND item_id = ? AND mailbox_id = ?",
    );
    script.add(told.bind(fact.to_string()).bind(scope.at).bind(item_id).bind(scope.mailbox));
}

/// Stores the machine's part, and the health that follows from it; the counts move with the health.
pub(super) fn keep(script: &mut Script, scope: &Scope, kept: &Kept) {
    let health = kept.health();
    let [incoming, outgoing, act] = kept.operations;
    let changed = Statement::new(
        "UPDATE mailbox SET (kept, wanted_seen, test_done, polls_done, health, incoming_state, outgoing_state,
           act_state, incoming_reason, outgoing_reason, act_reason) = (?,?,?,?,?,?,?,?,?,?,?) WHERE mailbox_id = ?",
    );
    let changed = changed
        .bind(kept.to_string())
        .bind(kept.wanted_seen)
        .bind(kept.test_done)
        .bind(kept.polls_done)
        .bind(health.word())
        .bind(incoming.state.word())
        .bind(outgoing.state.word())
        .bind(act.state.word())
        .bind(incoming.reason)
        .bind(outgoing.reason)
        .bind(act.reason);
    script.add(changed.bind(scope.mailbox));
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

fn keep_cycle(scope: &Scope, cycle: &Cycle) -> Statement {
    let kept = Statement::new(
        "INSERT INTO cycle(mailbox_id, slot, number, org, operation, start, duration, items, outcome, reason)
         VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (mailbox_id, slot) DO UPDATE SET number = excluded.number,
           operation = excluded.operation, start = excluded.start, duration = excluded.duration,
           items = excluded.items, outcome = excluded.outcome, reason = excluded.reason",
    );
    kept.bind(scope.mailbox)
        .bind(scope.cycles % CYCLES as u64)
        .bind(scope.cycles)
        .bind(&scope.org)
        .bind(cycle.operation.word())
        .bind(cycle.start)
        .bind(cycle.duration)
        .bind(cycle.items)
        .bind(cycle.outcome)
        .bind(cycle.reason)
}

fn read_cycle(row: &impl Columns) -> Result<Cycle> {
    let outcome = row.text("outcome")?;
    Ok(Cycle {
        operation: row.word("operation")?,
        start: row.time("start")?,
        duration: row.duration("duration")?,
        items: row.small("items")?,
        outcome: OUTCOMES
            .into_iter()
            .find(|known| *known == outcome)
            .ok_or_else(|| Error::Corrupt(format!("there is no outcome {outcome} of a cycle")))?,
        reason: row.maybe_word("reason")?,
    })
}
