//! One operation of a mailbox (incoming, outgoing, or appointments, contacts and tasks): its states and its schedule.

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    id::{self, MailboxId},
    reason::Reason,
    time::{Timestamp, millis},
};

/// The three operations of a mailbox; each is tested, enabled, retried and disabled by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Mail that arrives in Exchange becomes records.
    Incoming,
    /// Mail of the CRM leaves through Exchange.
    Outgoing,
    /// Appointments, contacts and tasks, in both directions.
    Act,
}

impl Kind {
    /// All three, in the order in which they are kept.
    pub const ALL: [Self; 3] = [Self::Incoming, Self::Outgoing, Self::Act];
}

/// Which way mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From Exchange into the records.
    Incoming,
    /// From the records to Exchange.
    Outgoing,
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Not at all.
    #[default]
    None,
    /// By server-side synchronization.
    ServerSide,
    /// By forwarding to a forward mailbox.
    Forward,
}

/// What people read of the last test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Never tested, or not since something changed.
    NotRun,
    /// Tested, and not disabled since.
    Success,
    /// The test failed, or an error disabled the operation.
    Failure,
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its method is none.
    #[default]
    Off,
    /// It has a method and waits for test & enable.
    Untested,
    /// A test was asked for and has not ended. `tries` counts the ended ones, `was` is what the last test had left.
    Testing {
        /// Tests that failed for a while, since the test was asked for.
        tries: u8,
        /// The status before the test was asked for.
        was: Status,
    },
    /// It runs.
    Enabled,
    /// It runs again after a failure. `failures` is 0 where only the server failed.
    Retrying {
        /// Failures in a row that count against the mailbox.
        failures: u8,
    },
    /// An error disabled it: only a test & enable brings it back.
    Disabled,
}

/// One operation as it is stored. An empty poll changes nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operation {
    /// How it is done.
    pub method: Method,
    /// Where it stands.
    pub state: State,
    /// How often it runs; zero until it was enabled once.
    pub period: Duration,
    /// It does not run before this moment; `None`: no such limit.
    pub not_before: Option<Timestamp>,
    /// Why it is not simply running: the last failure, the throttling, what disabled it.
    pub reason: Option<Reason>,
}

/// What postpones an operation to its next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing: its turn in the period, at the mailbox's own phase.
    Phase,
    /// The profile's minimum polling interval is longer than its period.
    MinimumInterval,
    /// It waits after a failure.
    RetryGap,
    /// The server asked to wait.
    BackOff,
    /// The profile's breaker holds it back.
    Breaker,
    /// Its test failed for a while and is tried again.
    TestRetry,
    /// A test was asked for.
    TestWanted,
    /// A person asked for it.
    PollWanted,
    /// The last turn left work behind.
    Backlog,
    /// The server said that mail came.
    Notified,
}

/// When an operation runs next, and why then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRun {
    /// The moment.
    pub at: Timestamp,
    /// What decided it.
    pub why: Why,
}

/// What bounds the schedule of a mailbox besides its own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The profile's minimum polling interval; zero: no floor.
    pub minimum_interval: Duration,
    /// No wait is longer than this, whatever a stored time says: a clock that jumped back stops nothing.
    pub longest_wait: Duration,
}

impl Operation {
    /// What the last test left.
    pub fn status(&self) -> Status {
        match self.state {
            State::Off | State::Untested => Status::NotRun,
            State::Testing { was, .. } => was,
            State::Enabled | State::Retrying { .. } => Status::Success,
            State::Disabled => Status::Failure,
        }
    }

    /// True if it would run, were it not for a test under way.
    pub fn is_enabled(&self) -> bool {
        self.status() == Status::Success
    }

    /// True if it failed and was not well since.
    pub fn is_failing(&self) -> bool {
        matches!(self.state, State::Retrying { .. }) || self.status() == Status::Failure
    }

    /// Failures in a row that count against the mailbox.
    pub fn failures(&self) -> u8 {
        match self.state {
            State::Retrying { failures } => failures,
            State::Off | State::Untested | State::Testing { .. } | State::Enabled | State::Disabled => 0,
        }
    }

    /// When it runs next and why then; `None` if it does not run. The same function for the holder, which runs it,
    /// and the coordinator, which explains it.
    pub fn next_run(&self, mailbox: MailboxId, pace: &Pace, now: Timestamp) -> Option<NextRun> {
        let not_before = self.not_before.map(|stored| stored.min(now + pace.longest_wait));
        let waits = not_before.filter(|stored| *stored > now);
        match self.state {
            State::Off | State::Untested | State::Disabled => None,
            State::Testing { tries: 0, .. } => {
                Some(NextRun { at: waits.unwrap_or(now), why: Why::TestWanted })
            }
            State::Testing { .. } => Some(NextRun { at: waits.unwrap_or(now), why: Why::TestRetry }),
            State::Enabled | State::Retrying { .. } => Some(match (waits, self.state, self.reason) {
                (Some(at), State::Retrying { .. }, _) => NextRun { at, why: Why::RetryGap },
                (Some(at), ..) => NextRun { at, why: Why::BackOff },
                (None, State::Retrying { failures: 1.. }, _) => NextRun { at: now, why: Why::RetryGap },
                (None, ..) => self.phase_point(mailbox, pace, now),
            }),
        }
    }

