//! What is counted, for people and tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// Counters for people and tests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub connections: AtomicU64,
    in_flight: AtomicI64,
    max_in_flight: AtomicI64,
    max_in_window: AtomicI64,
    pub sends: AtomicU64,
    pub wrong_anchor: AtomicU64,
    /// Affinity was asked for where it is of no use.
    pub wrong_affinity: AtomicU64,
    pub streams: AtomicI64,
    pub max_streams: AtomicI64,
    pub handshakes: AtomicU64,
    refused_sign_ins: Mutex<BTreeMap<&'static str, u64>>,
    requests: Mutex<BTreeMap<&'static str, u64>>,
    by_mailbox: Mutex<HashMap<u32, BTreeMap<&'static str, u64>>>,
}

impl Counters {
    pub fn request(&self, operation: &'static str, mailbox: Option<u32>) {
        *lock(&self.requests).entry(operation).or_default() += 1;
        if let Some(mailbox) = mailbox {
            *lock(&self.by_mailbox).entry(mailbox).or_default().entry(operation).or_default() += 1;
        }
    }

    pub fn begin(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        self.max_in_window.fetch_max(in_flight, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests under way.
    pub fn concurrent(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests that were ever under way at once.
    pub fn max_concurrent(&self) -> i64 {
        self.max_in_flight.load(Ordering::Relaxed)
    }

    /// The most since this was asked last. Those that are under way belong to the next window, too.
    pub fn end_window(&self) -> i64 {
        let most = self.max_in_window.swap(0, Ordering::Relaxed);
        self.max_in_window.fetch_max(self.concurrent(), Ordering::Relaxed);
        most
    }

    pub fn refused_sign_in(&self, why: &'static str) {
        *lock(&self.refused_sign_ins).entry(why).or_default() += 1;
    }

    pub fn refused_sign_ins(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refused_sign_ins).clone()
    }

    pub fn requests(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.requests).clone()
    }

    /// Requests for a mailbox: of this operation, or all.
    pub fn of_mailbox(&self, mailbox: u32, operation: Option<&str>) -> u64 {
        let by_mailbox = lock(&self.by_mailbox);
        let counts = by_mailbox.get(&mailbox).into_iter().flatten();
        counts
            .filter(|(name, _)| operation.is_none_or(|wanted| wanted == **name))
            .map(|(_, count)| count)
            .sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_anew_and_forgets_nothing_that_is_under_way() {
        let counters = Counters::default();
        for _ in 0..3 {
            counters.begin();
        }
        counters.end();
        assert_eq!((counters.end_window(), counters.concurrent()), (3, 2));
        counters.end();
        assert_eq!(counters.end_window(), 2);
        assert_eq!(counters.end_window(), 1);
        counters.end();
        assert_eq!((counters.end_window(), counters.end_window(), counters.max_concurrent()), (1, 0, 3));
    }
}
