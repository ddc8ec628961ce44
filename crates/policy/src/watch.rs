//! Watching mailboxes by notifications: which are watched together, and what their stream does next.
//!
//! A notification is a hint that a poll is due, and nothing depends on it: what is not told is found by the next poll.
//! So no trouble of a stream is one of a mailbox, and while a stream does not work its mailboxes are simply polled.

mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use stream::{Event, Step, Stream, Trouble};

use crate::id::MailboxId;

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Mailboxes of one stream: servers read no more than 200 over one connection.
    pub most: usize,
    /// A connection is asked for so many minutes, 30 at most, and then opened anew.
    pub minutes: u64,
    /// A connection on which nothing arrives for so long is given up: twice what passes between two signs of life, and
    /// a little.
    pub silence: Duration,
    /// Between two subscriptions of a stream.
    pub pace: Duration,
    /// Who joins waits so long for others to join, before the connection is opened anew for all of them; and so long
    /// it takes until something is tried again that failed once.
    pub gather: Duration,
    /// The wait after the second failure in a row; it doubles.
    pub back_off: Duration,
    /// The longest of these waits. What has worked for so long has not failed in a row.
    pub back_off_max: Duration,
    /// The wait after the server said that it does not do this: rights and settings change rarely.
    pub refused: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            most: 200,
            minutes: 29,
            silence: Duration::from_secs(100),
            pace: Duration::from_millis(50),
            gather: Duration::from_secs(5),
            back_off: Duration::from_secs(30),
            back_off_max: Duration::from_mins(30),
            refused: Duration::from_hours(6),
        }
    }
}

impl Rules {
    /// The wait after so many failures in a row.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = match failures.checked_sub(2) {
            None => self.gather,
            Some(more) => self.back_off.saturating_mul(1 << more.min(20)),
        };
        doubled.min(self.back_off_max)
    }
}

/// Which mailboxes are watched together. Who stays stays where it is: only who joins or leaves is subscribed anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<u32, BTreeSet<MailboxId>>);

impl Groups {
    /// These are to be watched from now on; none, for as long as the breaker is open or nobody wishes it.
    pub fn set(&mut self, rules: &Rules, wanted: &BTreeSet<MailboxId>) {
        let mut joining = wanted.clone();
        for group in self.0.values_mut() {
            group.retain(|member| joining.remove(member));
        }
        self.0.retain(|_, group| !group.is_empty());
        for member in joining {
            let with_room = self.0.values_mut().find(|group| group.len() < rules.most.max(1));
            match with_room {
                Some(group) => group.insert(member),
                None => self.0.entry(self.free_number()).or_default().insert(member),
            };
        }
    }

    fn free_number(&self) -> u32 {
        let taken = |(place, number): &(u32, &u32)| place == *number;
        (0..).zip(self.0.keys()).take_while(taken).count() as u32
    }

    /// The groups with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &BTreeSet<MailboxId>)> {
        self.0.iter().map(|(number, group)| (*number, group))
    }
}
