//! The guard against mass silence: if the leases of many workers end together, the fault is ours (the database, the
//! network, this coordinator), and nobody is declared dead for it.
//!
//! The guard looks before anybody is declared dead, at each look. It remembers when it first saw each lease ended, so
//! that after an outage of the database, when it sees them all at once, it freezes whatever their dates are. A new
//! leader that begins without this memory does the same, which errs on the safe side.

mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{id::Incarnation, time::Timestamp};

/// The numbers of the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// More than this share of all workers, in hundredths, is a mass,
    pub percent: usize,
    /// if it is at least so many,
    pub least: usize,
    /// and their leases were seen to end within this: the time a lease lasts.
    pub window: Duration,
    /// After so long in good health, who is still silent is dead.
    pub patience: Duration,
    /// Between two looks further apart than this nothing is known of the health.
    pub blind: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            percent: 20,
            least: 2,
            window: Duration::from_secs(30),
            patience: Duration::from_mins(3),
            blind: Duration::from_secs(10),
        }
    }
}

/// A worker's process that is not dead, as the guard sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The process.
    pub incarnation: Incarnation,
    /// When its lease ends, by the database's clock.
    pub lease_until: Timestamp,
    /// Its session is open and it spoke lately.
    pub reachable: bool,
}

/// What the guard knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// Processes whose lease ended, and when that was seen first; also those that were declared dead lately.
    lapsed: BTreeMap<Incarnation, Timestamp>,
    /// Of these, who is taken for dead although many fell silent.
    given_up: BTreeSet<Incarnation>,
    frozen: Option<Frozen>,
    /// The last look.
    looked: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frozen {
    since: Timestamp,
    /// Since when, without a gap, the database is well and the other workers are reachable.
    well_since: Option<Timestamp>,
}

/// What happens to the guard.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A look at every worker's process that is not dead.
    Looked {
        /// The processes.
        workers: &'a [Seen],
        /// The database answered all that was asked since the last look.
        database_is_well: bool,
    },
    /// A process cannot be alive: its worker is back and holds the lock of its data directory, or whoever runs the
    /// machines says that it is gone. It is no part of the silence any more.
    ProvenDead(Incarnation),
    /// An operator says that the silent ones are dead.
    Dismissed,
}

impl Silence {
    /// True while nobody may be declared dead but on proof, and nothing is planned.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Since when that is so.
    pub fn since(&self) -> Option<Timestamp> {
        self.frozen.map(|frozen| frozen.since)
    }

    /// Who is waited for.
    pub fn silent(&self) -> impl Iterator<Item = Incarnation> {
        self.lapsed.keys().copied().filter(|lapsed| !self.given_up.contains(lapsed))
    }

    /// The next state.
    #[must_use]
    pub fn step(mut self, rules: &Rules, event: Event<'_>, now: Timestamp) -> Self {
        match event {
            Event::Looked { workers, database_is_well } => self.look(rules, workers, database_is_well, now),
            Event::ProvenDead(incarnation) => {
                self.lapsed.remove(&incarnation);
                self.given_up.remove(&incarnation);
                self.thaw_if_nobody_is_silent();
            }
            Event::Dismissed => self.give_up(),
        }
        self
    }

    fn look(&mut self, rules: &Rules, workers: &[Seen], database_is_well: bool, now: Timestamp) {
        let is_blind = now.since(self.looked) > rules.blind || now < self.looked;
        self.looked = now;
        let total = self.note(rules, workers, now);
        self.thaw_if_nobody_is_silent();
        let silent = self.silent().collect::<BTreeSet<_>>();
        if self.frozen.is_none() && self.is_mass(rules, total, now) {
            self.frozen = Some(Frozen { since: now, well_since: None });
        }
        let Some(frozen) = &mut self.frozen else { return };
        let mut others = workers.iter().filter(|seen| !silent.contains(&seen.incarnation)).peekable();
        let well = database_is_well && others.peek().is_some() && others.all(|seen| seen.reachable);
        frozen.well_since = match frozen.well_since {
            Some(since) if well && !is_blind => Some(since.min(now)),
            _ if well => Some(now),
            _ => None,
        };
        if frozen.well_since.is_some_and(|since| now.since(since) >= rules.patience) {
            self.give_up();
        }
    }

    /// Takes note of who is silent. Returns how many workers there are, with those that were declared dead lately.
    fn note(&mut self, rules: &Rules, workers: &[Seen], now: Timestamp) -> usize {
        let known: BTreeMap<Incarnation, bool> =
            workers.iter().map(|seen| (seen.incarnation, seen.lease_until <= now)).collect();
        let is_frozen = self.frozen.is_some();
        self.lapsed.retain(|incarnation, seen| {
            *seen = now.min(*seen);
            match known.get(incarnation) {
                Some(lapsed) => *lapsed,
                None => !is_frozen && now.since(*seen) < rules.window,
            }
        });
        for (incarnation, _) in known.iter().filter(|(_, lapsed)| **lapsed) {
            self.lapsed.entry(*incarnation).or_insert(now);
        }
        self.given_up.retain(|incarnation| self.lapsed.contains_key(incarnation));
        known.len() + self.lapsed.keys().filter(|incarnation| !known.contains_key(incarnation)).count()
    }

    fn is_mass(&self, rules: &Rules, total: usize, now: Timestamp) -> bool {
        let lately = |lapsed: &Incarnation| {
            self.lapsed.get(lapsed).is_some_and(|seen| now.since(*seen) < rules.window)
        };
        let count = self.silent().filter(lately).count();
        count >= rules.least && count * 100 > total * rules.percent
    }

    fn thaw_if_nobody_is_silent(&mut self) {
        if self.silent().next().is_none() {
            self.frozen = None;
        }
    }

    fn give_up(&mut self) {
        if self.frozen.take().is_some() {
            self.given_up = self.lapsed.keys().copied().collect();
        }
    }
}
