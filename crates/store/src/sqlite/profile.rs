//! Profiles on SQLite.

use std::time::Duration;

use mailyard_policy::{
    Reason,
    id::{self, Org, ProfileId, Revision},
    operation::Direction,
    outbox::Capabilities,
};
use sqlx::{
    Row as _, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    SqliteStore, Tx, commit, count,
    credentials::{self, select_profiles},
    rows::{Columns as _, Key as _, duration_millis, millis},
};
use crate::{
    Error, Result,
    people::{Profile, Secrets},
    query::fold,
};

impl SqliteStore {
    pub(super) async fn insert_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        let mut tx = self.begin().await?;
        refuse_taken_name(&mut tx, profile).await?;
        let query = sqlx::query(
            "INSERT INTO profile(display_name, name_key, description, incoming_url, outgoing_url, ca_pem,
               process_email_from, minimum_interval, max_connections, idle_max, move_failed, alert_owner, owner_email,
               request_deadline, streaming, credential_source, lanes, profile_id, org, create_time, revision)
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,1)",
        );
        bind_settings(query, profile)
            .bind(profile.id.key())
            .bind(&profile.org.0)
            .bind(profile.create_time.as_millis())
            .execute(&mut *tx)
            .await?;
        self.keep_credentials(&mut tx, profile, secrets).await?;
        if set_default {
            make_default(&mut tx, profile).await?;
        }
        self.committed_profile(tx, profile.id).await
    }

    pub(super) async fn change_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        let mut tx = self.begin().await?;
        let before = fetch_profile(&mut tx, profile.id).await?.filter(|found| found.org == profile.org);
        let before =
            before.ok_or_else(|| Error::refused(Reason::ResourceNotFound, "there is no such profile"))?;
        if before.revision != profile.revision {
            return Err(Error::refused(
                Reason::EtagMismatch,
                format!("the profile is at revision {} and not {}", before.revision, profile.revision),
            ));
        }
        refuse_taken_name(&mut tx, profile).await?;
        let query = sqlx::query(
            "UPDATE profile SET display_name=?, name_key=?, description=?, incoming_url=?, outgoing_url=?, ca_pem=?,
               process_email_from=?, minimum_interval=?, max_connections=?, idle_max=?,
               move_failed=?, alert_owner=?, owner_email=?, request_deadline=?, streaming=?, credential_source=?,
               lanes=?, revision=revision+1
             WHERE profile_id=?",
        );
        bind_settings(query, profile).bind(profile.id.key()).execute(&mut *tx).await?;
        self.keep_credentials(&mut tx, profile, secrets).await?;
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
        self.committed_profile(tx, profile.id).await
    }

    pub(super) async fn find_profile(&self, id: ProfileId) -> Result<Option<Profile>> {
        let row = sqlx::query(select_profiles!("WHERE p.profile_id = ?"))
            .bind(id.key())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read_profile).transpose()
    }

    pub(super) async fn find_profile_named(&self, org: &Org, name: &str) -> Result<Option<Profile>> {
        let row = sqlx::query(select_profiles!("WHERE org = ? AND name_key = ?"))
            .bind(&org.0)
            .bind(fold(name))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read_profile).transpose()
    }

    pub(super) async fn list_profiles(&self, org: Option<&Org>) -> Result<Vec<Profile>> {
        let rows = sqlx::query(select_profiles!("WHERE ?1 IS NULL OR org = ?1 ORDER BY name_key, org"))
            .bind(org.map(|org| &org.0))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read_profile).collect()
    }

    async fn committed_profile(&self, mut tx: Tx, id: ProfileId) -> Result<Profile> {
        let profile = fetch_profile(&mut tx, id).await?;
        commit(tx).await?;
        profile.ok_or_else(|| Error::Corrupt("a profile is gone that was just written".to_owned()))
    }
}

