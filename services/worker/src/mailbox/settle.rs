//! The writing of what a mailbox's machine decided.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailyard_policy::{
    alert::Fact,
    mailbox::{Kept, TestEnd},
};
use mailyard_store::{
    Error as StoreError,
    holder::{Commit, Cycle, Fence},
    people::{TestOutcome, TestResult},
};

use super::task::reload;
use crate::{shared::Shared, turn::Holding};

/// The wait before something that our own side kept from being written is tried again.
const OWN_WAIT: Duration = Duration::from_secs(1);

/// A writing that is never given up, unless somebody else holds the mailbox.
pub(super) struct Writing {
    pub(super) shared: Arc<Shared>,
    pub(super) holding: Option<Holding>,
    pub(super) fence: Fence,
    pub(super) kept: Kept,
    pub(super) facts: Vec<Fact>,
    pub(super) test: Option<TestEnd>,
    pub(super) cycle: Option<Cycle>,
    pub(super) forget_cursor: bool,
}

impl Writing {
    pub(super) async fn run(mut self) -> Option<Holding> {
        loop {
            match self.once().await {
                Ok(holding) => return Some(holding),
                Err(StoreError::Fenced) => {
                    // The outcome of an earlier attempt may be what fences this one: then what is stored is ours.
                    match reload(&self.shared, &self.fence).await {
                        Ok(holding) => self.holding = Some(holding),
                        Err(StoreError::Fenced) => return None,
                        Err(_) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(mailbox = %self.fence.mailbox, %error, "the state of a mailbox is not written yet");
                    self.holding = None;
                    tokio::time::sleep(OWN_WAIT).await;
                }
            }
        }
    }

    async fn once(&mut self) -> Result<Holding, StoreError> {
        let mut holding = match self.holding.take() {
            Some(holding) => holding,
            None => reload(&self.shared, &self.fence).await?,
        };
        let at = self.shared.now();
        let test = self.test.as_ref().map(|end| {
            let result = if end.skipped {
                TestResult::Skipped
            } else if end.reasons.iter().any(Option::is_some) {
                TestResult::Failure
            } else {
                TestResult::Success
            };
            (end.test, TestOutcome { result, reasons: end.reasons, at })
        });
        let commit = Commit {
            kept: Some(self.kept),
            facts: self.facts.clone(),
            test,
            cycle: self.cycle.clone(),
            forget_cursor: self.forget_cursor,
            at,
            ..Commit::default()
        };
        let told = !commit.facts.is_empty() || commit.test.is_some();
        let committed = self.shared.store.commit(&holding.fence, commit).await?;
        if told {
            self.shared.tell_facts();
        }
        holding.fence = committed.fence;
        if self.forget_cursor {
            holding.cursor = None::<Bytes>;
            holding.start = None;
        }
        Ok(holding)
    }
}
