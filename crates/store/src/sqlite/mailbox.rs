//! Mailboxes on SQLite as people set and see them.

use std::collections::{HashMap, HashSet};

use mailyard_policy::{
    Reason, Timestamp,
    id::{self, MailboxId, OperationId, Org, ProfileId, Revision, ShardId, WorkerId},
    mailbox::Kept,
    operation::{Health, Kind, Method, Operation, State},
};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, account, commit,
    count::Deltas,
    filter,
    rows::{Columns as _, Key as _, methods, methods_text, millis},
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
/// Rows of one INSERT: 26 values each, and SQLite takes 32,766.
const BATCH: usize = 500;

/// Makes a poll wanted of a mailbox `m`; what follows says of which.
macro_rules! wish_poll {
    () => {
        "UPDATE mailbox AS m SET polls_wanted = polls_wanted + 1, wanted_revision = wanted_revision + 1 WHERE "
    };
}

impl SqliteStore {
    pub(super) async fn insert_mailboxes(&self, org: &Org, rows: &[NewMailbox], at: Timestamp) -> Result<()> {
        let mut tx = self.begin().await?;
        refuse_taken_addresses(&mut tx, org, rows).await?;
        let lanes = lanes(&mut tx, org).await?;
        let mut deltas = Deltas::default();
        for (part, batch) in rows.chunks(BATCH).enumerate() {
            let mut shards = Vec::with_capacity(batch.len());
            for (n, row) in batch.iter().enumerate() {
                let shard = place(&lanes, row, &format!("rows[{}].profile", part * BATCH + n))?;
                if let Some(profile) = row.profile {
                    deltas.add(shard.get(), profile, Health::NotEligible, 1);
                }
                shards.push(shard);
            }
            insert(&mut tx, org, batch, &shards, at).await?;
        }
        deltas.store(&mut tx).await?;
        commit(tx).await
    }

    pub(super) async fn change_mailbox(
        &self,
        set: &NewMailbox,
        account: &AccountChange,
        revision: Revision,
    ) -> Result<Mailbox> {
        let mut tx = self.begin().await?;
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
        move_count(&mut tx, &before, set.profile, shard).await?;
        match account {
            AccountChange::Keep => {}
            AccountChange::Forget => account::forget(&mut tx, set.id).await?,
            AccountChange::Set { user, password } => {
                self.keep_account(&mut tx, (&before.org, set.id), user, password).await?;
            }
        }
        if set.profile.is_none() {
            test_run::take_wishes_back(&mut tx, set.id).await?;
        }
        let after = fetch(&mut tx, set.id).await?;
        commit(tx).await?;
        after.ok_or_else(|| Error::Corrupt("a mailbox is gone that was just written".to_owned()))
    }

    pub(super) async fn find_mailbox(&self, id: MailboxId) -> Result<Option<Mailbox>> {
        let row = sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE m.mailbox_id = ?")))
            .bind(id.key())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    pub(super) async fn find_mailbox_at(&self, org: &Org, address: &str) -> Result<Option<Mailbox>> {
        let row = sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE m.org = ? AND m.address_key = ?")))
            .bind(&org.0)
            .bind(fold(address))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    pub(super) async fn list_mailboxes(
        &self,
        org: &Org,
        filter: &Filter,
        page: &Page,
    ) -> Result<Vec<Mailbox>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE m.org = ").push_bind(org.0.clone());
        if let Some(after) = &page.after {
            query.push(" AND m.address_key > ").push_bind(after.clone());
        }
        filter::push(query.push(" AND "), filter::MAILBOXES, filter)?;
        query.push(" ORDER BY m.address_key LIMIT ").push_bind(i64::from(page.limit));
        query.build().fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    pub(super) async fn matching(&self, org: &Org, filter: &Filter) -> Result<u64> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) AS n FROM mailbox m WHERE m.org = ");
        query.push_bind(org.0.clone());
        filter::push(query.push(" AND "), filter::MAILBOXES, filter)?;
        query.build().fetch_one(&self.readers).await?.number("n")
    }

