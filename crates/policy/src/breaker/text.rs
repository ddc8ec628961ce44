//! The one-line text form of a breaker: what is stored of it, so that what is open stays open over a restart.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use super::{Breaker, Closed, Open, State};
use crate::{
    id::{Attempt, MailboxId},
    operation::UnknownWord,
    reason::Reason,
    time::{Timestamp, millis},
};

const KNOWN: &str = "closed SINCE FAULTS MAILBOXES | open LAST REASON SUSPECT NEXT GAP TRIES SUCCESSES";

struct Ids<'a>(&'a BTreeSet<MailboxId>);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("-");
        }
        for (number, id) in self.0.iter().enumerate() {
            write!(out, "{}{id}", if number > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// The count of mailboxes and a canary under way are not stored: a new holder counts and sends anew.
impl fmt::Display for Breaker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Closed(Closed { since, faults, mailboxes }) => {
                write!(out, "closed {} {faults} {}", since.as_millis(), Ids(mailboxes))
            }
            State::Open(open) => {
                let suspect = open.suspected_by.map_or("-".to_owned(), |id| id.to_string());
                let next = open.next.or(open.canary.map(|canary| canary.begun));
                let next = next.map_or("-".to_owned(), |next| next.as_millis().to_string());
                let (last, reason, gap) = (open.last.as_millis(), open.reason, millis(open.gap));
                let (tries, successes) = (open.tries, Ids(&open.successes));
                write!(out, "open {last} {reason} {suspect} {next} {gap} {tries} {successes}")
            }
        }
    }
}

fn ids(text: &str) -> Option<BTreeSet<MailboxId>> {
    if text == "-" { Some(BTreeSet::new()) } else { text.split(',').map(|id| id.parse().ok()).collect() }
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_millis)
}

/// What a dash stands for is absent; anything else must be readable.
fn dash<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ()> {
    if text == "-" { Ok(None) } else { read(text).map(Some).ok_or(()) }
}

fn state(text: &str) -> Option<State> {
    let parts: Vec<&str> = text.split(' ').collect();
    match parts[..] {
        ["closed", since, faults, mailboxes] => Some(State::Closed(Closed {
            since: moment(since)?,
            faults: faults.parse().ok()?,
            mailboxes: ids(mailboxes)?,
        })),
        ["open", last, reason, suspect, next, gap, tries, successes] => Some(State::Open(Open {
            last: moment(last)?,
            reason: reason.parse::<Reason>().ok()?,
            suspected_by: dash(suspect, |id| id.parse().ok()).ok()?,
            next: dash(next, moment).ok()?,
            gap: Duration::from_millis(gap.parse().ok()?),
            tries: tries.parse().ok()?,
            canary: None,
            successes: ids(successes)?,
        })),
        _ => None,
    }
}

impl FromStr for Breaker {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let state = state(text).ok_or_else(|| UnknownWord { text: text.to_owned(), known: KNOWN })?;
        Ok(Self { eligible: 0, attempt: Attempt(0), state })
    }
}
