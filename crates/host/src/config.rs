//! The configuration: one typed tree, from a file, the environment and flags, in this order; later ones win.
//!
//! Every key stands once, in [`tree`], with its default and its meaning: reading, checking and printing follow from it.

mod load;
mod rules;
mod setting;
#[cfg(test)]
mod tests;
mod tree;

pub use load::{Error, Place, Problem, environment, load};
pub use setting::{Bytes, LogFormat, LogLevel, Percent, Setting, SmtpTls, short};
pub use tree::{
    Alerts, Breaker, Config, Exchange, KEYS, Key, Listen, Log, Smtp, Store, Sync, Telemetry, Worker,
    default_file,
};