    pub(super) async fn approve(
        &self,
        org: &Org,
        selection: &Selection,
        approval: Approval,
        at: Timestamp,
    ) -> Result<u64> {
        let mut tx = self.begin().await?;
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE mailbox AS m SET approval = ");
        query.push_bind(approval.word()).push(", approval_time = ").push_bind(at.as_millis());
        query.push(", revision = revision + 1, wanted_revision = wanted_revision + 1 WHERE m.approval <> ");
        query.push_bind(approval.word()).push(" AND ");
        push_selection(&mut tx, &mut query, org, selection).await?;
        let changed = query.build().execute(&mut *tx).await?.rows_affected();
        commit(tx).await?;
        Ok(changed)
    }

    pub(super) async fn wish_polls(&self, org: &Org, selection: &Selection) -> Result<WantedPolls> {
        let mut tx = self.begin().await?;
        let mut query = QueryBuilder::<Sqlite>::new(concat!(
            "SELECT m.mailbox_id, m.address, ",
            hindrance!(),
            " AS hindrance FROM mailbox m WHERE "
        ));
        push_selection(&mut tx, &mut query, org, selection).await?;
        let rows = query.push(" ORDER BY m.address_key").build().fetch_all(&mut *tx).await?;
        let mut polls = WantedPolls::default();
        for row in &rows {
            let mailbox = MailboxId::from_bytes(row.bytes("mailbox_id")?);
            match row.maybe_word("hindrance")? {
                Some(reason) => {
                    polls.refused.push(Hindered { mailbox, address: row.text("address")?, reason });
                }
                None => polls.wanted.push(mailbox),
            }
        }
        let mut query = QueryBuilder::<Sqlite>::new(concat!(wish_poll!(), hindrance!(), " IS NULL AND "));
        push_selection(&mut tx, &mut query, org, selection).await?;
        query.build().execute(&mut *tx).await?;
        commit(tx).await?;
        Ok(polls)
    }

    pub(super) async fn reasons_of(&self, profile: ProfileId) -> Result<Vec<(Reason, u64)>> {
        let rows = sqlx::query(
            "SELECT reason, count(DISTINCT mailbox_id) AS n FROM (
               SELECT mailbox_id, incoming_reason AS reason FROM mailbox
                 WHERE profile_id = ?1 AND incoming_state IN ('retrying', 'disabled')
               UNION ALL SELECT mailbox_id, outgoing_reason FROM mailbox
                 WHERE profile_id = ?1 AND outgoing_state IN ('retrying', 'disabled')
               UNION ALL SELECT mailbox_id, act_reason FROM mailbox
                 WHERE profile_id = ?1 AND act_state IN ('retrying', 'disabled'))
             WHERE reason IS NOT NULL GROUP BY reason ORDER BY n DESC, reason",
        )
        .bind(profile.key())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((row.word("reason")?, row.number("n")?))).collect()
    }

    pub(super) async fn counts_by_state(
        &self,
        org: &Org,
    ) -> Result<Vec<(Kind, String, Option<Reason>, u64)>> {
        let rows = sqlx::query(
            "SELECT 'incoming' AS kind, incoming_state AS state, incoming_reason AS reason, count(*) AS n
               FROM mailbox WHERE org = ?1 GROUP BY 2, 3
             UNION ALL SELECT 'outgoing', outgoing_state, outgoing_reason, count(*)
               FROM mailbox WHERE org = ?1 GROUP BY 2, 3
             UNION ALL SELECT 'act', act_state, act_reason, count(*) FROM mailbox WHERE org = ?1 GROUP BY 2, 3",
        )
        .bind(&org.0)
        .fetch_all(&self.readers)
        .await?;
        let count = |row: &SqliteRow| {
            Ok((row.word("kind")?, row.text("state")?, row.maybe_word("reason")?, row.number("n")?))
        };
        rows.iter().map(count).collect()
    }
}

