//! A turn of a mailbox: what it holds while it runs, and how its writes and its troubles are handled.

use std::{sync::Arc, time::Duration};

use mailyard_exchange::{Client, Failure, Mailbox, Warrant};
use mailyard_host::metrics::Turn as Figure;
use mailyard_policy::{
    Nature, Reason, Timestamp,
    breaker::Answer,
    id::{Attempt, MailboxId, Revision},
    mailbox::{Kept, Outcome},
    operation::{Direction, Kind},
    profile::CredentialSource,
    reason::Scope,
};
use mailyard_store::{
    Error as StoreError,
    holder::{Commit, Cycle, Wanted},
};
use ractor::ActorRef;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::{holding::Holding, lane::Current, mailbox::Message, road::Roads, shared::Shared};

/// A turn under way.
pub struct Turn {
    /// What all mailboxes share.
    pub shared: Arc<Shared>,
    /// The profile as it is now.
    pub current: Arc<Current>,
    /// The roads of the mailbox.
    pub roads: Arc<Roads>,
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// What people want of it.
    pub wanted: Arc<Wanted>,
    /// What it holds.
    pub holding: Holding,
    /// When it began.
    pub begun: Instant,
    /// The same, by the wall clock.
    pub start: Timestamp,
    /// Whose turn it is,
    pub actor: ActorRef<Message>,
    /// and which.
    pub attempt: Attempt,
    /// Why each direction is held back.
    pub held: [Option<Reason>; 2],
    /// What of the mailbox's own state is written already.
    pub settled: Option<Box<Settlement>>,
}

/// What follows from a turn for the mailbox itself.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The machine's stored part.
    pub kept: Kept,
    /// The cycle, if it is worth keeping.
    pub cycle: Option<Cycle>,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Items tracked or sent.
    pub items: u32,
    /// More is waiting.
    pub more: bool,
}

impl Done {
    /// What the mailbox's machine is told.
    pub fn outcome(self) -> Outcome {
        let Self { items, more } = self;
        if more { Outcome::More { items } } else { Outcome::Completed { items } }
    }
}

/// Why a turn ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Exchange, or the road to it.
    #[error(transparent)]
    Exchange(#[from] Failure),
    /// Autodiscover does not say where the mailbox is.
    #[error(transparent)]
    Nowhere(Failure),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A breaker holds back what it would need.
    #[error("the server is left alone")]
    Held,
    /// The lease ended, or too little of it is left.
    #[error("the lease has ended")]
    Lease,
}

