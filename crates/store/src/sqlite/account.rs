//! The accounts that mailboxes sign in as themselves, and their passwords, on SQLite.

use mailyard_policy::{
    Reason,
    id::{MailboxId, Org, Revision},
    profile::Account,
};
use secrecy::SecretString;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx,
    rows::{Columns as _, Key as _},
};
use crate::{Error, Result, secret::Envelope};

impl SqliteStore {
    /// The mailbox's row has its new revision already: it numbers the password.
    pub(super) async fn keep_account(
        &self,
        tx: &mut Tx,
        (org, mailbox): (&Org, MailboxId),
        user: &str,
        password: &SecretString,
    ) -> Result<()> {
        let row = sqlx::query("SELECT revision FROM mailbox WHERE mailbox_id = ?")
            .bind(mailbox.key())
            .fetch_one(&mut **tx)
            .await?;
        let revision = row.number("revision")?;
        let envelope = self.key.seal(&place(org, mailbox, revision), password)?;
        sqlx::query(
            "INSERT OR REPLACE INTO account(mailbox_id, org, user_name, secret_revision, key_id, wrapped_key, sealed)
             VALUES (?,?,?,?,?,?,?)",
        )
        .bind(mailbox.key())
        .bind(&org.0)
        .bind(user)
        .bind(revision as i64)
        .bind(envelope.key_id)
        .bind(envelope.wrapped_key)
        .bind(envelope.sealed)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    pub(super) async fn open_account(&self, mailbox: MailboxId, account: &Account) -> Result<SecretString> {
        let row = sqlx::query(
            "SELECT * FROM account WHERE mailbox_id = ? AND user_name = ? AND secret_revision = ?",
        )
        .bind(mailbox.key())
        .bind(&account.user)
        .bind(account.secret_revision.0 as i64)
        .fetch_optional(&self.readers)
        .await?;
        let changed = || Error::refused(Reason::EtagMismatch, "the credentials were changed meanwhile");
        let row = row.ok_or_else(changed)?;
        let envelope = Envelope {
            key_id: row.text("key_id")?,
            wrapped_key: row.try_get("wrapped_key")?,
            sealed: row.try_get("sealed")?,
        };
        let place = place(&Org(row.text("org")?), mailbox, account.secret_revision.0);
        self.key.open(&place, &envelope)
    }
}

/// Where a password stands: what its ciphertext is bound to.
fn place(org: &Org, mailbox: MailboxId, revision: u64) -> String {
    format!("{org}/mailbox/{mailbox}/secret/{revision}")
}

pub(super) async fn forget(tx: &mut Tx, mailbox: MailboxId) -> Result<()> {
    sqlx::query("DELETE FROM account WHERE mailbox_id = ?").bind(mailbox.key()).execute(&mut **tx).await?;
    Ok(())
}

/// What a row says of the mailbox's account, in the columns `account_user` and `account_revision`.
pub(super) fn read(row: &SqliteRow) -> Result<Option<Account>> {
    let Some(user) = row.maybe_text("account_user")? else { return Ok(None) };
    Ok(Some(Account { user, secret_revision: Revision(row.number("account_revision")?) }))
}