/// Makes a poll wanted.
pub(super) async fn wish_poll(tx: &mut Tx, id: MailboxId) -> Result<()> {
    sqlx::query(concat!(wish_poll!(), "m.mailbox_id = ?")).bind(id.key()).execute(&mut **tx).await?;
    Ok(())
}

/// Writes the condition of a selection of mailboxes `m`. An address that does not exist is refused.
pub(super) async fn push_selection(
    tx: &mut Tx,
    query: &mut QueryBuilder<Sqlite>,
    org: &Org,
    selection: &Selection,
) -> Result<()> {
    match selection {
        Selection::Addresses(addresses) => {
            query.push("m.mailbox_id IN (");
            let mut list = query.separated(", ");
            for mailbox in at_addresses(tx, org, addresses).await? {
                list.push_bind(mailbox.key());
            }
            query.push(")");
        }
        Selection::Matching(wanted) => {
            query.push("m.org = ").push_bind(org.0.clone()).push(" AND ");
            filter::push(query, filter::MAILBOXES, wanted)?;
        }
    }
    Ok(())
}

async fn at_addresses(tx: &mut Tx, org: &Org, addresses: &[String]) -> Result<Vec<MailboxId>> {
    let mut ids = Vec::with_capacity(addresses.len());
    for (at, address) in addresses.iter().enumerate() {
        let row = sqlx::query("SELECT mailbox_id FROM mailbox WHERE org = ? AND address_key = ?")
            .bind(&org.0)
            .bind(fold(address))
            .fetch_optional(&mut **tx)
            .await?;
        let row = row.ok_or_else(|| {
            let detail = format!("there is no mailbox {address}");
            Error::refused_field(Reason::ResourceNotFound, format!("addresses[{at}]"), detail)
        })?;
        ids.push(MailboxId::from_bytes(row.bytes("mailbox_id")?));
    }
    Ok(ids)
}

async fn fetch(tx: &mut Tx, id: MailboxId) -> Result<Option<Mailbox>> {
    let row = sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE m.mailbox_id = ?")))
        .bind(id.key())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read).transpose()
}

async fn lanes(tx: &mut Tx, org: &Org) -> Result<HashMap<ProfileId, u16>> {
    let rows = sqlx::query("SELECT profile_id, lanes FROM profile WHERE org = ?")
        .bind(&org.0)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter()
        .map(|row| Ok((ProfileId::from_bytes(row.bytes("profile_id")?), row.try_get("lanes")?)))
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

async fn refuse_taken_addresses(tx: &mut Tx, org: &Org, rows: &[NewMailbox]) -> Result<()> {
    let mut known = HashSet::new();
    for (part, batch) in rows.chunks(BATCH).enumerate() {
        let taken = taken(tx, org, batch).await?;
        for (n, row) in batch.iter().enumerate() {
            let key = fold(&row.address);
            let place = if taken.contains(&key) { "there is already" } else { "the rows name twice" };
            if taken.contains(&key) || !known.insert(key) {
                let field = format!("rows[{}].address", part * BATCH + n);
                let detail = format!("{place} the mailbox {}", row.address);
                return Err(Error::refused_field(Reason::ResourceAlreadyExists, field, detail));
            }
        }
    }
    Ok(())
}

/// Those of the rows' addresses that the store has, folded.
async fn taken(tx: &mut Tx, org: &Org, rows: &[NewMailbox]) -> Result<HashSet<String>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT address_key FROM mailbox WHERE org = ");
    query.push_bind(org.0.clone()).push(" AND address_key IN (");
    let mut list = query.separated(", ");
    for row in rows {
        list.push_bind(fold(&row.address));
    }
    let found = query.push(")").build().fetch_all(&mut **tx).await?;
    found.iter().map(|row| row.text("address_key")).collect()
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

async fn insert(
    tx: &mut Tx,
    org: &Org,
    rows: &[NewMailbox],
    shards: &[ShardId],
    at: Timestamp,
) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO mailbox(mailbox_id, org, address, address_key, display_name, name_key, kind, profile_id, methods,
           owner_email, owner_key, crm_id, crm_key, process_email_from, approval, create_time, revision, shard_id,
           hash_version, incoming_state, outgoing_state, act_state) ",
    );
    query.push_values(rows.iter().zip(shards), |mut values, (row, shard)| {
        let [incoming, outgoing, act] = untouched(row.methods).map(|operation| operation.state.word());
        values
            .push_bind(row.id.key())
            .push_bind(org.0.clone())
            .push_bind(row.address.clone())
            .push_bind(fold(&row.address))
            .push_bind(row.display_name.clone())
            .push_bind(fold(&row.display_name))
            .push_bind(row.kind.word())
            .push_bind(row.profile.map(|profile| profile.key()))
            .push_bind(methods_text(row.methods))
            .push_bind(row.owner_email.clone())
            .push_bind(row.owner_email.as_deref().map(fold))
            .push_bind(row.crm_id.clone())
            .push_bind(row.crm_id.as_deref().map(fold))
            .push_bind(millis(row.process_email_from))
            .push_bind(Approval::Pending.word())
            .push_bind(at.as_millis())
            .push_bind(1_i64)
            .push_bind(i64::from(shard.get()))
            .push_bind(i64::from(id::HASH_VERSION))
            .push_bind(incoming)
            .push_bind(outgoing)
            .push_bind(act);
    });
    query.build().persistent(rows.len() == BATCH).execute(&mut **tx).await?;
    Ok(())
}

