//! Testing a connection: its steps as they come.

use std::time::Duration;

use mailyard_host::config::short;
use mailyard_wire::{
    admin::{ConnectionStep, StepOutcome, TestConnectionRequest},
    convert, name,
};
use tokio_stream::StreamExt as _;

use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    values::{printable, shell_word},
};

pub(super) async fn run(ctl: &mut Ctl, called: &str, address: String) -> Result<Exit, Failure> {
    let server = ctl.server().await?;
    let request = TestConnectionRequest { name: server.name(name::PROFILES, called), profile: None, address };
    let mut stream = server.call(server.profiles().test_connection(request)).await?;
    let mut steps = Vec::new();
    if !ctl.is_json() {
        ctl.screen.write(line("STEP", "OUTCOME", "DURATION", "EVIDENCE").as_bytes())?;
    }
    while let Some(message) = stream.next().await {
        let step = message?.step.unwrap_or_default();
        if !ctl.is_json() {
            ctl.screen.write(row(&step).as_bytes())?;
        }
        steps.push(step);
    }
    let failed = steps.iter().any(|step| step.outcome() == StepOutcome::Failure);
    if ctl.is_json() {
        ctl.object(&Object::new().objects("steps", steps.iter().map(object).collect()))?;
    } else {
        let profile = shell_word(called);
        let next =
            if failed { format!("profile update {profile} --help") } else { "mailbox list".to_owned() };
        let text = if failed { "the test failed" } else { "the test went well" };
        ctl.done(&Object::new(), text, Some(&next))?;
    }
    Ok(Exit::unless(failed))
}

fn duration(step: &ConnectionStep) -> Option<Duration> {
    step.duration.as_ref().and_then(convert::span).map(|span| Duration::from_millis(span.as_millis() as u64))
}

fn outcome(step: &ConnectionStep) -> String {
    convert::word(step.outcome().as_str_name(), "STEP_OUTCOME_")
}

fn object(step: &ConnectionStep) -> Object {
    Object::new()
        .text("step", &step.step)
        .text("outcome", outcome(step))
        .text("duration", duration(step).map(short).unwrap_or_default())
        .text("evidence", &step.evidence)
        .text("reason", &step.reason)
        .text("remedy", &step.remedy)
}

/// Steps come one by one: the columns cannot wait for the widest.
fn line(step: &str, outcome: &str, duration: &str, evidence: &str) -> String {
    let line = format!("{step:<13} {outcome:<8} {duration:>8}  {evidence}");
    format!("{}\n", printable(line.trim_end()))
}

fn row(step: &ConnectionStep) -> String {
    let duration = duration(step).map_or_else(|| "-".to_owned(), short);
    let reason = if step.reason.is_empty() { String::new() } else { format!("  [{}]", step.reason) };
    let evidence = format!("{}{reason}", step.evidence);
    let mut text = line(&step.step, &outcome(step), &duration, evidence.trim_start());
    if !step.remedy.is_empty() {
        text.push_str(&format!("  fix:  {}\n", printable(&step.remedy)));
    }
    text
}
