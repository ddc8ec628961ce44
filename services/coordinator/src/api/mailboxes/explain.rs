//! ExplainMailbox: what its holder knows, or what is stored if nobody holds it.

use mailyard_policy::{
    Timestamp,
    operation::{Kind, NextRun},
};
use mailyard_store::{
    holder::{Cycle, Located},
    people::Mailbox,
};
use mailyard_wire::{
    admin::{self, ExplainMailboxResponse, OperationKind},
    cluster::{HeldCycle, HeldMailbox, HeldOperation},
    convert::{cycle_outcome, duration, timestamp},
};
use tonic::Status;

use crate::api::{Api, refuse::Told as _, words::code};

impl Api {
    pub(super) async fn explanation(&self, mailbox: &Mailbox) -> Result<ExplainMailboxResponse, Status> {
        let mut views = self.views(&mailbox.org).await?;
        let location = self.store.located(mailbox.set.id).await.told()?.map(location);
        let Some(held) = self.leader.explain(mailbox.set.id).await else {
            let cycles = self.store.cycles(mailbox.set.id).await.told()?;
            return Ok(ExplainMailboxResponse {
                mailbox: Some(views.message(mailbox).await?),
                cycles: cycles.iter().map(stored_cycle).collect(),
                from_holder: false,
                work: String::new(),
                location,
            });
        };
        let HeldMailbox { operations, cycles, work } = held;
        let mut message = views.message(mailbox).await?;
        if operations.len() == Kind::ALL.len() {
            let (mut known, mut next) = (mailbox.operations, [None; 3]);
            for (at, held) in operations.iter().enumerate() {
                // A neighbouring version may say it in words that this one does not know.
                known[at] = held.operation.parse().unwrap_or(known[at]);
                next[at] = next_run(held);
            }
            message = views.with(mailbox, &known, next);
        }
        Ok(ExplainMailboxResponse {
            mailbox: Some(message),
            cycles: cycles.into_iter().map(held_cycle).collect(),
            from_holder: true,
            work,
            location,
        })
    }
}

fn location(located: Located) -> admin::Location {
    let Located { place, attempts } = located;
    admin::Location {
        ews_url: place.url.unwrap_or_default(),
        find_time: place.location.found.map(timestamp),
        doubted: place.location.doubted,
        reason: code(place.location.missed.map(|miss| miss.reason)),
        attempts: attempts.unwrap_or_default(),
    }
}

fn next_run(held: &HeldOperation) -> Option<NextRun> {
    Some(NextRun { at: Timestamp::from_millis(held.next_run?), why: held.why.parse().ok()? })
}

fn held_cycle(cycle: HeldCycle) -> admin::Cycle {
    let kind = cycle.operation.parse::<Kind>().map_or(OperationKind::Unspecified, OperationKind::from);
    admin::Cycle {
        operation: kind.into(),
        start: Some(timestamp(Timestamp::from_millis(cycle.start))),
        duration: Some(duration(std::time::Duration::from_millis(cycle.duration_millis))),
        items: cycle.items,
        outcome: cycle_outcome(&cycle.outcome).into(),
        reason: cycle.reason,
    }
}

fn stored_cycle(cycle: &Cycle) -> admin::Cycle {
    admin::Cycle {
        operation: OperationKind::from(cycle.operation).into(),
        start: Some(timestamp(cycle.start)),
        duration: Some(duration(cycle.duration)),
        items: cycle.items,
        outcome: cycle_outcome(cycle.outcome).into(),
        reason: code(cycle.reason),
    }
}
