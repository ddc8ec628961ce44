//! What people want: settings, and the door to profiles, mailboxes and tests.

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, OperationId, Org, ProfileId, Revision},
    operation::{Direction, Kind},
    profile::Account,
};
use secrecy::SecretString;

use super::{
    Backend, Columns, Session, Statement, account, commit, connection_test, count, credentials, mailbox,
    profile,
    rows::{methods, methods_text},
    test_run,
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
impl<B: Backend> People for B {
    async fn settings(&self, org: &Org) -> Result<Settings> {
        let found = self.read_one(Statement::new("SELECT * FROM org WHERE org = ?").bind(org)).await?;
        read_settings(&found.ok_or_else(|| unknown_org(org))?)
    }

    async fn update_settings(&self, org: &Org, settings: &Settings) -> Result<Settings> {
        let mut tx = self.begin_people().await?;
        let found = tx.row(Statement::new("SELECT * FROM org WHERE org = ?").bind(org).lock()).await?;
        let before = read_settings(&found.ok_or_else(|| unknown_org(org))?)?;
        if before.revision != settings.revision {
            let detail =
                format!("the settings are at revision {} and not {}", before.revision, settings.revision);
            return Err(Error::refused(Reason::EtagMismatch, detail));
        }
        if let Some(profile) = settings.default_profile {
            let known = Statement::new("SELECT 1 FROM profile WHERE org = ? AND profile_id = ?");
            tx.row(known.bind(org).bind(profile)).await?.ok_or_else(|| {
                let detail = format!("there is no profile {profile}");
                Error::refused_field(Reason::ResourceNotFound, "settings.default_profile", detail)
            })?;
        }
        let revision = Revision(before.revision.0 + 1);
        let changed = Statement::new(
            "UPDATE org SET default_profile=?, default_methods=?, approve_users=?, approve_queues=?, revision=?
             WHERE org=?",
        );
        let changed = changed
            .bind(settings.default_profile)
            .bind(methods_text(settings.default_methods))
            .bind(settings.approve_users)
            .bind(settings.approve_queues)
            .bind(revision)
            .bind(org);
        tx.run(changed).await?;
        // Whether approval is needed is part of what each of these mailboxes' holders reads.
        for (kind, changed) in [
            ("user", before.approve_users != settings.approve_users),
            ("queue", before.approve_queues != settings.approve_queues),
        ] {
            if changed {
                let told = Statement::new(
                    "UPDATE mailbox SET wanted_revision = wanted_revision + 1 WHERE org = ? AND kind = ?",
                );
                tx.run(told.bind(org).bind(kind)).await?;
            }
        }
        tx.commit().await?;
        Ok(Settings { revision, ..settings.clone() })
    }

    async fn create_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        profile::create(self, profile, secrets, set_default).await
    }

    async fn update_profile(
        &self,
        profile: &Profile,
        secrets: &Secrets,
        set_default: bool,
    ) -> Result<Profile> {
        profile::change(self, profile, secrets, set_default).await
    }

    async fn profile(&self, id: ProfileId) -> Result<Option<Profile>> {
        profile::find(self, id).await
    }

    async fn profile_named(&self, org: &Org, name: &str) -> Result<Option<Profile>> {
        profile::find_named(self, org, name).await
    }

    async fn profiles(&self, org: Option<&Org>) -> Result<Vec<Profile>> {
        profile::list(self, org).await
    }

    async fn secret(&self, profile: &Profile, direction: Direction) -> Result<Option<SecretString>> {
        credentials::open(self, profile, direction).await
    }

    async fn keep_connection_test(&self, profile: ProfileId, test: &ConnectionTest) -> Result<()> {
        connection_test::keep(self, profile, test).await
    }

    async fn connection_test(&self, profile: ProfileId) -> Result<Option<ConnectionTest>> {
        connection_test::last(self, profile).await
    }

    async fn create_mailboxes(&self, org: &Org, rows: &[NewMailbox], at: Timestamp) -> Result<()> {
        mailbox::create(self, org, rows, at).await
    }

    async fn update_mailbox(
        &self,
        set: &NewMailbox,
        account: &AccountChange,
        revision: Revision,
    ) -> Result<Mailbox> {
        mailbox::change(self, set, account, revision).await
    }

    async fn account_secret(&self, mailbox: MailboxId, account: &Account) -> Result<SecretString> {
        account::open(self, mailbox, account).await
    }

    async fn mailbox(&self, id: MailboxId) -> Result<Option<Mailbox>> {
        mailbox::find(self, id).await
    }

    async fn mailbox_at(&self, org: &Org, address: &str) -> Result<Option<Mailbox>> {
        mailbox::find_at(self, org, address).await
    }

    async fn mailboxes(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Mailbox>> {
        mailbox::list(self, org, filter, page).await
    }

    async fn count_mailboxes(&self, org: &Org, filter: &Filter) -> Result<u64> {
        mailbox::matching(self, org, filter).await
    }

    async fn decide_approval(
        &self,
        org: &Org,
        selection: &Selection,
        approval: Approval,
        at: Timestamp,
    ) -> Result<u64> {
        mailbox::approve(self, org, selection, approval, at).await
    }

    async fn cycles(&self, mailbox: MailboxId) -> Result<Vec<Cycle>> {
        commit::stored_cycles(self, mailbox).await
    }

    async fn want_polls(&self, org: &Org, selection: &Selection) -> Result<WantedPolls> {
        mailbox::wish_polls(self, org, selection).await
    }

    async fn start_test(
        &self,
        org: &Org,
        id: OperationId,
        selection: &Selection,
        description: &str,
        at: Timestamp,
    ) -> Result<LongOperation> {
        test_run::begin(self, org, id, selection, description, at).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<LongOperation>> {
        test_run::find(self, id).await
    }

    async fn operations(&self, org: &Org, live: bool, page: &Page) -> Result<Vec<LongOperation>> {
        test_run::list(self, org, live, page).await
    }

    async fn live_operations(&self, limit: u32) -> Result<Vec<LongOperation>> {
        test_run::list_live(self, limit).await
    }

    async fn operation_results(&self, id: OperationId, skip: u64, limit: u32) -> Result<Vec<TestItem>> {
        test_run::ended_items(self, id, skip, limit).await
    }

    async fn advance_test(
        &self,
        lead: &Leadership,
        id: OperationId,
        limit: u32,
        held: &[ProfileId],
    ) -> Result<u64> {
        test_run::hand_out(self, lead, id, limit, held).await
    }

    async fn unended_tests(&self, id: OperationId) -> Result<Vec<UnendedTests>> {
        test_run::unended_by_profile(self, id).await
    }

    async fn set_operation_state(
        &self,
        lead: &Leadership,
        id: OperationId,
        state: LongState,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<()> {
        test_run::change(self, lead, id, state, reason, at).await
    }

    async fn health_counts(&self) -> Result<Vec<HealthCount>> {
        count::stored(self).await
    }

    async fn recount_health(&self) -> Result<Vec<HealthCount>> {
        count::counted_anew(self).await
    }

    async fn failing_reasons(&self, profile: ProfileId) -> Result<Vec<(Reason, u64)>> {
        mailbox::reasons_of(self, profile).await
    }

    async fn operation_counts(&self, org: &Org) -> Result<Vec<(Kind, String, Option<Reason>, u64)>> {
        mailbox::counts_by_state(self, org).await
    }
}

fn unknown_org(org: &Org) -> Error {
    Error::refused(Reason::ResourceNotFound, format!("there is no organization {org}"))
}

fn read_settings(row: &impl Columns) -> Result<Settings> {
    Ok(Settings {
        default_profile: row.maybe_bytes("default_profile")?.map(ProfileId::from_bytes),
        default_methods: methods("default_methods", row.str("default_methods")?)?,
        approve_users: row.flag("approve_users")?,
        approve_queues: row.flag("approve_queues")?,
        revision: Revision(row.number("revision")?),
    })
}
