//! The simulator as its clients and its controllers see it, over real TLS.
#![allow(clippy::expect_used)]

mod access;
mod autodiscover;
mod control;
mod delegation;
mod events;
mod faults;
mod golden;
mod items;
mod negotiate;
mod ntlm;
mod ntlm_client;
mod oauth;
mod stage;
mod states;
mod throttle;
