//! Exchange as a client sees it: codec, authentication, connection, client, gate.

mod answer;
mod auth;
pub mod autodiscover;
mod binding;
mod client;
pub mod codec;
mod connection;
mod connection_test;
mod der;
mod endpoint;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod head;
mod http1;
mod https;
mod mailbox;
mod ntlm;
mod oauth;
mod resolver;
mod sending_probe;
mod spnego;
mod transport;

pub use answer::{ContentSink, Reply};
pub use autodiscover::Autodiscover;
pub use client::{Client, Config, Lifetime, Observer, Told, Watch};
pub use connection_test::{Subject, discovery_step, skipped_steps, test_connection};
pub use endpoint::Endpoint;
pub use failure::Failure;
pub use gate::{Clock, Gate, Permit, View};
pub use head::{LONGEST_HEAD, read_head};
pub use mailbox::{Answer, Mailbox, Message, PerItem, Streamed};
pub use mailyard_policy::{
    connection_test::{Step, StepName, StepOutcome},
    profile::{Authentication, OAuth},
};
pub use oauth::{Certificate, Facts};
pub use resolver::Resolver;
pub use sending_probe::probe_sending;
pub use transport::Warrant;
