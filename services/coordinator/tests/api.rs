//! The servers for people and the CRM: a real listener with real TLS, a store in a folder, and a leader that notes
//! what it is asked for.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "api/access.rs"]
mod access;
#[path = "api/alerts.rs"]
mod alerts;
#[path = "api/connection.rs"]
mod connection;
#[path = "api/emails.rs"]
mod emails;
#[path = "api/house.rs"]
mod house;
#[path = "api/mailboxes.rs"]
mod mailboxes;
#[path = "api/oauth.rs"]
mod oauth;
#[path = "api/operations.rs"]
mod operations;
#[path = "api/profiles.rs"]
mod profiles;
#[path = "api/sendings.rs"]
mod sendings;
#[path = "api/settings.rs"]
mod settings;
