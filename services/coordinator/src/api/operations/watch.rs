//! WatchOperation: the operation as it stands, then each change with the results that came, until it has ended.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use mailyard_host::shutdown::Shutdown;
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
    told: Option<LongOperation>,
    operation: LongOperation,
    results: u64,
    ended: bool,
}

/// The changes of an operation behind the first `skip` results.
pub(super) fn changes(api: &Api, operation: &LongOperation, skip: u64) -> Changes {
    let watch = Watch {
        store: api.store.clone(),
        shutdown: api.shutdown.clone(),
        told: None,
        operation: operation.clone(),
        results: skip,
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
            // First the operation, then its results: once it has ended, none comes behind those that are read now.
            let id = self.operation.id;
            let operation = self.store.operation(id).await.told()?;
            let operation = operation.ok_or_else(|| not_found("name", "operation", &id.to_string()))?;
            let results = self.store.operation_results(id, self.results, PORTION).await.told()?;
            let changed = self.told.as_ref() != Some(&operation);
            let more = results.len() == PORTION as usize;
            self.results += results.len() as u64;
            self.ended = !more && matches!(operation.state, LongState::Done | LongState::Canceled);
            if changed || !results.is_empty() {
                let results = results.iter().map(|item| result(&operation, item)).collect();
                let told = WatchOperationResponse { operation: Some(message(&operation)), results };
                self.told = Some(operation);
                return Ok(Some(told));
            }
            if self.ended {
                break;
            }
            tokio::select! {
                biased;
                () = self.shutdown.wished() => return Err(draining()),
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        Ok(None)
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
