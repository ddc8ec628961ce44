//! The one-line text forms of a mailbox's events and of what is kept of it: a failing seed is a transcript.

use std::{fmt, str::FromStr, time::Duration};

use super::{Event, Kept, Outcome, Tested, Wanted};
use crate::{
    id::{Attempt, OperationId},
    operation::UnknownWord,
    time::millis,
};

const EVENT: &str = "tick outgoing_due canary reopened notified watched settled wanted ended test_ended";
const KEPT: &str = "seen= subject= polls= test= done= OPERATION;OPERATION;OPERATION";

fn unknown(text: &str, known: &'static str) -> UnknownWord {
    UnknownWord { text: text.to_owned(), known }
}

fn read<T: FromStr>(text: &str, known: &'static str) -> Result<T, UnknownWord> {
    text.parse().map_err(|_| unknown(text, known))
}

fn read_or_dash<T: FromStr>(text: &str, known: &'static str) -> Result<Option<T>, UnknownWord> {
    if text == "-" { Ok(None) } else { read(text, known).map(Some) }
}

/// A value, or a dash where there is none.
struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(out),
            None => out.write_str("-"),
        }
    }
}

fn hint_text(hint: Option<Duration>) -> OrDash<i64> {
    OrDash(hint.map(millis))
}

fn hint(text: &str) -> Result<Option<Duration>, UnknownWord> {
    Ok(read_or_dash(text, "MILLISECONDS or -")?.map(Duration::from_millis))
}

/// `completed:3`, `more:512`, `failed:MAILBOX_UNAVAILABLE:-`, `held`, `ours_failed`.
impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed { items } => write!(out, "completed:{items}"),
            Self::More { items } => write!(out, "more:{items}"),
            Self::Failed { reason, hint } => write!(out, "failed:{reason}:{}", hint_text(*hint)),
            Self::Held => out.write_str("held"),
            Self::OursFailed => out.write_str("ours_failed"),
        }
    }
}

impl FromStr for Outcome {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        const KNOWN: &str = "completed:ITEMS more:ITEMS failed:REASON:HINT held ours_failed";
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts[..] {
            ["completed", items] => Self::Completed { items: read(items, KNOWN)? },
            ["more", items] => Self::More { items: read(items, KNOWN)? },
            ["failed", reason, wait] => Self::Failed { reason: read(reason, KNOWN)?, hint: hint(wait)? },
            ["held"] => Self::Held,
            ["ours_failed"] => Self::OursFailed,
            _ => return Err(unknown(text, KNOWN)),
        })
    }
}

/// `works`, `fails:IMPERSONATION_DENIED:-`.
impl fmt::Display for Tested {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => out.write_str("works"),
            Self::Fails { reason, hint } => write!(out, "fails:{reason}:{}", hint_text(*hint)),
        }
    }
}

impl FromStr for Tested {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        const KNOWN: &str = "works fails:REASON:HINT";
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts[..] {
            ["works"] => Self::Works,
            ["fails", reason, wait] => Self::Fails { reason: read(reason, KNOWN)?, hint: hint(wait)? },
            _ => return Err(unknown(text, KNOWN)),
        })
    }
}

/// `tick`, `ended 4 completed:0`, `test_ended 5 works fails:… -`, `wanted 3 77 sss,sss,none - TEST 0`.
impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => out.write_str("tick"),
            Self::OutgoingDue => out.write_str("outgoing_due"),
            Self::Canary(road) => write!(out, "canary {road}"),
            Self::Reopened => out.write_str("reopened"),
            Self::Notified => out.write_str("notified"),
            Self::Watched => out.write_str("watched"),
            Self::Settled(attempt) => write!(out, "settled {attempt}"),
            Self::Ended(attempt, outcome) => write!(out, "ended {attempt} {outcome}"),
            Self::TestEnded(attempt, [a, b, c]) => {
                write!(out, "test_ended {attempt} {} {} {}", OrDash(*a), OrDash(*b), OrDash(*c))
            }
            Self::Wanted(Wanted { revision, subject, methods: [a, b, c], barred, test, polls }) => {
                let (barred, test) = (OrDash(*barred), OrDash(*test));
                write!(out, "wanted {revision} {subject} {a},{b},{c} {barred} {test} {polls}")
            }
        }
    }
}

impl FromStr for Event {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let parts: Vec<&str> = text.split(' ').collect();
        let attempt = |text| read(text, EVENT).map(Attempt);
        Ok(match parts[..] {
            ["tick"] => Self::Tick,
            ["outgoing_due"] => Self::OutgoingDue,
            ["canary", road] => Self::Canary(road.parse()?),
            ["reopened"] => Self::Reopened,
            ["notified"] => Self::Notified,
            ["watched"] => Self::Watched,
            ["settled", number] => Self::Settled(attempt(number)?),
            ["ended", number, outcome] => Self::Ended(attempt(number)?, outcome.parse()?),
            ["test_ended", number, a, b, c] => Self::TestEnded(
                attempt(number)?,
                [read_or_dash(a, EVENT)?, read_or_dash(b, EVENT)?, read_or_dash(c, EVENT)?],
            ),
            ["wanted", revision, subject, methods, barred, test, polls] => {
                let methods: Vec<&str> = methods.split(',').collect();
                let [a, b, c] = methods[..] else { return Err(unknown(text, EVENT)) };
                Self::Wanted(Wanted {
                    revision: read(revision, EVENT)?,
                    subject: read(subject, EVENT)?,
                    methods: [a.parse()?, b.parse()?, c.parse()?],
                    barred: read_or_dash(barred, EVENT)?,
                    test: read_or_dash(test, EVENT)?,
                    polls: read(polls, EVENT)?,
                })
            }
            _ => return Err(unknown(text, EVENT)),
        })
    }
}

/// `seen=3 subject=77 polls=0 test=- done=- sss enabled period=300000;sss off;none off`.
impl fmt::Display for Kept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted_seen, subject, operations: [a, b, c], test, test_done, polls_done } = self;
        let (test, done) = (OrDash(*test), OrDash(*test_done));
        write!(
            out,
            "seen={wanted_seen} subject={subject} polls={polls_done} test={test} done={done} {a};{b};{c}"
        )
    }
}

impl FromStr for Kept {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let fields: Vec<&str> = text.splitn(6, ' ').collect();
        let [seen, subject, polls, test, done, operations] = fields[..] else {
            return Err(unknown(text, KEPT));
        };
        let operations: Vec<&str> = operations.split(';').collect();
        let [a, b, c] = operations[..] else { return Err(unknown(text, KEPT)) };
        let value = |field: &'_ str, key: &str| {
            field.strip_prefix(key).map(ToOwned::to_owned).ok_or_else(|| unknown(text, KEPT))
        };
        Ok(Self {
            wanted_seen: read(&value(seen, "seen=")?, KEPT)?,
            subject: read(&value(subject, "subject=")?, KEPT)?,
            polls_done: read(&value(polls, "polls=")?, KEPT)?,
            test: read_or_dash::<OperationId>(&value(test, "test=")?, KEPT)?,
            test_done: read_or_dash(&value(done, "done=")?, KEPT)?,
            operations: [a.parse()?, b.parse()?, c.parse()?],
        })
    }
}
