//! Subscriptions: what waits in them, who reads them, and how long they live.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{sync::Notify, time::Instant};

use crate::{
    answer::Refusal,
    event::{Event, Kind},
    throttle::Payer,
};

/// No more wait for a reader: who does not come in time has missed them.
const QUEUE: usize = 4000;
/// No notification tells more.
pub(crate) const BATCH: usize = 50;

const NOT_FOUND: Refusal = Refusal::new("ErrorSubscriptionNotFound", "The subscription could not be found.");
const ACCESS_DENIED: Refusal =
    Refusal::new("ErrorSubscriptionAccessDenied", "The subscription belongs to another account.");
const TOO_MANY: Refusal = Refusal::new(
    "ErrorExceededSubscriptionCount",
    "You have exceeded the available subscriptions for your account. Remove unnecessary subscriptions and try again.",
);
const MISSED: Refusal =
    Refusal::new("ErrorMissedNotificationEvents", "Some notification events were missed.");
const INVALID_WATERMARK: Refusal =
    Refusal::new("ErrorInvalidWatermark", "The watermark is not one of this subscription.");
const EVENT_NOT_FOUND: Refusal =
    Refusal::new("ErrorEventNotFound", "The event of the watermark is not kept any more.");

/// How a subscription is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Streaming,
    Pull,
}

/// What somebody wants to be told of a mailbox.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub id: String,
    pub mailbox: u32,
    pub way: Way,
    /// Who made it: nobody else may read it.
    pub owner: Payer,
    /// The server behind the others that knows it.
    pub backend: u32,
    wanted: Wanted,
    state: Mutex<State>,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// How long the subscription lives while nobody reads it.
    pub lifetime: Duration,
    /// `None`: all folders.
    pub folders: Option<Vec<u32>>,
    pub kinds: Vec<Kind>,
}

#[derive(Debug)]
struct State {
    events: VecDeque<(u64, Event)>,
    /// The number of the last event, and of the last that was fetched.
    position: u64,
    fetched: u64,
    missed: bool,
    ended: bool,
    reader: Option<Arc<Notify>>,
    used: Instant,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Events(Vec<Event>),
    /// There is nothing to be had any more, and why.
    Over(Refusal),
}

