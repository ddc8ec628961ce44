//! The accounts that mailboxes sign in as themselves, and their passwords.

use mailyard_policy::{
    Reason,
    id::{MailboxId, Org, Revision},
    profile::Account,
};
use secrecy::SecretString;

use super::{Backend, Columns, Session, Statement};
use crate::{Error, MasterKey, Result, secret::Envelope};

/// The mailbox's row has its new revision already: it numbers the password.
pub(super) async fn keep<S: Session>(
    tx: &mut S,
    key: &MasterKey,
    (org, mailbox): (&Org, MailboxId),
    user: &str,
    password: &SecretString,
) -> Result<()> {
    let row =
        tx.the_row(Statement::new("SELECT revision FROM mailbox WHERE mailbox_id = ?").bind(mailbox)).await?;
    let revision = row.number("revision")?;
    let Envelope { key_id, wrapped_key, sealed } = key.seal(&place(org, mailbox, revision), password)?;
    let kept = Statement::new(
        "INSERT INTO account(mailbox_id, org, user_name, secret_revision, key_id, wrapped_key, sealed)
         VALUES (?,?,?,?,?,?,?) ON CONFLICT (mailbox_id) DO UPDATE SET user_name = excluded.user_name,
           secret_revision = excluded.secret_revision, key_id = excluded.key_id,
           wrapped_key = excluded.wrapped_key, sealed = excluded.sealed",
    );
    let kept = kept.bind(mailbox).bind(org).bind(user).bind(revision);
    tx.run(kept.bind(key_id).bind(wrapped_key).bind(sealed)).await?;
    Ok(())
}

pub(super) async fn open<B: Backend>(
    store: &B,
    mailbox: MailboxId,
    account: &Account,
) -> Result<SecretString> {
    let found = Statement::new(
        "SELECT * FROM account WHERE mailbox_id = ? AND user_name = ? AND secret_revision = ?",
    );
    let found = found.bind(mailbox).bind(&account.user).bind(account.secret_revision);
    let changed = || Error::refused(Reason::EtagMismatch, "the credentials were changed meanwhile");
    let row = store.read_one(found).await?.ok_or_else(changed)?;
    let envelope = row.envelope()?.ok_or_else(changed)?;
    let place = place(&Org(row.text("org")?), mailbox, account.secret_revision.0);
    store.key().open(&place, &envelope)
}

/// Where a password stands: what its ciphertext is bound to.
fn place(org: &Org, mailbox: MailboxId, revision: u64) -> String {
    format!("{org}/mailbox/{mailbox}/secret/{revision}")
}

pub(super) async fn forget<S: Session>(tx: &mut S, mailbox: MailboxId) -> Result<()> {
    tx.run(Statement::new("DELETE FROM account WHERE mailbox_id = ?").bind(mailbox)).await?;
    Ok(())
}

/// What a row says of the mailbox's account, in the columns `account_user` and `account_revision`.
pub(super) fn read(row: &impl Columns) -> Result<Option<Account>> {
    let Some(user) = row.maybe_text("account_user")? else { return Ok(None) };
    Ok(Some(Account { user, secret_revision: Revision(row.number("account_revision")?) }))
}
