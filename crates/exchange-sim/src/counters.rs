//! What is counted, for people and tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
};

/// Counters for people and tests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub connections: AtomicU64,
    pub in_flight: AtomicI64,
    pub max_in_flight: AtomicI64,
    pub sends: AtomicU64,
    pub wrong_anchor: AtomicU64,
    /// Affinity was asked for where it is of no use.
    pub wrong_affinity: AtomicU64,
    pub streams: AtomicI64,
    pub max_streams: AtomicI64,
    pub handshakes: AtomicU64,
    refused_sign_ins: Mutex<BTreeMap<&'static str, u64>>,
    requests: Mutex<BTreeMap<&'static str, u64>>,
    by_mailbox: Mutex<HashMap<u32, u64>>,
}

impl Counters {
    pub fn request(&self, operation: &'static str, mailbox: Option<u32>) {
        *lock(&self.requests).entry(operation).or_default() += 1;
        if let Some(mailbox) = mailbox {
            *lock(&self.by_mailbox).entry(mailbox).or_default() += 1;
        }
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

    pub fn of_mailbox(&self, mailbox: u32) -> u64 {
        lock(&self.by_mailbox).get(&mailbox).copied().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