/// Another shard or profile takes the fence away: the old holder can write no more, and the new one claims.
async fn update(tx: &mut Tx, set: &NewMailbox, shard: ShardId, approval: Approval) -> Result<()> {
    sqlx::query(
        "UPDATE mailbox SET address=?1, address_key=?2, display_name=?3, name_key=?4, kind=?5, profile_id=?6, methods=?7,
           owner_email=?8, owner_key=?9, crm_id=?10, crm_key=?11, process_email_from=?12, approval=?13, shard_id=?14,
           fence = CASE WHEN shard_id = ?14 AND profile_id IS ?6 THEN fence ELSE 0 END,
           fence_nonce = CASE WHEN shard_id = ?14 AND profile_id IS ?6 THEN fence_nonce END,
           revision = revision + 1, wanted_revision = wanted_revision + 1
         WHERE mailbox_id=?15",
    )
    .bind(&set.address)
    .bind(fold(&set.address))
    .bind(&set.display_name)
    .bind(fold(&set.display_name))
    .bind(set.kind.word())
    .bind(set.profile.map(|profile| profile.key()))
    .bind(methods_text(set.methods))
    .bind(&set.owner_email)
    .bind(set.owner_email.as_deref().map(fold))
    .bind(&set.crm_id)
    .bind(set.crm_id.as_deref().map(fold))
    .bind(millis(set.process_email_from))
    .bind(approval.word())
    .bind(i64::from(shard.get()))
    .bind(set.id.key())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn move_count(tx: &mut Tx, before: &Mailbox, profile: Option<ProfileId>, shard: ShardId) -> Result<()> {
    let mut deltas = Deltas::default();
    if let Some(old) = before.set.profile {
        deltas.add(before.shard.get(), old, before.health, -1);
    }
    if let Some(new) = profile {
        deltas.add(shard.get(), new, before.health, 1);
    }
    deltas.store(tx).await
}

fn read(row: &SqliteRow) -> Result<Mailbox> {
    let set = NewMailbox {
        id: MailboxId::from_bytes(row.bytes("mailbox_id")?),
        address: row.text("address")?,
        display_name: row.text("display_name")?,
        kind: row.word::<MailboxKind>("kind")?,
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        methods: methods("methods", row.try_get("methods")?)?,
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
        shard: ShardId::new(row.try_get("shard_id")?)
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
