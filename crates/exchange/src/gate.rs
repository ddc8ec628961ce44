//! The gate of a profile: every request passes it, in the order of arrival, as fast as the server bears it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mailyard_policy::{
    Nature, Reason, Timestamp,
    id::ProfileId,
    outbox::Execution,
    throttle::{Admission, Event, Rules, State},
};
use tokio::sync::oneshot;

use crate::Failure;

/// Nobody waits for a pause that lasts longer: whoever waits keeps others, of other profiles too, from their turn.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The clock that decides on pauses.
pub type Clock = fn() -> Timestamp;

/// One gate; its clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Mutex<Inner>>,
    clock: Clock,
}

struct Inner {
    rules: Rules,
    state: State,
    in_flight: u16,
    queue: VecDeque<oneshot::Sender<Permit>>,
    timer: bool,
}

/// What people may see of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What the throttle decided.
    pub state: State,
    /// Requests under way.
    pub in_flight: u16,
    /// Requests that wait.
    pub queued: usize,
}

/// The right to one request; given back when it is dropped.
pub struct Permit {
    gate: Gate,
    begun: Timestamp,
}

impl Gate {
    /// The gate of a profile, with what was kept of its throttle.
    pub fn new(profile: ProfileId, max_connections: u16, kept: Option<State>, clock: Clock) -> Self {
        let rules = Rules::new(profile, max_connections);
        let state = kept.unwrap_or_else(|| State::new(&rules, clock()));
        let state = state.step(&rules, Event::RulesChanged, clock());
        let inner = Inner { rules, state, in_flight: 0, queue: VecDeque::new(), timer: false };
        Self { inner: Arc::new(Mutex::new(inner)), clock }
    }

    /// Waits for its turn. Who is dropped while waiting leaves its place to the next.
    ///
    /// # Errors
    /// The server asked for a long pause: what it said, and what is left of the pause.
    pub async fn enter(&self) -> Result<Permit, Failure> {
        loop {
            let called = {
                let mut inner = self.lock();
                let now = (self.clock)();
                if let Some(left) = inner.long_pause(now) {
                    let reason = inner.state.pause.map_or(Reason::ExchangeServerBusy, |pause| pause.reason);
                    let detail = "the server asked to be left alone, and that time is not over";
                    let mut failure = Failure::new(reason, Execution::Not, detail);
                    failure.back_off = Some(left);
                    return Err(failure);
                }
                if inner.queue.is_empty() && inner.admits(now) == Admission::Now {
                    inner.in_flight += 1;
                    return Ok(Permit { gate: self.clone(), begun: now });
                }
                let (sender, receiver) = oneshot::channel();
                inner.queue.push_back(sender);
                receiver
            };
            self.pump();
            if let Ok(permit) = called.await {
                return Ok(permit);
            }
        }
    }

    /// The profile's maximum changed.
    pub fn set_max_connections(&self, max_connections: u16) {
        {
            let mut inner = self.lock();
            inner.rules = Rules::new(inner.rules.profile, max_connections);
            inner.state = inner.state.step(&inner.rules, Event::RulesChanged, (self.clock)());
        }
        self.pump();
    }

    /// How it stands.
    pub fn view(&self) -> View {
        let inner = self.lock();
        View { state: inner.state, in_flight: inner.in_flight, queued: inner.queue.len() }
    }

    fn event(&self, event: Event) {
        let mut inner = self.lock();
        inner.state = inner.state.step(&inner.rules, event, (self.clock)());
    }

