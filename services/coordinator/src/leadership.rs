//! The leadership of this coordinator, as everything that only a leader may do reads it.

use std::time::Duration;

use mailyard_store::{
    Error as StoreError, Store,
    fleet::{Leadership, SoleHolder},
};
use tokio::sync::watch;

/// A leadership lasts so long,
pub const LEASE: Duration = Duration::from_secs(10);
/// and is renewed so often.
pub const RENEWED: Duration = Duration::from_secs(2);

/// Whether this coordinator leads. Copies speak of the same leadership.
#[derive(Clone, Debug)]
pub struct Leading(watch::Sender<Option<Leadership>>);

impl Default for Leading {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Leading {
    /// The leadership as it stands; `None`: somebody else leads, or nobody.
    pub fn now(&self) -> Option<Leadership> {
        *self.0.borrow()
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<Option<Leadership>> {
        self.0.subscribe()
    }

    /// It is over: a write of this term was refused.
    pub fn lost(&self, lead: &Leadership) {
        let ended = self.0.send_if_modified(|now| {
            let ours = now.as_ref() == Some(lead);
            if ours {
                *now = None;
            }
            ours
        });
        if ended {
            tracing::warn!(term = lead.term.0, "the leadership is lost");
        }
    }

    /// What came of a write of this term: one that was refused ends it.
    pub fn learn<T>(&self, lead: &Leadership, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Fenced)) {
            self.lost(lead);
        }
        result
    }

    /// Leads on, or stands for leader. With proof that nobody else can be there, at once.
    ///
    /// # Errors
    /// The store's; what was believed of the leadership stays.
    pub async fn keep(
        &self,
        store: &dyn Store,
        holder: &str,
        proof: Option<SoleHolder>,
    ) -> Result<Option<Leadership>, StoreError> {
        if let Some(lead) = self.now() {
            match self.learn(&lead, store.renew_leadership(&lead, LEASE).await) {
                Ok(()) => return Ok(Some(lead)),
                Err(StoreError::Fenced) => {}
                Err(error) => return Err(error),
            }
        }
        let lead = store.elect(holder, LEASE, proof).await?;
        if let Some(lead) = &lead {
            tracing::info!(term = lead.term.0, "this coordinator leads");
        }
        self.0.send_replace(lead);
        Ok(lead)
    }
}
