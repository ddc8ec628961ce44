//! The limit of requests at once, as it changes, and how much of it the server saw.

use std::time::{Duration, Instant};

use crate::figures::{Bound, Table};

/// The limits so far, and what was seen under them.
pub struct Limits {
    /// Since when each one holds, oldest first.
    since: Vec<(Instant, u16)>,
    /// What was begun under a larger limit is over after this.
    settles: Duration,
    /// When the window under way began.
    window: Instant,
    /// The limit in force and the most requests at once, window by window.
    seen: Vec<(u16, u64)>,
}

impl Limits {
    /// A first limit.
    pub fn new(limit: u16, settles: Duration) -> Self {
        let now = Instant::now();
        Self { since: vec![(now, limit)], settles, window: now, seen: Vec::new() }
    }

    /// The limit that was set last.
    pub fn now(&self) -> u16 {
        self.since.last().map_or(1, |(_, limit)| *limit)
    }

    /// Another limit from this moment on.
    pub fn set(&mut self, at: Instant, limit: u16) {
        self.since.push((at, limit));
    }

    /// A window ended, in which there were so many requests at once.
    pub fn saw(&mut self, at: Instant, most: u64) {
        let begun = std::mem::replace(&mut self.window, at);
        let limit = self.in_force(begun);
        self.seen.push((limit, most));
    }

    /// The largest limit that something in the window that began then may have been begun under.
    fn in_force(&self, begun: Instant) -> u16 {
        let ends = self.since.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        let mattered = |end: Option<Instant>| end.is_none_or(|end| end + self.settles > begun);
        let limits = self.since.iter().zip(ends).filter(|(_, end)| mattered(*end));
        limits.map(|((_, limit), _)| *limit).max().unwrap_or(1)
    }

    /// What came of it.
    pub fn tell(&self, table: &mut Table) {
        let ratios: Vec<f64> =
            self.seen.iter().map(|(limit, most)| *most as f64 / f64::from(*limit)).collect();
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        table.single("requests at once / limit, the most ever", "1", &[worst]).bound(Bound::AtMost(1.0));
        table.single("requests at once / limit, each second", "1", &ratios);
        let mut limits: Vec<u16> = self.since.iter().map(|(_, limit)| *limit).collect();
        limits.sort_unstable();
        limits.dedup();
        for limit in limits {
            let under: Vec<u64> =
                self.seen.iter().filter(|seen| seen.0 == limit).map(|seen| seen.1).collect();
            let full = under.iter().filter(|most| **most >= u64::from(limit)).count();
            table.single(format!("seconds judged by a limit of {limit}"), "s", &[under.len() as f64]);
            table.single(format!("seconds in which {limit} was reached"), "s", &[full as f64]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_limit_is_judged_once_the_larger_one_has_settled() {
        let second = |second| Duration::from_secs(second);
        let mut limits = Limits::new(10, second(5));
        let begun = limits.window;
        limits.set(begun + second(10), 3);
        limits.set(begun + second(30), 20);
        let force = [0, 9, 12, 14, 15, 29].map(|at| limits.in_force(begun + second(at)));
        // What comes later counts for all that is asked now: a larger limit holds from before it was said.
        assert_eq!(force, [20; 6]);
        limits.since.pop();
        assert_eq!(
            [0, 9, 12, 14, 15, 29].map(|at| limits.in_force(begun + second(at))),
            [10, 10, 10, 10, 3, 3]
        );
    }
}
