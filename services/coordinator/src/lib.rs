//! The coordinator: placement, alerts, and the servers for people and the CRM.
#![cfg_attr(test, allow(clippy::expect_used))]

pub mod api;
pub mod filter;
pub mod import;
pub mod leader;
pub mod mail;
pub mod page_token;
