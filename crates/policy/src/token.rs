//! When a client's token is used, when another one is asked for, and how long none is.

use std::time::Duration;

use crate::time::Timestamp;

/// Numbers of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Another token is asked for so long before the old one ends, but not before half of its life.
    pub early: Duration,
    /// No token is used for longer.
    pub longest_life: Duration,
    /// The wait after a passing fault; it doubles.
    pub first_wait: Duration,
    /// No wait after a passing fault is longer, whatever the authority asks for.
    pub longest_wait: Duration,
    /// The wait after a refusal: the same request will hardly fare better.
    pub refused_wait: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            early: Duration::from_mins(5),
            longest_life: Duration::from_hours(24),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            refused_wait: Duration::from_secs(30),
        }
    }
}

/// What a request does that needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It uses the token.
    Use,
    /// It uses the token, and another one is asked for beside it.
    UseAndAsk,
    /// It asks for a token and waits for it.
    Ask,
    /// It waits for the token that is asked for already.
    Wait,
    /// It fails as the last one did.
    Refuse,
}

/// Why no token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something that may pass; the authority may have said when to come again.
    Passing(Option<Duration>),
    /// A refusal.
    Lasting,
}

/// The schedule of one client's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    token: Option<Life>,
    pause: Option<Span>,
    /// Passing faults in a row.
    faults: u32,
    /// When the server refused a token last, without one accepted since.
    refused: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    from: Timestamp,
    renew: Timestamp,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Timestamp,
    until: Timestamp,
}

impl Span {
    /// A clock that jumped back ends it.
    fn holds(self, now: Timestamp) -> bool {
        (self.from..self.until).contains(&now)
    }
}

impl Schedule {
    /// What a request does now. `asking`: a token is asked for already.
    pub fn advise(&self, asking: bool, now: Timestamp) -> Advice {
        let paused = self.pause.is_some_and(|pause| pause.holds(now));
        match self.token.filter(|token| now < token.until) {
            Some(token) if (token.from..token.renew).contains(&now) || asking || paused => Advice::Use,
            Some(_) => Advice::UseAndAsk,
            None if asking => Advice::Wait,
            None if paused => Advice::Refuse,
            None => Advice::Ask,
        }
    }

    /// A token came that lives so long from the moment it was asked for.
    pub fn came(&mut self, rules: &Rules, life: Duration, from: Timestamp) {
        let life = life.min(rules.longest_life);
        let until = from + life;
        let renew = until - rules.early.min(life / 2);
        *self = Self { token: Some(Life { from, renew, until }), refused: self.refused, ..Self::default() };
    }

    /// No token came.
    pub fn failed(&mut self, rules: &Rules, fault: Fault, now: Timestamp) {
        let wait = match fault {
            Fault::Lasting => rules.refused_wait,
            Fault::Passing(asked) => {
                let own = rules.first_wait.saturating_mul(1 << self.faults.min(16));
                self.faults += 1;
                asked.unwrap_or(own).clamp(rules.first_wait, rules.longest_wait)
            }
        };
        self.pause = Some(Span { from: now, until: now + wait });
    }

