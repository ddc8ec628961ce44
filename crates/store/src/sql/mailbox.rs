//! Mailboxes as people set and see them.

use std::collections::{HashMap, HashSet};

use mailyard_policy::{
    Reason, Timestamp,
    id::{self, MailboxId, OperationId, Org, ProfileId, Revision, ShardId, WorkerId},
    mailbox::Kept,
    operation::{Health, Kind, Method, Operation, State},
};

use super::{
    Backend, Columns, Script, Session, Statement, Type, account,
    count::Deltas,
    filter,
    rows::{methods, methods_text},
    test_run::{self, hindrance},
};
use crate::{
    Error, Result,
    people::{AccountChange, Approval, Hindered, Mailbox, MailboxKind, NewMailbox, Selection, WantedPolls},
    query::{Filter, Page, fold},
};

const COLUMNS: &str =
    "SELECT m.*, s.owner_id AS worker, a.user_name AS account_user, a.secret_revision AS account_revision
   FROM mailbox m JOIN shard s USING (shard_id) LEFT JOIN account a USING (mailbox_id)";

/// Addresses of one question: SQLite takes 32,766 values.
const ADDRESSES: usize = 1000;

/// Makes a poll wanted of a mailbox `m`; what follows says of which.
macro_rules! wish_poll {
    () => {
        "UPDATE mailbox AS m SET polls_wanted = polls_wanted + 1, wanted_revision = wanted_revision + 1 WHERE "
    };
}

pub(super) async fn create<B: Backend>(
    store: &B,
    org: &Org,
    rows: &[NewMailbox],
    at: Timestamp,
) -> Result<()> {
    let mut tx = store.begin_people().await?;
    refuse_taken_addresses(&mut tx, org, rows).await?;
    let lanes = lanes(&mut tx, org).await?;
    let (mut deltas, mut shards) = (Deltas::default(), Vec::with_capacity(rows.len()));
    for (n, row) in rows.iter().enumerate() {
        let shard = place(&lanes, row, &format!("rows[{n}].profile"))?;
        if let Some(profile) = row.profile {
            deltas.add(shard.get(), profile, Health::NotEligible, 1);
        }
        shards.push(shard);
    }
    let mut script = Script::default();
    insert(&mut script, org, rows, &shards, at);
    tx.script(script).await?;
    deltas.store(&mut tx).await?;
    tx.commit().await
}

pub(super) async fn change<B: Backend>(
    store: &B,
    set: &NewMailbox,
    account: &AccountChange,
    revision: Revision,
) -> Result<Mailbox> {
    let mut tx = store.begin_people().await?;
    tx.lock("mailbox WHERE mailbox_id = ?", set.id.into()).await?;
    let before = fetch(&mut tx, set.id).await?;
    let before =
        before.ok_or_else(|| Error::refused(Reason::ResourceNotFound, "there is no such mailbox"))?;
    if before.revision != revision {
        let detail = format!("the mailbox is at revision {} and not {revision}", before.revision);
        return Err(Error::refused(Reason::EtagMismatch, detail));
    }
    let another_address = fold(&before.set.address) != fold(&set.address);
    if another_address {
        let taken = taken(&mut tx, &before.org, std::slice::from_ref(set)).await?;
        if !taken.is_empty() {
            let detail = format!("another mailbox has the address {}", set.address);
            return Err(Error::refused_field(Reason::ResourceAlreadyExists, "mailbox.address", detail));
        }
    }
    let lanes = lanes(&mut tx, &before.org).await?;
    let shard = place(&lanes, set, "mailbox.profile")?;
    let approval = if another_address { Approval::Pending } else { before.approval };
    update(&mut tx, set, shard, approval).await?;
    match account {
        AccountChange::Keep => {}
        AccountChange::Forget => account::forget(&mut tx, set.id).await?,
        AccountChange::Set { user, password } => {
            account::keep(&mut tx, store.key(), (&before.org, set.id), user, password).await?;
        }
    }
    if set.profile.is_none() {
        test_run::take_wishes_back(&mut tx, set.id).await?;
    }
    move_count(&mut tx, &before, set.profile, shard).await?;
    let after = fetch(&mut tx, set.id).await?;
    tx.commit().await?;
    after.ok_or_else(|| Error::Corrupt("a mailbox is gone that was just written".to_owned()))
}

