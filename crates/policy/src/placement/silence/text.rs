//! The one-line text form of the guard: what is stored of it, so that a new leader goes on waiting where the old one was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::{Frozen, Silence};
use crate::{id::Incarnation, operation::UnknownWord, time::Timestamp};

const KNOWN: &str = "calm LOOKED LAPSED GIVEN_UP | frozen SINCE WELL LOOKED LAPSED GIVEN_UP";

/// Parts with commas between them; a dash stands for none.
fn list(out: &mut fmt::Formatter<'_>, parts: impl Iterator<Item = String>) -> fmt::Result {
    let mut some = false;
    for part in parts {
        write!(out, "{}{part}", if some { "," } else { "" })?;
        some = true;
    }
    if some { Ok(()) } else { out.write_str("-") }
}

impl fmt::Display for Silence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frozen {
            None => out.write_str("calm")?,
            Some(Frozen { since, well_since: None }) => write!(out, "frozen {} -", since.as_millis())?,
            Some(Frozen { since, well_since: Some(well) }) => {
                write!(out, "frozen {} {}", since.as_millis(), well.as_millis())?;
            }
        }
        write!(out, " {} ", self.looked.as_millis())?;
        list(out, self.lapsed.iter().map(|(id, seen)| format!("{id}@{}", seen.as_millis())))?;
        out.write_str(" ")?;
        list(out, self.given_up.iter().map(Incarnation::to_string))
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_millis)
}

fn parts<'a, T: FromIterator<P>, P>(text: &'a str, read: impl Fn(&'a str) -> Option<P>) -> Option<T> {
    if text == "-" { Some(T::from_iter([])) } else { text.split(',').map(read).collect() }
}

fn read(text: &str) -> Option<Silence> {
    let words: Vec<&str> = text.split(' ').collect();
    let (frozen, [looked, lapsed, given_up]) = match words[..] {
        ["calm", looked, lapsed, given_up] => (None, [looked, lapsed, given_up]),
        ["frozen", since, well, looked, lapsed, given_up] => {
            let well_since = if well == "-" { None } else { Some(moment(well)?) };
            (Some(Frozen { since: moment(since)?, well_since }), [looked, lapsed, given_up])
        }
        _ => return None,
    };
    let entry = |text: &str| {
        let (id, seen) = text.split_once('@')?;
        Some((id.parse::<Incarnation>().ok()?, moment(seen)?))
    };
    let lapsed: BTreeMap<Incarnation, Timestamp> = parts(lapsed, entry)?;
    let given_up: BTreeSet<Incarnation> = parts(given_up, |id| id.parse().ok())?;
    Some(Silence { lapsed, given_up, frozen, looked: moment(looked)? })
}

impl FromStr for Silence {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        read(text).ok_or_else(|| UnknownWord { text: text.to_owned(), known: KNOWN })
    }
}
