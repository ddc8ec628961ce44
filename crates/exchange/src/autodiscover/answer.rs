//! What a place says, in whichever form.

use crate::{
    Failure,
    codec::{Malformed, ServerVersion},
    resolver::Service,
};

/// What a place said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where the mailbox is.
    Found(Found),
    /// Ask there.
    Url(String),
    /// Ask for this address.
    Address(String),
    /// These hosts know.
    Services(Vec<Service>),
    /// There is no such place.
    Absent,
    /// Autodiscover itself says no: nobody else is asked.
    Refused(Failure),
}

/// Where a mailbox is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// EWS URLs, the one to prefer first.
    pub urls: Vec<String>,
    pub grouping: Option<String>,
    pub version: Option<ServerVersion>,
}

/// A word of an answer as far as it is told to people.
pub fn word(text: &str) -> Box<str> {
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    letters.take(40).collect::<String>().into()
}

/// An answer that cannot be read. A page for people is told as such.
pub fn of_malformed(malformed: Malformed, document: &str) -> Failure {
    let beginning: String = document.trim_start().chars().take(14).collect::<String>().to_ascii_lowercase();
    if beginning.starts_with("<html") || beginning.starts_with("<!doctype html") {
        return Failure::of_page();
    }
    Failure::of_malformed(malformed)
}
