//! Exchange as a client sees it: codec, authentication, connection, client, gate.

mod answer;
mod auth;
pub mod autodiscover;
mod binding;
mod client;
pub mod codec;
mod connection;
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
mod probe;
mod resolver;
mod spnego;
mod transport;

pub use answer::{ContentSink, Reply};
pub use autodiscover::Autodiscover;
pub use client::{Client, Config, Lifetime, Observer, Told, Warrant, Watch};
pub use endpoint::Endpoint;
pub use failure::Failure;
pub use gate::{Clock, Gate, Permit, View};
pub use head::{LONGEST_HEAD, read_head};
pub use mailbox::{Answer, Mailbox, Message, PerItem, Streamed};
pub use mailyard_policy::profile::{Authentication, OAuth};
pub use oauth::{Certificate, Facts};
pub use probe::{Step, StepName, StepOutcome, probe_sending, test_connection};
pub use resolver::Resolver;
