//! How large a share of a profile's mailboxes is failing, and when that is worth an alert and a mail.

use std::{fmt, str::FromStr, time::Duration};

use crate::{operation::UnknownWord, time::Timestamp};

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// It is high strictly above this, in hundredths.
    pub threshold_percent: u8,
    /// It is normal again at or below this, in hundredths.
    pub clear_percent: u8,
    /// How long it must be high before it is told.
    pub hold: Duration,
    /// How long it must be normal before it is told.
    pub clear_hold: Duration,
    /// The owner is mailed again after this, while it stays high.
    pub renotify: Duration,
    /// With fewer eligible mailboxes nothing is told.
    pub minimum_population: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            threshold_percent: 50,
            clear_percent: 45,
            hold: Duration::from_mins(1),
            clear_hold: Duration::from_mins(10),
            renotify: Duration::from_hours(24),
            minimum_population: 1,
        }
    }
}

/// Mailboxes of a profile, counted on their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// With at least one operation that is enabled or was disabled by an error.
    pub eligible: u64,
    /// Of those: with at least one that is retrying after a failure or was disabled by an error.
    pub failing: u64,
    /// The profile's breaker is open: every eligible mailbox fails.
    pub held_back: bool,
}

impl Counts {
    /// How many fail, the breaker taken into account.
    pub fn failing(self) -> u64 {
        if self.held_back { self.eligible } else { self.failing.min(self.eligible) }
    }

    fn exceeds(self, percent: u8) -> bool {
        u128::from(self.failing()) * 100 > u128::from(self.eligible) * u128::from(percent)
    }
}

/// Where the profile stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// The share is normal.
    #[default]
    Normal,
    /// It is high, and nobody was told yet.
    Rising {
        /// Since when.
        since: Timestamp,
    },
    /// It is high and was told.
    High {
        /// When it was told.
        since: Timestamp,
        /// When the owner was mailed last.
        notified: Timestamp,
        /// Since when it is normal, if it is.
        falling: Option<Timestamp>,
    },
}

/// What shall be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Open the alert.
    pub open: bool,
    /// Mail the owner.
    pub notify: bool,
    /// Resolve the alert.
    pub resolve: bool,
}

impl State {
    /// The next state under these counts.
    pub fn step(self, rules: &Rules, counts: Counts, now: Timestamp) -> (Self, Effects) {
        let enough = counts.eligible >= rules.minimum_population.max(1);
        let high = enough && counts.exceeds(rules.threshold_percent);
        let normal = !enough || !counts.exceeds(rules.clear_percent.min(rules.threshold_percent));
        let nothing = Effects::default();
        match self {
            Self::Normal | Self::Rising { .. } if !high => (Self::Normal, nothing),
            Self::Normal => Self::Rising { since: now }.step(rules, counts, now),
            Self::Rising { since } => {
                // A clock that jumped back begins the hold anew.
                let since = since.min(now);
                if now.since(since) < rules.hold {
                    return (Self::Rising { since }, nothing);
                }
                let told = Self::High { since: now, notified: now, falling: None };
                (told, Effects { open: true, notify: true, resolve: false })
            }
            Self::High { since, notified, .. } if !normal => {
                let again = now.since(notified.min(now)) >= rules.renotify;
                let notified = if again { now } else { notified.min(now) };
                (Self::High { since, notified, falling: None }, Effects { notify: again, ..nothing })
            }
            Self::High { since, notified, falling } => {
                let falling = falling.unwrap_or(now).min(now);
                if now.since(falling) < rules.clear_hold {
                    return (Self::High { since, notified, falling: Some(falling) }, nothing);
                }
                (Self::Normal, Effects { resolve: true, ..nothing })
            }
        }
    }

    /// When it may change by the mere passing of time; `None`: not unless the counts change.
    pub fn wake_at(self, rules: &Rules) -> Option<Timestamp> {
        match self {
            Self::Normal => None,
            Self::Rising { since } => Some(since + rules.hold),
            Self::High { falling: Some(falling), .. } => Some(falling + rules.clear_hold),
            Self::High { notified, falling: None, .. } => Some(notified + rules.renotify),
        }
    }
}

const KNOWN: &str = "normal rising:SINCE high:SINCE:NOTIFIED:FALLING";

/// `normal`, `rising:1772366400250`, `high:1772366460250:1772366460250:-`.
impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => out.write_str("normal"),
            Self::Rising { since } => write!(out, "rising:{}", since.as_millis()),
            Self::High { since, notified, falling } => {
                write!(out, "high:{}:{}:", since.as_millis(), notified.as_millis())?;
                match falling {
                    Some(falling) => write!(out, "{}", falling.as_millis()),
                    None => out.write_str("-"),
                }
            }
        }
    }
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { text: text.to_owned(), known: KNOWN };
        let moment = |text: &str| text.parse().map(Timestamp::from_millis).map_err(|_| unknown());
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts[..] {
            ["normal"] => Self::Normal,
            ["rising", since] => Self::Rising { since: moment(since)? },
            ["high", since, notified, falling] => Self::High {
                since: moment(since)?,
                notified: moment(notified)?,
                falling: if falling == "-" { None } else { Some(moment(falling)?) },
            },
            _ => return Err(unknown()),
        })
    }
}
