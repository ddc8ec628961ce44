//! The lease of a worker's process: how long it may go on by itself, counted on a clock that runs while it sleeps.
//!
//! A renewal counts from the moment it was sent, never from its answer: the store may have counted earlier.

use std::time::Duration;

use crate::time::BootTime;

/// Numbers that all processes of a cluster share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a renewal lasts.
    pub ttl: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How much two clocks may differ in rate, in thousandths.
    pub clock_rate_permille: u32,
    /// Slack for a process that is not scheduled in time.
    pub guard: Duration,
    /// One EWS request is given up after this (D).
    pub request_deadline: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            renew: Duration::from_secs(5),
            clock_rate_permille: 10,
            guard: Duration::from_millis(500),
            request_deadline: Duration::from_secs(20),
        }
    }
}

impl Rules {
    /// How long after a lease's end its shards stay where they are: what was begun in its last moment may still be
    /// running at Exchange.
    pub fn grace(&self) -> Duration {
        self.request_deadline + Duration::from_millis(500)
    }

    /// The share of a promise of the store that is relied on, with another clock than the store's.
    pub fn relied_on(&self, promised: Duration) -> Duration {
        let permille = 1000_u32.saturating_sub(2 * self.clock_rate_permille);
        (promised * permille / 1000).saturating_sub(self.guard)
    }
}

/// A lease as its holder sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Nothing is begun at or after this; `None`: there is none.
    deadline: Option<BootTime>,
    /// It was declared dead: this process never holds anything again.
    lost: bool,
}

/// What happens to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A renewal that was sent at this moment was accepted.
    Renewed {
        /// When the request for it was sent.
        sent: BootTime,
    },
    /// The store says that this process was declared dead.
    Lost,
    /// The clocks show that the host was stopped for a while: what is believed of the lease is worth nothing.
    ClockJumped,
}

impl Lease {
    /// The next state. A renewal whose answer comes late or twice never shortens the lease.
    #[must_use]
    pub fn step(self, rules: &Rules, event: Event) -> Self {
        match event {
            Event::Renewed { sent } if !self.lost => {
                let until = sent + rules.relied_on(rules.ttl);
                Self { deadline: self.deadline.max(Some(until)), ..self }
            }
            Event::Renewed { .. } => self,
            Event::Lost => Self { deadline: None, lost: true },
            Event::ClockJumped => Self { deadline: None, ..self },
        }
    }

    /// Until when something that may be dropped may run; `None`: nothing may be begun.
    pub fn reads_until(self, now: BootTime) -> Option<BootTime> {
        self.deadline.filter(|deadline| now < *deadline)
    }

    /// True if something with an effect at Exchange may be begun: it ends, one way or the other, within the lease.
    pub fn allows_effect(self, rules: &Rules, now: BootTime) -> bool {
        self.deadline.is_some_and(|deadline| now + rules.request_deadline < deadline)
    }

    /// True once this process was declared dead.
    pub fn is_lost(self) -> bool {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_millis(millis)
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_its_renewal() {
        let rules = Rules::default();
        let lease = Lease::default().step(&rules, Event::Renewed { sent: at(1000) });
        let end = 1000 + 30_000 * 98 / 100 - 500;
        for (now, reads, effects) in [
            (1000, true, true),
            (end - 20_001, true, true),
            (end - 20_000, true, false),
            (end - 1, true, false),
            (end, false, false),
        ] {
            assert_eq!(lease.reads_until(at(now)).is_some(), reads, "reads at {now}");
            assert_eq!(lease.allows_effect(&rules, at(now)), effects, "effects at {now}");
        }
    }

    #[test]
    fn answers_that_come_late_twice_or_after_the_end_change_nothing_for_the_worse() {
        let rules = Rules::default();
        let renewed = |sent| Event::Renewed { sent: at(sent) };
        let lease = Lease::default().step(&rules, renewed(9000));
        assert_eq!(lease.step(&rules, renewed(4000)), lease, "an older renewal answered later");
        assert_eq!(lease.step(&rules, renewed(9000)), lease, "the same answer twice");
        let jumped = lease.step(&rules, Event::ClockJumped);
        assert_eq!(jumped.reads_until(at(9001)), None);
        assert_eq!(jumped.step(&rules, renewed(9500)).reads_until(at(9501)), Some(at(9500 + 28_900)));
        let lost = lease.step(&rules, Event::Lost).step(&rules, renewed(20_000));
        assert!(lost.is_lost());
        assert_eq!(lost.reads_until(at(20_001)), None, "what is dead stays dead");
    }

    /// Whatever two clocks do within the bound, nobody takes over while the holder still relies on its lease, and no
    /// effect begun within it runs once it was taken over.
    #[test]
    fn nobody_takes_over_what_is_still_relied_on() {
        let rules = Rules::default();
        for rate in [990_u64, 995, 1000, 1005, 1010] {
            for latency in [0_u64, 1, 400, 5000] {
                let lease = Lease::default().step(&rules, Event::Renewed { sent: at(0) });
                // The store counts from the arrival of the request, with a clock of its own rate.
                let taken = latency * 1000 / rate + (30_000 + 20_500) * 1000 / rate;
                let last_effect =
                    (0..60_000).rev().find(|now| lease.allows_effect(&rules, at(*now))).unwrap_or(0);
                assert!(last_effect + 20_000 < taken, "rate {rate}, latency {latency}");
                let last_read =
                    (0..60_000).rev().find(|now| lease.reads_until(at(*now)).is_some()).unwrap_or(0);
                assert!(
                    last_read < 30_000 * 1000 / rate + latency,
                    "rate {rate}, latency {latency}: {last_read}"
                );
            }
        }
    }
}
