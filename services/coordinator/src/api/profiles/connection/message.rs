//! Steps as callers see them.

use mailyard_policy::{
    connection_test::{Step, StepOutcome},
    operation::Direction,
};
use mailyard_store::people::ConnectionTest;
use mailyard_wire::{
    admin::{self, ConnectionStep, TestConnectionResponse},
    convert::{duration, timestamp},
};

use crate::api::words::code;

pub(super) fn told(direction: Option<Direction>, step: &Step) -> TestConnectionResponse {
    TestConnectionResponse { step: Some(message(direction, step)) }
}

/// The test as it was kept.
pub(in crate::api::profiles) fn last(test: &ConnectionTest) -> admin::ConnectionTest {
    let worst = test.steps.iter().map(|(_, step)| step.outcome).max_by_key(|outcome| match outcome {
        StepOutcome::Skipped => 0,
        StepOutcome::Success => 1,
        StepOutcome::Warning => 2,
        StepOutcome::Failure => 3,
    });
    admin::ConnectionTest {
        time: Some(timestamp(test.at)),
        address: test.address.clone().unwrap_or_default(),
        outcome: worst.map_or(admin::StepOutcome::Unspecified, outcome).into(),
        steps: test.steps.iter().map(|(direction, step)| message(*direction, step)).collect(),
    }
}

fn message(direction: Option<Direction>, step: &Step) -> ConnectionStep {
    ConnectionStep {
        name: step.name.word().to_owned(),
        outcome: outcome(step.outcome).into(),
        duration: Some(duration(step.duration)),
        evidence: step.evidence.clone(),
        reason: code(step.reason),
        remedy: step.remedy().unwrap_or_default().to_owned(),
        guide: step.guide().unwrap_or_default().to_owned(),
        direction: direction.map(|direction| direction.word().to_owned()).unwrap_or_default(),
        request: step.request.clone(),
        response: step.response.clone(),
    }
}

const fn outcome(outcome: StepOutcome) -> admin::StepOutcome {
    match outcome {
        StepOutcome::Success => admin::StepOutcome::Success,
        StepOutcome::Warning => admin::StepOutcome::Warning,
        StepOutcome::Failure => admin::StepOutcome::Failure,
        StepOutcome::Skipped => admin::StepOutcome::Skipped,
    }
}
