//! Testing a connection: its steps as they come.

use std::time::Duration;

use mailyard_host::config::short;
use mailyard_wire::{
    admin::{self, ConnectionStep, StepOutcome, TestConnectionRequest},
    convert, name,
};
use tokio_stream::StreamExt as _;

use super::fields::Road;
use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    server::Server,
    values::{printable, shell_word},
};

/// Tests a profile that the server has.
pub(super) async fn stored(ctl: &mut Ctl, called: &str, address: String) -> Result<Exit, Failure> {
    let server = ctl.server().await?;
    let request = TestConnectionRequest { name: server.name(name::PROFILES, called), profile: None, address };
    let failed = steps(ctl, &server, request).await?;
    let profile = shell_word(called);
    let next = if failed { format!("profile update {profile} --help") } else { "mailbox list".to_owned() };
    ended(ctl, failed, &next)
}

/// Tests a server that no profile is made for yet.
pub(super) async fn unsaved(ctl: &mut Ctl, road: Box<Road>, address: String) -> Result<Exit, Failure> {
    if road.leads_nowhere() {
        let advice = "Name a profile, or a server by --url with --user and --password-file.";
        return Err(Failure::new(Exit::Usage, "nothing is named that could be tested", advice));
    }
    let mut profile = admin::Profile::default();
    road.fill(ctl, &mut profile, true)?;
    let server = ctl.server().await?;
    let request = TestConnectionRequest { name: String::new(), profile: Some(profile), address };
    let failed = steps(ctl, &server, request).await?;
    ended(ctl, failed, if failed { "explain REASON" } else { "profile create NAME" })
}

/// Writes the steps as they come. True: one of them failed.
async fn steps(ctl: &mut Ctl, server: &Server, request: TestConnectionRequest) -> Result<bool, Failure> {
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
    if ctl.is_json() {
        ctl.object(&Object::new().objects("steps", steps.iter().map(object).collect()))?;
    }
    Ok(steps.iter().any(|step| step.outcome() == StepOutcome::Failure))
}

fn ended(ctl: &mut Ctl, failed: bool, next: &str) -> Result<Exit, Failure> {
    if !ctl.is_json() {
        let text = if failed { "the test failed" } else { "the test went well" };
        ctl.done(&Object::new(), text, Some(next))?;
    }
    Ok(Exit::unless(failed))
}

fn duration(step: &ConnectionStep) -> Option<Duration> {
    step.duration.as_ref().and_then(convert::span).map(|span| Duration::from_millis(span.as_millis() as u64))
}

fn outcome(step: &ConnectionStep) -> String {
    convert::word(step.outcome().as_str_name(), "STEP_OUTCOME_")
}

/// The last test of a stored profile.
pub(super) fn last(test: &admin::ConnectionTest) -> Object {
    Object::new()
        .time("time", test.time.as_ref())
        .text("address", &test.address)
        .word("outcome", test.outcome().as_str_name(), "STEP_OUTCOME_")
        .objects("steps", test.steps.iter().map(object).collect())
}

fn object(step: &ConnectionStep) -> Object {
    Object::new()
        .text("name", &step.name)
        .text("direction", &step.direction)
        .text("outcome", outcome(step))
        .number("duration_ms", duration(step).unwrap_or_default().as_millis() as u64)
        .text("evidence", &step.evidence)
        .text("reason", &step.reason)
        .text("remedy", &step.remedy)
        .text("guide", &step.guide)
        .document("request", &step.request)
        .document("response", &step.response)
}

/// Steps come one by one: the columns cannot wait for the widest.
fn line(step: &str, outcome: &str, duration: &str, evidence: &str) -> String {
    let line = format!("{step:<21} {outcome:<8} {duration:>8}  {evidence}");
    format!("{}\n", printable(line.trim_end()))
}

fn row(step: &ConnectionStep) -> String {
    let duration = duration(step).map_or_else(|| "-".to_owned(), short);
    let reason = if step.reason.is_empty() { String::new() } else { format!("  [{}]", step.reason) };
    let evidence = format!("{}{reason}", step.evidence);
    let name = if step.direction.is_empty() {
        step.name.clone()
    } else {
        format!("{} {}", step.direction, step.name)
    };
    let mut text = line(&name, &outcome(step), &duration, evidence.trim_start());
    if !step.remedy.is_empty() {
        text.push_str(&format!("  fix:  {}\n", printable(&step.remedy)));
    }
    if !step.guide.is_empty() {
        text.push_str(&format!("  see:  {}\n", printable(&step.guide)));
    }
    text
}
