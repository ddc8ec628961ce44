//! The lease of this process, renewed by itself: nobody else's opinion is needed for it.

use std::{sync::Arc, time::Duration};

use mailyard_policy::{
    id::Incarnation,
    lease::{self, Event},
};
use mailyard_store::Error as StoreError;

use crate::shared::Shared;

/// How often the clocks are compared.
const LOOKED: Duration = Duration::from_secs(1);
/// A wall clock that moves by so much against the other one shows that the host was stopped, or that it was set.
const JUMP: Duration = Duration::from_secs(2);

/// Renews the lease until this process is declared dead.
pub(crate) async fn keep(shared: Arc<Shared>, incarnation: Incarnation) {
    let rules = shared.lease_rules;
    let mut clocks = Clocks::read(&shared);
    let mut renewed = clocks.boot;
    let mut registered = false;
    loop {
        tokio::time::sleep(LOOKED.min(rules.renew)).await;
        let now = Clocks::read(&shared);
        let jumped = now.jumped_since(&clocks);
        clocks = now;
        if jumped {
            tracing::warn!("the host's clocks jumped: the lease is asked for anew");
            shared.lease_event(Event::ClockJumped);
        }
        if jumped || clocks.boot.since(renewed) >= rules.renew {
            renewed = clocks.boot;
            registered |= shared.allows_reads();
            if !renew(&shared, &rules, incarnation, registered).await {
                return;
            }
        }
    }
}

/// False: this process was declared dead.
async fn renew(shared: &Shared, rules: &lease::Rules, incarnation: Incarnation, registered: bool) -> bool {
    let sent = (shared.clocks.boot)();
    match shared.store.renew_lease(incarnation, rules.ttl).await {
        Ok(()) => shared.lease_event(Event::Renewed { sent }),
        Err(StoreError::Fenced) if registered => {
            shared.lease_event(Event::Lost);
            return false;
        }
        // Not registered yet.
        Err(StoreError::Fenced) => {}
        Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
    }
    true
}

struct Clocks {
    boot: mailyard_policy::BootTime,
    wall: mailyard_policy::Timestamp,
}

impl Clocks {
    fn read(shared: &Shared) -> Self {
        Self { boot: (shared.clocks.boot)(), wall: shared.now() }
    }

    fn jumped_since(&self, before: &Self) -> bool {
        let (boot, wall) = (self.boot.since(before.boot), self.wall.since(before.wall));
        boot.abs_diff(wall) > JUMP
    }
}
