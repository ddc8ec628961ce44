//! The worker: it holds mailboxes, one actor each, and runs what their machines decide.

mod explain;
mod holding;
pub mod lane;
mod lease;
mod locate;
pub mod mailbox;
mod poll;
mod road;
mod run;
pub mod scheduler;
mod send;
pub mod session;
pub mod settings;
pub mod shared;
pub mod supervisor;
mod test;
pub mod turn;
mod undeliverable;
mod watch;

pub use run::{Parts, run, spawn};