impl Trouble {
    /// What the mailbox's machine is told.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Exchange(failure) | Self::Nowhere(failure) => {
                Outcome::Failed { reason: failure.reason, hint: failure.back_off }
            }
            Self::Held => Outcome::Held,
            Self::Store(_) | Self::Lease => Outcome::OursFailed,
        }
    }

    /// What the profile's breaker is told; `None`: nothing is known of the server.
    pub fn answer(&self) -> Option<Answer> {
        match self {
            Self::Exchange(failure) => Some(answer_of(failure.reason)),
            // Whoever was asked need not be the server of other mailboxes; but the profile's password is that of all.
            Self::Nowhere(failure) if failure.reason.is_credential_fault() => Some(answer_of(failure.reason)),
            Self::Nowhere(_) | Self::Store(_) | Self::Held | Self::Lease => None,
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
    /// Writes; what is held is what is stored afterwards.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn commit(&mut self, commit: Commit) -> Result<(), Trouble> {
        let commit = Commit { at: self.shared.now(), ..commit };
        let tells = commit.tells();
        let span = tracing::debug_span!("commit", items = commit.items.len(), seen = commit.seen.len());
        self.holding.write(&*self.shared.store, commit).instrument(span).await?;
        if tells {
            self.shared.tell_facts();
        }
        Ok(())
    }

    /// Writes the last of a turn that will have done this. What the machine will want written then is written with it,
    /// if it is no more than the stored part and the cycle: one transaction instead of two.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn commit_last(&mut self, commit: Commit, done: Done) -> Result<(), Trouble> {
        let asked = |reply| Message::Foretell(self.attempt, done.outcome(), reply);
        let foretold = self.actor.call(asked, None).await;
        // Who is stopped foretells nothing.
        let Some(kept) = foretold.ok().and_then(|answer| answer.unwrap_or(None)) else {
            return self.commit(commit).await;
        };
        let cycle = (done.items > 0).then(|| Cycle {
            operation: Kind::Incoming,
            start: self.start,
            duration: self.begun.elapsed(),
            items: done.items,
            outcome: "success",
            reason: None,
        });
        self.commit(Commit { kept: Some(*kept), cycle: cycle.clone(), ..commit }).await?;
        self.settled = Some(Box::new(Settlement { kept: *kept, cycle }));
        Ok(())
    }

    /// The mailbox on the server that mail is read from.
    ///
    /// # Errors
    /// The failure of a profile that cannot be used as it is.
    pub fn incoming(&self) -> Result<Mailbox, Trouble> {
        Ok(self.client(Direction::Incoming)?.mailbox(self.wanted.address.as_str()))
    }

    /// The mailbox on the server that mail is sent through.
    ///
    /// # Errors
    /// The failure of a profile that cannot be used as it is.
    pub fn outgoing(&self) -> Result<Mailbox, Trouble> {
        Ok(self.client(Direction::Outgoing)?.mailbox(self.wanted.address.as_str()))
    }

    fn client(&self, direction: Direction) -> Result<Client, Failure> {
        self.roads.client(direction, self.holding.place.as_ref().and_then(|place| place.location.url()))
    }

    /// Which password of its own the mailbox signs in with; 0: none, its profile has credentials.
    pub fn own_secret(&self) -> Revision {
        match (self.current.profile.credential_source, &self.wanted.account) {
            (CredentialSource::Mailbox, Some(account)) => account.secret_revision,
            _ => Revision(0),
        }
    }

    /// The turn, or its part in a test, failed: told in figures, log and trace. What costs the mailbox nothing, because
    /// it speaks of the server, is no warning.
    pub fn failed(&self, kind: Kind, reason: Reason, detail: &str) {
        let (profile, mailbox, code) = (self.current.profile.id, self.mailbox, reason.code());
        self.shared.metrics.poll_ended(&self.current.label, kind, Figure::Failed(reason));
        Span::current().record("reason", code);
        if reason.is_server_fault() || reason.nature() == Nature::Throttled {
            tracing::info!(%profile, %mailbox, operation = kind.word(), reason = code, detail, "a turn failed");
        } else {
            tracing::warn!(%profile, %mailbox, operation = kind.word(), reason = code, detail, "a turn failed");
        }
    }

    /// An attempt to track or to send one message failed; the mailbox goes on with the others.
    pub fn message_failed(&self, direction: Direction, reason: Reason) {
        let (profile, mailbox) = (self.current.profile.id, self.mailbox);
        self.shared.metrics.message_failed(&self.current.label, direction, reason);
        let (direction, reason) = (direction.word(), reason.code());
        tracing::warn!(%profile, %mailbox, direction, reason, "a message failed");
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

#[cfg(test)]
mod tests {
    use mailyard_policy::outbox::Execution;

    use super::*;

    #[test]
    fn only_a_refused_password_of_autodiscover_is_everybodys() {
        let answer = |reason| Trouble::Nowhere(Failure::new(reason, Execution::Not, "")).answer();
        let rejected = Reason::ProfileAuthRejected;
        assert_eq!(answer(rejected), Some(Answer::Fault(rejected)));
        for reason in [
            Reason::ProfileDnsFailed,
            Reason::MailboxLocationUnknown,
            Reason::ExchangeServerBusy,
            Reason::MailboxAuthRejected,
        ] {
            assert_eq!(answer(reason), None, "{reason}");
        }
    }
}
