//! The one binary of Mailyard, as a library for tests and figures.

pub mod embedded;
pub mod error;
pub mod pipe;
pub mod sim;