    /// Lets in who may enter; sets a timer if a pause keeps everybody out.
    fn pump(&self) {
        while let Some(next) = self.next() {
            // If it is gone meanwhile, its permit is dropped here and given to the one behind it.
            let _gone = next.send(Permit { gate: self.clone(), begun: (self.clock)() });
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Permit>> {
        let mut inner = self.lock();
        while inner.queue.front().is_some_and(oneshot::Sender::is_closed) {
            inner.queue.pop_front();
        }
        inner.queue.front()?;
        let now = (self.clock)();
        match inner.admits(now) {
            Admission::Now => {
                inner.in_flight += 1;
                inner.queue.pop_front()
            }
            Admission::WhenReturned => None,
            Admission::At(_) if inner.long_pause(now).is_some() => {
                // They look again, and are told.
                inner.queue.clear();
                None
            }
            Admission::At(until) => {
                if !std::mem::replace(&mut inner.timer, true) {
                    let gate = self.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(until.since(now)).await;
                        gate.lock().timer = false;
                        gate.pump();
                    });
                }
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is left of a pause that nobody waits for.
    fn long_pause(&self, now: Timestamp) -> Option<std::time::Duration> {
        let left = self.state.paused_until(&self.rules, now)?.since(now);
        (left > PATIENCE).then_some(left)
    }

    fn admits(&self, now: Timestamp) -> Admission {
        self.state.admits(&self.rules, self.in_flight, now)
    }
}

impl Permit {
    /// Tells the throttle how the request fared.
    pub fn report(&self, outcome: Result<(), &Failure>) {
        let begun = self.begun;
        let event = match outcome {
            Ok(()) => Event::Succeeded { begun },
            Err(failure) if failure.reason == Reason::ExchangeConnectionLimit => {
                Event::TooManyConnections { begun }
            }
            Err(failure) if failure.reason.nature() == Nature::Throttled && !failure.is_of_item() => {
                Event::Throttled { begun, reason: failure.reason, hint: failure.back_off }
            }
            Err(_) => return,
        };
        self.gate.event(event);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.lock().in_flight -= 1;
        self.gate.pump();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn clock() -> Timestamp {
        // Paused time of the runtime: tests wait for nothing.
        static START: std::sync::OnceLock<Timestamp> = std::sync::OnceLock::new();
        thread_local! {
            static BEGUN: tokio::time::Instant = tokio::time::Instant::now();
        }
        let start = *START.get_or_init(|| Timestamp::from_millis(1_772_366_400_000));
        start + BEGUN.with(tokio::time::Instant::elapsed)
    }

    fn gate(max: u16) -> Gate {
        Gate::new(ProfileId::new(1), max, None, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_the_limit_and_first_come_first_served() {
        let gate = gate(3);
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = vec![gate.enter().await, gate.enter().await, gate.enter().await];
        let mut waiting = Vec::new();
        for number in 0..6 {
            let (gate, order) = (gate.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let permit = gate.enter().await;
                assert!(gate.view().in_flight <= 3);
                order.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(permit);
            }));
            tokio::task::yield_now().await;
        }
        assert_eq!((gate.view().in_flight, gate.view().queued), (3, 6));
        waiting.remove(1).abort();
        tokio::task::yield_now().await;
        drop(held);
        for task in waiting {
            assert!(task.await.is_ok());
        }
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), [0, 2, 3, 4, 5]);
        assert_eq!((gate.view().in_flight, gate.view().queued), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_and_ends_by_itself() {
        let gate = gate(10);
        busy(&gate, 4).await;
        let begun = tokio::time::Instant::now();
        let (first, second) = tokio::join!(gate.enter(), gate.enter());
        assert!((4000..=4800).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert!(first.is_ok() && second.is_ok());
        drop((first, second));
        assert_eq!((gate.view().in_flight, gate.view().state.limit), (0, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_long_pause() {
        let gate = gate(1);
        let held = gate.enter().await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.err() }
        });
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        let Ok(permit) = held else { panic!("the gate is closed") };
        report_busy(&permit, 300);
        drop(permit);
        let told = waiting.await.ok().flatten();
        let now = gate.enter().await.err();
        assert!(begun.elapsed().is_zero());
        for failure in [told, now] {
            let (reason, left) = failure.map(|failure| (failure.reason, failure.back_off)).unzip();
            assert_eq!(reason, Some(Reason::ExchangeServerBusy));
            assert!((300..=360).contains(&left.flatten().unwrap_or_default().as_secs()));
        }
        assert_eq!((gate.view().in_flight, gate.view().queued), (0, 0));
    }

    async fn busy(gate: &Gate, seconds: u64) {
        match gate.enter().await {
            Ok(permit) => report_busy(&permit, seconds),
            Err(failure) => panic!("{failure}"),
        }
    }

    fn report_busy(permit: &Permit, seconds: u64) {
        let mut busy = Failure::new(Reason::ExchangeServerBusy, Execution::Not, "busy");
        busy.back_off = Some(Duration::from_secs(seconds));
        permit.report(Err(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn a_larger_maximum_lets_more_in() {
        let gate = gate(1);
        let held = gate.enter().await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.is_ok() }
        });
        tokio::task::yield_now().await;
        gate.set_max_connections(2);
        // The limit itself grows with success only.
        if let Ok(permit) = held {
            permit.report(Ok(()));
        }
        assert!(waiting.await.unwrap_or_default());
    }
}
