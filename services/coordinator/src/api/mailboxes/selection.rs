//! Which mailboxes a call is about.

use mailyard_policy::Reason;
use mailyard_store::{Error, people::Selection, query::MAILBOX_FIELDS};
use mailyard_wire::{admin, status::refusal};
use tonic::Status;

use crate::{
    api::{input::Input, refuse},
    filter,
};

/// More addresses in one call are refused: a filter selects any number.
const MOST_ADDRESSES: usize = 10_000;
/// So many addresses are named to people.
const NAMED: usize = 3;

/// A selection, and how it is told to people.
pub(super) struct Selected {
    pub(super) selection: Selection,
    pub(super) description: String,
}

/// Reads a selection: addresses or a filter, not both and not neither.
pub(super) fn read(selection: Option<admin::Selection>) -> Result<Selected, Status> {
    let admin::Selection { addresses, filter } = selection.unwrap_or_default();
    match (addresses.is_empty(), filter) {
        (true, None) => {
            let detail = "addresses or a filter are expected; the filter \"\" selects all";
            Err(refusal(Reason::SelectionEmpty, "selection", detail))
        }
        (false, Some(_)) => {
            let detail = "addresses and a filter exclude each other";
            Err(refusal(Reason::FieldInvalid, "selection", detail))
        }
        (true, Some(text)) => {
            let filter = filter::parse(&text, MAILBOX_FIELDS)
                .map_err(|error| refuse::filter("selection.filter", &error))?;
            let selection = Selection::Matching(filter);
            let description =
                if text.trim().is_empty() { "all mailboxes".to_owned() } else { text.trim().to_owned() };
            Ok(Selected { selection, description })
        }
        (false, None) => of_addresses(addresses),
    }
}

fn of_addresses(addresses: Vec<String>) -> Result<Selected, Status> {
    if addresses.len() > MOST_ADDRESSES {
        let detail = format!("{} addresses are too many; up to {MOST_ADDRESSES} are taken", addresses.len());
        return Err(refusal(Reason::SelectionTooLarge, "selection.addresses", &detail));
    }
    let mut input = Input::default();
    for (at, address) in addresses.iter().enumerate() {
        input.address(&format!("selection.addresses[{at}]"), address);
    }
    input.done()?;
    let mut description = addresses.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if addresses.len() > NAMED {
        description += &format!(" and {} more", addresses.len() - NAMED);
    }
    Ok(Selected { selection: Selection::Addresses(addresses), description })
}

/// The store knows the selection only: its fields are inside of the request's.
pub(super) fn refused(error: Error) -> Error {
    match error {
        Error::Refused { reason, detail, field } if field.starts_with("addresses") => {
            Error::Refused { reason, detail, field: format!("selection.{field}") }
        }
        other => other,
    }
}
