//! Numbers of the deployment and the profile, and what a failure means under them.

use std::time::Duration;

use crate::{
    operation::Pace,
    reason::{Nature, Reason, Scope},
    time::millis,
};

/// Numbers of the deployment and of the mailbox's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The usual period of an enabled operation.
    pub active_period: Duration,
    /// The period while there is much to do.
    pub active_min: Duration,
    /// The first period while there is nothing to do.
    pub active_max: Duration,
    /// How long the period may grow while nothing happens.
    pub idle_max: Duration,
    /// The wait after a failure.
    pub retry_gap: Duration,
    /// The failure in a row that disables.
    pub retry_attempts: u8,
    /// The wait after the first failed test; it doubles.
    pub test_gap: Duration,
    /// Failed tests that are tried again.
    pub test_tries: u8,
    /// The wait after throttling without a hint.
    pub back_off: Duration,
    /// No hint of the server makes the mailbox wait longer.
    pub back_off_max: Duration,
    /// The profile's minimum polling interval; zero: no floor.
    pub minimum_interval: Duration,
    /// Between two polls that notifications bring forward: many that come together make few polls.
    pub notified_gap: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            active_period: minutes(5),
            active_min: minutes(2),
            active_max: minutes(12),
            idle_max: minutes(60),
            retry_gap: minutes(5),
            retry_attempts: 10,
            test_gap: minutes(1),
            test_tries: 3,
            back_off: Duration::from_secs(30),
            back_off_max: minutes(10),
            minimum_interval: Duration::ZERO,
            notified_gap: Duration::from_secs(1),
        }
    }
}

impl Rules {
    /// The deployment's rules with the numbers of a profile: its minimum polling interval, and how long the period of
    /// its idle mailboxes may grow. The same for the holder, which runs by them, and the coordinator, which explains.
    #[must_use]
    pub fn for_profile(self, minimum_interval: Duration, idle_max: Duration) -> Self {
        Self { idle_max, minimum_interval, ..self }
    }

    /// What bounds every wait under these rules.
    pub fn pace(&self) -> Pace {
        let longest =
            [self.active_period, self.idle_max, self.minimum_interval, self.retry_gap, self.back_off_max];
        Pace {
            minimum_interval: self.minimum_interval,
            longest_wait: longest.into_iter().max().unwrap_or(self.active_period),
        }
    }

    /// The next longer period: 2, 5, 12 minutes, then doubling up to the ceiling of idle mailboxes.
    pub(super) fn slower(&self, period: Duration) -> Duration {
        let ceiling = self.idle_max.max(self.active_max);
        let longer =
            [self.active_min, self.active_period, self.active_max].into_iter().find(|step| *step > period);
        longer.unwrap_or(period * 2).min(ceiling)
    }

    /// The next shorter period: an idle mailbox is active again at once, an active one goes faster.
    pub(super) fn faster(&self, period: Duration) -> Duration {
        if period > self.active_period { self.active_period } else { self.active_min.min(period) }
    }
}

impl Rules {
    /// How long to wait because the server asked to: floor one second, ceiling, up to a fifth more by jitter.
    pub(super) fn wait(&self, hint: Option<Duration>, jitter: u64) -> Duration {
        let asked = hint.filter(|hint| !hint.is_zero()).unwrap_or(self.back_off);
        let asked = asked.clamp(Duration::from_secs(1).min(self.back_off_max), self.back_off_max);
        let fifth = (millis(asked) / 5).max(1) as u64;
        (asked + Duration::from_millis(jitter % fifth)).min(self.back_off_max)
    }
}

/// What a failure means to the one operation that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait; it never counts.
    Throttled,
    /// The server's fault: it never counts against the mailbox.
    ServerFault,
    /// It counts, and is tried again.
    Transient,
    /// It disables at once.
    Permanent,
}

impl Verdict {
    pub(super) fn of(reason: Reason) -> Self {
        match (reason.is_server_fault(), reason.nature(), reason.scope()) {
            (true, ..) => Self::ServerFault,
            (_, Nature::Throttled, _) => Self::Throttled,
            (_, Nature::Transient, _) | (_, _, Scope::Item) => Self::Transient,
            (_, Nature::Permanent | Nature::Configuration, _) => Self::Permanent,
        }
    }
}
