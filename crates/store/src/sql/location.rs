//! Where Autodiscover found mailboxes.

use mailyard_policy::id::{MailboxId, ProfileId, Revision};

use super::{Backend, Columns, Script, Statement, commit::Scope};
use crate::{
    Result,
    holder::{Located, Place},
};

pub(super) async fn last<B: Backend>(store: &B, mailbox: MailboxId) -> Result<Option<Located>> {
    let found = Statement::new("SELECT * FROM location WHERE mailbox_id = ?").bind(mailbox);
    store.read_one(found).await?.as_ref().map(read).transpose()
}

fn read(row: &impl Columns) -> Result<Located> {
    let place = Place {
        // What cannot be understood any more is looked for again.
        location: row.str("known")?.parse().unwrap_or_default(),
        profile: (ProfileId::from_bytes(row.bytes("profile_id")?), Revision(row.number("revision")?)),
        account: Revision(row.number("account_revision")?),
    };
    let attempts = row.str("attempts")?.lines().map(str::to_owned).collect();
    Ok(Located { place, attempts: Some(attempts) })
}

/// Writes a place; who was asked stays unless it is told.
pub(super) fn keep(script: &mut Script, scope: &Scope, located: &Located) {
    let Located { place, attempts } = located;
    let kept = Statement::new(
        "INSERT INTO location(mailbox_id, org, known, profile_id, revision, account_revision, attempts)
         VALUES (?,?,?,?,?,?,?) ON CONFLICT (mailbox_id) DO UPDATE SET known = excluded.known,
           profile_id = excluded.profile_id, revision = excluded.revision,
           account_revision = excluded.account_revision",
    );
    let kept = kept
        .bind(scope.mailbox)
        .bind(&scope.org)
        .bind(place.location.to_string())
        .bind(place.profile.0)
        .bind(place.profile.1)
        .bind(place.account)
        .bind(attempts.as_ref().map(|attempts| attempts.join("\n")).unwrap_or_default());
    script.add(if attempts.is_some() { kept.push(", attempts = excluded.attempts") } else { kept });
}
