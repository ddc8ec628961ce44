//! The one-line text forms of facts: what is stored until the book takes them up.

use std::{fmt, str::FromStr};

use super::{Fact, Regarding, What};
use crate::{operation::UnknownWord, time::Timestamp};

const KNOWN: &str = "AT mailbox|profile|email:ID WHAT[:OPERATION|:ROAD][:REASON]";

/// `mailbox:ID`, `profile:ID`, `email:ID`.
impl fmt::Display for Regarding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(id) => write!(out, "mailbox:{id}"),
            Self::Profile(id) => write!(out, "profile:{id}"),
            Self::Email(id) => write!(out, "email:{id}"),
        }
    }
}

impl FromStr for Regarding {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { text: text.to_owned(), known: "mailbox:ID profile:ID email:ID" };
        let (word, id) = text.split_once(':').ok_or_else(unknown)?;
        match word {
            "mailbox" => id.parse().map(Self::Mailbox),
            "profile" => id.parse().map(Self::Profile),
            "email" => id.parse().map(Self::Email),
            _ => return Err(unknown()),
        }
        .map_err(|_| unknown())
    }
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing(kind, reason) => write!(out, "failing:{kind}:{reason}"),
            Self::Disabled(kind, reason) => write!(out, "disabled:{kind}:{reason}"),
            Self::Recovered(kind) => write!(out, "recovered:{kind}"),
            Self::Connected => out.write_str("connected"),
            Self::Quarantined(reason) => write!(out, "quarantined:{reason}"),
            Self::SendFailed(reason) => write!(out, "send_failed:{reason}"),
            Self::InDoubt => out.write_str("in_doubt"),
            Self::Settled => out.write_str("settled"),
            Self::MessageIdReused => out.write_str("message_id_reused"),
            Self::BreakerOpened(road, reason) => write!(out, "breaker_opened:{road}:{reason}"),
            Self::BreakerClosed(road) => write!(out, "breaker_closed:{road}"),
            Self::TestHalted => out.write_str("test_halted"),
            Self::TestResumed => out.write_str("test_resumed"),
        }
    }
}

fn what(text: &str) -> Option<What> {
    let parts: Vec<&str> = text.split(':').collect();
    Some(match parts[..] {
        ["failing", kind, reason] => What::Failing(kind.parse().ok()?, reason.parse().ok()?),
        ["disabled", kind, reason] => What::Disabled(kind.parse().ok()?, reason.parse().ok()?),
        ["recovered", kind] => What::Recovered(kind.parse().ok()?),
        ["connected"] => What::Connected,
        ["quarantined", reason] => What::Quarantined(reason.parse().ok()?),
        ["send_failed", reason] => What::SendFailed(reason.parse().ok()?),
        ["in_doubt"] => What::InDoubt,
        ["settled"] => What::Settled,
        ["message_id_reused"] => What::MessageIdReused,
        ["breaker_opened", road, reason] => What::BreakerOpened(road.parse().ok()?, reason.parse().ok()?),
        ["breaker_closed", road] => What::BreakerClosed(road.parse().ok()?),
        ["test_halted"] => What::TestHalted,
        ["test_resumed"] => What::TestResumed,
        _ => return None,
    })
}

/// `1772366400250 mailbox:01h… failing:incoming:MAILBOX_UNAVAILABLE`.
impl fmt::Display for Fact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.at.as_millis(), self.regarding, self.what)
    }
}

impl FromStr for Fact {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { text: text.to_owned(), known: KNOWN };
        let parts: Vec<&str> = text.split(' ').collect();
        let [at, regarding, happened] = parts[..] else { return Err(unknown()) };
        Ok(Self {
            at: Timestamp::from_millis(at.parse().map_err(|_| unknown())?),
            regarding: regarding.parse()?,
            what: what(happened).ok_or_else(unknown)?,
        })
    }
}
