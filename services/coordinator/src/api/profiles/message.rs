//! A profile as callers see it: everything but its secret.

use mailyard_exchange::Facts;
use mailyard_policy::{
    Reason,
    operation::Kind,
    profile::{CredentialSource, Credentials, OAuth},
};
use mailyard_store::people::Profile;
use mailyard_wire::{
    admin::{self, Capabilities, HeldBack, OperationKind},
    convert::{duration, timestamp},
    name,
};

use crate::api::{
    input::etag,
    words::{access, authentication, code, credential_source},
};

pub(super) fn of(profile: &Profile, is_default: bool, held_back: [Option<Reason>; 2]) -> admin::Profile {
    let found = &profile.capabilities;
    admin::Profile {
        name: name::resource(&profile.org, name::PROFILES, profile.id),
        uid: profile.id.to_string(),
        display_name: profile.display_name.clone(),
        description: profile.description.clone(),
        incoming_url: profile.incoming_url.clone().unwrap_or_default(),
        outgoing_url: profile.outgoing_url.clone().unwrap_or_default(),
        autodiscover: profile.autodiscovers(),
        credential_source: credential_source(profile.credential_source).into(),
        credentials: Some(match profile.credential_source {
            CredentialSource::Profile => credentials(&profile.credentials),
            // Nobody acts for another.
            CredentialSource::Mailbox => {
                admin::Credentials { access: 0, ..credentials(&profile.credentials) }
            }
        }),
        outgoing_credentials: profile.outgoing_credentials.as_ref().map(credentials),
        ca_pem: profile.ca_pem.clone(),
        process_email_from: profile.process_email_from.map(timestamp),
        min_poll_interval: Some(duration(profile.minimum_interval)),
        max_connections: profile.max_connections.into(),
        idle_max: Some(duration(profile.idle_max)),
        move_failed: profile.move_failed,
        streaming: profile.streaming,
        alert_owner: Some(profile.alert_owner),
        owner_email: profile.owner_email.clone(),
        request_deadline: profile.request_deadline.map(duration),
        is_default,
        held_back_reason: code(held_back.into_iter().flatten().next()),
        held_back: told(held_back),
        capabilities: Some(Capabilities {
            consumes_draft: found.consumes_draft,
            checks_change_key: found.checks_change_key,
            moved_id_dies: found.moved_id_dies,
        }),
        create_time: Some(timestamp(profile.create_time)),
        etag: etag(profile.revision),
        last_test: None,
    }
}

/// What is held back, and why.
pub(in crate::api) fn told(held_back: [Option<Reason>; 2]) -> Vec<HeldBack> {
    let told = |(kind, reason): (Kind, Option<Reason>)| {
        Some(HeldBack { operation: OperationKind::from(kind).into(), reason: reason?.code().to_owned() })
    };
    [Kind::Incoming, Kind::Outgoing].into_iter().zip(held_back).filter_map(told).collect()
}

fn credentials(credentials: &Credentials) -> admin::Credentials {
    let oauth = credentials.oauth.as_ref().map(|own| oauth(own, credentials.secret_set()));
    admin::Credentials {
        authentication: authentication(credentials.authentication).into(),
        access: access(credentials.access).into(),
        user: credentials.user.clone(),
        password: String::new(),
        password_set: oauth.is_none() && credentials.secret_set(),
        oauth,
    }
}

fn oauth(own: &OAuth, key_set: bool) -> admin::OAuth {
    let facts = Facts::read(&own.certificate_pem);
    admin::OAuth {
        tenant: own.tenant.clone(),
        client: own.client.clone(),
        certificate_pem: own.certificate_pem.clone(),
        authority: own.authority.clone().unwrap_or_default(),
        resource: own.resource.clone().unwrap_or_default(),
        key_set,
        certificate_subject: facts.as_ref().map(|facts| facts.subject.clone()).unwrap_or_default(),
        certificate_expire_time: facts.map(|facts| timestamp(facts.ends)),
    }
}
