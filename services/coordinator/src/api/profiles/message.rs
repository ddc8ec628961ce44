//! A profile as callers see it: everything but its secret.

use mailyard_policy::Reason;
use mailyard_store::people::Profile;
use mailyard_wire::{
    admin::{self, Authentication, Capabilities},
    convert::{duration, timestamp},
    name,
};

use crate::api::{input::etag, words::code};

/// What the scheme of a profile is called in the API.
const SCHEMES: [(&str, Authentication); 1] = [("basic", Authentication::Basic)];

pub(super) fn of(profile: &Profile, is_default: bool, held_back: Option<Reason>) -> admin::Profile {
    let found = &profile.capabilities;
    let scheme = SCHEMES.iter().find(|(word, _)| *word == profile.auth);
    admin::Profile {
        name: name::resource(&profile.org, name::PROFILES, profile.id),
        uid: profile.id.to_string(),
        display_name: profile.display_name.clone(),
        description: profile.description.clone(),
        incoming_url: profile.incoming_url.clone().unwrap_or_default(),
        outgoing_url: profile.outgoing_url.clone().unwrap_or_default(),
        authentication: scheme.map_or(Authentication::Unspecified, |(_, scheme)| *scheme).into(),
        user: profile.user.clone(),
        password: String::new(),
        password_set: profile.password_set,
        ca_pem: profile.ca_pem.clone(),
        process_email_from: profile.process_email_from.map(timestamp),
        min_poll_interval: Some(duration(profile.minimum_interval)),
        max_connections: profile.max_connections.into(),
        idle_max: Some(duration(profile.idle_max)),
        move_failed: profile.move_failed,
        alert_owner: Some(profile.alert_owner),
        owner_email: profile.owner_email.clone(),
        request_deadline: profile.request_deadline.map(duration),
        is_default,
        held_back_reason: code(held_back),
        capabilities: Some(Capabilities {
            consumes_draft: found.consumes_draft,
            checks_change_key: found.checks_change_key,
            moved_id_dies: found.moved_id_dies,
        }),
        create_time: Some(timestamp(profile.create_time)),
        etag: etag(profile.revision),
    }
}

/// The word of a scheme that this version can do.
pub(super) fn scheme(authentication: i32) -> Option<&'static str> {
    let known = SCHEMES.iter().find(|(_, scheme)| i32::from(*scheme) == authentication);
    known.map(|(word, _)| *word)
}
