//! What people want, on SQLite: settings, and the door to profiles, mailboxes and tests.

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, OperationId, Org, ProfileId, Revision},
    operation::{Direction, Kind},
    profile::Account,
};
use secrecy::SecretString;
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteStore, commit,
    rows::{Columns as _, Key as _, methods, methods_text},
};
use crate::{
    Error, Result,
    fleet::Leadership,
    holder::Cycle,
    people::{
        AccountChange, Approval, ConnectionTest, HealthCount, LongOperation, LongState, Mailbox, NewMailbox,
        People, Profile, Secrets, Selection, Settings, TestItem, UnendedTests, WantedPolls,
    },
    query::{Filter, Page},
};

#[async_trait]
impl People for SqliteStore {
    async fn settings(&self, org: &Org) -> Result<Settings> {
        let row = sqlx::query("SELECT * FROM org WHERE org = ?")
            .bind(&org.0)
            .fetch_optional(&self.readers)
            .await?
            .ok_or_else(|| unknown_org(org))?;
        read_settings(&row)
    }

    async fn update_settings(&self, org: &Org, settings: &Settings) -> Result<Settings> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT * FROM org WHERE org = ?")
            .bind(&org.0)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| unknown_org(org))?;
        let before = read_settings(&row)?;
        if before.revision != settings.revision {
            let detail =
                format!("the settings are at revision {} and not {}", before.revision, settings.revision);
            return Err(Error::refused(Reason::EtagMismatch, detail));
        }
        if let Some(profile) = settings.default_profile {
            let known = sqlx::query("SELECT 1 FROM profile WHERE org = ? AND profile_id = ?")
                .bind(&org.0)
                .bind(profile.key())
                .fetch_optional(&mut *tx)
                .await?;
            known.ok_or_else(|| {
                let detail = format!("there is no profile {profile}");
                Error::refused_field(Reason::ResourceNotFound, "settings.default_profile", detail)
            })?;
        }
        let revision = Revision(before.revision.0 + 1);
        sqlx::query(
            "UPDATE org SET default_profile=?, default_methods=?, approve_users=?, approve_queues=?, revision=?
             WHERE org=?",
        )
        .bind(settings.default_profile.map(|profile| profile.key()))
        .bind(methods_text(settings.default_methods))
        .bind(settings.approve_users)
        .bind(settings.approve_queues)
        .bind(revision.0 as i64)
        .bind(&org.0)
        .execute(&mut *tx)
        .await?;
        // Whether approval is needed is part of what each of these mailboxes' holders reads.
        for (kind, changed) in [
            ("user", before.approve_users != settings.approve_users),
            ("queue", before.approve_queues != settings.approve_queues),
        ] {
            if changed {
                sqlx::query(
                    "UPDATE mailbox SET wanted_revision = wanted_revision + 1 WHERE org = ? AND kind = ?",
                )
                .bind(&org.0)
                .bind(kind)
                .execute(&mut *tx)
                .await?;
            }
        }
        commit(tx).await?;
        Ok(Settings { revision, ..settings.clone() })
    }

    async fn create_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        self.insert_profile(profile, secrets, set_default).await
    }

    async fn update_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        self.change_profile(profile, secrets, set_default).await
    }

    async fn profile(&self, id: ProfileId) -> Result<Option<Profile>> {
        self.find_profile(id).await
    }

    async fn profile_named(&self, org: &Org, name: &str) -> Result<Option<Profile>> {
        self.find_profile_named(org, name).await
    }

    async fn profiles(&self, org: Option<&Org>) -> Result<Vec<Profile>> {
        self.list_profiles(org).await
    }

    async fn secret(&self, profile: &Profile, direction: Direction) -> Result<Option<SecretString>> {
        self.open_secret(profile, direction).await
    }

    async fn keep_connection_test(&self, profile: ProfileId, test: &ConnectionTest) -> Result<()> {
        self.store_connection_test(profile, test).await
    }

    async fn connection_test(&self, profile: ProfileId) -> Result<Option<ConnectionTest>> {
        self.last_connection_test(profile).await
    }

    async fn create_mailboxes(&self, org: &Org, rows: &[NewMailbox], at: Timestamp) -> Result<()> {
        self.insert_mailboxes(org, rows, at).await
    }

    async fn update_mailbox(
        &self,
        set: &NewMailbox,
        account: &AccountChange,
        revision: Revision,
    ) -> Result<Mailbox> {
        self.change_mailbox(set, account, revision).await
    }

    async fn account_secret(&self, mailbox: MailboxId, account: &Account) -> Result<SecretString> {
        self.open_account(mailbox, account).await
    }

    async fn mailbox(&self, id: MailboxId) -> Result<Option<Mailbox>> {
        self.find_mailbox(id).await
    }

    async fn mailbox_at(&self, org: &Org, address: &str) -> Result<Option<Mailbox>> {
        self.find_mailbox_at(org, address).await
    }

    async fn mailboxes(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Mailbox>> {
        self.list_mailboxes(org, filter, page).await
    }

    async fn count_mailboxes(&self, org: &Org, filter: &Filter) -> Result<u64> {
        self.matching(org, filter).await
    }

    async fn decide_approval(
        &self,
        org: &Org,
        selection: &Selection,
        approval: Approval,
        at: Timestamp,
    ) -> Result<u64> {
        self.approve(org, selection, approval, at).await
    }

    async fn cycles(&self, mailbox: MailboxId) -> Result<Vec<Cycle>> {
        self.stored_cycles(mailbox).await
    }

    async fn want_polls(&self, org: &Org, selection: &Selection) -> Result<WantedPolls> {
        self.wish_polls(org, selection).await
    }

    async fn start_test(
        &self,
        org: &Org,
        id: OperationId,
        selection: &Selection,
        description: &str,
        at: Timestamp,
    ) -> Result<LongOperation> {
        self.begin_test(org, id, selection, description, at).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<LongOperation>> {
        self.find_operation(id).await
    }

    async fn operations(&self, org: &Org, live: bool, page: &Page) -> Result<Vec<LongOperation>> {
        self.list_operations(org, live, page).await
    }

    async fn live_operations(&self, limit: u32) -> Result<Vec<LongOperation>> {
        self.list_live_operations(limit).await
    }

    async fn operation_results(&self, id: OperationId, skip: u64, limit: u32) -> Result<Vec<TestItem>> {
        self.ended_items(id, skip, limit).await
    }

    async fn advance_test(
        &self,
        lead: &Leadership,
        id: OperationId,
        limit: u32,
        held: &[ProfileId],
    ) -> Result<u64> {
        self.hand_out_tests(lead, id, limit, held).await
    }

    async fn unended_tests(&self, id: OperationId) -> Result<Vec<UnendedTests>> {
        self.unended_by_profile(id).await
    }

    async fn set_operation_state(
        &self,
        lead: &Leadership,
        id: OperationId,
        state: LongState,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<()> {
        self.change_operation(lead, id, state, reason, at).await
    }

    async fn health_counts(&self) -> Result<Vec<HealthCount>> {
        self.stored_counts().await
    }

    async fn recount_health(&self) -> Result<Vec<HealthCount>> {
        self.counted_anew().await
    }

    async fn failing_reasons(&self, profile: ProfileId) -> Result<Vec<(Reason, u64)>> {
        self.reasons_of(profile).await
    }

    async fn operation_counts(&self, org: &Org) -> Result<Vec<(Kind, String, Option<Reason>, u64)>> {
        self.counts_by_state(org).await
    }
}

fn unknown_org(org: &Org) -> Error {
    Error::refused(Reason::ResourceNotFound, format!("there is no organization {org}"))
}

fn read_settings(row: &SqliteRow) -> Result<Settings> {
    Ok(Settings {
        default_profile: row.maybe_bytes("default_profile")?.map(ProfileId::from_bytes),
        default_methods: methods("default_methods", &row.text("default_methods")?)?,
        approve_users: row.flag("approve_users")?,
        approve_queues: row.flag("approve_queues")?,
        revision: Revision(row.number("revision")?),
    })
}
