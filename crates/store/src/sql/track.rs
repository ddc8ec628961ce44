//! Items that become, or join, records: what they meet is asked at once, and what becomes of them is written at once.

use std::collections::{HashMap, HashSet};

use mailyard_policy::{
    Timestamp,
    alert::{Fact, Regarding, What},
    id::{Org, RecordId},
    tracking::{Identity, Known, MessageKey, identify},
};

use super::{
    Columns, Script, Session, Statement, Type, Value,
    blob::{self, Bodies},
    commit::Scope,
    rows::lines,
    statement::ROWS,
};
use crate::{Error, Result, holder::Tracked, query::fold};

/// How often what others have written meanwhile is looked at, before it is left to another attempt.
const LOOKS: usize = 16;

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

/// By what the store is asked for what items meet.
pub(crate) struct Questions {
    pub(crate) item_ids: Vec<String>,
    pub(crate) keys: Vec<MessageKey>,
    pub(crate) hashes: Vec<[u8; 32]>,
}

impl Questions {
    pub(super) fn of(items: &[Arrived]) -> Self {
        Self {
            item_ids: items.iter().map(|arrived| arrived.item.item_id.clone()).collect(),
            keys: items.iter().map(|arrived| arrived.item.key).collect(),
            hashes: items.iter().map(|arrived| arrived.hash).collect(),
        }
    }
}

/// What items meet in the store.
#[derive(Clone, Default)]
pub(super) struct Met {
    sighted: HashSet<String>,
    records: HashMap<MessageKey, Vec<(Known, RecordId)>>,
    bodies: HashSet<[u8; 32]>,
}

impl Met {
    /// Takes a row that was asked for.
    pub(super) fn take(&mut self, row: &impl Columns) -> Result<()> {
        match row.str("what")? {
            "sighting" => _ = self.sighted.insert(row.text("item_id")?),
            "record" => self.take_record(row)?,
            "body" => _ = self.bodies.insert(row.bytes("hash")?),
            other => return Err(Error::Corrupt(format!("nobody asked for {other}"))),
        }
        Ok(())
    }

    fn take_record(&mut self, row: &impl Columns) -> Result<()> {
        let known = Known {
            discriminator: row.small("discriminator")?,
            from: row.text("from_address")?,
            sent: row.maybe_time("sent_time")?,
        };
        let record = RecordId::from_bytes(row.bytes("record_id")?);
        self.records
            .entry(MessageKey::from_bytes(row.bytes("message_key")?))
            .or_default()
            .push((known, record));
        Ok(())
    }

    /// Asks for records anew: others were faster.
    async fn look_again<S: Session>(&mut self, tx: &mut S, org: &Org, keys: &[MessageKey]) -> Result<()> {
        self.records.clear();
        for some in keys.chunks(ROWS) {
            let records = Statement::new(
                "SELECT message_key, discriminator, record_id, from_address, sent_time FROM record
                 WHERE direction = 'incoming' AND org = ? AND message_key",
            );
            for row in tx.rows(records.bind(org).one_of(Type::Bytes, some.iter().copied())).await? {
                self.take_record(&row)?;
            }
        }
        Ok(())
    }
}

/// What becomes of items.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// How many items join a record.
    pub(super) joined: u32,
    /// What is to be told.
    pub(super) facts: Vec<Fact>,
    bodies: Bodies,
    records: Vec<NewRecord<'a>>,
    sightings: Vec<Sighting<'a>>,
    /// What leaves `inbound`.
    ended: Vec<&'a str>,
}

struct NewRecord<'a> {
    item: &'a Tracked,
    hash: [u8; 32],
    discriminator: u32,
}

struct Sighting<'a> {
    item: &'a Tracked,
    record: RecordId,
    event: &'static str,
}

