//! Which mailboxes of a lane are to be watched by notifications.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mailyard_policy::{id::MailboxId, operation::Direction};
use tokio::sync::Notify;

use super::{Lane, Signal};

/// A mailbox as it is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: Arc<str>,
    /// The URL that Autodiscover found for it, where it is asked.
    pub url: Option<Arc<str>>,
}

/// They; and whoever watches them is told when that may be another answer.
#[derive(Default)]
pub(super) struct Watched {
    mailboxes: Mutex<BTreeMap<MailboxId, Target>>,
    changed: Notify,
}

impl Watched {
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }
}

impl Lane {
    /// A mailbox is to be watched; `None`: not any more.
    pub fn watch(&self, mailbox: MailboxId, target: Option<Target>) {
        let mut mailboxes = self.watched.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if mailboxes.get(&mailbox) == target.as_ref() {
            return;
        }
        match target {
            Some(target) => mailboxes.insert(mailbox, target),
            None => mailboxes.remove(&mailbox),
        };
        drop(mailboxes);
        self.watched.tell();
    }

    /// Who is to be watched now: nobody while incoming is held back, for then nothing is asked of its server.
    pub fn watched(&self) -> BTreeMap<MailboxId, Target> {
        if self.held()[Direction::Incoming as usize].is_some() || !self.current().profile.streaming {
            return BTreeMap::new();
        }
        self.watched.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Comes back when who is to be watched may have changed.
    pub async fn watched_changed(&self) {
        self.watched.changed.notified().await;
    }

    /// Mail came to a mailbox.
    pub fn tell_mail(&self, mailbox: MailboxId) {
        (self.tell)(Signal::Mail(mailbox));
    }

    /// A mailbox is watched from now on; what came before is not told.
    pub fn tell_watched(&self, mailbox: MailboxId) {
        (self.tell)(Signal::Watched(mailbox));
    }
}
