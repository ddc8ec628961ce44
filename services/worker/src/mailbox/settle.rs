//! The writing of what a mailbox's machine decided.

use std::sync::Arc;

use mailyard_policy::{
    Timestamp,
    alert::Fact,
    mailbox::{Kept, TestEnd},
};
use mailyard_store::{
    Error as StoreError,
    holder::{Commit, Cycle, Fence, Holder},
    people::{TestOutcome, TestResult},
};

use crate::holding::{Holding, OWN_WAIT};

/// A writing that is never given up, unless somebody else holds the mailbox.
pub(super) struct Writing {
    pub(super) store: Arc<dyn Holder>,
    pub(super) now: fn() -> Timestamp,
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
                    // A commit of a turn that was dropped may be what fences this one: then it is ours all the same.
                    match Holding::load(&*self.store, &self.fence).await {
                        Ok(holding) => self.holding = Some(holding),
                        Err(StoreError::Fenced) => return None,
                        Err(_) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(mailbox = %self.fence.mailbox, %error, "the state of a mailbox is not written yet");
                    tokio::time::sleep(OWN_WAIT).await;
                }
            }
        }
    }

    async fn once(&mut self) -> Result<Holding, StoreError> {
        let mut holding = match self.holding.take() {
            Some(holding) => holding,
            None => Holding::load(&*self.store, &self.fence).await?,
        };
        let at = (self.now)();
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
        holding.write(&*self.store, commit).await?;
        if self.forget_cursor {
            holding.start = None;
        }
        Ok(holding)
    }
}

#[cfg(test)]
mod tests;
