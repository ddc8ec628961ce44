//! The client against a server that plays scripts, over real TLS.
#![allow(clippy::expect_used)]

mod authentication;
mod autodiscover;
mod blame;
mod connection;
mod oauth;
mod oidc_provider;
mod pyspnego;
#[allow(dead_code)]
mod scripted;
mod steps;
mod watch;
