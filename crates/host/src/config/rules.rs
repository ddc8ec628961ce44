//! The configuration as the core's rules.

use mailyard_policy::{alert::ratio, breaker, lease, mailbox, outbox, tracking::Portions};

use super::Config;

impl Config {
    /// When mailboxes are polled, tried again and disabled; a profile's own numbers come on top.
    pub fn mailbox_rules(&self) -> mailbox::Rules {
        let sync = &self.sync;
        mailbox::Rules {
            active_period: sync.active_period,
            active_min: sync.active_min,
            active_max: sync.active_max,
            idle_max: sync.idle_max,
            retry_gap: sync.retry_gap,
            retry_attempts: sync.retry_attempts,
            ..mailbox::Rules::default()
        }
    }

    /// How emails are sent.
    pub fn outbox_rules(&self) -> outbox::Rules {
        outbox::Rules {
            request_deadline: self.exchange.request_deadline,
            retry_gap: self.sync.retry_gap,
            attempts: self.sync.retry_attempts,
            ..outbox::Rules::default()
        }
    }

    /// When the server of a profile is left alone.
    pub fn breaker_rules(&self) -> breaker::Rules {
        let breaker = &self.breaker;
        breaker::Rules {
            faults: breaker.faults,
            canary_first: breaker.canary_first,
            canary_max: breaker.canary_max,
            credential_canary: breaker.credential_canary,
            successes: breaker.successes,
            ..breaker::Rules::default()
        }
    }

    /// When a profile's owner is told that mailboxes fail.
    pub fn ratio_rules(&self) -> ratio::Rules {
        let alerts = &self.alerts;
        ratio::Rules {
            threshold_percent: alerts.failure_ratio.0,
            clear_percent: alerts.clear_below.0,
            hold: alerts.hold,
            clear_hold: alerts.clear_hold,
            renotify: alerts.renotify,
            minimum_population: alerts.minimum_population,
        }
    }

    /// How the contents of messages are fetched.
    pub fn portions(&self) -> Portions {
        Portions { largest: self.exchange.max_message_size.0, ..Portions::default() }
    }

    /// Leases, on which all processes of a cluster agree. A shorter request deadline does not shorten them.
    pub fn lease_rules(&self) -> lease::Rules {
        lease::Rules::default()
    }
}
