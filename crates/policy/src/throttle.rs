//! One budget per profile: how many requests may be at its server at once, and when none may.
//!
//! A server that asks to wait is obeyed within a floor and a ceiling; the limit of connections shrinks at once when the
//! server pushes back and grows slowly while it does not (additive increase, multiplicative decrease).

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    id::{self, ProfileId},
    operation::UnknownWord,
    reason::Reason,
    time::{Timestamp, millis},
};

/// Numbers of the deployment and of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The profile, for jitter.
    pub profile: ProfileId,
    /// The profile's maximum of concurrent connections, 1–300.
    pub max_connections: u16,
    /// No pause is shorter.
    pub floor: Duration,
    /// No pause is longer (before jitter).
    pub ceiling: Duration,
    /// The first pause without a hint; it doubles.
    pub first_back_off: Duration,
    /// What is left of the limit when the server pushes back, in hundredths.
    pub decrease_percent: u16,
    /// How long the server must be content for the limit to grow by one.
    pub increase_every: Duration,
}

impl Rules {
    /// The rules of a profile with the default numbers.
    pub fn new(profile: ProfileId, max_connections: u16) -> Self {
        Self {
            profile,
            max_connections: max_connections.clamp(1, 300),
            floor: Duration::from_secs(1),
            ceiling: Duration::from_mins(10),
            first_back_off: Duration::from_secs(5),
            decrease_percent: 70,
            increase_every: Duration::from_secs(30),
        }
    }

    fn longest_pause(&self) -> Duration {
        self.ceiling + self.ceiling / 5
    }

    fn pause(&self, hint: Option<Duration>, strikes: u8) -> Duration {
        let asked = hint.unwrap_or_else(|| self.first_back_off * (1 << u32::from(strikes.min(16))));
        let tamed = asked.clamp(self.floor, self.ceiling.max(self.floor));
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&self.profile.to_bytes());
        bytes[16] = strikes;
        let fifth = (millis(tamed) / 5).max(1) as u64;
        tamed + Duration::from_millis(id::hash(&bytes) % fifth)
    }
}

/// Why nothing is sent for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pause {
    /// When it began: what was sent before it belongs to it.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// What the server said.
    pub reason: Reason,
}

/// What the server lets us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// How many requests may be under way; between 1 and the profile's maximum.
    pub limit: u16,
    /// The pause under way, or the last one.
    pub pause: Option<Pause>,
    /// Pauses in a row without a success in between.
    pub strikes: u8,
    /// When the limit changed last.
    pub changed: Timestamp,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server asked to wait.
    Throttled {
        /// When the request was begun.
        begun: Timestamp,
        /// What it said.
        reason: Reason,
        /// How long it asked to wait.
        hint: Option<Duration>,
    },
    /// The server refused one more connection: no pause, a smaller limit.
    TooManyConnections {
        /// When the request was begun.
        begun: Timestamp,
    },
    /// The server answered without complaint.
    Succeeded {
        /// When the request was begun.
        begun: Timestamp,
    },
    /// The profile's maximum changed.
    RulesChanged,
}

/// Whether one more request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Now,
    /// Not before this moment.
    At(Timestamp),
    /// Once another one has come back.
    WhenReturned,
}

impl State {
    /// Nothing known of the server: it may be asked with all connections.
    pub fn new(rules: &Rules, now: Timestamp) -> Self {
        Self { limit: rules.max_connections, pause: None, strikes: 0, changed: now }
    }

    /// The next state.
    #[must_use]
    pub fn step(self, rules: &Rules, event: Event, now: Timestamp) -> Self {
        match event {
            Event::Throttled { begun, reason, hint } => self.throttled(rules, begun, reason, hint, now),
            Event::TooManyConnections { begun } if begun >= self.changed => self.smaller(rules, now),
            Event::TooManyConnections { .. } => self,
            Event::Succeeded { begun } => self.succeeded(rules, begun, now),
            Event::RulesChanged => Self { limit: self.limit.clamp(1, rules.max_connections), ..self },
        }
    }

    /// Whether one more request may be sent beside those `in_flight`.
    pub fn admits(&self, rules: &Rules, in_flight: u16, now: Timestamp) -> Admission {
        if let Some(until) = self.paused_until(rules, now) {
            Admission::At(until)
        } else if in_flight < self.limit.clamp(1, rules.max_connections) {
            Admission::Now
        } else {
            Admission::WhenReturned
        }
    }

    /// When the pause under way ends. A clock that jumped back makes no pause longer than the longest.
    pub fn paused_until(&self, rules: &Rules, now: Timestamp) -> Option<Timestamp> {
        let until = self.pause?.until.min(now + rules.longest_pause());
        (until > now).then_some(until)
    }

    fn throttled(
        self,
        rules: &Rules,
        begun: Timestamp,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        let under_way = self.pause.filter(|pause| begun < pause.since);
        if let Some(pause) = under_way {
            // It was sent before the pause began: the same complaint once more. Only a longer hint is news.
            let until = hint.map_or(pause.until, |_| pause.until.max(now + rules.pause(hint, self.strikes)));
            return Self { pause: Some(Pause { until, ..pause }), ..self };
        }
        let pause = Pause { since: now, until: now + rules.pause(hint, self.strikes), reason };
        Self { pause: Some(pause), strikes: self.strikes.saturating_add(1), ..self.smaller(rules, now) }
    }

    fn smaller(self, rules: &Rules, now: Timestamp) -> Self {
        let limit = u32::from(self.limit) * u32::from(rules.decrease_percent) / 100;
        Self { limit: (limit as u16).clamp(1, rules.max_connections), changed: now, ..self }
    }

    fn succeeded(self, rules: &Rules, begun: Timestamp, now: Timestamp) -> Self {
        if self.pause.is_some_and(|pause| begun < pause.since) {
            return self;
        }
        let grows = self.limit < rules.max_connections
            && (now.since(self.changed) >= rules.increase_every || self.changed > now);
        let (limit, changed) = if grows { (self.limit + 1, now) } else { (self.limit, self.changed) };
        Self { limit, changed, strikes: 0, ..self }
    }
}

const KNOWN: &str = "limit= strikes= changed= [paused=SINCE:UNTIL:REASON]";

/// One line: `limit=7 strikes=1 changed=1772366400250 paused=1772366400250:1772366405250:EXCHANGE_SERVER_BUSY`.
impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "limit={} strikes={} changed={}", self.limit, self.strikes, self.changed.as_millis())?;
        match &self.pause {
            Some(Pause { since, until, reason }) => {
                write!(out, " paused={}:{}:{reason}", since.as_millis(), until.as_millis())
            }
            None => Ok(()),
        }
    }
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { text: text.to_owned(), known: KNOWN };
        let mut state = Self { limit: 1, pause: None, strikes: 0, changed: Timestamp::EPOCH };
        let moment = |text: &str| text.parse().map(Timestamp::from_millis).map_err(|_| unknown());
        for part in text.split(' ') {
            match part.split_once('=').ok_or_else(unknown)? {
                ("limit", value) => state.limit = value.parse().map_err(|_| unknown())?,
                ("strikes", value) => state.strikes = value.parse().map_err(|_| unknown())?,
                ("changed", value) => state.changed = moment(value)?,
                ("paused", value) => {
                    let parts: Vec<&str> = value.split(':').collect();
                    let [since, until, reason] = parts[..] else { return Err(unknown()) };
                    let reason = reason.parse().map_err(|_| unknown())?;
                    state.pause = Some(Pause { since: moment(since)?, until: moment(until)?, reason });
                }
                _ => return Err(unknown()),
            }
        }
        Ok(state)
    }
}