pub(super) async fn find<B: Backend>(store: &B, id: MailboxId) -> Result<Option<Mailbox>> {
    let found = Statement::new(COLUMNS).push(" WHERE m.mailbox_id = ").value(id);
    store.read_one(found).await?.as_ref().map(read).transpose()
}

pub(super) async fn find_at<B: Backend>(store: &B, org: &Org, address: &str) -> Result<Option<Mailbox>> {
    let found = Statement::new(COLUMNS).push(" WHERE m.org = ").value(org);
    let found = found.push(" AND m.address_key = ").value(fold(address));
    store.read_one(found).await?.as_ref().map(read).transpose()
}

pub(super) async fn list<B: Backend>(
    store: &B,
    org: &Org,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Mailbox>> {
    let mut query = Statement::new(COLUMNS).push(" WHERE m.org = ").value(org);
    if let Some(after) = &page.after {
        query = query.push(" AND m.address_key > ").value(after);
    }
    query.add(" AND ");
    filter::push(&mut query, filter::MAILBOXES, filter)?;
    let query = query.push(" ORDER BY m.address_key LIMIT ").value(page.limit);
    store.read(query).await?.iter().map(read).collect()
}

pub(super) async fn matching<B: Backend>(store: &B, org: &Org, filter: &Filter) -> Result<u64> {
    let mut query =
        Statement::new("SELECT count(*) AS n FROM mailbox m WHERE m.org = ").value(org).push(" AND ");
    filter::push(&mut query, filter::MAILBOXES, filter)?;
    store.read_one(query).await?.map_or(Ok(0), |row| row.number("n"))
}

pub(super) async fn approve<B: Backend>(
    store: &B,
    org: &Org,
    selection: &Selection,
    approval: Approval,
    at: Timestamp,
) -> Result<u64> {
    let mut tx = store.begin_people().await?;
    let mut query = Statement::new(
        "UPDATE mailbox AS m SET approval = ?, approval_time = ?, revision = revision + 1,
           wanted_revision = wanted_revision + 1 WHERE m.approval <> ? AND ",
    );
    query = query.bind(approval.word()).bind(at).bind(approval.word());
    push_selection(&mut tx, &mut query, org, selection).await?;
    let changed = tx.run(query).await?;
    tx.commit().await?;
    Ok(changed)
}

pub(super) async fn wish_polls<B: Backend>(
    store: &B,
    org: &Org,
    selection: &Selection,
) -> Result<WantedPolls> {
    let mut tx = store.begin_people().await?;
    let mut query = Statement::new(concat!(
        "SELECT m.mailbox_id, m.address, ",
        hindrance!(),
        " AS hindrance FROM mailbox m WHERE "
    ));
    push_selection(&mut tx, &mut query, org, selection).await?;
    let mut polls = WantedPolls::default();
    for row in tx.rows(query.push(" ORDER BY m.address_key").lock()).await? {
        let mailbox = MailboxId::from_bytes(row.bytes("mailbox_id")?);
        match row.maybe_word("hindrance")? {
            Some(reason) => {
                polls.refused.push(Hindered { mailbox, address: row.text("address")?, reason });
            }
            None => polls.wanted.push(mailbox),
        }
    }
    let mut query = Statement::new(concat!(wish_poll!(), hindrance!(), " IS NULL AND "));
    push_selection(&mut tx, &mut query, org, selection).await?;
    tx.run(query).await?;
    tx.commit().await?;
    Ok(polls)
}

pub(super) async fn reasons_of<B: Backend>(store: &B, profile: ProfileId) -> Result<Vec<(Reason, u64)>> {
    let reasons = Statement::new(
        "SELECT reason, count(DISTINCT mailbox_id) AS n FROM (
           SELECT mailbox_id, incoming_reason AS reason FROM mailbox
             WHERE profile_id = ? AND incoming_state IN ('retrying', 'disabled')
           UNION ALL SELECT mailbox_id, outgoing_reason FROM mailbox
             WHERE profile_id = ? AND outgoing_state IN ('retrying', 'disabled')
           UNION ALL SELECT mailbox_id, act_reason FROM mailbox
             WHERE profile_id = ? AND act_state IN ('retrying', 'disabled')) AS r
         WHERE reason IS NOT NULL GROUP BY reason ORDER BY n DESC, reason",
    );
    let rows = store.read(reasons.bind(profile).bind(profile).bind(profile)).await?;
    rows.iter().map(|row| Ok((row.word("reason")?, row.number("n")?))).collect()
}

