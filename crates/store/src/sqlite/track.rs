//! Items that become, or join, records: one batch, few statements.

use std::collections::{HashMap, HashSet};

use mailyard_policy::{
    Timestamp,
    alert::{Fact, Regarding, What},
    id::RecordId,
    tracking::{Identity, Known, MessageKey, identify},
};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{
    Tx, blob,
    commit::Scope,
    rows::{Columns as _, Key as _, lines, millis},
};
use crate::{Result, holder::Tracked, query::fold};

/// Items of one round: a record binds 22 values, and SQLite takes 32,766.
const BATCH: usize = 500;

/// What tracking did.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) new: u32,
    pub(super) joined: u32,
}

/// A record and what it was identified by.
type Candidates = HashMap<MessageKey, Vec<(Known, RecordId)>>;

/// Stores records, sightings, bodies and events, and takes the items out of `inbound`. Returns facts to be told.
pub(super) async fn store(
    tx: &mut Tx,
    scope: &Scope,
    mut items: Vec<Tracked>,
) -> Result<(Counts, Vec<Fact>)> {
    let (mut counts, mut facts) = (Counts::default(), Vec::new());
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(BATCH));
        store_batch(tx, scope, items, &mut counts, &mut facts).await?;
        items = rest;
    }
    Ok((counts, facts))
}

async fn store_batch(
    tx: &mut Tx,
    scope: &Scope,
    items: Vec<Tracked>,
    counts: &mut Counts,
    facts: &mut Vec<Fact>,
) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|item| item.item_id.clone()).collect();
    let mut sighted = already_sighted(tx, scope, &ids).await?;
    let mut candidates = candidates(tx, scope, &items).await?;
    let (mut records, mut sightings, mut unused) = (Vec::new(), Vec::new(), Vec::new());
    for mut item in items {
        if !sighted.insert(item.item_id.clone()) {
            unused.push(item.body);
            continue;
        }
        let known = candidates.entry(item.key).or_default();
        let heads: Vec<Known> = known.iter().map(|(known, _)| known.clone()).collect();
        match identify(&heads, &item.head) {
            Identity::Same(discriminator) => {
                let same = known.iter().find(|(known, _)| known.discriminator == discriminator);
                item.record = same.map_or(item.record, |(_, record)| *record);
                sightings.push(Sighting::of(&item, "sighted"));
                unused.push(item.body);
                counts.joined += 1;
            }
            Identity::New(discriminator) => {
                let head = &item.head;
                known.push((Known { discriminator, from: head.from.clone(), sent: head.sent }, item.record));
                if discriminator > 0 {
                    let regarding = Regarding::Email(item.record);
                    facts.push(Fact { regarding, what: What::MessageIdReused, at: scope.at });
                }
                sightings.push(Sighting::of(&item, "created"));
                records.push((item, discriminator));
                counts.new += 1;
            }
        }
    }
    blob::drop_uploads(tx, unused).await?;
    let hashes = blob::store(tx, &scope.org, records.iter().map(|(item, _)| &item.body)).await?;
    insert_records(tx, scope, &records, &hashes).await?;
    insert_sightings(tx, scope, &sightings).await?;
    link(tx, scope, records.iter().map(|(item, _)| item)).await?;
    leave_inbound(tx, scope, &ids).await
}

struct Sighting {
    record: RecordId,
    item_id: String,
    change_key: String,
    received: Timestamp,
    event: &'static str,
}

impl Sighting {
    fn of(item: &Tracked, event: &'static str) -> Self {
        let (item_id, change_key) = (item.item_id.clone(), item.change_key.clone());
        Self { record: item.record, item_id, change_key, received: item.received, event }
    }
}

async fn already_sighted(tx: &mut Tx, scope: &Scope, ids: &[String]) -> Result<HashSet<String>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT item_id FROM sighting WHERE mailbox_id = ");
    query.push_bind(scope.mailbox.key()).push(" AND item_id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.clone());
    }
    let rows = query.push(")").build().fetch_all(&mut **tx).await?;
    rows.iter().map(|row| row.text("item_id")).collect()
}

/// Stored records of the items' keys.
async fn candidates(tx: &mut Tx, scope: &Scope, items: &[Tracked]) -> Result<Candidates> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT message_key, discriminator, record_id, from_address, sent_time FROM record
         WHERE direction = 'incoming' AND org = ",
    );
    query.push_bind(scope.org.0.clone()).push(" AND message_key IN (");
    let mut list = query.separated(", ");
    for item in items {
        list.push_bind(item.key.key());
    }
    let mut found = Candidates::new();
    for row in query.push(")").build().fetch_all(&mut **tx).await? {
        let known = Known {
            discriminator: row.try_get("discriminator")?,
            from: row.text("from_address")?,
            sent: row.maybe_time("sent_time")?,
        };
        let record = RecordId::from_bytes(row.bytes("record_id")?);
        found.entry(MessageKey::from_bytes(row.bytes("message_key")?)).or_default().push((known, record));
    }
    Ok(found)
}

