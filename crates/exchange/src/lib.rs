//! Exchange as a client sees it: codec, connection, client, gate.

mod client;
pub mod codec;
mod connection;
mod endpoint;
mod failure;
mod gate;
mod head;
mod http1;
mod mailbox;
mod probe;

pub use client::{Client, Config, ContentSink, Observer, Reply, Warrant};
pub use endpoint::Endpoint;
pub use failure::Failure;
pub use gate::{Clock, Gate, Permit, View};
pub use head::{LONGEST_HEAD, read_head};
pub use mailbox::{Answer, Mailbox, Message, PerItem, Streamed};
pub use probe::{Step, StepName, StepOutcome, probe_sending, test_connection};
