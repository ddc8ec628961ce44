//! What can go wrong between a process and its store.

use mailyard_policy::Reason;

/// The result of a call to the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store did not do what was asked. Nothing is half done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number that the writer showed (fence, term, revision of a state) is no longer the valid one: somebody
    /// else holds what it was about to change. Nothing was changed.
    #[error("fenced: somebody else holds it now")]
    Fenced,
    /// The caller's expectation or input does not hold; `reason` is what a person or program is told.
    #[error("{reason}: {detail}")]
    Refused {
        /// The reason of the catalogue.
        reason: Reason,
        /// What and where, in one sentence.
        detail: String,
        /// The field or row concerned, such as `rows[3].address`; empty if it is the call as a whole.
        field: String,
    },
    /// The database cannot be reached or cannot write; certainly nothing was changed.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody can say whether the change was made; the caller must drop what it holds in memory and load it again.
    #[error("nobody can say whether the database made the change")]
    InDoubt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row cannot be understood: the database was changed by something else, or is of a newer schema.
    #[error("the database holds something that cannot be understood: {0}")]
    Corrupt(String),
    /// The database was written by a newer Mailyard.
    #[error("the database has schema {found}, this Mailyard knows up to {known}; run the newer Mailyard")]
    NewerSchema {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration this build has.
        known: i64,
    },
    /// The key file is missing, unreadable or not the one the secrets were encrypted with.
    #[error("the key {path} cannot be used: {detail}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// A refusal of the call as a whole.
    pub fn refused(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into(), field: String::new() }
    }

    /// A refusal because of one field.
    pub fn refused_field(reason: Reason, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into(), field: field.into() }
    }
}
