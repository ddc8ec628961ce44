//! OperationService: long-running operations, and how they go on.

mod watch;

use mailyard_policy::{Reason, id::OperationId};
use mailyard_store::{
    Error,
    people::{LongOperation, LongState},
};
use mailyard_wire::{
    admin::{
        CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
        Operation, WatchOperationRequest, operation_service_server::OperationService,
    },
    convert::timestamp,
    name,
};
use tonic::{Request, Response, Status};

use super::{
    Api, cut,
    refuse::{Told as _, no_leader, not_found},
    with_one_more, words,
};
use crate::page_token::Listing;

#[tonic::async_trait]
impl OperationService for Api {
    type WatchOperationStream = watch::Changes;

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let operation = self.find_operation(&request.into_inner().name).await?;
        Ok(Response::new(message(&operation)))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let ListOperationsRequest { parent, live, page_size, page_token } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListOperations", &[&parent, if live { "live" } else { "" }]);
        let page = listing.page(page_size, &page_token).told()?;
        let mut operations = self.store.operations(&org, live, &with_one_more(&page)).await.told()?;
        let next_page_token = cut(&listing, &page, &mut operations, LongOperation::page_key);
        let operations = operations.iter().map(message).collect();
        Ok(Response::new(ListOperationsResponse { operations, next_page_token }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let WatchOperationRequest { name, skip_results } = request.into_inner();
        let operation = self.find_operation(&name).await?;
        Ok(Response::new(watch::changes(self, &operation, skip_results)))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let operation = self.find_operation(&request.into_inner().name).await?;
        if matches!(operation.state, LongState::Done | LongState::Canceled) {
            return Ok(Response::new(message(&operation)));
        }
        let lead = self.leader.leadership().ok_or_else(|| no_leader("nobody leads who could cancel it"))?;
        let (id, now) = (operation.id, self.now());
        match self.store.set_operation_state(&lead, id, LongState::Canceled, None, now).await {
            // It ended between our reading and our writing.
            Err(Error::Refused { reason: Reason::ResourceNotFound, .. }) => {}
            canceled => canceled.told()?,
        }
        tracing::info!(operation = %id, "an operation was canceled");
        self.leader.nudge();
        let canceled = self.store.operation(id).await.told()?;
        Ok(Response::new(message(&canceled.unwrap_or(operation))))
    }
}

impl Api {
    async fn find_operation(&self, name: &str) -> Result<LongOperation, Status> {
        let (org, last) = name::parse("name", name, name::OPERATIONS)?;
        let found = match last.parse::<OperationId>() {
            Ok(id) => self.store.operation(id).await.told()?,
            Err(_) => None,
        };
        found.filter(|found| found.org == org).ok_or_else(|| not_found("name", "operation", &last))
    }
}

/// An operation as callers see it.
pub(super) fn message(operation: &LongOperation) -> Operation {
    Operation {
        name: name::resource(&operation.org, name::OPERATIONS, operation.id),
        uid: operation.id.to_string(),
        selection: operation.selection.clone(),
        state: words::long_state(operation.state).into(),
        reason: words::code(operation.reason),
        create_time: Some(timestamp(operation.create_time)),
        end_time: operation.end_time.map(timestamp),
        total: operation.total,
        running: operation.running,
        succeeded: operation.succeeded,
        failed: operation.failed,
        skipped: operation.skipped,
    }
}
