//! The decisions of Mailyard: machines and rules as plain values.
//!
//! Nothing here does IO, waits, asks a clock, draws a random number, writes a log line or knows a wire format.
//! Time, chance and identifiers come in with the events; what shall be done goes out as effects.

pub mod alert;
pub mod breaker;
pub mod connection_test;
pub mod discovery;
pub mod id;
pub mod lease;
pub mod mailbox;
pub mod membership;
pub mod names;
pub mod operation;
pub mod outbox;
pub mod placement;
pub mod profile;
pub mod quota;
pub mod reason;
pub mod throttle;
pub mod time;
pub mod token;
pub mod tracking;
pub mod watch;

pub use reason::{Nature, Reason, Scope};
pub use time::{BootTime, Timestamp};
