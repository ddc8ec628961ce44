//! What a holder tells of a mailbox, as a message.

use mailyard_policy::mailbox::Work;
use mailyard_wire::cluster::{HeldCycle, HeldMailbox, HeldOperation};

use crate::mailbox::Explained;

/// As a message.
pub(crate) fn held(explained: &Explained) -> HeldMailbox {
    let Explained { kept, next_runs, work, cycles } = explained;
    let operations = kept.operations.iter().zip(next_runs).map(|(operation, next)| HeldOperation {
        operation: operation.to_string(),
        next_run: next.map(|next| next.at.as_millis()),
        why: next.map(|next| next.why.word().to_owned()).unwrap_or_default(),
    });
    let cycles = cycles.iter().rev().map(|cycle| HeldCycle {
        operation: cycle.operation.word().to_owned(),
        start: cycle.start.as_millis(),
        duration_millis: u64::try_from(cycle.duration.as_millis()).unwrap_or(u64::MAX),
        items: cycle.items,
        outcome: cycle.outcome.to_owned(),
        reason: cycle.reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
    });
    let work = match work {
        Some(Work::Incoming) => "incoming",
        Some(Work::Outgoing { .. }) => "outgoing",
        Some(Work::Test(_)) => "test",
        None => "",
    };
    HeldMailbox { operations: operations.collect(), cycles: cycles.collect(), work: work.to_owned() }
}
