//! Hosts: their clocks, whether they stand still, and which others they hear.

use std::collections::BTreeMap;

use mailyard_policy::{BootTime, Timestamp};

/// A host by its number.
pub type HostId = usize;

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its clock against the true one, in thousandths.
    rate: u64,
    boot: u64,
    since: u64,
    /// It does nothing before.
    pub paused_until: u64,
    /// Raised at each start of its process.
    pub generation: u32,
    /// Its process is there.
    pub up: bool,
}

impl Host {
    pub fn new(boot: u64) -> Self {
        Self { rate: 1000, boot, since: 0, paused_until: 0, generation: 0, up: false }
    }

    /// Its clock at a true moment.
    pub fn boot(&self, now: u64) -> BootTime {
        BootTime::from_millis(self.boot + (now - self.since) * self.rate / 1000)
    }

    /// The same as a time of day.
    pub fn time(&self, now: u64) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.boot(now).as_millis()).unwrap_or(i64::MAX))
    }

    /// From now on its clock runs at another rate.
    pub fn set_rate(&mut self, rate: u64, now: u64) {
        self.boot = self.boot(now).as_millis();
        (self.since, self.rate) = (now, rate);
    }
}

/// Which hosts do not hear which.
#[derive(Clone, Debug, Default)]
pub struct Cuts(BTreeMap<(HostId, HostId), u64>);

impl Cuts {
    /// What the first says does not reach the second for a while.
    pub fn cut(&mut self, from: HostId, to: HostId, until: u64) {
        let end = self.0.entry((from, to)).or_default();
        *end = (*end).max(until);
    }

    /// True if what the first says now reaches the second.
    pub fn hears(&self, from: HostId, to: HostId, now: u64) -> bool {
        self.0.get(&(from, to)).is_none_or(|until| *until <= now)
    }

    /// Everybody hears everybody.
    pub fn heal(&mut self) {
        self.0.clear();
    }
}
