//! The coordinator: placement, alerts, and the servers for people and the CRM.
#![cfg_attr(test, allow(clippy::expect_used))]

pub mod aggregator;
pub mod api;
pub mod duties;
pub mod filter;
pub mod fleet;
pub mod import;
mod lanes;
pub mod leader;
pub mod leadership;
pub mod mail;
pub mod page_token;
mod run;
pub mod session;

pub use run::{Coordinator, Parts, relay, start};
