//! Emails and quarantined items as callers see them.

use mailyard_store::records::{Email, Quarantined};
use mailyard_wire::{convert::timestamp, name, records};

use crate::api::words;

pub(super) fn email(email: &Email) -> records::Email {
    let linked = email.linked.map(|linked| name::resource(&email.org, name::EMAILS, linked));
    records::Email {
        name: name::resource(&email.org, name::EMAILS, email.id),
        uid: email.id.to_string(),
        direction: words::direction(email.direction).into(),
        state: words::email_state(email.state).into(),
        step: email.step.clone().unwrap_or_default(),
        reason: words::code(email.reason),
        mailbox: email.mailbox.clone(),
        mailboxes: email.mailboxes.clone(),
        internet_message_id: email.internet_message_id.clone().unwrap_or_default(),
        subject: email.subject.clone(),
        from: email.from.clone(),
        to: email.to.clone(),
        cc: email.cc.clone(),
        sent_time: email.sent_time.map(timestamp),
        received_time: email.received_time.map(timestamp),
        size: email.size,
        create_time: Some(timestamp(email.create_time)),
        next_attempt_time: email.next_attempt.map(timestamp),
        linked: linked.unwrap_or_default(),
    }
}

pub(super) fn quarantined(item: &Quarantined) -> records::QuarantinedItem {
    records::QuarantinedItem {
        mailbox: item.address.clone(),
        item_id: item.item_id.clone(),
        reason: item.reason.code().to_owned(),
        attempts: item.attempts,
        moved: item.moved,
        seen_time: Some(timestamp(item.seen)),
    }
}
