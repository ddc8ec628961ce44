//! The breakers of a lane: one for both directions, or one for each if mail is sent by another server or account than it
//! is read with. What one of them learns says nothing of the other.

use std::{fmt, str::FromStr};

use super::{Breaker, Effect, Event, Rules};
use crate::{
    operation::{Direction, UnknownWord},
    reason::Reason,
    time::Timestamp,
    words,
};

/// What a breaker watches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Road {
    /// Mail is read and sent by the same account at the same server.
    Both,
    /// What mail is read with, where it is sent apart.
    Incoming,
    /// What mail is sent with, where that is apart.
    Outgoing,
}

words! {
    Road: Both = "both", Incoming = "incoming", Outgoing = "outgoing";
}

impl Road {
    /// True if mail goes this way by it.
    pub fn leads(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::Incoming => direction == Direction::Incoming,
            Self::Outgoing => direction == Direction::Outgoing,
        }
    }

    /// The operations that need it, in the order of [`crate::operation::Kind::ALL`].
    pub fn kinds(self) -> [bool; 3] {
        [self.leads(Direction::Incoming), self.leads(Direction::Outgoing), self == Self::Both]
    }
}

/// The breakers of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakers {
    /// Of both directions, or of incoming.
    first: Breaker,
    /// Of outgoing, if mail is sent apart.
    outgoing: Option<Breaker>,
}

impl Breakers {
    /// Closed, nothing known.
    pub fn new(apart: bool, now: Timestamp) -> Self {
        Self { first: Breaker::new(now), outgoing: apart.then(|| Breaker::new(now)) }
    }

    /// The roads there are.
    pub fn roads(&self) -> &'static [Road] {
        if self.outgoing.is_some() { &[Road::Incoming, Road::Outgoing] } else { &[Road::Both] }
    }

    /// The road by which mail goes this way.
    pub fn road(&self, direction: Direction) -> Road {
        match (&self.outgoing, direction) {
            (None, _) => Road::Both,
            (Some(_), Direction::Incoming) => Road::Incoming,
            (Some(_), Direction::Outgoing) => Road::Outgoing,
        }
    }

    /// The breaker of a road; `None`: there is no such road any more.
    pub fn at(&self, road: Road) -> Option<&Breaker> {
        match (road, &self.outgoing) {
            (Road::Outgoing, outgoing) => outgoing.as_ref(),
            (Road::Both, None) | (Road::Incoming, Some(_)) => Some(&self.first),
            (Road::Both, Some(_)) | (Road::Incoming, None) => None,
        }
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, road: Road) -> Option<&mut Breaker> {
        match (road, &mut self.outgoing) {
            (Road::Outgoing, outgoing) => outgoing.as_mut(),
            (Road::Both, None) | (Road::Incoming, Some(_)) => Some(&mut self.first),
            (Road::Both, Some(_)) | (Road::Incoming, None) => None,
        }
    }

    /// The next state of one of them.
    pub fn step(&mut self, road: Road, rules: &Rules, event: Event, now: Timestamp) -> Option<Effect> {
        self.at_mut(road)?.step(rules, event, now)
    }

    /// Why each direction is held back: incoming, outgoing.
    pub fn held(&self) -> [Option<Reason>; 2] {
        let first = self.first.open();
        [first, self.outgoing.as_ref().map_or(first, Breaker::open)]
    }

    /// Mail is sent apart from now on, or no more. Each road goes on from what was open before, so that what was told
    /// of it is ended by it. True if that is a change.
    pub fn set_apart(&mut self, apart: bool) -> bool {
        match (apart, self.outgoing.take()) {
            (true, None) => self.outgoing = Some(self.first.clone()),
            (false, Some(outgoing)) => {
                if self.first.open().is_none() {
                    self.first = outgoing;
                }
            }
            (_, same) => {
                self.outgoing = same;
                return false;
            }
        }
        true
    }
}

/// The text form of the one, or those of incoming and outgoing: `closed 0 0 -; open …`.
impl fmt::Display for Breakers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outgoing {
            Some(outgoing) => write!(out, "{}; {outgoing}", self.first),
            None => self.first.fmt(out),
        }
    }
}

impl FromStr for Breakers {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Ok(match text.split_once("; ") {
            Some((incoming, outgoing)) => {
                Self { first: incoming.parse()?, outgoing: Some(outgoing.parse()?) }
            }
            None => Self { first: text.parse()?, outgoing: None },
        })
    }
}
