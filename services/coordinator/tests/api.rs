//! The servers for people and the CRM: a real listener with real TLS, a store in a folder, and a leader that notes
//! what it is asked for.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "api/access.rs"]
mod access;
#[path = "api/house.rs"]
mod house;
#[path = "api/profiles.rs"]
mod profiles;
