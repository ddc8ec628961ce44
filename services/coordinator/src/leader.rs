//! What the servers for people and the CRM ask of the coordinator that leads.

use async_trait::async_trait;
use mailyard_policy::id::{Incarnation, MailboxId, Term};
use mailyard_store::fleet::Leadership;
use mailyard_wire::cluster::HeldMailbox;

/// A worker's process as it told of itself last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beating {
    /// Which process.
    pub incarnation: Incarnation,
    /// Mailboxes it holds.
    pub mailboxes: u64,
    /// How long the mailbox that has waited longest is overdue, in milliseconds.
    pub oldest_due_millis: u64,
}

/// The coordinator that leads.
#[async_trait]
pub trait Leader: Send + Sync {
    /// Something changed in the store: shards, wishes, emails to send, tests. Whoever is concerned looks now and not
    /// at its next round. Carries the trace of the current span.
    fn nudge(&self);

    /// What a mailbox's holder knows of it; `None`: nobody holds it, or its holder is silent.
    async fn explain(&self, mailbox: MailboxId) -> Option<HeldMailbox>;

    /// Its leadership, for what only the leader writes; `None`: this process does not lead.
    fn leadership(&self) -> Option<Leadership>;

    /// The term of its leadership; `None`: nobody leads.
    fn term(&self) -> Option<Term> {
        self.leadership().map(|lead| lead.term)
    }

    /// The workers whose sessions are open.
    async fn beating(&self) -> Vec<Beating>;
}
