//! ImportMailboxes: everything is checked before anything is made, and all are made or none.

use std::collections::HashMap;

use mailyard_policy::{
    Reason,
    id::{MailboxId, Org},
};
use mailyard_store::{
    Error,
    people::{NewMailbox, Profile, Settings},
    query::{Filter, Operator, Page, Value, fold},
};
use mailyard_wire::status::refusal;
use tonic::Status;

use crate::{
    api::{
        Api, new_id,
        refuse::{Tell as _, Told as _},
    },
    import::{ImportError, MAX_PROBLEMS, Problem, Row, parse, refused, resolve},
};

/// So many addresses are looked up at once.
const PORTION: usize = 200;

impl Api {
    /// Imports a file, or only checks it; returns how many mailboxes there are in it.
    pub(super) async fn import(&self, org: &Org, csv: Vec<u8>, validate_only: bool) -> Result<u32, Status> {
        let profiles = self.store.profiles(Some(org)).await.told()?;
        let settings = self.store.settings(org).await.told()?;
        // A hundred thousand rows keep a thread busy for a while.
        let read = tokio::task::spawn_blocking(move || read(&csv, &profiles, &settings)).await;
        let (rows, mailboxes) = read.map_err(|error| {
            tracing::error!(%error, "an import came to an unforeseen end");
            refusal(Reason::Internal, "", "the file could not be read")
        })??;
        self.refuse_taken(org, &rows, &mailboxes).await?;
        if !validate_only {
            let made = self.store.create_mailboxes(org, &mailboxes, self.now()).await;
            made.map_err(|error| of_row(error, &rows))?;
            tracing::info!(mailboxes = mailboxes.len(), "mailboxes were imported");
            self.leader.nudge();
        }
        Ok(u32::try_from(mailboxes.len()).unwrap_or(u32::MAX))
    }

    /// Names every address that is taken, where the store would name the first.
    async fn refuse_taken(&self, org: &Org, rows: &[Row], mailboxes: &[NewMailbox]) -> Result<(), Status> {
        let by_address: HashMap<String, u64> = rows.iter().map(|row| (fold(&row.address), row.row)).collect();
        let mut taken: Vec<Problem> = Vec::new();
        for portion in mailboxes.chunks(PORTION) {
            let page = Page { after: None, limit: PORTION as u32 };
            for found in self.store.mailboxes(org, &addresses(portion), &page).await.told()? {
                taken.push(Problem {
                    row: by_address.get(&fold(&found.set.address)).copied(),
                    column: Some("address".to_owned()),
                    reason: Reason::ResourceAlreadyExists,
                    detail: format!("there is already a mailbox {}", found.set.address),
                });
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        taken.sort_by_key(|problem| problem.row);
        let total = taken.len();
        taken.truncate(MAX_PROBLEMS);
        Err(ImportError { problems: taken, total }.tell())
    }
}

/// The mailboxes that have one of these addresses.
fn addresses(rows: &[NewMailbox]) -> Filter {
    let is = |row: &NewMailbox| Filter::Compare {
        field: "address",
        operator: Operator::Equal,
        value: Value::Text(row.address.clone()),
    };
    Filter::Or(rows.iter().map(is).collect())
}

fn read(
    csv: &[u8],
    profiles: &[Profile],
    settings: &Settings,
) -> Result<(Vec<Row>, Vec<NewMailbox>), Status> {
    let rows = parse(csv).told()?;
    let ids = rows.iter().map(|_| new_id().map(MailboxId::new)).collect::<Result<Vec<_>, _>>()?;
    let mut ids = ids.into_iter();
    let new_id = || ids.next().unwrap_or(MailboxId::new(0));
    let mailboxes =
        resolve(&rows, profiles, settings.default_profile, settings.default_methods, new_id).told()?;
    Ok((rows, mailboxes))
}

/// What the store refuses of a row is a problem of the file.
fn of_row(error: Error, rows: &[Row]) -> Status {
    match error {
        Error::Refused { reason, detail, field } if field.starts_with("rows[") => {
            refused(rows, &field, reason, &detail).tell()
        }
        other => other.tell(),
    }
}
