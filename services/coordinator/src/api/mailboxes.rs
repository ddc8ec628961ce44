//! MailboxService: which mailboxes there are, whether they may take part, and how they fare.

mod explain;
mod import;
mod message;
mod selection;
mod update;

use mailyard_policy::{
    Reason,
    id::{MailboxId, OperationId, Org},
};
use mailyard_store::{
    people::{Hindered, Mailbox, WantedPolls},
    query::MAILBOX_FIELDS,
};
use mailyard_wire::{
    admin::{
        self, DecideApprovalRequest, DecideApprovalResponse, ExplainMailboxRequest, ExplainMailboxResponse,
        GetMailboxRequest, ImportMailboxesRequest, ImportMailboxesResponse, ListMailboxesRequest,
        ListMailboxesResponse, PollMailboxesRequest, PollMailboxesResponse, RefusedMailbox,
        TestAndEnableRequest, UpdateMailboxRequest, mailbox_service_server::MailboxService,
    },
    name,
    status::refusal,
};
use tonic::{Request, Response, Status};

use super::{
    Api, cut,
    input::Input,
    new_id,
    refuse::{Told as _, not_found},
    with_one_more, words,
};
use crate::{filter, page_token::Listing};
use message::Views;
use selection::Selected;

/// So many mailboxes that cannot be polled are named in a refusal.
const NAMED: usize = 20;

#[tonic::async_trait]
impl MailboxService for Api {
    async fn import_mailboxes(
        &self,
        request: Request<ImportMailboxesRequest>,
    ) -> Result<Response<ImportMailboxesResponse>, Status> {
        let ImportMailboxesRequest { parent, csv, validate_only } = request.into_inner();
        let org = self.org(&parent).await?;
        let imported = self.import(&org, csv, validate_only).await?;
        Ok(Response::new(ImportMailboxesResponse { imported }))
    }

    async fn get_mailbox(
        &self,
        request: Request<GetMailboxRequest>,
    ) -> Result<Response<admin::Mailbox>, Status> {
        let mailbox = self.find_mailbox("name", &request.into_inner().name).await?;
        let mut views = self.views(&mailbox.org).await?;
        views.message(&mailbox).await.map(Response::new)
    }

    async fn list_mailboxes(
        &self,
        request: Request<ListMailboxesRequest>,
    ) -> Result<Response<ListMailboxesResponse>, Status> {
        let ListMailboxesRequest { parent, page_size, page_token, filter } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListMailboxes", &[&parent, &filter]);
        let page = listing.page(page_size, &page_token).told()?;
        let filter = filter::parse(&filter, MAILBOX_FIELDS).told()?;
        let mut mailboxes = self.store.mailboxes(&org, &filter, &with_one_more(&page)).await.told()?;
        let next_page_token = cut(&listing, &page, &mut mailboxes, Mailbox::page_key);
        let total_size = self.store.count_mailboxes(&org, &filter).await.told()? as i64;
        let mut views = self.views(&org).await?;
        let mut messages = Vec::with_capacity(mailboxes.len());
        for mailbox in &mailboxes {
            messages.push(views.message(mailbox).await?);
        }
        Ok(Response::new(ListMailboxesResponse { mailboxes: messages, next_page_token, total_size }))
    }

    async fn update_mailbox(
        &self,
        request: Request<UpdateMailboxRequest>,
    ) -> Result<Response<admin::Mailbox>, Status> {
        let mailbox = self.change_mailbox(request.into_inner()).await?;
        let mut views = self.views(&mailbox.org).await?;
        views.message(&mailbox).await.map(Response::new)
    }