/// What the mailboxes of a profile may do follows from it too.
async fn tell_mailboxes(tx: &mut Tx, id: ProfileId) -> Result<()> {
    sqlx::query("UPDATE mailbox SET wanted_revision = wanted_revision + 1 WHERE profile_id = ?")
        .bind(id.key())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Another server sends in its own way.
async fn forget_capabilities(tx: &mut Tx, id: ProfileId) -> Result<()> {
    sqlx::query(
        "UPDATE profile SET consumes_draft = NULL, checks_change_key = NULL, moved_id_dies = NULL WHERE profile_id = ?",
    )
    .bind(id.key())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The profile of new mailboxes that name none.
async fn make_default(tx: &mut Tx, profile: &Profile) -> Result<()> {
    sqlx::query(
        "UPDATE org SET default_profile = ?1, revision = revision + 1 WHERE org = ?2 AND default_profile IS NOT ?1",
    )
    .bind(profile.id.key())
    .bind(&profile.org.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bind_settings<'q>(query: Bound<'q>, profile: &Profile) -> Bound<'q> {
    query
        .bind(&profile.display_name)
        .bind(fold(&profile.display_name))
        .bind(&profile.description)
        .bind(&profile.incoming_url)
        .bind(&profile.outgoing_url)
        .bind(&profile.ca_pem)
        .bind(millis(profile.process_email_from))
        .bind(duration_millis(profile.minimum_interval))
        .bind(i64::from(profile.max_connections))
        .bind(duration_millis(profile.idle_max))
        .bind(profile.move_failed)
        .bind(profile.alert_owner)
        .bind(&profile.owner_email)
        .bind(profile.request_deadline.map(duration_millis))
        .bind(profile.streaming)
        .bind(profile.credential_source.word())
        .bind(i64::from(profile.lanes))
}

async fn refuse_taken_name(tx: &mut Tx, profile: &Profile) -> Result<()> {
    let taken = sqlx::query("SELECT 1 FROM profile WHERE org = ? AND name_key = ? AND profile_id <> ?")
        .bind(&profile.org.0)
        .bind(fold(&profile.display_name))
        .bind(profile.id.key())
        .fetch_optional(&mut **tx)
        .await?;
    if taken.is_none() {
        return Ok(());
    }
    let detail = format!("another profile is called {:?}", profile.display_name);
    Err(Error::refused_field(Reason::ResourceAlreadyExists, "profile.display_name", detail))
}

/// Gives the mailboxes of a profile their lanes and shards anew. A mailbox that moves loses its fence: its old holder
/// can write no more, and the holder of the new shard claims it.
async fn spread_over_lanes(tx: &mut Tx, profile: &Profile, lanes_before: u16) -> Result<()> {
    let rows = sqlx::query("SELECT mailbox_id, shard_id, health FROM mailbox WHERE profile_id = ?")
        .bind(profile.id.key())
        .fetch_all(&mut **tx)
        .await?;
    let mut deltas = count::Deltas::default();
    for row in &rows {
        let mailbox = id::MailboxId::from_bytes(row.bytes("mailbox_id")?);
        let (old, new) =
            (row.try_get::<u16, _>("shard_id")?, id::shard(profile.id, mailbox, profile.lanes).get());
        if old == new && id::lane(mailbox, lanes_before) == id::lane(mailbox, profile.lanes) {
            continue;
        }
        deltas.add(old, profile.id, row.word("health")?, -1);
        deltas.add(new, profile.id, row.word("health")?, 1);
        sqlx::query(
            "UPDATE mailbox SET shard_id=?, hash_version=?, fence=0, fence_nonce=NULL WHERE mailbox_id=?",
        )
        .bind(i64::from(new))
        .bind(i64::from(id::HASH_VERSION))
        .bind(mailbox.key())
        .execute(&mut **tx)
        .await?;
    }
    deltas.store(tx).await
}

async fn fetch_profile(tx: &mut Tx, id: ProfileId) -> Result<Option<Profile>> {
    let row = sqlx::query(select_profiles!("WHERE p.profile_id = ?"))
        .bind(id.key())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read_profile).transpose()
}

fn read_profile(row: &SqliteRow) -> Result<Profile> {
    let millis = |name| row.number(name).map(Duration::from_millis);
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
        minimum_interval: millis("minimum_interval")?,
        max_connections: row.try_get("max_connections")?,
        idle_max: millis("idle_max")?,
        move_failed: row.flag("move_failed")?,
        alert_owner: row.flag("alert_owner")?,
        owner_email: row.maybe_text("owner_email")?,
        request_deadline: row
            .try_get::<Option<i64>, _>("request_deadline")?
            .map(|millis| Duration::from_millis(millis.unsigned_abs())),
        streaming: row.flag("streaming")?,
        credential_source: row.word("credential_source")?,
        lanes: row.try_get("lanes")?,
        capabilities: Capabilities {
            consumes_draft: row.try_get("consumes_draft")?,
            checks_change_key: row.try_get("checks_change_key")?,
            moved_id_dies: row.try_get("moved_id_dies")?,
        },
        create_time: row.time("create_time")?,
        revision: Revision(row.number("revision")?),
    })
}
