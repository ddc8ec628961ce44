//! A mailbox as callers see it: what is wanted, how it fares, when it runs next and why then.

use std::collections::HashMap;

use mailyard_policy::{
    Reason,
    id::{self, ProfileId},
    operation::{Method, NextRun, Operation, Pace, Why},
};
use mailyard_store::people::{Mailbox, Profile};
use mailyard_wire::{
    admin::{self, MailboxCredentials, MailboxOperations},
    convert::{mailbox_operation, timestamp},
    name,
};
use tonic::Status;

use crate::api::{Api, input::etag, words};

/// What mailboxes are told with; read once for all of a page.
pub(super) struct Views<'a> {
    api: &'a Api,
    profiles: HashMap<ProfileId, Profile>,
    lanes: HashMap<(ProfileId, u16), [Option<Reason>; 2]>,
}

impl<'a> Views<'a> {
    pub(super) fn new(api: &'a Api, profiles: Vec<Profile>) -> Self {
        let profiles = profiles.into_iter().map(|profile| (profile.id, profile)).collect();
        Self { api, profiles, lanes: HashMap::new() }
    }

    /// The mailbox as it is stored.
    pub(super) async fn message(&mut self, mailbox: &Mailbox) -> Result<admin::Mailbox, Status> {
        let [incoming, outgoing] = self.held_back(mailbox).await?.map(|reason| reason.is_some());
        let mut held_back = [incoming, outgoing, incoming && outgoing].into_iter();
        let pace = self.pace(mailbox);
        let next = mailbox.operations.each_ref().map(|operation| {
            let held_back = held_back.next().unwrap_or_default();
            let next = operation.next_run(mailbox.set.id, &pace, self.api.now())?;
            Some(if held_back { NextRun { why: Why::Breaker, ..next } } else { next })
        });
        Ok(self.with(mailbox, &mailbox.operations, next))
    }

    /// The mailbox with these operations and their next runs. Without a profile nothing of it runs, and that is why.
    pub(super) fn with(
        &self,
        mailbox: &Mailbox,
        operations: &[Operation; 3],
        next: [Option<NextRun>; 3],
    ) -> admin::Mailbox {
        let profile = mailbox.set.profile.and_then(|profile| self.profiles.get(&profile));
        let resource = |profile| name::resource(&mailbox.org, name::PROFILES, profile);
        let told = |at: usize| {
            let operation = operations[at];
            if mailbox.set.profile.is_some() || operation.method == Method::None {
                return Some(mailbox_operation(&operation, next[at]));
            }
            Some(mailbox_operation(&Operation { reason: Some(Reason::ProfileNotSet), ..operation }, None))
        };
        admin::Mailbox {
            name: name::resource(&mailbox.org, name::MAILBOXES, mailbox.set.id),
            uid: mailbox.set.id.to_string(),
            address: mailbox.set.address.clone(),
            display_name: mailbox.set.display_name.clone(),
            kind: words::mailbox_kind(mailbox.set.kind).into(),
            profile: mailbox.set.profile.map(resource).unwrap_or_default(),
            profile_display_name: profile.map(|profile| profile.display_name.clone()).unwrap_or_default(),
            owner_email: mailbox.set.owner_email.clone().unwrap_or_default(),
            crm_id: mailbox.set.crm_id.clone().unwrap_or_default(),
            process_email_from: mailbox.set.process_email_from.map(timestamp),
            approval: words::approval(mailbox.approval).into(),
            state: admin::MailboxState::from(mailbox.health).into(),
            worker: mailbox.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
            operations: Some(MailboxOperations { incoming: told(0), outgoing: told(1), act: told(2) }),
            create_time: Some(timestamp(mailbox.create_time)),
            etag: etag(mailbox.revision),
            credentials: mailbox.account.as_ref().map(|account| MailboxCredentials {
                user: account.user.clone(),
                password: String::new(),
                password_set: true,
            }),
            polls_pending: mailbox.polls_wanted.saturating_sub(mailbox.polls_done),
        }
    }

    /// What bounds its schedule: the deployment's numbers, and its profile's.
    fn pace(&self, mailbox: &Mailbox) -> Pace {
        let rules = self.api.deployment.rules;
        match mailbox.set.profile.and_then(|profile| self.profiles.get(&profile)) {
            Some(profile) => rules.for_profile(profile.minimum_interval, profile.idle_max).pace(),
            None => rules.pace(),
        }
    }

    /// Why its profile's lane holds each direction back: incoming, outgoing.
    async fn held_back(&mut self, mailbox: &Mailbox) -> Result<[Option<Reason>; 2], Status> {
        let profile = mailbox.set.profile.and_then(|profile| self.profiles.get(&profile));
        let Some(profile) = profile else { return Ok([None; 2]) };
        let lane = (profile.id, id::lane(mailbox.set.id, profile.lanes));
        if let Some(open) = self.lanes.get(&lane) {
            return Ok(*open);
        }
        let open = self.api.held_back(profile, Some(mailbox.set.id)).await?;
        self.lanes.insert(lane, open);
        Ok(open)
    }
}
