//! Exchange as a client sees it: codec, connection, client, gate.

mod client;
pub mod codec;
mod connection;
mod endpoint;
mod failure;
mod gate;
mod http1;

pub use client::{Client, Config, ContentSink, Reply};
pub use endpoint::Endpoint;
pub use failure::Failure;
pub use gate::{Clock, Gate, Permit, View};