    /// The first moment after `now` at which `t mod period = H(mailbox) mod period`.
    fn phase_point(&self, mailbox: MailboxId, pace: &Pace, now: Timestamp) -> NextRun {
        let why = if pace.minimum_interval > self.period { Why::MinimumInterval } else { Why::Phase };
        NextRun { at: turn(mailbox, self.period.max(pace.minimum_interval), now), why }
    }
}

/// The next turn of a mailbox among all that take one in each period, which their ids spread over it.
pub(crate) fn turn(mailbox: MailboxId, period: Duration, now: Timestamp) -> Timestamp {
    let period = millis(period).max(1);
    let phase = (id::hash(&mailbox.to_bytes()) % period as u64) as i64;
    let wait = (phase - now.as_millis().rem_euclid(period)).rem_euclid(period);
    let wait = if wait == 0 { period } else { wait };
    now + Duration::from_millis(wait as u64)
}

/// How a mailbox fares: what the failure ratio counts. Derived from its operations and stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// No operation is enabled and none was disabled by an error.
    #[default]
    NotEligible,
    /// It works.
    Ok,
    /// At least one operation is retrying after a failure or was disabled by an error.
    Failing,
}

impl Health {
    /// The health of a mailbox with these operations. A breaker that holds the mailbox back is a fact of the profile
    /// and not in here.
    pub fn of(operations: &[Operation; 3]) -> Self {
        if operations.iter().any(Operation::is_failing) {
            Self::Failing
        } else if operations.iter().any(Operation::is_enabled) {
            Self::Ok
        } else {
            Self::NotEligible
        }
    }
}

/// The text is not the word of any value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of {known}")]
pub struct UnknownWord {
    /// What stood there.
    pub text: String,
    /// What may stand there.
    pub known: &'static str,
}

/// The words of an enum, in every text form.
#[macro_export]
macro_rules! words {
    ($($name:ident: $($variant:ident = $word:literal),+;)+) => {$(
        impl $name {
            /// The word that stands for it in every text form.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, out: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                out.write_str(self.word())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::operation::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err($crate::operation::UnknownWord { text: text.to_owned(), known: concat!($($word, " "),+).trim_ascii_end() }),
                }
            }
        }
    )+};
}

words! {
    Direction: Incoming = "incoming", Outgoing = "outgoing";
    Kind: Incoming = "incoming", Outgoing = "outgoing", Act = "act";
    Method: None = "none", ServerSide = "sss", Forward = "forward";
    Status: NotRun = "not_run", Success = "success", Failure = "failure";
    Health: NotEligible = "not_eligible", Ok = "ok", Failing = "failing";
    Why: Phase = "phase", MinimumInterval = "minimum_interval", RetryGap = "retry_gap", BackOff = "back_off",
        Breaker = "breaker", TestRetry = "test_retry", TestWanted = "test_wanted", PollWanted = "poll_wanted",
        Backlog = "backlog", Notified = "notified";
}

impl State {
    /// The word of the state, without its numbers.
    pub const fn word(self) -> &'static str {
        match self {
            State::Off => "off",
            State::Untested => "untested",
            State::Testing { .. } => "testing",
            State::Enabled => "enabled",
            State::Retrying { .. } => "retrying",
            State::Disabled => "disabled",
        }
    }
}

/// The word and its numbers: `retrying:3`, `testing:1:success`.
impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Testing { tries, was } => write!(out, "testing:{tries}:{was}"),
            State::Retrying { failures } => write!(out, "retrying:{failures}"),
            State::Off | State::Untested | State::Enabled | State::Disabled => out.write_str(self.word()),
        }
    }
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord {
            text: text.to_owned(),
            known: "off untested testing:TRIES:STATUS enabled retrying:FAILURES disabled",
        };
        let mut parts = text.split(':');
        let word = parts.next().unwrap_or_default();
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).ok_or_else(unknown);
        let state = match word {
            "off" => State::Off,
            "untested" => State::Untested,
            "testing" => State::Testing {
                tries: number(parts.next())?,
                was: parts.next().and_then(|was| was.parse().ok()).ok_or_else(unknown)?,
            },
            "enabled" => State::Enabled,
            "retrying" => State::Retrying { failures: number(parts.next())? },
            "disabled" => State::Disabled,
            _ => return Err(unknown()),
        };
        if parts.next().is_some() { Err(unknown()) } else { Ok(state) }
    }
}

/// One line: `sss retrying:3 period=300000 not_before=1772366400250 reason=MAILBOX_UNAVAILABLE`.
impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.method, self.state)?;
        if !self.period.is_zero() {
            write!(out, " period={}", millis(self.period))?;
        }
        if let Some(at) = self.not_before {
            write!(out, " not_before={}", at.as_millis())?;
        }
        if let Some(reason) = self.reason {
            write!(out, " reason={reason}")?;
        }
        Ok(())
    }
}

impl FromStr for Operation {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown =
            || UnknownWord { text: text.to_owned(), known: "METHOD STATE [period=] [not_before=] [reason=]" };
        let mut parts = text.split(' ');
        let mut operation = Self {
            method: parts.next().unwrap_or_default().parse()?,
            state: parts.next().unwrap_or_default().parse()?,
            ..Self::default()
        };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            match key {
                "period" => operation.period = Duration::from_millis(value.parse().map_err(|_| unknown())?),
                "not_before" => {
                    operation.not_before =
                        Some(Timestamp::from_millis(value.parse().map_err(|_| unknown())?));
                }
                "reason" => operation.reason = Some(value.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            }
        }
        Ok(operation)
    }
}
