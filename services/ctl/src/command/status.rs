//! How the whole fares.

use mailyard_wire::admin::{GetStatusRequest, HeldBack, Status};

use crate::{ctl::Ctl, exit::Exit, failure::Failure, object::Object};

pub(super) async fn run(ctl: &mut Ctl) -> Result<Exit, Failure> {
    let server = ctl.server().await?;
    let request = GetStatusRequest { parent: server.parent.clone() };
    let status = server.call(server.status().get_status(request)).await?;
    ctl.object(&object(&status))?;
    Ok(Exit::Success)
}

fn object(status: &Status) -> Object {
    let workers = status.workers.iter().map(|worker| {
        Object::new()
            .text("id", &worker.id)
            .text("state", &worker.state)
            .number("shards", worker.shards)
            .number("mailboxes", worker.mailboxes)
            .number("oldest_due_ms", worker.oldest_due_millis)
            .time("lease_until", worker.lease_until.as_ref())
            .text("build", &worker.build)
            .text("incarnation", &worker.incarnation)
    });
    let profiles = status.profiles.iter().map(|profile| {
        Object::new()
            .text("name", &profile.display_name)
            .number("ok", profile.ok)
            .number("failing", profile.failing)
            .number("not_eligible", profile.not_eligible)
            .text("held_back_reason", &profile.held_back_reason)
            .objects("held_back", held_back(&profile.held_back))
    });
    let operations = status.operations.iter().map(|count| {
        Object::new()
            .word("operation", count.operation().as_str_name(), "OPERATION_KIND_")
            .word("state", count.state().as_str_name(), "OPERATION_STATE_")
            .text("reason", &count.reason)
            .number("count", count.count)
    });
    let alerts = status.open_alerts.iter().map(|count| {
        Object::new().word("level", count.level().as_str_name(), "ALERT_LEVEL_").number("count", count.count)
    });
    Object::new()
        .text("version", &status.version)
        .time("time", status.time.as_ref())
        .flag("has_leader", status.has_leader)
        .number("term", status.term)
        .number("orphaned_shards", status.orphaned_shards)
        .objects("workers", workers.collect())
        .objects("profiles", profiles.collect())
        .objects("operations", operations.collect())
        .objects("open_alerts", alerts.collect())
}

/// Which operations of a profile are held back, and why.
pub(super) fn held_back(held: &[HeldBack]) -> Vec<Object> {
    let object = |held: &HeldBack| {
        Object::new()
            .word("operation", held.operation().as_str_name(), "OPERATION_KIND_")
            .text("reason", &held.reason)
    };
    held.iter().map(object).collect()
}