pub(super) async fn counts_by_state<B: Backend>(
    store: &B,
    org: &Org,
) -> Result<Vec<(Kind, String, Option<Reason>, u64)>> {
    let counts = Statement::new(
        "SELECT 'incoming' AS kind, incoming_state AS state, incoming_reason AS reason, count(*) AS n
           FROM mailbox WHERE org = ? GROUP BY 2, 3
         UNION ALL SELECT 'outgoing', outgoing_state, outgoing_reason, count(*)
           FROM mailbox WHERE org = ? GROUP BY 2, 3
         UNION ALL SELECT 'act', act_state, act_reason, count(*) FROM mailbox WHERE org = ? GROUP BY 2, 3",
    );
    let rows = store.read(counts.bind(org).bind(org).bind(org)).await?;
    let count = |row: &B::Row| {
        Ok((row.word("kind")?, row.text("state")?, row.maybe_word("reason")?, row.number("n")?))
    };
    rows.iter().map(count).collect()
}

/// Makes a poll wanted.
pub(super) async fn wish_poll<S: Session>(tx: &mut S, id: MailboxId) -> Result<()> {
    tx.run(Statement::new(concat!(wish_poll!(), "m.mailbox_id = ?")).bind(id)).await?;
    Ok(())
}

/// Writes the condition of a selection of mailboxes `m`. An address that does not exist is refused.
pub(super) async fn push_selection<S: Session>(
    tx: &mut S,
    query: &mut Statement,
    org: &Org,
    selection: &Selection,
) -> Result<()> {
    match selection {
        Selection::Addresses(addresses) => {
            query.add("m.mailbox_id");
            query.add_one_of(Type::Id, at_addresses(tx, org, addresses).await?);
        }
        Selection::Matching(wanted) => {
            query.add("m.org = ");
            query.add_value(org);
            query.add(" AND ");
            filter::push(query, filter::MAILBOXES, wanted)?;
        }
    }
    Ok(())
}

async fn at_addresses<S: Session>(tx: &mut S, org: &Org, addresses: &[String]) -> Result<Vec<MailboxId>> {
    let mut ids = Vec::with_capacity(addresses.len());
    let mut known = HashMap::new();
    for some in addresses.chunks(ADDRESSES) {
        let found =
            Statement::new("SELECT mailbox_id, address_key FROM mailbox WHERE org = ? AND address_key");
        let found = found.bind(org).one_of(Type::Text, some.iter().map(|address| fold(address)));
        for row in tx.rows(found).await? {
            known.insert(row.text("address_key")?, MailboxId::from_bytes(row.bytes("mailbox_id")?));
        }
    }
    for (at, address) in addresses.iter().enumerate() {
        let id = known.get(&fold(address)).ok_or_else(|| {
            let detail = format!("there is no mailbox {address}");
            Error::refused_field(Reason::ResourceNotFound, format!("addresses[{at}]"), detail)
        })?;
        ids.push(*id);
    }
    Ok(ids)
}

async fn fetch<S: Session>(tx: &mut S, id: MailboxId) -> Result<Option<Mailbox>> {
    let found = Statement::new(COLUMNS).push(" WHERE m.mailbox_id = ").value(id);
    tx.row(found).await?.as_ref().map(read).transpose()
}

