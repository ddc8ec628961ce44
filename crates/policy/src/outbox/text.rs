//! The one-line text forms of a sending: what is stored, and what tests read back.

use std::{fmt, str::FromStr};

use super::{Delivery, Draft, Step};
use crate::{operation::UnknownWord, time::Timestamp};

fn escape(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            b'%' | b':' | 0..=b' ' | 0x7f.. => write!(out, "%{byte:02x}")?,
            _ => fmt::Write::write_char(out, char::from(byte))?,
        }
    }
    Ok(())
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Draft {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&self.item_id, out)?;
        out.write_str(":")?;
        escape(&self.change_key, out)
    }
}

/// One word: `none`, `claimed:ATTEMPT`, `drafted:ID:KEY`, `submitting:ATTEMPT:DEADLINE:ID:KEY`,
/// `uncertain:LOOKS:ID:KEY`.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::Claimed { attempt } => write!(out, "claimed:{attempt}"),
            Self::Drafted(draft) => write!(out, "drafted:{draft}"),
            Self::Submitting { draft, attempt, deadline } => {
                write!(out, "submitting:{attempt}:{}:{draft}", deadline.as_millis())
            }
            Self::Uncertain { draft, looks } => write!(out, "uncertain:{looks}:{draft}"),
        }
    }
}

impl Step {
    /// The word of the step, without ids: for people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Claimed { .. } => "claimed",
            Self::Drafted(_) => "drafted",
            Self::Submitting { .. } => "submitting",
            Self::Uncertain { .. } => "uncertain",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let draft = |id: &str, key: &str| Some(Draft { item_id: unescape(id)?, change_key: unescape(key)? });
        Some(match parts[..] {
            ["none"] => Self::None,
            ["claimed", attempt] => Self::Claimed { attempt: attempt.parse().ok()? },
            ["drafted", id, key] => Self::Drafted(draft(id, key)?),
            ["submitting", attempt, deadline, id, key] => Self::Submitting {
                draft: draft(id, key)?,
                attempt: attempt.parse().ok()?,
                deadline: Timestamp::from_millis(deadline.parse().ok()?),
            },
            ["uncertain", looks, id, key] => {
                Self::Uncertain { draft: draft(id, key)?, looks: looks.parse().ok()? }
            }
            _ => return None,
        })
    }
}

/// One line: `sending submitting:2:1772366400250:AAMk:CQ attempt=2 failures=1 not_before= expires= reason=`.
impl fmt::Display for Delivery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} attempt={} failures={}", self.state, self.step, self.attempt, self.failures)?;
        if let Some(at) = self.not_before {
            write!(out, " not_before={}", at.as_millis())?;
        }
        if let Some(at) = self.expires {
            write!(out, " expires={}", at.as_millis())?;
        }
        if let Some(reason) = self.reason {
            write!(out, " reason={reason}")?;
        }
        Ok(())
    }
}

impl FromStr for Delivery {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord {
            text: text.to_owned(),
            known: "STATE STEP attempt= failures= [not_before=] [expires=] [reason=]",
        };
        let mut parts = text.split(' ');
        let mut delivery = Self {
            state: parts.next().unwrap_or_default().parse()?,
            step: Step::parse(parts.next().unwrap_or_default()).ok_or_else(unknown)?,
            ..Self::pending(None)
        };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let moment = || value.parse().map(Timestamp::from_millis).map_err(|_| unknown());
            match key {
                "attempt" => delivery.attempt = value.parse().map_err(|_| unknown())?,
                "failures" => delivery.failures = value.parse().map_err(|_| unknown())?,
                "not_before" => delivery.not_before = Some(moment()?),
                "expires" => delivery.expires = Some(moment()?),
                "reason" => delivery.reason = Some(value.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            }
        }
        Ok(delivery)
    }
}