impl<'a> Plan<'a> {
    /// Decides what becomes of items. Where others may write meanwhile, new records and bodies are made known at once,
    /// in one order for all, and what somebody else has made first is met after all.
    pub(super) async fn settled<S: Session>(
        tx: &mut S,
        scope: &Scope,
        items: &'a [Arrived],
        mut met: Met,
        questions: &Questions,
    ) -> Result<Self> {
        let mut plan = Self::new(scope.at, items, &met);
        if !S::IS_ALONE {
            let mut looks = 0;
            while !plan.make_records(tx, scope).await? {
                looks += 1;
                if looks > LOOKS {
                    return Err(Error::Unavailable("others write the same records all the time".into()));
                }
                met.look_again(tx, &scope.org, &questions.keys).await?;
                plan = Self::new(scope.at, items, &met);
            }
        }
        plan.bodies.settle_uploads(tx).await?;
        if !S::IS_ALONE {
            plan.bodies.give_way(tx, &scope.org).await?;
        }
        Ok(plan)
    }

    /// Decides by what the items meet, each other included.
    fn new(at: Timestamp, items: &'a [Arrived], met: &Met) -> Self {
        let mut plan = Self::default();
        let mut met = met.clone();
        for arrived in items {
            plan.add(at, arrived, &mut met);
        }
        plan.records.sort_by_key(|new| (new.item.key.to_bytes(), new.discriminator));
        plan
    }

    fn add(&mut self, at: Timestamp, arrived: &'a Arrived, met: &mut Met) {
        let Arrived { item, hash } = arrived;
        self.ended.push(&item.item_id);
        if !met.sighted.insert(item.item_id.clone()) {
            return self.bodies.leave(&item.body);
        }
        let known = met.records.entry(item.key).or_default();
        let heads: Vec<Known> = known.iter().map(|(known, _)| known.clone()).collect();
        match identify(&heads, &item.head) {
            Identity::Same(discriminator) => {
                let same = known.iter().find(|(known, _)| known.discriminator == discriminator);
                let record = same.map_or(item.record, |(_, record)| *record);
                self.sightings.push(Sighting { item, record, event: "sighted" });
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
                self.sightings.push(Sighting { item, record: item.record, event: "created" });
                let is_stored = !met.bodies.insert(*hash);
                self.bodies.add(item.record, *hash, &item.body, is_stored);
                self.records.push(NewRecord { item, hash: *hash, discriminator });
            }
        }
    }

    /// How many items make a new record.
    pub(super) fn new_records(&self) -> u32 {
        self.records.len() as u32
    }

    /// Makes the new records; false, and nothing was made, if somebody else was faster with one of them.
    async fn make_records<S: Session>(&self, tx: &mut S, scope: &Scope) -> Result<bool> {
        let mut script = Script::default();
        insert_records(
            &mut script,
            scope,
            &self.records,
            " ON CONFLICT (org, direction, message_key, discriminator) WHERE message_key IS NOT NULL DO NOTHING",
        );
        let mut made = 0;
        for statement in script.rounds.into_iter().flatten() {
            made += tx.run(statement).await?;
        }
        if made == self.records.len() as u64 {
            return Ok(true);
        }
        let ids = self.records.iter().map(|new| new.item.record);
        tx.run(Statement::new("DELETE FROM record WHERE record_id").one_of(Type::Id, ids)).await?;
        Ok(false)
    }

    /// Stores records and bodies if they are not `made` already, sightings and events, and takes the items out of
    /// `inbound`. Returns what is to be [linked](link).
    pub(super) fn store(self, script: &mut Script, scope: &Scope, made: bool) -> Vec<Link> {
        self.bodies.store(script, &scope.org, made);
        if !made {
            insert_records(script, scope, &self.records, "");
        }
        insert_sightings(script, scope, &self.sightings);
        for some in self.ended.chunks(ROWS) {
            let gone =
                Statement::new("DELETE FROM inbound WHERE mailbox_id = ? AND item_id").bind(scope.mailbox);
            script.add(gone.one_of(Type::Text, some.iter().copied()));
        }
        let copies =
            self.records.iter().filter_map(|NewRecord { item, .. }| Some((item.record, item.sending?)));
        copies
            .map(|(copy, sending)| Link { copy, sending: RecordId::from_bytes(sending.to_bytes()) })
            .collect()
    }
}

