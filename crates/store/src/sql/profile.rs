//! Profiles.

use mailyard_policy::{
    Reason,
    id::{self, Org, ProfileId, Revision},
    operation::Direction,
    outbox::Capabilities,
};

use super::{
    Backend, Columns, Script, Session, Statement, Type, count,
    credentials::{self, select_profiles},
};
use crate::{
    Error, Result,
    people::{Profile, Secrets},
    query::fold,
};

pub(super) async fn create<B: Backend>(
    store: &B,
    profile: &Profile,
    secrets: &Secrets,
    set_default: bool,
) -> Result<Profile> {
    let mut tx = store.begin_people().await?;
    refuse_taken_name(&mut tx, profile).await?;
    let made = Statement::new(
        "INSERT INTO profile(display_name, name_key, description, incoming_url, outgoing_url, ca_pem,
           process_email_from, minimum_interval, max_connections, idle_max, move_failed, alert_owner, owner_email,
           request_deadline, streaming, credential_source, lanes, profile_id, org, create_time, revision)
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,1)",
    );
    let made = bind_settings(made, profile).bind(profile.id).bind(&profile.org).bind(profile.create_time);
    tx.run(made).await?;
    credentials::keep_all(&mut tx, store.key(), profile, secrets).await?;
    if set_default {
        make_default(&mut tx, profile).await?;
    }
    committed(tx, profile.id).await
}

pub(super) async fn change<B: Backend>(
    store: &B,
    profile: &Profile,
    secrets: &Secrets,
    set_default: bool,
) -> Result<Profile> {
    let mut tx = store.begin_people().await?;
    let before = fetch(&mut tx, profile.id).await?.filter(|found| found.org == profile.org);
    let before =
        before.ok_or_else(|| Error::refused(Reason::ResourceNotFound, "there is no such profile"))?;
    if before.revision != profile.revision {
        return Err(Error::refused(
            Reason::EtagMismatch,
            format!("the profile is at revision {} and not {}", before.revision, profile.revision),
        ));
    }
    refuse_taken_name(&mut tx, profile).await?;
    let changed = Statement::new(
        "UPDATE profile SET display_name=?, name_key=?, description=?, incoming_url=?, outgoing_url=?, ca_pem=?,
           process_email_from=?, minimum_interval=?, max_connections=?, idle_max=?,
           move_failed=?, alert_owner=?, owner_email=?, request_deadline=?, streaming=?, credential_source=?,
           lanes=?, revision=revision+1
         WHERE profile_id=?",
    );
    tx.run(bind_settings(changed, profile).bind(profile.id)).await?;
    credentials::keep_all(&mut tx, store.key(), profile, secrets).await?;
    if before.outgoing_url != profile.outgoing_url {
        forget_capabilities(&mut tx, profile.id).await?;
    }
    if before.credential_source != profile.credential_source {
        tell_mailboxes(&mut tx, profile.id).await?;
    }
    if before.lanes != profile.lanes {
        spread_over_lanes(&mut tx, profile, before.lanes).await?;
    }
    if set_default {
        make_default(&mut tx, profile).await?;
    }
    committed(tx, profile.id).await
}

pub(super) async fn find<B: Backend>(store: &B, id: ProfileId) -> Result<Option<Profile>> {
    let found = Statement::new(select_profiles!("WHERE p.profile_id = ?")).bind(id);
    store.read_one(found).await?.as_ref().map(read).transpose()
}

pub(super) async fn find_named<B: Backend>(store: &B, org: &Org, name: &str) -> Result<Option<Profile>> {
    let found = Statement::new(select_profiles!("WHERE org = ? AND name_key = ?")).bind(org).bind(fold(name));
    store.read_one(found).await?.as_ref().map(read).transpose()
}

pub(super) async fn list<B: Backend>(store: &B, org: Option<&Org>) -> Result<Vec<Profile>> {
    let mut query = Statement::new(select_profiles!(""));
    if let Some(org) = org {
        query = query.push("WHERE org = ").value(org);
    }
    store.read(query.push(" ORDER BY name_key, org")).await?.iter().map(read).collect()
}

async fn committed<S: Session>(mut tx: S, id: ProfileId) -> Result<Profile> {
    let profile = fetch(&mut tx, id).await?;
    tx.commit().await?;
    profile.ok_or_else(|| Error::Corrupt("a profile is gone that was just written".to_owned()))
}

/// What the mailboxes of a profile may do follows from it too.
async fn tell_mailboxes<S: Session>(tx: &mut S, id: ProfileId) -> Result<()> {
    let told =
        Statement::new("UPDATE mailbox SET wanted_revision = wanted_revision + 1 WHERE profile_id = ?");
    tx.run(told.bind(id)).await?;
    Ok(())
}

/// Another server sends in its own way.
async fn forget_capabilities<S: Session>(tx: &mut S, id: ProfileId) -> Result<()> {
    let forgotten = Statement::new(
        "UPDATE profile SET consumes_draft = NULL, checks_change_key = NULL, moved_id_dies = NULL WHERE profile_id = ?",
    );
    tx.run(forgotten.bind(id)).await?;
    Ok(())
}

