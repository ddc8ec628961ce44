//! The text form of what is known of a mailbox's place, as it is stored.

use std::{fmt, str::FromStr, time::Duration};

use super::{Found, Location, Miss};
use crate::{operation::UnknownWord, time::Timestamp};

/// What may be written; of a URL that was never found, nothing.
const KNOWN: &str = "found=AT:URL, doubted, missed=AT:REASON:TIMES:WAIT, or nothing";

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Found { url, at, doubted }) = &self.found {
            write!(out, "found={}:{url}{}", at.as_millis(), if *doubted { " doubted" } else { "" })?;
        }
        let Some(Miss { at, reason, times, back_off }) = self.missed else { return Ok(()) };
        let gap = if self.found.is_some() { " " } else { "" };
        write!(out, "{gap}missed={}:{reason}:{times}:", at.as_millis())?;
        back_off.map_or(Ok(()), |wait| write!(out, "{}", wait.as_millis()))
    }
}

impl FromStr for Location {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        read(text).ok_or_else(|| UnknownWord { text: text.to_owned(), known: KNOWN })
    }
}

fn read(text: &str) -> Option<Location> {
    let mut location = Location::default();
    for part in text.split(' ').filter(|_| !text.is_empty()) {
        match part.split_once('=') {
            None if part == "doubted" => location.found.as_mut()?.doubted = true,
            Some(("found", found)) => {
                let (at, url) = found.split_once(':')?;
                location.found = Some(Found { url: url.to_owned(), at: moment(at)?, doubted: false });
            }
            Some(("missed", miss)) => location.missed = Some(read_miss(miss)?),
            _ => return None,
        }
    }
    Some(location)
}

fn read_miss(text: &str) -> Option<Miss> {
    let parts: Vec<&str> = text.split(':').collect();
    let [at, reason, times, wait] = parts[..] else { return None };
    let back_off = match wait {
        "" => None,
        wait => Some(Duration::from_millis(wait.parse().ok()?)),
    };
    Some(Miss { at: moment(at)?, reason: reason.parse().ok()?, times: times.parse().ok()?, back_off })
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().map(Timestamp::from_millis).ok()
}
