//! Items that become, or join, records: what they meet is asked at once, and what becomes of them is written at once.

use std::collections::{HashMap, HashSet};

use mailyard_policy::{
    Timestamp,
    alert::{Fact, Regarding, What},
    id::{MailboxId, RecordId},
    tracking::{Identity, Known, MessageKey, identify},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    Tx,
    blob::{self, Bodies},
    commit::Scope,
    rows::{Columns as _, Key as _, lines, millis},
    script::{ROWS, Script, list},
};
use crate::{Error, Result, holder::Tracked, query::fold};

/// An item, and the hash of its body.
pub(super) struct Arrived {
    item: Tracked,
    hash: [u8; 32],
}

impl Arrived {
    pub(super) fn new(item: Tracked) -> Self {
        Self { hash: blob::hash(&item.body), item }
    }
}

/// What items meet in the store.
#[derive(Default)]
pub(super) struct Met {
    sighted: HashSet<String>,
    records: HashMap<MessageKey, Vec<(Known, RecordId)>>,
    bodies: HashSet<[u8; 32]>,
}

impl Met {
    /// Asks what these items meet; the rows are for [`Met::take`].
    pub(super) fn ask(script: &mut Script, mailbox: MailboxId, items: &[Arrived]) {
        for some in items.chunks(ROWS) {
            let text = script.begin("SELECT 'sighting' AS what, item_id FROM sighting WHERE mailbox_id = ");
            text.push_bind(mailbox.key()).push(" AND item_id IN ");
            list(text, some.iter().map(|arrived| arrived.item.item_id.clone()));
            let text = script.begin(
                "SELECT 'record' AS what, message_key, discriminator, record_id, from_address, sent_time FROM record
                 WHERE direction = 'incoming' AND org = (SELECT org FROM mailbox WHERE mailbox_id = ",
            );
            text.push_bind(mailbox.key()).push(") AND message_key IN ");
            list(text, some.iter().map(|arrived| arrived.item.key.key()));
            let text = script.begin(
                "SELECT 'body' AS what, hash FROM blob
                 WHERE org = (SELECT org FROM mailbox WHERE mailbox_id = ",
            );
            text.push_bind(mailbox.key()).push(") AND hash IN ");
            list(text, some.iter().map(|arrived| arrived.hash.to_vec()));
        }
    }

    /// Takes a row that was asked for.
    pub(super) fn take(&mut self, row: &SqliteRow) -> Result<()> {
        match row.try_get("what")? {
            "sighting" => _ = self.sighted.insert(row.text("item_id")?),
            "record" => {
                let known = Known {
                    discriminator: row.try_get("discriminator")?,
                    from: row.text("from_address")?,
                    sent: row.maybe_time("sent_time")?,
                };
                let record = RecordId::from_bytes(row.bytes("record_id")?);
                let key = MessageKey::from_bytes(row.bytes("message_key")?);
                self.records.entry(key).or_default().push((known, record));
            }
            "body" => _ = self.bodies.insert(row.bytes("hash")?),
            other => return Err(Error::Corrupt(format!("nobody asked for {other}"))),
        }
        Ok(())
    }
}

/// What becomes of items.
#[derive(Default)]
pub(super) struct Plan {
    /// How many items join a record.
    pub(super) joined: u32,
    /// What is to be told.
    pub(super) facts: Vec<Fact>,
    pub(super) bodies: Bodies,
    records: Vec<NewRecord>,
    sightings: Vec<Sighting>,
    /// What leaves `inbound`.
    ended: Vec<String>,
}

struct NewRecord {
    item: Tracked,
    hash: [u8; 32],
    discriminator: u32,
}

struct Sighting {
    record: RecordId,
    item_id: String,
    change_key: String,
    received: Timestamp,
    event: &'static str,
}

impl Plan {
    /// Decides by what the items meet, each other included.
    pub(super) fn new(at: Timestamp, items: Vec<Arrived>, mut met: Met) -> Self {
        let mut plan = Self::default();
        for arrived in items {
            plan.add(at, arrived, &mut met);
        }
        plan
    }

    fn add(&mut self, at: Timestamp, arrived: Arrived, met: &mut Met) {
        let Arrived { mut item, hash } = arrived;
        self.ended.push(item.item_id.clone());
        if !met.sighted.insert(item.item_id.clone()) {
            return self.bodies.leave(&item.body);
        }
        let known = met.records.entry(item.key).or_default();
        let heads: Vec<Known> = known.iter().map(|(known, _)| known.clone()).collect();
        match identify(&heads, &item.head) {
            Identity::Same(discriminator) => {
                let same = known.iter().find(|(known, _)| known.discriminator == discriminator);
                item.record = same.map_or(item.record, |(_, record)| *record);
                self.sightings.push(Sighting::of(&item, "sighted"));
                self.bodies.leave(&item.body);
                self.joined += 1;
            }
            Identity::New(discriminator) => {
                let head = &item.head;
                known.push((Known { discriminator, from: head.from.clone(), sent: head.sent }, item.record));
                if discriminator > 0 {
                    let regarding = Regarding::Email(item.record);
                    self.facts.push(Fact { regarding, what: What::MessageIdReused, at });
                }
                self.sightings.push(Sighting::of(&item, "created"));
                let is_stored = !met.bodies.insert(hash);
                self.bodies.add(item.record, hash, &item.body, is_stored);
                self.records.push(NewRecord { item, hash, discriminator });
            }
        }
    }

    /// How many items make a new record.
    pub(super) fn new_records(&self) -> u32 {
        self.records.len() as u32
    }

    /// Stores records, sightings, bodies and events, and takes the items out of `inbound`. Returns what is to be
    /// [linked](link).
    pub(super) fn store(self, script: &mut Script, scope: &Scope) -> Vec<Link> {
        self.bodies.store(script, &scope.org);
        insert_records(script, scope, &self.records);
        insert_sightings(script, scope, &self.sightings);
        for some in self.ended.chunks(ROWS) {
            let text = script.begin("DELETE FROM inbound WHERE mailbox_id = ");
            text.push_bind(scope.mailbox.key()).push(" AND item_id IN ");
            list(text, some.iter().cloned());
        }
        let copies =
            self.records.iter().filter_map(|NewRecord { item, .. }| Some((item.record, item.sending?)));
        copies
            .map(|(copy, sending)| Link { copy, sending: RecordId::from_bytes(sending.to_bytes()) })
            .collect()
    }
}

impl Sighting {
    fn of(item: &Tracked, event: &'static str) -> Self {
        let (item_id, change_key) = (item.item_id.clone(), item.change_key.clone());
        Self { record: item.record, item_id, change_key, received: item.received, event }
    }
}

fn insert_records(script: &mut Script, scope: &Scope, records: &[NewRecord]) {
    for some in records.chunks(ROWS) {
        let text = script.begin(
            "INSERT INTO record(record_id, org, direction, message_key, discriminator, state, mailbox_id,
               internet_message_id, message_id_key, subject, subject_key, from_address, from_key, to_addresses, to_key,
               cc_addresses, in_reply_to, thread, sent_time, received_time, size, blob_hash, create_time) ",
        );
        text.push_values(some, |mut values, NewRecord { item, hash, discriminator }| {
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
    }
}

fn insert_sightings(script: &mut Script, scope: &Scope, sightings: &[Sighting]) {
    for some in sightings.chunks(ROWS) {
        let text =
            script.begin("INSERT INTO sighting(mailbox_id, item_id, record_id, org, change_key, received) ");
        text.push_values(some, |mut values, sighting| {
            values
                .push_bind(scope.mailbox.key())
                .push_bind(sighting.item_id.clone())
                .push_bind(sighting.record.key())
                .push_bind(scope.org.0.clone())
                .push_bind(sighting.change_key.clone())
                .push_bind(sighting.received.as_millis());
        });
        add_events(script, scope, some.iter().map(|sighting| (sighting.record, sighting.event)));
    }
}

/// Tells of changes of records; they get their positions later.
fn add_events(script: &mut Script, scope: &Scope, events: impl Iterator<Item = (RecordId, &'static str)>) {
    let text = script.begin("INSERT INTO event(org, record_id, change, at) ");
    text.push_values(events, |mut values, (record, change)| {
        values
            .push_bind(scope.org.0.clone())
            .push_bind(record.key())
            .push_bind(change)
            .push_bind(scope.at.as_millis());
    });
}

/// A new record, and the sending that it says it is the copy of.
pub(super) struct Link {
    copy: RecordId,
    sending: RecordId,
}

/// Links records with the sendings whose copies they are, if these are ours.
pub(super) async fn link(tx: &mut Tx, scope: &Scope, links: Vec<Link>) -> Result<()> {
    for Link { copy, sending } in links {
        let done = sqlx::query(
            "UPDATE record SET linked = coalesce(linked, ?)
             WHERE record_id = ? AND org = ? AND direction = 'outgoing'",
        )
        .bind(copy.key())
        .bind(sending.key())
        .bind(&scope.org.0)
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 0 {
            continue;
        }
        let mut script = Script::default();
        let text = script.begin("UPDATE record SET linked = ").push_bind(sending.key());
        text.push(" WHERE record_id = ").push_bind(copy.key());
        add_events(&mut script, scope, [(copy, "linked"), (sending, "linked")].into_iter());
        script.run(tx).await?;
    }
    Ok(())
}