/// The profile of new mailboxes that name none.
async fn make_default<S: Session>(tx: &mut S, profile: &Profile) -> Result<()> {
    let made = Statement::new(
        "UPDATE org SET default_profile = ?, revision = revision + 1
         WHERE org = ? AND default_profile IS DISTINCT FROM ?",
    );
    tx.run(made.bind(profile.id).bind(&profile.org).bind(profile.id)).await?;
    Ok(())
}

fn bind_settings(statement: Statement, profile: &Profile) -> Statement {
    statement
        .bind(&profile.display_name)
        .bind(fold(&profile.display_name))
        .bind(&profile.description)
        .bind(&profile.incoming_url)
        .bind(&profile.outgoing_url)
        .bind(&profile.ca_pem)
        .bind(profile.process_email_from)
        .bind(profile.minimum_interval)
        .bind(profile.max_connections)
        .bind(profile.idle_max)
        .bind(profile.move_failed)
        .bind(profile.alert_owner)
        .bind(&profile.owner_email)
        .bind(profile.request_deadline)
        .bind(profile.streaming)
        .bind(profile.credential_source.word())
        .bind(profile.lanes)
}

async fn refuse_taken_name<S: Session>(tx: &mut S, profile: &Profile) -> Result<()> {
    let taken = Statement::new("SELECT 1 FROM profile WHERE org = ? AND name_key = ? AND profile_id <> ?");
    let taken = taken.bind(&profile.org).bind(fold(&profile.display_name)).bind(profile.id);
    if tx.row(taken).await?.is_none() {
        return Ok(());
    }
    let detail = format!("another profile is called {:?}", profile.display_name);
    Err(Error::refused_field(Reason::ResourceAlreadyExists, "profile.display_name", detail))
}

/// Gives the mailboxes of a profile their lanes and shards anew. A mailbox that moves loses its fence: its old holder
/// can write no more, and the holder of the new shard claims it.
async fn spread_over_lanes<S: Session>(tx: &mut S, profile: &Profile, lanes_before: u16) -> Result<()> {
    let all = Statement::new(
        "SELECT mailbox_id, shard_id, health FROM mailbox WHERE profile_id = ? ORDER BY mailbox_id",
    );
    let (mut deltas, mut moved) = (count::Deltas::default(), Vec::new());
    for row in tx.rows(all.bind(profile.id).lock()).await? {
        let mailbox = id::MailboxId::from_bytes(row.bytes("mailbox_id")?);
        let (old, new) = (row.small("shard_id")?, id::shard(profile.id, mailbox, profile.lanes).get());
        if old == new && id::lane(mailbox, lanes_before) == id::lane(mailbox, profile.lanes) {
            continue;
        }
        deltas.add(old, profile.id, row.word("health")?, -1);
        deltas.add(new, profile.id, row.word("health")?, 1);
        moved.push(vec![mailbox.into(), new.into(), id::HASH_VERSION.into()]);
    }
    let mut script = Script::default();
    script.insert(
        "WITH v(id, shard, version) AS (",
        &[Type::Id, Type::Number, Type::Number],
        moved,
        |row| row,
        ") UPDATE mailbox SET shard_id = v.shard, hash_version = v.version, fence = 0, fence_nonce = NULL
         FROM v WHERE mailbox_id = v.id",
    );
    tx.script(script).await?;
    deltas.store(tx).await
}

async fn fetch<S: Session>(tx: &mut S, id: ProfileId) -> Result<Option<Profile>> {
    let found = Statement::new(select_profiles!("WHERE p.profile_id = ?")).bind(id);
    tx.row(found).await?.as_ref().map(read).transpose()
}

fn read(row: &impl Columns) -> Result<Profile> {
    Ok(Profile {
        id: ProfileId::from_bytes(row.bytes("profile_id")?),
        org: Org(row.text("org")?),
        display_name: row.text("display_name")?,
        description: row.text("description")?,
        incoming_url: row.maybe_text("incoming_url")?,
        outgoing_url: row.maybe_text("outgoing_url")?,
        credentials: credentials::read(row, Direction::Incoming)?
            .ok_or_else(|| Error::Corrupt("a profile has no credentials".to_owned()))?,
        outgoing_credentials: credentials::read(row, Direction::Outgoing)?,
        ca_pem: row.maybe_text("ca_pem")?,
        process_email_from: row.maybe_time("process_email_from")?,
        minimum_interval: row.duration("minimum_interval")?,
        max_connections: row.small("max_connections")?,
        idle_max: row.duration("idle_max")?,
        move_failed: row.flag("move_failed")?,
        alert_owner: row.flag("alert_owner")?,
        owner_email: row.maybe_text("owner_email")?,
        request_deadline: row.maybe_duration("request_deadline")?,
        streaming: row.flag("streaming")?,
        credential_source: row.word("credential_source")?,
        lanes: row.small("lanes")?,
        capabilities: Capabilities {
            consumes_draft: row.flag_at("consumes_draft")?,
            checks_change_key: row.flag_at("checks_change_key")?,
            moved_id_dies: row.flag_at("moved_id_dies")?,
        },
        create_time: row.time("create_time")?,
        revision: Revision(row.number("revision")?),
    })
}
