//! The leadership of this coordinator, as everything that only a leader may do reads it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailyard_store::{
    Error as StoreError, Store,
    fleet::{Leadership, SoleHolder},
};
use tokio::{sync::watch, time::Instant};

/// A leadership lasts so long,
pub const LEASE: Duration = Duration::from_secs(10);
/// and is renewed so often.
pub const RENEWED: Duration = Duration::from_secs(2);

/// Whether this coordinator leads. Copies speak of the same leadership.
#[derive(Clone, Debug)]
pub struct Leading {
    lead: watch::Sender<Option<Leadership>>,
    /// When it was asked for the leadership that it has.
    renewed: Arc<Mutex<Instant>>,
}

impl Default for Leading {
    fn default() -> Self {
        Self { lead: watch::Sender::new(None), renewed: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Leading {
    /// The leadership as it stands; `None`: somebody else leads, or nobody.
    pub fn now(&self) -> Option<Leadership> {
        *self.lead.borrow()
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<Option<Leadership>> {
        self.lead.subscribe()
    }

    /// It is over: a write of this term was refused.
    pub fn lost(&self, lead: &Leadership) {
        let ended = self.lead.send_if_modified(|now| {
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

    /// Leads on, or stands for leader. A leadership that was renewed a moment ago is relied on: each write of it shows
    /// whether it still is one. With proof that nobody else can be there, at once.
    ///
    /// # Errors
    /// The store's; what was believed of the leadership stays until its lease has ended.
    pub async fn keep(
        &self,
        store: &dyn Store,
        holder: &str,
        proof: Option<SoleHolder>,
    ) -> Result<Option<Leadership>, StoreError> {
        let asked = Instant::now();
        if let Some(lead) = self.now() {
            if self.renewed().elapsed() < RENEWED {
                return Ok(Some(lead));
            }
            match self.learn(&lead, store.renew_leadership(&lead, LEASE).await) {
                Ok(()) => {
                    *self.renewed() = asked;
                    return Ok(Some(lead));
                }
                Err(StoreError::Fenced) => {}
                Err(error) => {
                    if self.renewed().elapsed() >= LEASE {
                        // Whoever reaches the store may lead now.
                        self.lost(&lead);
                    }
                    return Err(error);
                }
            }
        }
        let lead = store.elect(holder, LEASE, proof).await?;
        if let Some(lead) = &lead {
            *self.renewed() = asked;
            tracing::info!(term = lead.term.0, "this coordinator leads");
        }
        self.lead.send_replace(lead);
        Ok(lead)
    }

    fn renewed(&self) -> MutexGuard<'_, Instant> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mailyard_store::{MasterKey, SqliteStore, fleet::Fleet as _};

    use super::*;

    #[tokio::test]
    async fn a_leadership_is_relied_on_between_two_renewals() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = MasterKey::load_or_create(&folder.path().join("master.key")).expect("a key");
        let store = SqliteStore::open(&folder.path().join("mailyard.db"), key).await.expect("a store");
        let leading = Leading::default();
        let first = leading.keep(&store, "one", None).await.expect("an answer").expect("nobody else leads");
        let other = store.elect("two", LEASE * 100, Some(SoleHolder)).await.expect("an answer");
        assert!(other.is_some());
        assert_eq!(leading.keep(&store, "one", None).await.expect("nothing is asked"), Some(first));
        tokio::time::pause();
        tokio::time::advance(RENEWED).await;
        tokio::time::resume();
        assert_eq!(leading.keep(&store, "one", None).await.expect("an answer"), None, "another one leads");
    }
}