const RECORD: &[Type] = {
    use Type::{Bytes, Id, Number, Text};
    &[
        Id, Text, Text, Bytes, Number, Text, Id, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text,
        Text, Number, Number, Number, Bytes, Number,
    ]
};

fn insert_records(script: &mut Script, scope: &Scope, records: &[NewRecord], tail: &str) {
    script.insert(
        "INSERT INTO record(record_id, org, direction, message_key, discriminator, state, mailbox_id,
           internet_message_id, message_id_key, subject, subject_key, from_address, from_key, to_addresses, to_key,
           cc_addresses, in_reply_to, thread, sent_time, received_time, size, blob_hash, create_time) ",
        RECORD,
        records,
        |new| record_row(scope, new),
        tail,
    );
}

fn record_row(scope: &Scope, NewRecord { item, hash, discriminator }: &NewRecord) -> Vec<Value> {
    let (head, to) = (&item.head, lines(&item.head.to));
    vec![
        item.record.into(),
        (&scope.org).into(),
        "incoming".into(),
        item.key.into(),
        (*discriminator).into(),
        "received".into(),
        scope.mailbox.into(),
        (&head.message_id).into(),
        head.message_id.as_deref().map(fold).into(),
        (&head.subject).into(),
        fold(&head.subject).into(),
        (&head.from).into(),
        fold(&head.from).into(),
        (&to).into(),
        fold(&to).into(),
        lines(&head.cc).into(),
        (&head.in_reply_to).into(),
        (!head.references.is_empty()).then(|| lines(&head.references)).into(),
        head.sent.into(),
        item.received.into(),
        item.size.into(),
        (*hash).into(),
        scope.at.into(),
    ]
}

fn insert_sightings(script: &mut Script, scope: &Scope, sightings: &[Sighting]) {
    script.insert(
        "INSERT INTO sighting(mailbox_id, item_id, record_id, org, change_key, received) ",
        &[Type::Id, Type::Text, Type::Id, Type::Text, Type::Text, Type::Number],
        sightings,
        |Sighting { item, record, .. }| {
            let (item_id, org, change_key) =
                ((&item.item_id).into(), (&scope.org).into(), (&item.change_key).into());
            vec![scope.mailbox.into(), item_id, (*record).into(), org, change_key, item.received.into()]
        },
        "",
    );
    add_events(script, scope, sightings.iter().map(|sighting| (sighting.record, sighting.event)));
}

/// Tells of changes of records; they get their positions later.
fn add_events(script: &mut Script, scope: &Scope, events: impl Iterator<Item = (RecordId, &'static str)>) {
    script.insert(
        "INSERT INTO event(org, record_id, change, at) ",
        &[Type::Text, Type::Id, Type::Text, Type::Number],
        events,
        |(record, change)| vec![(&scope.org).into(), record.into(), change.into(), scope.at.into()],
        "",
    );
}

/// A new record, and the sending that it says it is the copy of.
pub(super) struct Link {
    copy: RecordId,
    sending: RecordId,
}

/// Links records with the sendings whose copies they are, if these are ours.
pub(super) async fn link<S: Session>(tx: &mut S, scope: &Scope, mut links: Vec<Link>) -> Result<()> {
    links.sort_by_key(|link| link.sending);
    for Link { copy, sending } in links {
        let linked = Statement::new(
            "UPDATE record SET linked = coalesce(linked, ?) WHERE record_id = ? AND org = ? AND direction = 'outgoing'",
        );
        if tx.run(linked.bind(copy).bind(sending).bind(&scope.org)).await? == 0 {
            continue;
        }
        let mut script = Script::default();
        script
            .add(Statement::new("UPDATE record SET linked = ? WHERE record_id = ?").bind(sending).bind(copy));
        add_events(&mut script, scope, [(copy, "linked"), (sending, "linked")].into_iter());
        tx.script(script).await?;
    }
    Ok(())
}