    async fn decide_approval(
        &self,
        request: Request<DecideApprovalRequest>,
    ) -> Result<Response<DecideApprovalResponse>, Status> {
        let request = request.into_inner();
        let org = self.org(&request.parent).await?;
        let approval = words::wanted_approval(request.approval()).ok_or_else(|| {
            let detail = "one of APPROVAL_APPROVED, APPROVAL_REJECTED, APPROVAL_PENDING is expected";
            refusal(Reason::FieldInvalid, "approval", detail)
        })?;
        let Selected { selection, .. } = selection::read(request.selection)?;
        let decided = self.store.decide_approval(&org, &selection, approval, self.now()).await;
        let changed = decided.map_err(selection::refused).told()?;
        tracing::info!(changed, approval = approval.word(), "approval was decided on");
        self.leader.nudge();
        Ok(Response::new(DecideApprovalResponse { changed }))
    }

    async fn test_and_enable(
        &self,
        request: Request<TestAndEnableRequest>,
    ) -> Result<Response<admin::Operation>, Status> {
        let TestAndEnableRequest { parent, selection } = request.into_inner();
        let org = self.org(&parent).await?;
        let Selected { selection, description } = selection::read(selection)?;
        let id = OperationId::new(new_id()?);
        let started = self.store.start_test(&org, id, &selection, &description, self.now()).await;
        let operation = started.map_err(selection::refused).told()?;
        tracing::info!(operation = %id, total = operation.total, "a test was asked for");
        self.leader.nudge();
        Ok(Response::new(super::operations::message(&operation)))
    }

    async fn poll_mailboxes(
        &self,
        request: Request<PollMailboxesRequest>,
    ) -> Result<Response<PollMailboxesResponse>, Status> {
        let PollMailboxesRequest { parent, selection } = request.into_inner();
        let org = self.org(&parent).await?;
        let Selected { selection, .. } = selection::read(selection)?;
        let polls = self.store.want_polls(&org, &selection).await;
        let WantedPolls { wanted, refused } = polls.map_err(selection::refused).told()?;
        if wanted.is_empty() {
            refuse_polls(&refused)?;
        }
        tracing::info!(mailboxes = wanted.len(), refused = refused.len(), "polls were asked for");
        self.leader.nudge();
        let resource = |id| name::resource(&org, name::MAILBOXES, id);
        let refused = refused.iter().map(|refused| RefusedMailbox {
            mailbox: resource(refused.mailbox),
            address: refused.address.clone(),
            reason: refused.reason.code().to_owned(),
        });
        Ok(Response::new(PollMailboxesResponse {
            refused: refused.collect(),
            mailboxes: wanted.into_iter().map(resource).collect(),
        }))
    }

    async fn explain_mailbox(
        &self,
        request: Request<ExplainMailboxRequest>,
    ) -> Result<Response<ExplainMailboxResponse>, Status> {
        let mailbox = self.find_mailbox("name", &request.into_inner().name).await?;
        self.explanation(&mailbox).await.map(Response::new)
    }
}

/// Nothing can be polled: says why, mailbox by mailbox.
fn refuse_polls(refused: &[Hindered]) -> Result<(), Status> {
    let mut input = Input::default();
    for Hindered { address, reason, .. } in refused.iter().take(NAMED) {
        input.refuse(*reason, "selection", format!("{address}: {}", reason.entry().title));
    }
    input.done()
}

impl Api {
    /// The mailbox of a resource name, whose last part is an id or an address.
    pub(super) async fn find_mailbox(&self, field: &str, name: &str) -> Result<Mailbox, Status> {
        let (org, last) = name::parse(field, name, name::MAILBOXES)?;
        if let Ok(id) = last.parse::<MailboxId>() {
            let found = self.store.mailbox(id).await.told()?;
            return found.filter(|found| found.org == org).ok_or_else(|| not_found(field, "mailbox", &last));
        }
        self.mailbox_at(&org, field, &last).await
    }

    /// The mailbox with an address.
    pub(super) async fn mailbox_at(&self, org: &Org, field: &str, address: &str) -> Result<Mailbox, Status> {
        let found = self.store.mailbox_at(org, address).await.told()?;
        found.ok_or_else(|| not_found(field, "mailbox", address))
    }

    async fn views(&self, org: &Org) -> Result<Views<'_>, Status> {
        let profiles = self.store.profiles(Some(org)).await.told()?;
        Ok(Views::new(self, profiles))
    }
}
