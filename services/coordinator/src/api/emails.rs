//! EmailService: emails as the CRM sees them, tracked ones and those to be sent.

mod content;
mod enqueue;
mod message;

use mailyard_policy::{Reason, id::RecordId};
use mailyard_store::{
    query::EMAIL_FIELDS,
    records::{Direction, Email, Quarantined},
};
use mailyard_wire::{
    name,
    records::{
        self, CancelEmailRequest, EnqueueEmailRequest, EnqueueEmailResponse, GetEmailContentRequest,
        GetEmailRequest, ListEmailsRequest, ListEmailsResponse, ListQuarantinedItemsRequest,
        ListQuarantinedItemsResponse, ReplayItemsRequest, ReplayItemsResponse, ResolveEmailRequest,
        email_service_server::EmailService,
    },
    status::refusal,
};
use tonic::{Request, Response, Status};

use super::{
    Api, cut,
    input::Input,
    refuse::{Told as _, not_found},
    with_one_more,
};
use crate::{filter, page_token::Listing};

/// Items of one replay.
const MOST_ITEMS: usize = 1000;
/// An item's id in Exchange is not longer; bytes.
const LONGEST_ITEM_ID: usize = 1024;

#[tonic::async_trait]
impl EmailService for Api {
    type GetEmailContentStream = content::Pieces;

    async fn list_emails(
        &self,
        request: Request<ListEmailsRequest>,
    ) -> Result<Response<ListEmailsResponse>, Status> {
        let ListEmailsRequest { parent, page_size, page_token, filter } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListEmails", &[&parent, &filter]);
        let page = listing.page(page_size, &page_token).told()?;
        let filter = filter::parse(&filter, EMAIL_FIELDS).told()?;
        let mut emails = self.store.emails(&org, &filter, &with_one_more(&page)).await.told()?;
        let next_page_token = cut(&listing, &page, &mut emails, Email::page_key);
        let emails = emails.iter().map(message::email).collect();
        Ok(Response::new(ListEmailsResponse { emails, next_page_token }))
    }

    async fn get_email(&self, request: Request<GetEmailRequest>) -> Result<Response<records::Email>, Status> {
        let email = self.find_email(&request.into_inner().name).await?;
        Ok(Response::new(message::email(&email)))
    }

    async fn get_email_content(
        &self,
        request: Request<GetEmailContentRequest>,
    ) -> Result<Response<Self::GetEmailContentStream>, Status> {
        let email = self.find_email(&request.into_inner().name).await?;
        if email.direction == Direction::Outgoing {
            let detail = "an outgoing email has no MIME of its own; its copy that comes in has";
            return Err(refusal(Reason::ResourceNotFound, "name", detail));
        }
        content::pieces(self, email.id).await.map(Response::new)
    }

    async fn enqueue_email(
        &self,
        request: Request<EnqueueEmailRequest>,
    ) -> Result<Response<EnqueueEmailResponse>, Status> {
        self.enqueue(request.into_inner()).await.map(Response::new)
    }

    async fn cancel_email(
        &self,
        request: Request<CancelEmailRequest>,
    ) -> Result<Response<records::Email>, Status> {
        let email = self.find_outgoing(&request.into_inner().name).await?;
        let email = self.store.cancel(email.id, self.now()).await.told()?;
        tracing::info!(email = %email.id, "an email was canceled");
        self.leader.nudge();
        Ok(Response::new(message::email(&email)))
    }

    async fn resolve_email(
        &self,
        request: Request<ResolveEmailRequest>,
    ) -> Result<Response<records::Email>, Status> {
        let ResolveEmailRequest { name, sent } = request.into_inner();
        let email = self.find_outgoing(&name).await?;
        let email = self.store.settle_doubt(email.id, sent, self.now()).await.told()?;
        tracing::info!(email = %email.id, sent, "a doubt about an email was settled");
        self.leader.nudge();
        Ok(Response::new(message::email(&email)))
    }

    async fn list_quarantined_items(
        &self,
        request: Request<ListQuarantinedItemsRequest>,
    ) -> Result<Response<ListQuarantinedItemsResponse>, Status> {
        let ListQuarantinedItemsRequest { parent, mailbox, page_size, page_token } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListQuarantinedItems", &[&parent, &mailbox]);
        let page = listing.page(page_size, &page_token).told()?;
        let of = match mailbox.as_str() {
            "" => None,
            address => Some(self.mailbox_at(&org, "mailbox", address).await?.set.id),
        };
        let mut items = self.store.quarantined(&org, of, &with_one_more(&page)).await.told()?;
        let next_page_token = cut(&listing, &page, &mut items, Quarantined::page_key);
        let items = items.iter().map(message::quarantined).collect();
        Ok(Response::new(ListQuarantinedItemsResponse { items, next_page_token }))
    }

    async fn replay_items(
        &self,
        request: Request<ReplayItemsRequest>,
    ) -> Result<Response<ReplayItemsResponse>, Status> {
        let ReplayItemsRequest { parent, mailbox, item_ids } = request.into_inner();
        let org = self.org(&parent).await?;
        if item_ids.len() > MOST_ITEMS {
            let detail = format!("{} items are too many; up to {MOST_ITEMS} are taken", item_ids.len());
            return Err(refusal(Reason::SelectionTooLarge, "item_ids", &detail));
        }
        let mut input = Input::default();
        if item_ids.is_empty() {
            input.wrong("item_ids", "it is empty; name the items that ListQuarantinedItems lists");
        }
        for (at, item) in item_ids.iter().enumerate() {
            input.name(&format!("item_ids[{at}]"), item, LONGEST_ITEM_ID);
        }
        input.done()?;
        let mailbox = self.mailbox_at(&org, "mailbox", &mailbox).await?;
        let replayed = self.store.replay(mailbox.set.id, &item_ids).await.told()?;
        tracing::info!(mailbox = %mailbox.set.id, replayed, "items are tried anew");
        self.leader.nudge();
        Ok(Response::new(ReplayItemsResponse { replayed }))
    }
}

impl Api {
    async fn find_email(&self, name: &str) -> Result<Email, Status> {
        let (org, last) = name::parse("name", name, name::EMAILS)?;
        let found = match last.parse::<RecordId>() {
            Ok(id) => self.store.email(id).await.told()?,
            Err(_) => None,
        };
        found.filter(|found| found.org == org).ok_or_else(|| not_found("name", "email", &last))
    }

    async fn find_outgoing(&self, name: &str) -> Result<Email, Status> {
        let email = self.find_email(name).await?;
        if email.direction == Direction::Incoming {
            return Err(refusal(Reason::EmailNotCancelable, "name", "the email came in and is not sent"));
        }
        Ok(email)
    }
}
