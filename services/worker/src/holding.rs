//! What is held of a mailbox's stored part, and kept the same as what is stored.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailyard_policy::Timestamp;
use mailyard_store::{
    Error as StoreError,
    holder::{Claimed, Commit, Fence, Holder, Place},
};

/// The wait before the store is asked again what became of a writing.
pub const OWN_WAIT: Duration = Duration::from_secs(1);

/// What a turn needs of the mailbox's stored part, and changes. While a turn runs it alone has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The right to write.
    pub fence: Fence,
    /// The position in the Inbox.
    pub cursor: Option<Bytes>,
    /// Mail received before this is not tracked.
    pub start: Option<Timestamp>,
    /// Rows of `inbound` may wait.
    pub has_inbound: bool,
    /// Where the mailbox was found; `None`: it was not looked for, or nobody has read it yet.
    pub place: Option<Arc<Place>>,
}

impl From<Claimed> for Holding {
    fn from(Claimed { fence, cursor, start, has_inbound, .. }: Claimed) -> Self {
        Self { fence, cursor, start, has_inbound, place: None }
    }
}

impl Holding {
    /// What is stored now.
    ///
    /// # Errors
    /// The store's; [`StoreError::Fenced`]: somebody else holds the mailbox.
    pub async fn load(store: &dyn Holder, fence: &Fence) -> Result<Self, StoreError> {
        store.reload(fence).await.map(Self::from)
    }

    /// Writes once. If the store cannot say whether it did, it is asked until it can: then this is as if it had.
    ///
    /// # Errors
    /// The store's, but never [`StoreError::InDoubt`]: nothing was written.
    pub async fn write(&mut self, store: &dyn Holder, commit: Commit) -> Result<(), StoreError> {
        let next = self.after(&commit);
        match store.commit(&self.fence, commit).await {
            Ok(committed) => {
                *self = Self { fence: committed.fence, ..next };
                Ok(())
            }
            Err(StoreError::InDoubt(cause)) => {
                let tried = self.fence;
                let loaded = certain(|| Self::load(store, &tried)).await?;
                // Nobody else writes under this fence.
                let written = loaded.fence.commit_ver > tried.commit_ver;
                let place = if written { next.place } else { self.place.take() };
                *self = Self { place, ..loaded };
                if written { Ok(()) } else { Err(StoreError::Unavailable(cause)) }
            }
            Err(error) => Err(error),
        }
    }

    /// What is held once this is written.
    fn after(&self, commit: &Commit) -> Self {
        let before = self.cursor.clone().filter(|_| !commit.forget_cursor);
        Self {
            fence: self.fence,
            cursor: commit.cursor.clone().or(before),
            start: commit.start.or(self.start.filter(|_| !commit.forget_cursor)),
            has_inbound: self.has_inbound || commit.leaves_inbound(),
            place: match &commit.located {
                Some(located) => Some(Arc::new(located.place.clone())),
                None => self.place.clone(),
            },
        }
    }
}

/// Asks the store what became of a writing until it can say.
///
/// # Errors
/// What it says then.
pub async fn certain<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match ask().await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::InDoubt(_))) => {
                tracing::warn!(%error, "what became of a writing is not known yet");
                tokio::time::sleep(OWN_WAIT).await;
            }
            known => return known,
        }
    }
}

#[cfg(test)]
pub mod tests;
