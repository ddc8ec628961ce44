//! Exchange as a client sees it: codec, connection, client, gate.

pub mod codec;
mod endpoint;
mod failure;
mod gate;
mod http1;

pub use endpoint::Endpoint;
pub use failure::Failure;
pub use gate::{Clock, Gate, Permit, View};
