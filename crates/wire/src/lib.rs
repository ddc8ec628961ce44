//! The protocols on the wire: generated messages, their conversions to the core's words, and how failures are told.

pub mod convert;
pub mod name;
pub mod privilege;
pub mod status;

pub use mailyard_policy::reason;
pub use prost_types::{Duration, FieldMask, Timestamp};

/// The API for people and their programs.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/mailyard.admin.v1.rs"));
}

/// The API for the CRM.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod records {
    include!(concat!(env!("OUT_DIR"), "/mailyard.records.v1.rs"));
}

/// Between coordinator and worker.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/mailyard.cluster.v1.rs"));
}

/// The protocol files as a compiled set, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The versions of the session protocol that this build speaks, from and to.
pub const SESSION_PROTOCOL: (u32, u32) = (1, 1);

/// Largest message that a server or client takes: an import of 100,000 mailboxes, an email with its attachments.
pub const LARGEST_MESSAGE: usize = 64 << 20;
