//! ExplainMailbox: what its holder knows, or what is stored if nobody holds it.

use mailyard_policy::{
    Timestamp,
    discovery::Found,
    mailbox::CYCLES,
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
        let held = self.leader.explain(mailbox.set.id).await;
        let stored = self.store.cycles(mailbox.set.id).await.told()?;
        let stored = stored.iter().map(stored_cycle);
        let Some(held) = held else {
            return Ok(ExplainMailboxResponse {
                mailbox: Some(views.message(mailbox).await?),
                cycles: stored.collect(),
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
            cycles: continued(cycles.into_iter().map(held_cycle).collect(), stored),
            from_holder: true,
            work,
            location,
        })
    }
}

/// What its holder remembers, and before that what was stored by those who held it earlier, newest first.
fn continued(mut held: Vec<admin::Cycle>, stored: impl Iterator<Item = admin::Cycle>) -> Vec<admin::Cycle> {
    let begun = |cycle: &admin::Cycle| cycle.start.map(|at| (at.seconds, at.nanos));
    let oldest = held.last().and_then(begun);
    held.extend(stored.filter(|cycle| oldest.is_none_or(|oldest| begun(cycle) < Some(oldest))));
    held.truncate(CYCLES);
    held
}

fn location(located: Located) -> admin::Location {
    let Located { place, attempts } = located;
    let missed = code(place.location.missed.map(|miss| miss.reason));
    let shown =
        admin::Location { reason: missed, attempts: attempts.unwrap_or_default(), ..Default::default() };
    match place.location.found {
        Some(Found { url, at, doubted }) => {
            admin::Location { ews_url: url, find_time: Some(timestamp(at)), doubted, ..shown }
        }
        None => shown,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_holder_remembers_is_continued_by_what_was_stored_before() {
        let cycle = |at: i64, items: u32| admin::Cycle {
            start: Some(timestamp(Timestamp::from_millis(at))),
            items,
            ..admin::Cycle::default()
        };
        let told = |held: &[i64], stored: &[i64]| -> Vec<u32> {
            let of =
                |starts: &[i64], by| starts.iter().map(|at| cycle(*at, by + *at as u32)).collect::<Vec<_>>();
            continued(of(held, 100), of(stored, 200).into_iter()).iter().map(|cycle| cycle.items).collect()
        };
        assert_eq!(told(&[], &[9, 5]), [209, 205], "after a restart");
        assert_eq!(told(&[9, 8, 7], &[9, 7, 5]), [109, 108, 107, 205], "each once");
        let many: Vec<i64> = (0..20).rev().collect();
        assert_eq!(told(&many, &many).len(), CYCLES);
    }
}