async fn lanes<S: Session>(tx: &mut S, org: &Org) -> Result<HashMap<ProfileId, u16>> {
    let rows =
        tx.rows(Statement::new("SELECT profile_id, lanes FROM profile WHERE org = ?").bind(org)).await?;
    rows.iter()
        .map(|row| Ok((ProfileId::from_bytes(row.bytes("profile_id")?), row.small("lanes")?)))
        .collect()
}

/// The shard of a mailbox. Those without a profile stand together where nobody's profile is.
fn place(lanes: &HashMap<ProfileId, u16>, set: &NewMailbox, field: &str) -> Result<ShardId> {
    let Some(profile) = set.profile else { return Ok(id::shard(ProfileId::new(0), set.id, 1)) };
    let lanes = lanes.get(&profile).ok_or_else(|| {
        Error::refused_field(Reason::ResourceNotFound, field, format!("there is no profile {profile}"))
    })?;
    Ok(id::shard(profile, set.id, *lanes))
}

async fn refuse_taken_addresses<S: Session>(tx: &mut S, org: &Org, rows: &[NewMailbox]) -> Result<()> {
    let mut known = HashSet::new();
    for (part, batch) in rows.chunks(ADDRESSES).enumerate() {
        let taken = taken(tx, org, batch).await?;
        for (n, row) in batch.iter().enumerate() {
            let key = fold(&row.address);
            let place = if taken.contains(&key) { "there is already" } else { "the rows name twice" };
            if taken.contains(&key) || !known.insert(key) {
                let field = format!("rows[{}].address", part * ADDRESSES + n);
                let detail = format!("{place} the mailbox {}", row.address);
                return Err(Error::refused_field(Reason::ResourceAlreadyExists, field, detail));
            }
        }
    }
    Ok(())
}

/// Those of the rows' addresses that the store has, folded.
async fn taken<S: Session>(tx: &mut S, org: &Org, rows: &[NewMailbox]) -> Result<HashSet<String>> {
    let found = Statement::new("SELECT address_key FROM mailbox WHERE org = ? AND address_key");
    let found = found.bind(org).one_of(Type::Text, rows.iter().map(|row| fold(&row.address)));
    tx.rows(found).await?.iter().map(|row| row.text("address_key")).collect()
}

/// What a mailbox shows before its first holder has applied what is wanted.
fn untouched(methods: [Method; 3]) -> [Operation; 3] {
    methods.map(|method| {
        let state = if method == Method::None { State::Off } else { State::Untested };
        Operation { method, state, ..Operation::default() }
    })
}

/// What a mailbox shows while what is kept of it cannot be understood.
fn set_aside(methods: [Method; 3]) -> [Operation; 3] {
    untouched(methods).map(|operation| match operation.state {
        State::Off => operation,
        _ => Operation { state: State::Disabled, reason: Some(Reason::MailboxStateUnreadable), ..operation },
    })
}

fn insert(script: &mut Script, org: &Org, rows: &[NewMailbox], shards: &[ShardId], at: Timestamp) {
    script.insert(
        "INSERT INTO mailbox(mailbox_id, org, address, address_key, display_name, name_key, kind, profile_id, methods,
           owner_email, owner_key, crm_id, crm_key, process_email_from, approval, create_time, revision, shard_id,
           hash_version, incoming_state, outgoing_state, act_state) ",
        NEW_MAILBOX,
        rows.iter().zip(shards),
        |(row, shard)| {
            let [incoming, outgoing, act] = untouched(row.methods).map(|operation| operation.state.word());
            vec![
                row.id.into(),
                org.into(),
                (&row.address).into(),
                fold(&row.address).into(),
                (&row.display_name).into(),
                fold(&row.display_name).into(),
                row.kind.word().into(),
                row.profile.into(),
                methods_text(row.methods).into(),
                (&row.owner_email).into(),
                row.owner_email.as_deref().map(fold).into(),
                (&row.crm_id).into(),
                row.crm_id.as_deref().map(fold).into(),
                row.process_email_from.into(),
                Approval::Pending.word().into(),
                at.into(),
                1_i64.into(),
                (*shard).into(),
                id::HASH_VERSION.into(),
                incoming.into(),
                outgoing.into(),
                act.into(),
            ]
        },
        "",
    );
}

