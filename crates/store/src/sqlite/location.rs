//! Where Autodiscover found mailboxes, on SQLite.

use mailyard_policy::id::{MailboxId, ProfileId, Revision};
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteStore,
    commit::Scope,
    rows::{Columns as _, Key as _},
    script::Script,
};
use crate::{
    Result,
    holder::{Located, Place},
};

impl SqliteStore {
    pub(super) async fn last_located(&self, mailbox: MailboxId) -> Result<Option<Located>> {
        let row = sqlx::query("SELECT * FROM location WHERE mailbox_id = ?")
            .bind(mailbox.key())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }
}

fn read(row: &SqliteRow) -> Result<Located> {
    let place = Place {
        // What cannot be understood any more is looked for again.
        location: row.text("known")?.parse().unwrap_or_default(),
        profile: (ProfileId::from_bytes(row.bytes("profile_id")?), Revision(row.number("revision")?)),
        account: Revision(row.number("account_revision")?),
    };
    let attempts = row.text("attempts")?.lines().map(str::to_owned).collect();
    Ok(Located { place, attempts: Some(attempts) })
}

/// Writes a place; who was asked stays unless it is told.
pub(super) fn keep(script: &mut Script, scope: &Scope, located: &Located) {
    let Located { place, attempts } = located;
    let text = script.begin(
        "INSERT INTO location(mailbox_id, org, known, profile_id, revision, account_revision, attempts) VALUES (",
    );
    let mut values = text.separated(", ");
    values
        .push_bind(scope.mailbox.key())
        .push_bind(scope.org.0.clone())
        .push_bind(place.location.to_string())
        .push_bind(place.profile.0.key())
        .push_bind(place.profile.1.0 as i64)
        .push_bind(place.account.0 as i64)
        .push_bind(attempts.as_ref().map(|attempts| attempts.join("\n")).unwrap_or_default());
    text.push(
        ") ON CONFLICT (mailbox_id) DO UPDATE SET known = excluded.known, profile_id = excluded.profile_id,
           revision = excluded.revision, account_revision = excluded.account_revision",
    );
    if attempts.is_some() {
        text.push(", attempts = excluded.attempts");
    }
}
