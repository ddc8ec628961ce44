//! Steps as a test makes them.

use mailyard_policy::{
    Reason,
    connection_test::{Step, StepName, StepOutcome},
};
use tokio::time::Instant;

use crate::Failure;

pub(super) fn step(
    name: StepName,
    begun: Instant,
    outcome: StepOutcome,
    evidence: impl Into<String>,
) -> Step {
    Step {
        name,
        outcome,
        reason: None,
        duration: begun.elapsed(),
        evidence: evidence.into(),
        request: String::new(),
        response: String::new(),
    }
}

pub(super) fn well(name: StepName, begun: Instant, evidence: impl Into<String>) -> Step {
    step(name, begun, StepOutcome::Success, evidence)
}

pub(super) fn failed(name: StepName, begun: Instant, failure: &Failure) -> Step {
    let step = step(name, begun, StepOutcome::Failure, failure.evidence());
    Step { reason: Some(failure.reason), ..step }
}

pub(super) fn skipped(name: StepName, why: &str) -> Step {
    step(name, Instant::now(), StepOutcome::Skipped, why)
}

/// The same with something that somebody should look at, unless it failed already.
pub(super) fn warned(step: Step, reason: Reason, evidence: &str) -> Step {
    if step.outcome == StepOutcome::Failure {
        return step;
    }
    let evidence = format!("{}; {evidence}", step.evidence);
    Step { outcome: StepOutcome::Warning, reason: Some(reason), evidence, ..step }
}