const NEW_MAILBOX: &[Type] = {
    use Type::{Id, Number, Text};
    &[
        Id, Text, Text, Text, Text, Text, Text, Id, Text, Text, Text, Text, Text, Number, Text, Number,
        Number, Number, Number, Text, Text, Text,
    ]
};

/// Another shard or profile takes the fence away: the old holder can write no more, and the new one claims.
async fn update<S: Session>(tx: &mut S, set: &NewMailbox, shard: ShardId, approval: Approval) -> Result<()> {
    let changed = Statement::new(
        "UPDATE mailbox SET address=?, address_key=?, display_name=?, name_key=?, kind=?, methods=?,
           owner_email=?, owner_key=?, crm_id=?, crm_key=?, process_email_from=?, approval=?,
           fence = CASE WHEN shard_id = ? AND profile_id IS NOT DISTINCT FROM ? THEN fence ELSE 0 END,
           fence_nonce = CASE WHEN shard_id = ? AND profile_id IS NOT DISTINCT FROM ? THEN fence_nonce END,
           shard_id=?, profile_id=?, revision = revision + 1, wanted_revision = wanted_revision + 1
         WHERE mailbox_id=?",
    );
    let changed = changed
        .bind(&set.address)
        .bind(fold(&set.address))
        .bind(&set.display_name)
        .bind(fold(&set.display_name))
        .bind(set.kind.word())
        .bind(methods_text(set.methods))
        .bind(&set.owner_email)
        .bind(set.owner_email.as_deref().map(fold))
        .bind(&set.crm_id)
        .bind(set.crm_id.as_deref().map(fold))
        .bind(set.process_email_from)
        .bind(approval.word());
    let changed = changed.bind(shard).bind(set.profile).bind(shard).bind(set.profile);
    tx.run(changed.bind(shard).bind(set.profile).bind(set.id)).await?;
    Ok(())
}

async fn move_count<S: Session>(
    tx: &mut S,
    before: &Mailbox,
    profile: Option<ProfileId>,
    shard: ShardId,
) -> Result<()> {
    let mut deltas = Deltas::default();
    if let Some(old) = before.set.profile {
        deltas.add(before.shard.get(), old, before.health, -1);
    }
    if let Some(new) = profile {
        deltas.add(shard.get(), new, before.health, 1);
    }
    deltas.store(tx).await
}

fn read(row: &impl Columns) -> Result<Mailbox> {
    let set = NewMailbox {
        id: MailboxId::from_bytes(row.bytes("mailbox_id")?),
        address: row.text("address")?,
        display_name: row.text("display_name")?,
        kind: row.word::<MailboxKind>("kind")?,
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        methods: methods("methods", row.str("methods")?)?,
        owner_email: row.maybe_text("owner_email")?,
        crm_id: row.maybe_text("crm_id")?,
        process_email_from: row.maybe_time("process_email_from")?,
    };
    let operations = match row.maybe_word::<Kept>("kept") {
        Ok(kept) => kept.map_or_else(|| untouched(set.methods), |kept| kept.operations),
        Err(_) => set_aside(set.methods),
    };
    Ok(Mailbox {
        org: Org(row.text("org")?),
        account: account::read(row)?,
        approval: row.word("approval")?,
        health: row.word("health")?,
        operations,
        shard: ShardId::new(row.small("shard_id")?)
            .ok_or_else(|| Error::Corrupt("a mailbox stands in no shard".to_owned()))?,
        worker: row.maybe_text("worker")?.map(WorkerId),
        test_wanted: row.maybe_bytes("test_wanted")?.map(OperationId::from_bytes),
        test_done: row.maybe_bytes("test_done")?.map(OperationId::from_bytes),
        polls_wanted: row.number("polls_wanted")?,
        polls_done: row.number("polls_done")?,
        create_time: row.time("create_time")?,
        revision: Revision(row.number("revision")?),
        set,
    })
}
