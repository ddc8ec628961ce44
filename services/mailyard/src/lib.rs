//! The one binary of Mailyard, as a library for tests and figures.

pub mod control;
pub mod demo;
pub mod embedded;
pub mod error;
pub mod pipe;
pub mod serve;
pub mod sim;
pub mod unsaved;
