//! What callers are told of failures: never more of the inside than the catalogue's reason.

use std::fmt::Write as _;

use mailyard_policy::Reason;
use mailyard_store::Error;
use mailyard_wire::status::{Violation, refusal, refusals};
use tonic::Status;

use crate::{filter::FilterError, import::ImportError, page_token::PageError};

/// A failure becomes what the caller is told.
pub(super) trait Told<T> {
    fn told(self) -> Result<T, Status>;
}

impl<T, E: Tell> Told<T> for Result<T, E> {
    fn told(self) -> Result<T, Status> {
        self.map_err(Tell::tell)
    }
}

pub(super) trait Tell {
    fn tell(self) -> Status;
}

impl Tell for Error {
    fn tell(self) -> Status {
        match &self {
            Self::Refused { reason, detail, field } => refusal(*reason, field, detail),
            Self::Fenced => no_leader("another coordinator leads by now"),
            Self::Unavailable(cause) => {
                tracing::warn!(error = %self, %cause, "the store failed");
                refusal(Reason::StoreUnavailable, "", "the database is not available; nothing was changed")
            }
            Self::InDoubt(cause) => {
                tracing::warn!(error = %self, %cause, "the store failed");
                let detail = "nobody can say whether the change was made; read before it is repeated";
                refusal(Reason::StoreUnavailable, "", detail)
            }
            Self::Key { .. } => {
                tracing::error!(error = %self, "the store failed");
                refusal(Reason::KeyUnavailable, "", &self.to_string())
            }
            Self::Corrupt(_) | Self::NewerSchema { .. } => {
                tracing::error!(error = %self, "the store failed");
                refusal(Reason::Internal, "", "the database holds something that cannot be understood")
            }
        }
    }
}

impl Tell for FilterError {
    fn tell(self) -> Status {
        filter("filter", &self)
    }
}

impl Tell for PageError {
    fn tell(self) -> Status {
        refusal(self.reason, self.field, self.detail)
    }
}

impl Tell for ImportError {
    fn tell(self) -> Status {
        let mut violations: Vec<Violation> = self
            .problems
            .iter()
            .map(|problem| {
                let mut field = String::from("csv");
                if let Some(row) = problem.row {
                    let _ = write!(field, ".rows[{row}]");
                }
                if let Some(column) = &problem.column {
                    let _ = write!(field, ".{column}");
                }
                Violation { field, description: problem.detail.clone() }
            })
            .collect();
        if let Some(more @ 1..) = self.total.checked_sub(self.problems.len()) {
            violations.push(Violation { field: "csv".to_owned(), description: format!("and {more} more") });
        }
        refusals(self.reason(), &self.to_string(), &violations)
    }
}

/// A filter in this field cannot be read.
pub(super) fn filter(field: &str, error: &FilterError) -> Status {
    let description = format!("column {}: {}", error.column, error.detail);
    let violation = Violation { field: field.to_owned(), description };
    refusals(error.reason, &error.to_string(), &[violation])
}

/// There is no such object.
pub(super) fn not_found(field: &str, what: &str, name: &str) -> Status {
    let shown = crate::filter::shown(name);
    refusal(Reason::ResourceNotFound, field, &format!("there is no {what} {shown}"))
}

/// What only the leader can do.
pub(super) fn no_leader(detail: &str) -> Status {
    refusal(Reason::ClusterNoLeader, "", detail)
}

/// The server stops in the middle of a stream.
pub(super) fn draining() -> Status {
    refusal(Reason::ServerDraining, "", "the server is shutting down; call again and go on from there")
}

#[cfg(test)]
mod tests {
    use mailyard_wire::status::Refusal;

    use super::*;

    #[test]
    fn what_the_store_cannot_do_has_its_reason() {
        let cause = || std::io::Error::other("no space left").into();
        let key = Error::Key { path: "master.key".to_owned(), detail: "it is not there".to_owned() };
        for (error, reason) in [
            (Error::Unavailable(cause()), Reason::StoreUnavailable),
            (Error::InDoubt(cause()), Reason::StoreUnavailable),
            (key, Reason::KeyUnavailable),
            (Error::Corrupt("a row".to_owned()), Reason::Internal),
            (Error::Fenced, Reason::ClusterNoLeader),
        ] {
            let refusal = Refusal::from(&error.tell());
            assert_eq!(refusal.reason.as_deref(), Some(reason.code()), "{}", refusal.message);
            assert!(!refusal.message.contains("no space left"), "{}", refusal.message);
        }
    }
}
