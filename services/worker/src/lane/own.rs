//! The roads of mailboxes that sign in as themselves: clients and a gate for each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mailyard_exchange::{Failure, Gate};
use mailyard_policy::{
    Reason,
    id::MailboxId,
    outbox::Execution,
    profile::{Account, CredentialSource},
};
use mailyard_store::{self as store, holder::Wanted, people::Profile};

use super::{Current, Lane};
use crate::road::Roads;

/// They, by mailbox.
#[derive(Default)]
pub(super) struct Owned(Mutex<BTreeMap<MailboxId, Own>>);

struct Own {
    account: Account,
    /// The roads of the profile as it was then.
    of: Arc<Roads>,
    gate: Gate,
    roads: Arc<Roads>,
}

impl Owned {
    fn all(&self) -> MutexGuard<'_, BTreeMap<MailboxId, Own>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The profile is this now.
    pub(super) fn refresh(&self, profile: &Profile) {
        let mut all = self.all();
        match profile.credential_source {
            CredentialSource::Profile => all.clear(),
            CredentialSource::Mailbox => {
                all.values().for_each(|own| own.gate.set_max_connections(profile.max_connections));
            }
        }
    }
}

impl Lane {
    /// The roads of a mailbox: as the profile's account, or as its own. `anew`: what was learnt of its own account
    /// before does not count any more.
    ///
    /// # Errors
    /// The store's; it is refused if the account is another by now.
    pub async fn roads(
        &self,
        current: &Current,
        mailbox: MailboxId,
        wanted: &Wanted,
        anew: bool,
    ) -> store::Result<Arc<Roads>> {
        if current.profile.credential_source == CredentialSource::Profile {
            return Ok(current.roads.clone());
        }
        let profile = &current.profile;
        let Some(account) = &wanted.account else {
            self.forget(mailbox);
            let detail = "the mailbox has no credentials of its own";
            let missing = Failure::new(Reason::MailboxCredentialsMissing, Execution::Not, detail);
            let (label, gate) = (&current.label, &self.gate);
            return Ok(Arc::new(Roads::of_mailbox(&self.shared, label, profile, &Err(missing), gate)));
        };
        let known = match self.owned.all().get(&mailbox).filter(|own| own.account == *account) {
            Some(own) if !anew && Arc::ptr_eq(&own.of, &current.roads) => return Ok(own.roads.clone()),
            Some(own) => Some(own.gate.clone()),
            None => None,
        };
        let password = self.shared.store.account_secret(mailbox, account).await?;
        let new = || Gate::new(profile.id, profile.max_connections, None, self.shared.clocks.now);
        let gate = known.unwrap_or_else(new);
        let signed = Ok((account, password));
        let roads = Arc::new(Roads::of_mailbox(&self.shared, &current.label, profile, &signed, &gate));
        let (account, of) = (account.clone(), current.roads.clone());
        let own = Own { account, of, gate: gate.clone(), roads: roads.clone() };
        self.owned.all().insert(mailbox, own);
        // The profile may have been changed meanwhile.
        gate.set_max_connections(self.current().profile.max_connections);
        Ok(roads)
    }

    /// A mailbox is not held any more.
    pub fn forget(&self, mailbox: MailboxId) {
        self.owned.all().remove(&mailbox);
    }
}
