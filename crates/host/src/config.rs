//! The configuration: one typed tree, from a file, the environment and flags, in this order; later ones win.
//!
//! Every key stands once, in [`tree`], with its default and its meaning: reading, checking and printing follow from it.

mod load;
mod setting;
mod tree;

pub use load::{Error, Place, Problem, load};
pub use setting::{Bytes, LogFormat, Percent, Setting, SmtpTls};
pub use tree::{
    Alerts, Breaker, Config, Exchange, KEYS, Key, Listen, Log, Smtp, Sync, Telemetry, Worker, default_file,
};