    /// The server refused the token. True if another one may help: not if the one before was refused just so and none
    /// was accepted since. `accepted`: this one was, before.
    pub fn refused(&mut self, rules: &Rules, accepted: bool, now: Timestamp) -> bool {
        self.token = None;
        let before = self.refused.replace(now).filter(|_| !accepted);
        let again = before.is_some_and(|at| Span { from: at, until: at + rules.refused_wait }.holds(now));
        if again {
            self.failed(rules, Fault::Lasting, now);
        }
        !again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, at a second, and what a request does then.
    enum Event {
        Came(u64),
        Failed(Fault),
        Refused { accepted: bool, helps: bool },
        Asked(bool, Advice),
    }
    use Event::{Asked, Came, Failed, Refused};

    fn play(events: &[(i64, Event)]) {
        let (rules, mut schedule) = (Rules::default(), Schedule::default());
        for (at, (second, event)) in events.iter().enumerate() {
            let now = Timestamp::from_millis(second * 1000);
            match *event {
                Came(life) => schedule.came(&rules, Duration::from_secs(life), now),
                Failed(fault) => schedule.failed(&rules, fault, now),
                Refused { accepted, helps } => {
                    assert_eq!(schedule.refused(&rules, accepted, now), helps, "event {at}");
                }
                Asked(asking, advice) => assert_eq!(schedule.advise(asking, now), advice, "event {at}"),
            }
        }
    }

    #[test]
    fn a_token_is_renewed_early_and_used_to_its_end() {
        play(&[
            (0, Asked(false, Advice::Ask)),
            (0, Asked(true, Advice::Wait)),
            (0, Came(3600)),
            (0, Asked(false, Advice::Use)),
            (3299, Asked(false, Advice::Use)),
            (3300, Asked(false, Advice::UseAndAsk)),
            (3300, Asked(true, Advice::Use)),
            (3599, Asked(false, Advice::UseAndAsk)),
            (3600, Asked(true, Advice::Wait)),
            (3600, Asked(false, Advice::Ask)),
        ]);
        // Half of a short life, and not all of an endless one.
        play(&[
            (0, Came(60)),
            (29, Asked(false, Advice::Use)),
            (30, Asked(false, Advice::UseAndAsk)),
            (100, Came(u64::MAX)),
            (100 + 86_400 - 301, Asked(false, Advice::Use)),
            (100 + 86_400 - 300, Asked(false, Advice::UseAndAsk)),
            (100 + 86_400, Asked(false, Advice::Ask)),
        ]);
    }

    #[test]
    fn faults_pause_and_no_pause_is_longer_than_its_ceiling() {
        let passing = || Failed(Fault::Passing(None));
        play(&[
            (0, passing()),
            (0, Asked(false, Advice::Refuse)),
            (1, Asked(false, Advice::Ask)),
            (1, passing()),
            (2, Asked(false, Advice::Refuse)),
            (3, Asked(false, Advice::Ask)),
            (3, Failed(Fault::Passing(Some(Duration::from_hours(1))))),
            (32, Asked(false, Advice::Refuse)),
            (33, Asked(false, Advice::Ask)),
            (33, Failed(Fault::Lasting)),
            (62, Asked(false, Advice::Refuse)),
            (63, Asked(false, Advice::Ask)),
            // A clock that jumped back stops nothing.
            (64, Failed(Fault::Lasting)),
            (10, Asked(false, Advice::Ask)),
        ]);
        let many: Vec<_> = (0..40).map(|_| (0, passing())).collect();
        play(&many);
        // A good token is used while none better comes.
        play(&[
            (0, Came(3600)),
            (3300, passing()),
            (3300, Asked(false, Advice::Use)),
            (3301, Asked(false, Advice::UseAndAsk)),
            (3599, passing()),
            (3600, Asked(false, Advice::Refuse)),
        ]);
    }

    #[test]
    fn a_refused_token_is_renewed_but_not_on_and_on() {
        play(&[
            (0, Came(3600)),
            (9, Refused { accepted: true, helps: true }),
            (9, Asked(false, Advice::Ask)),
            (9, Came(3600)),
            (10, Refused { accepted: true, helps: true }),
            (10, Came(3600)),
            (11, Refused { accepted: false, helps: false }),
            (11, Asked(false, Advice::Refuse)),
            (41, Asked(false, Advice::Ask)),
            (41, Came(3600)),
            (42, Refused { accepted: false, helps: true }),
            (42, Asked(false, Advice::Ask)),
        ]);
    }

    #[test]
    fn a_token_of_the_future_is_used_and_renewed() {
        play(&[(100, Came(3600)), (50, Asked(false, Advice::UseAndAsk)), (50, Asked(true, Advice::Use))]);
    }
}
