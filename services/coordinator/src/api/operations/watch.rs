//! WatchOperation: the operation as it stands, then each change with the results that came, until it has ended.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use mailyard_host::shutdown::Shutdown;
use mailyard_policy::id::OperationId;
use mailyard_store::{
    Store,
    people::{LongOperation, LongState, TestItem},
};
use mailyard_wire::{
    admin::{MailboxTestResult, WatchOperationResponse},
    convert::timestamp,
    name,
};
use tonic::Status;

use super::message;
use crate::api::{
    Api,
    refuse::{Told as _, draining, not_found},
    words,
};

/// Changes as they come.
pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<WatchOperationResponse, Status>> + Send>>;

/// The store is read again after this.
const INTERVAL: Duration = Duration::from_millis(200);
/// So many results travel in one message.
const PORTION: u32 = 500;

struct Watch {
    store: Arc<dyn Store>,
    shutdown: Shutdown,
    id: OperationId,
    told: Option<LongOperation>,
    results: u64,
    /// More results are there already.
    more: bool,
    ended: bool,
}

/// The changes of an operation behind the first `skip` results.
pub(super) fn changes(api: &Api, operation: &LongOperation, skip: u64) -> Changes {
    let watch = Watch {
        store: api.store.clone(),
        shutdown: api.shutdown.clone(),
        id: operation.id,
        told: None,
        results: skip,
        more: false,
        ended: false,
    };
    Box::pin(stream::unfold(watch, |mut watch| async move {
        let next = watch.next().await.transpose()?;
        watch.ended |= next.is_err();
        Some((next, watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Result<Option<WatchOperationResponse>, Status> {
        while !self.ended {
            self.pause().await?;
            // First the operation, then its results: once it has ended, none comes behind those that are read now.
            let operation = self.read().await?;
            let results = self.store.operation_results(self.id, self.results, PORTION).await.told()?;
            self.more = results.len() == PORTION as usize;
            self.results += results.len() as u64;
            self.ended = !self.more && matches!(operation.state, LongState::Done | LongState::Canceled);
            // What is counted of it is not older than the results beside it.
            let operation = if results.is_empty() { operation } else { self.read().await? };
            let changed = self.told.as_ref() != Some(&operation);
            if changed || !results.is_empty() {
                let results = results.iter().map(|item| result(&operation, item)).collect();
                let told = WatchOperationResponse { operation: Some(message(&operation)), results };
                self.told = Some(operation);
                return Ok(Some(told));
            }
        }
        Ok(None)
    }

    /// However fast it goes on, the store is not asked more often than that; the end of the process ends the wait.
    async fn pause(&self) -> Result<(), Status> {
        if self.told.is_none() || self.more {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.shutdown.wished() => Err(draining()),
            () = tokio::time::sleep(INTERVAL) => Ok(()),
        }
    }

    async fn read(&self) -> Result<LongOperation, Status> {
        let operation = self.store.operation(self.id).await.told()?;
        operation.ok_or_else(|| not_found("name", "operation", &self.id.to_string()))
    }
}

fn result(operation: &LongOperation, item: &TestItem) -> MailboxTestResult {
    let mailbox = name::resource(&operation.org, name::MAILBOXES, item.mailbox);
    let Some(outcome) = &item.outcome else {
        return MailboxTestResult { mailbox, address: item.address.clone(), ..MailboxTestResult::default() };
    };
    let [incoming_reason, outgoing_reason, act_reason] = outcome.reasons.map(words::code);
    MailboxTestResult {
        mailbox,
        address: item.address.clone(),
        result: words::test_result(outcome.result).into(),
        incoming_reason,
        outgoing_reason,
        act_reason,
        time: Some(timestamp(outcome.at)),
    }
}
