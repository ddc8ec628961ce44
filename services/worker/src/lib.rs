//! The worker: it holds mailboxes, one actor each, and runs what their machines decide.

pub mod lane;
pub mod mailbox;
mod poll;
pub mod scheduler;
mod send;
pub mod settings;
pub mod shared;
pub mod supervisor;
mod test;
pub mod turn;
mod undeliverable;