/// What was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub previous: u64,
    pub events: Vec<(u64, Event)>,
    pub position: u64,
    pub more: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscription {
    pub fn new(way: Way, number: u64, mailbox: u32, owner: Payer, backend: u32, wanted: Wanted) -> Self {
        let place = format!("ex{backend:02}");
        let id = [place.as_bytes(), &number.to_be_bytes(), &mailbox.to_be_bytes()].concat();
        let state = State {
            events: VecDeque::new(),
            position: 0,
            fetched: 0,
            missed: false,
            ended: false,
            reader: None,
            used: Instant::now(),
        };
        Self { id: STANDARD.encode(id), mailbox, way, owner, backend, wanted, state: Mutex::new(state) }
    }

    /// Something happened. `false`: nobody will ever ask for it.
    pub fn offer(&self, event: &Event) -> bool {
        let wanted = self.wanted.kinds.contains(&event.kind)
            && self
                .wanted
                .folders
                .as_ref()
                .is_none_or(|folders| folders.iter().any(|folder| event.concerns(*folder)));
        let mut state = lock(&self.state);
        if wanted && !state.ended {
            state.position += 1;
            let position = state.position;
            if state.events.len() == QUEUE {
                state.missed = true;
            } else {
                state.events.push_back((position, *event));
            }
            if let Some(reader) = &state.reader {
                reader.notify_one();
            }
        }
        !state.ended
    }

    /// Somebody reads from now on, and whoever did before does not any more.
    pub fn attach(&self, reader: &Arc<Notify>) {
        if let Some(before) = lock(&self.state).reader.replace(reader.clone()) {
            before.notify_one();
        }
    }

    /// The reader goes.
    pub fn detach(&self, reader: &Arc<Notify>) {
        let mut state = lock(&self.state);
        if state.reader.as_ref().is_some_and(|known| Arc::ptr_eq(known, reader)) {
            state.reader = None;
            state.used = Instant::now();
        }
    }

    /// Everything that waits.
    pub fn take(&self, reader: &Arc<Notify>) -> Taken {
        let mut state = lock(&self.state);
        let over = |code, text| Taken::Over(Refusal::new(code, text));
        if state.ended {
            return over("ErrorSubscriptionUnsubscribed", "The subscription was ended.");
        }
        if state.reader.as_ref().is_none_or(|known| !Arc::ptr_eq(known, reader)) {
            let text = "Another connection was opened for the subscription.";
            return over("ErrorNewEventStreamConnectionOpened", text);
        }
        if state.missed {
            return Taken::Over(MISSED);
        }
        Taken::Events(state.events.drain(..).map(|(_, event)| event).collect())
    }

    /// What happened after a watermark. What lies before it is forgotten.
    pub fn fetch(&self, watermark: &str) -> Result<Fetched, Refusal> {
        let previous = self.position_of(watermark).ok_or(INVALID_WATERMARK)?;
        let mut state = lock(&self.state);
        state.used = Instant::now();
        if state.missed {
            return Err(MISSED);
        }
        if previous < state.fetched {
            return Err(EVENT_NOT_FOUND);
        }
        if previous > state.position {
            return Err(INVALID_WATERMARK);
        }
        while state.events.front().is_some_and(|(position, _)| *position <= previous) {
            state.events.pop_front();
        }
        state.fetched = previous;
        let events: Vec<_> = state.events.iter().take(BATCH).copied().collect();
        let more = state.events.len() > events.len();
        let position = events.last().map_or(previous, |(position, _)| *position);
        Ok(Fetched { previous, events, position, more })
    }

    /// Where a client stands, in its own words.
    pub fn watermark(&self, position: u64) -> String {
        format!("{}{}", self.id.trim_end_matches('='), STANDARD.encode(position.to_be_bytes()))
    }

    fn position_of(&self, watermark: &str) -> Option<u64> {
        let packed = watermark.strip_prefix(self.id.trim_end_matches('='))?;
        Some(u64::from_be_bytes(STANDARD.decode(packed).ok()?.try_into().ok()?))
    }

    fn is_alive(&self) -> bool {
        let state = lock(&self.state);
        !state.ended && (state.reader.is_some() || state.used.elapsed() <= self.wanted.lifetime)
    }

    fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        if let Some(reader) = &state.reader {
            reader.notify_one();
        }
    }
}

/// All that live.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Mutex<HashMap<String, Arc<Subscription>>>);

impl Subscriptions {
    /// Keeps one more, unless its mailbox has so many already.
    pub fn add(&self, subscription: Arc<Subscription>, limit: u32) -> Result<(), Refusal> {
        let mut all = lock(&self.0);
        all.retain(|_, known| known.is_alive());
        let of_mailbox = all.values().filter(|known| known.mailbox == subscription.mailbox).count();
        if of_mailbox >= limit as usize {
            return Err(TOO_MANY);
        }
        all.insert(subscription.id.clone(), subscription);
        Ok(())
    }

    /// The one of this id, for who made it, on the server that knows it.
    pub fn find(&self, id: &str, owner: Payer, backend: u32) -> Result<Arc<Subscription>, Refusal> {
        let found =
            lock(&self.0).get(id).filter(|known| known.is_alive() && known.backend == backend).cloned();
        let found = found.ok_or(NOT_FOUND)?;
        if found.owner == owner { Ok(found) } else { Err(ACCESS_DENIED) }
    }

    /// Ends one.
    pub fn remove(&self, subscription: &Subscription) {
        subscription.end();
        lock(&self.0).remove(&subscription.id);
    }

    /// How many live.
    pub fn count(&self) -> usize {
        lock(&self.0).values().filter(|known| known.is_alive()).count()
    }
}
