//! What all mailboxes of a worker's process share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailyard_host::{clock, metrics::Metrics};

use mailyard_policy::{
    BootTime, Timestamp,
    lease::{self, Lease},
};
use mailyard_store::Store;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::{scheduler::Scheduler, settings::Settings};

/// The clocks of the process.
#[derive(Clone, Copy)]
pub struct Clocks {
    /// The wall clock, UTC.
    pub now: fn() -> Timestamp,
    /// The clock that goes on while the host sleeps.
    pub boot: fn() -> BootTime,
}

/// What all mailboxes of a worker's process share.
pub struct Shared {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Who is due when.
    pub scheduler: Scheduler,
    /// The deployment's numbers.
    pub settings: Settings,
    /// The clocks.
    pub clocks: Clocks,
    /// The numbers of leases.
    pub lease_rules: lease::Rules,
    /// The figures of the process.
    pub metrics: Metrics,
    lease: Mutex<Lease>,
    renewed: watch::Sender<()>,
    facts: watch::Sender<()>,
    slots: Semaphore,
    turns_done: AtomicU64,
    turns_begun: AtomicU64,
}

/// The right to one turn; given back when it is dropped.
pub struct Slot<'a> {
    shared: &'a Shared,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.shared.turns_done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Without a lease: nothing runs yet.
    pub fn new(
        store: Arc<dyn Store>,
        settings: Settings,
        clocks: Clocks,
        lease_rules: lease::Rules,
        metrics: Metrics,
    ) -> Self {
        Self {
            slots: Semaphore::new(settings.max_inflight.into()),

            store,
            scheduler: Scheduler::default(),
            settings,
            clocks,
            lease_rules,
            metrics,
            lease: Mutex::default(),
            renewed: watch::Sender::new(()),
            facts: watch::Sender::new(()),
            turns_done: AtomicU64::new(0),
            turns_begun: AtomicU64::new(0),
        }
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        (self.clocks.now)()
    }

    /// A number that nobody else makes, later ones greater.
    pub fn new_id(&self) -> u128 {
        clock::id()
    }

    /// Between half of a wait and the whole of it, so that not all of a cluster come at once.
    pub fn jittered(&self, wait: Duration) -> Duration {
        let half = wait / 2;
        let part = u32::try_from(self.new_id() % 1000).unwrap_or_default();
        half + half * part / 1000
    }

    /// The right to one turn, once one is free.
    pub async fn slot(&self) -> Slot<'_> {
        // It is never closed.
        let permit = self.slots.acquire().await.ok();
        self.turns_begun.fetch_add(1, Ordering::Relaxed);
        Slot { shared: self, _permit: permit }
    }

    /// Turns that have ended so far, and turns under way.
    pub fn turns(&self) -> (u64, u64) {
        let done = self.turns_done.load(Ordering::Relaxed);
        (done, self.turns_begun.load(Ordering::Relaxed).saturating_sub(done))
    }

    /// Something was written that the leader's alert book or tests wait for.
    pub fn tell_facts(&self) {
        self.facts.send_replace(());
    }

    /// Tells of facts from now on.
    pub fn facts_written(&self) -> watch::Receiver<()> {
        self.facts.subscribe()
    }

    /// Comes back once this process was declared dead.
    pub async fn lease_lost(&self) {
        let mut renewed = self.renewed.subscribe();
        while !self.lease().is_lost() {
            // The sender lives as long as this.
            let _changed = renewed.changed().await;
        }
    }

    /// What happened to the lease.
    pub fn lease_event(&self, event: lease::Event) {
        {
            let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
            *lease = lease.step(&self.lease_rules, event);
        }
        self.renewed.send_replace(());
    }

    /// The lease as it stands.
    pub fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if something with an effect at Exchange may be begun.
    pub fn allows_effect(&self) -> bool {
        self.lease().allows_effect(&self.lease_rules, (self.clocks.boot)())
    }

    /// True if something that may be dropped may be begun.
    pub fn allows_reads(&self) -> bool {
        self.lease().reads_until((self.clocks.boot)()).is_some()
    }

    /// Comes back once nothing may run any more; renewals put it off.
    pub async fn lease_ended(&self) {
        let mut renewed = self.renewed.subscribe();
        loop {
            let now = (self.clocks.boot)();
            let Some(until) = self.lease().reads_until(now) else { return };
            let left = until.since(now).max(Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = renewed.changed() => {}
            }
        }
    }
}
