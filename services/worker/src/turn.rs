//! A turn of a mailbox: what it holds while it runs, and how its writes and its troubles are handled.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailyard_exchange::{Failure, Mailbox, Warrant};
use mailyard_policy::{
    Nature, Reason, Timestamp, breaker::Answer, id::MailboxId, mailbox::Outcome, reason::Scope,
};
use mailyard_store::{
    Error as StoreError,
    holder::{Commit, Fence, Wanted},
};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{lane::Current, shared::Shared};

/// What a turn needs of the mailbox's stored part, and changes. While a turn runs it alone has it.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The right to write.
    pub fence: Fence,
    /// The position in the Inbox.
    pub cursor: Option<Bytes>,
    /// Mail received before this is not tracked.
    pub start: Option<Timestamp>,
    /// Rows of `inbound` may wait.
    pub has_inbound: bool,
}

/// A turn under way.
pub struct Turn {
    /// What all mailboxes share.
    pub shared: Arc<Shared>,
    /// The profile as it is now.
    pub current: Arc<Current>,
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// What people want of it.
    pub wanted: Arc<Wanted>,
    /// What it holds.
    pub holding: Holding,
    /// When it began.
    pub begun: Instant,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Items tracked or sent.
    pub items: u32,
    /// More is waiting.
    pub more: bool,
}

/// Why a turn ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Exchange, or the road to it.
    #[error(transparent)]
    Exchange(#[from] Failure),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease ended, or too little of it is left.
    #[error("the lease has ended")]
    Lease,
}

impl Trouble {
    /// What the mailbox's machine is told.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Exchange(failure) => Outcome::Failed { reason: failure.reason, hint: failure.back_off },
            Self::Store(_) | Self::Lease => Outcome::OursFailed,
        }
    }

    /// What the profile's breaker is told; `None`: nothing is known of the server.
    pub fn answer(&self) -> Option<Answer> {
        match self {
            Self::Exchange(failure) => Some(answer_of(failure.reason)),
            Self::Store(_) | Self::Lease => None,
        }
    }

    /// True if what the turn held may not be what is stored: it is read anew.
    pub fn spoils_holding(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    /// True if somebody else holds the mailbox now.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced))
    }
}

/// What a failure says of the server.
pub fn answer_of(reason: Reason) -> Answer {
    if reason.is_server_fault() {
        Answer::Fault(reason)
    } else if reason.nature() == Nature::Throttled && reason.scope() != Scope::Item {
        Answer::Throttled
    } else {
        Answer::Answered
    }
}

impl Turn {
    /// Writes; the fence is the new one afterwards.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn commit(&mut self, commit: Commit) -> Result<(), Trouble> {
        let at = self.shared.now();
        let facts = !commit.facts.is_empty();
        let span = tracing::debug_span!("commit", items = commit.items.len(), seen = commit.seen.len());
        let writing = self.shared.store.commit(&self.holding.fence, Commit { at, ..commit });
        let committed = writing.instrument(span).await?;
        if facts {
            self.shared.tell_facts();
        }
        self.holding.fence = committed.fence;
        Ok(())
    }

    /// The mailbox on the server that mail is read from.
    ///
    /// # Errors
    /// The failure of a profile that cannot be used as it is.
    pub fn incoming(&self) -> Result<Mailbox, Trouble> {
        Ok(self.current.incoming()?.mailbox(self.wanted.address.as_str()))
    }

    /// The mailbox on the server that mail is sent through.
    ///
    /// # Errors
    /// The failure of a profile that cannot be used as it is.
    pub fn outgoing(&self) -> Result<Mailbox, Trouble> {
        Ok(self.current.outgoing()?.mailbox(self.wanted.address.as_str()))
    }

    /// True once others should go first.
    pub fn is_long(&self) -> bool {
        self.begun.elapsed() >= self.shared.settings.turn
    }

    /// Something with an effect may be begun.
    ///
    /// # Errors
    /// [`Trouble::Lease`] if it might still run when the lease has ended.
    pub fn may_act(&self) -> Result<(), Trouble> {
        if self.shared.allows_effect() { Ok(()) } else { Err(Trouble::Lease) }
    }

    /// What is asked before each request with an effect, however long it waited for its turn: the lease must allow it,
    /// and it ends before the deadline.
    pub fn warrant(&self, deadline: Option<Timestamp>) -> Warrant {
        let shared = self.shared.clone();
        Warrant(Arc::new(move || match deadline {
            _ if !shared.allows_effect() => Duration::ZERO,
            Some(deadline) => deadline.since(shared.now()),
            None => Duration::MAX,
        }))
    }
}
