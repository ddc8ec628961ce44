//! Mailboxes as they are shown.

use mailyard_wire::{
    admin::{Cycle, ExplainMailboxResponse, Location, Mailbox, MailboxOperation},
    convert,
};

use crate::{object::Object, table::Column};

/// The list of mailboxes for people.
pub(super) const COLUMNS: &[Column] = &[
    ("ADDRESS", &["address"]),
    ("PROFILE", &["profile"]),
    ("APPROVAL", &["approval"]),
    ("STATE", &["state"]),
    ("INCOMING", &["operations.incoming.state"]),
    ("OUTGOING", &["operations.outgoing.state"]),
    ("ACT", &["operations.act.state"]),
    (
        "NEXT-RUN",
        &["operations.incoming.next_run", "operations.outgoing.next_run", "operations.act.next_run"],
    ),
    ("REASON", &["operations.incoming.reason", "operations.outgoing.reason", "operations.act.reason"]),
];

/// A mailbox.
pub(super) fn mailbox(mailbox: &Mailbox) -> Object {
    with(mailbox, false)
}

/// A mailbox with what its holder knows of it.
pub(super) fn explained(answer: &ExplainMailboxResponse) -> Object {
    let object = with(&answer.mailbox.clone().unwrap_or_default(), true)
        .text("work", &answer.work)
        .flag("from_holder", answer.from_holder);
    let object = match &answer.location {
        Some(found) => object.object("location", location(found)),
        None => object,
    };
    object.objects("cycles", answer.cycles.iter().map(cycle).collect())
}

fn location(location: &Location) -> Object {
    Object::new()
        .text("ews_url", &location.ews_url)
        .time("find_time", location.find_time.as_ref())
        .flag("doubted", location.doubted)
        .text("reason", &location.reason)
        .objects(
            "attempts",
            location.attempts.iter().map(|line| Object::new().text("attempt", line)).collect(),
        )
}

fn with(mailbox: &Mailbox, why: bool) -> Object {
    let of = mailbox.operations.clone().unwrap_or_default();
    let operations = Object::new()
        .object("incoming", operation(&of.incoming.unwrap_or_default(), why))
        .object("outgoing", operation(&of.outgoing.unwrap_or_default(), why))
        .object("act", operation(&of.act.unwrap_or_default(), why));
    let object = Object::new()
        .text("address", &mailbox.address)
        .text("id", &mailbox.uid)
        .text("display_name", &mailbox.display_name)
        .word("kind", mailbox.kind().as_str_name(), "MAILBOX_KIND_")
        .text("profile", &mailbox.profile_display_name)
        .word("approval", mailbox.approval().as_str_name(), "APPROVAL_")
        .word("state", mailbox.state().as_str_name(), "MAILBOX_STATE_")
        .text("worker", &mailbox.worker)
        .object("operations", operations)
        .number("polls_pending", mailbox.polls_pending)
        .text("owner_email", &mailbox.owner_email)
        .text("crm_id", &mailbox.crm_id);
    let object = match &mailbox.credentials {
        Some(account) => object.text("user", &account.user).flag("password_set", account.password_set),
        None => object,
    };
    object
        .time("process_email_from", mailbox.process_email_from.as_ref())
        .time("create_time", mailbox.create_time.as_ref())
        .text("etag", &mailbox.etag)
}

fn operation(operation: &MailboxOperation, why: bool) -> Object {
    let object = Object::new()
        .word("method", operation.method().as_str_name(), "METHOD_")
        .word("state", operation.state().as_str_name(), "OPERATION_STATE_")
        .word("status", operation.status().as_str_name(), "TEST_STATUS_")
        .flag("enabled", operation.enabled)
        .number("failures", operation.failures)
        .time("next_run", operation.next_run.as_ref());
    let object = if why { object.word("why", operation.why().as_str_name(), "WHY_") } else { object };
    object.text("reason", &operation.reason)
}

fn cycle(cycle: &Cycle) -> Object {
    let duration = cycle.duration.as_ref().and_then(convert::span).unwrap_or_default();
    Object::new()
        .word("operation", cycle.operation().as_str_name(), "OPERATION_KIND_")
        .time("start", cycle.start.as_ref())
        .number("duration_ms", duration.as_millis() as u64)
        .number("items", cycle.items)
        .word("outcome", cycle.outcome().as_str_name(), "CYCLE_OUTCOME_")
        .text("reason", &cycle.reason)
}
