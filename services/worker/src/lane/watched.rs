//! Which mailboxes of a lane are to be watched by notifications.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use mailyard_policy::id::MailboxId;
use tokio::sync::Notify;

use super::{Lane, Signal};

/// They, with their addresses; and whoever watches them is told when that may be another answer.
#[derive(Default)]
pub(super) struct Watched {
    mailboxes: Mutex<BTreeMap<MailboxId, Arc<str>>>,
    changed: Notify,
}

impl Watched {
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }
}

impl Lane {
    /// A mailbox of this address is to be watched; `None`: not any more.
    pub fn watch(&self, mailbox: MailboxId, address: Option<&str>) {
        let mut mailboxes = self.watched.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if mailboxes.get(&mailbox).map(|known| &**known) == address {
            return;
        }
        match address {
            Some(address) => mailboxes.insert(mailbox, address.into()),
            None => mailboxes.remove(&mailbox),
        };
        drop(mailboxes);
        self.watched.tell();
    }

    /// Who is to be watched now: nobody while the breaker is open, for then nothing is asked of the server.
    pub fn watched(&self) -> BTreeMap<MailboxId, Arc<str>> {
        if self.open_reason().is_some() || !self.current().profile.streaming {
            return BTreeMap::new();
        }
        self.watched.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Comes back when who is to be watched may have changed.
    pub async fn watched_changed(&self) {
        self.watched.changed.notified().await;
    }

    /// Mail came to a mailbox, or may have come unsaid.
    pub fn tell_mail(&self, mailbox: MailboxId) {
        (self.tell)(Signal::Mail(mailbox));
    }
}