async fn insert_records(
    tx: &mut Tx,
    scope: &Scope,
    records: &[(Tracked, u32)],
    hashes: &[[u8; 32]],
) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO record(record_id, org, direction, message_key, discriminator, state, mailbox_id,
           internet_message_id, message_id_key, subject, subject_key, from_address, from_key, to_addresses, to_key,
           cc_addresses, in_reply_to, thread, sent_time, received_time, size, blob_hash, create_time) ",
    );
    query.push_values(records.iter().zip(hashes), |mut values, ((item, discriminator), hash)| {
        let (head, to) = (&item.head, lines(&item.head.to));
        values
            .push_bind(item.record.key())
            .push_bind(scope.org.0.clone())
            .push("'incoming'")
            .push_bind(item.key.key())
            .push_bind(i64::from(*discriminator))
            .push("'received'")
            .push_bind(scope.mailbox.key())
            .push_bind(head.message_id.clone())
            .push_bind(head.message_id.as_deref().map(fold))
            .push_bind(head.subject.clone())
            .push_bind(fold(&head.subject))
            .push_bind(head.from.clone())
            .push_bind(fold(&head.from))
            .push_bind(to.clone())
            .push_bind(fold(&to))
            .push_bind(lines(&head.cc))
            .push_bind(head.in_reply_to.clone())
            .push_bind((!head.references.is_empty()).then(|| lines(&head.references)))
            .push_bind(millis(head.sent))
            .push_bind(item.received.as_millis())
            .push_bind(i64::try_from(item.size).unwrap_or(i64::MAX))
            .push_bind(hash.to_vec())
            .push_bind(scope.at.as_millis());
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

async fn insert_sightings(tx: &mut Tx, scope: &Scope, sightings: &[Sighting]) -> Result<()> {
    if sightings.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO sighting(mailbox_id, item_id, record_id, org, change_key, received) ",
    );
    query.push_values(sightings, |mut values, sighting| {
        values
            .push_bind(scope.mailbox.key())
            .push_bind(sighting.item_id.clone())
            .push_bind(sighting.record.key())
            .push_bind(scope.org.0.clone())
            .push_bind(sighting.change_key.clone())
            .push_bind(sighting.received.as_millis());
    });
    query.build().execute(&mut **tx).await?;
    add_events(tx, scope, sightings.iter().map(|sighting| (sighting.record, sighting.event))).await
}

/// Tells of changes of records; they get their positions later.
pub(super) async fn add_events(
    tx: &mut Tx,
    scope: &Scope,
    events: impl Iterator<Item = (RecordId, &'static str)>,
) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO event(org, record_id, change, at) ");
    query.push_values(events, |mut values, (record, change)| {
        values
            .push_bind(scope.org.0.clone())
            .push_bind(record.key())
            .push_bind(change)
            .push_bind(scope.at.as_millis());
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Links a record with the sending whose copy it is, if that sending is ours.
async fn link(tx: &mut Tx, scope: &Scope, items: impl Iterator<Item = &Tracked>) -> Result<()> {
    for item in items {
        let Some(sending) = item.sending else { continue };
        let sending = RecordId::from_bytes(sending.to_bytes());
        let done = sqlx::query(
            "UPDATE record SET linked = coalesce(linked, ?)
             WHERE record_id = ? AND org = ? AND direction = 'outgoing'",
        )
        .bind(item.record.key())
        .bind(sending.key())
        .bind(&scope.org.0)
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 0 {
            continue;
        }
        sqlx::query("UPDATE record SET linked = ? WHERE record_id = ?")
            .bind(sending.key())
            .bind(item.record.key())
            .execute(&mut **tx)
            .await?;
        add_events(tx, scope, [(item.record, "linked"), (sending, "linked")].into_iter()).await?;
    }
    Ok(())
}

async fn leave_inbound(tx: &mut Tx, scope: &Scope, ids: &[String]) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM inbound WHERE mailbox_id = ");
    query.push_bind(scope.mailbox.key()).push(" AND item_id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.clone());
    }
    query.push(")").build().execute(&mut **tx).await?;
    Ok(())
}
