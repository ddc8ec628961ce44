//! What Mailyard keeps: one trait in the domain's verbs, and the backends that fulfil it.
//!
//! This is the only crate that knows SQL and AES-GCM. Each part of the trait belongs to one writer
//! (`ARCHITECTURE.md`, "One writer per fact"); each backend passes the same contract suite.

pub mod error;
pub mod fleet;
pub mod holder;
pub mod notices;
pub mod people;
pub mod postgres;
pub mod query;
pub mod records;
pub mod secret;
mod sql;
pub mod sqlite;

pub use error::{Error, Result};
pub use postgres::{PostgresOptions, PostgresStore};
pub use secret::MasterKey;
pub use sqlite::SqliteStore;

/// Everything a process can ask of its store.
pub trait Store:
    fleet::Fleet + holder::Holder + notices::Notices + people::People + records::Records + Send + Sync
{
}

impl<S> Store for S where
    S: fleet::Fleet + holder::Holder + notices::Notices + people::People + records::Records + Send + Sync
{
}
