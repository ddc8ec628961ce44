//! One turn of sending: each email is carried through the steps of its machine, every step stored before the act that
//! it names.

use mailyard_exchange::{
    Failure, Mailbox,
    codec::{self, Address, Attachment, Content, Deletion, Folder, Importance, ItemId, WellKnown},
};
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, What},
    id::Attempt,
    operation::Direction,
    outbox::{Act, Draft, Event, Finding, Fresh, State},
    reason::Scope,
};
use mailyard_store::{
    Error as StoreError,
    holder::{Commit, DeliveryChange, Outgoing},
    records::OutgoingBody,
};

use crate::turn::{Done, Trouble, Turn};

/// Emails of one turn.
const EMAILS: u32 = 10;
/// The folder that drafts of unknown outcome are taken to.
pub const ASIDE: &str = "Mailyard";

/// Sends what is due. With `check` the server is asked something even if nothing is.
///
/// # Errors
/// [`Trouble`]; every sending stands where its last stored step says.
pub async fn send(turn: &mut Turn, check: bool) -> Result<Done, Trouble> {
    let mailbox = turn.outgoing()?;
    let due = turn.shared.store.outgoing(turn.mailbox, turn.shared.now(), EMAILS).await?;
    if due.is_empty() {
        if check {
            mailbox.get_folder(&Folder::WellKnown(WellKnown::Drafts)).await?;
        }
        return Ok(Done::default());
    }
    let mailbox = mailbox.under(turn.warrant(None));
    let full = due.len() == EMAILS as usize;
    let mut done = Done::default();
    for email in due {
        if turn.is_long() {
            return Ok(Done { more: true, ..done });
        }
        let sent = Sending { turn: &mut *turn, mailbox: &mailbox, email }.run().await?;
        done.items += u32::from(sent);
    }
    Ok(Done { more: full, ..done })
}

struct Sending<'a> {
    turn: &'a mut Turn,
    mailbox: &'a Mailbox,
    email: Outgoing,
}

/// What an act came to, and the failure that ends the turn with it.
struct Acted {
    event: Event,
    trouble: Option<Failure>,
}

impl Acted {
    fn well(event: Event) -> Self {
        Self { event, trouble: None }
    }

    /// What is wrong with the email itself ends only this sending.
    fn failed(event: Event, failure: Failure) -> Self {
        Self { event, trouble: (!failure.is_of_item()).then_some(failure) }
    }
}

impl Sending<'_> {
    /// True if it was sent.
    async fn run(mut self) -> Result<bool, Trouble> {
        let mut fresh = Fresh::No;
        loop {
            let now = self.turn.shared.now();
            let rules = self.turn.current.outbox;
            let result = match self.email.delivery.act(&rules, fresh, now) {
                Act::Nothing | Act::Wait(_) => break,
                Act::Begin => Acted::well(Event::Begin),
                Act::MakeDraft { attempt, look_first } => {
                    self.turn.may_act()?;
                    self.make_draft(attempt, look_first).await
                }
                Act::Submit { attempt, draft, deadline } => {
                    self.turn.may_act()?;
                    self.submit(attempt, &draft, deadline).await
                }
                Act::TakeOrFind { attempt, draft } => {
                    self.turn.may_act()?;
                    self.take_or_find(attempt, &draft).await
                }
            };
            if !self.store(&result.event).await? {
                break;
            }
            if let Some(failure) = result.trouble {
                return Err(failure.into());
            }
            fresh = Fresh::Yes;
        }
        Ok(self.email.delivery.state == State::Sent)
    }

    /// Stores the next step. False: nothing more is to be done in this turn.
    async fn store(&mut self, event: &Event) -> Result<bool, Trouble> {
        let now = self.turn.shared.now();
        let rules = self.turn.current.outbox;
        let capabilities = self.turn.current.profile.capabilities;
        let next = self.email.delivery.step(&rules, capabilities, event, now);
        if next == self.email.delivery {
            return Ok(false);
        }
        let id = self.email.id;
        let fact = |what| Fact::of_email(id, what, now);
        let facts = match (next.state, next.reason) {
            (State::Failed | State::Expired, Some(reason)) => vec![fact(What::SendFailed(reason))],
            (State::NeedsPerson, _) => vec![fact(What::InDoubt)],
            _ => Vec::new(),
        };
        let change = DeliveryChange {
            id,
            from: self.email.delivery.clone(),
            to: next.clone(),
            due: next.due(&rules),
            internet_message_id: matches!(event, Event::DraftMade(..)).then(|| self.message_id()),
        };
        // A step that only goes on from a failure tells it no second time.
        let goes_on = matches!(event, Event::Begin | Event::Found(..)) && !next.state.is_final();
        let failed = next.reason.filter(|reason| !goes_on && reason.scope() == Scope::Item);
        match self.turn.commit(Commit { delivery: Some(change), facts, ..Commit::default() }).await {
            Ok(()) => {}
            // A person was faster: it is canceled, and nothing was done with it.
            Err(Trouble::Store(StoreError::Refused { reason: Reason::EtagMismatch, .. })) => {
                return Ok(false);
            }
            Err(trouble) => return Err(trouble),
        }
        if let Some(reason) = failed {
            self.turn.message_failed(Direction::Outgoing, reason);
        }
        self.email.delivery = next;
        Ok(!self.email.delivery.state.is_final())
    }

    fn operation_id(&self) -> String {
        self.email.id.to_string()
    }

    /// Ours, so that it is known before the server makes one.
    fn message_id(&self) -> String {
        let domain = self.email.content.from.rsplit('@').next().unwrap_or("localhost");
        format!("<{}@{domain}>", self.email.id)
    }

    async fn make_draft(&self, attempt: Attempt, look_first: bool) -> Acted {
        let drafts = Folder::WellKnown(WellKnown::Drafts);
        if look_first {
            match self.mailbox.find_by_operation_id(&drafts, &self.operation_id()).await {
                Ok(found) if self.email.content.attachments.is_empty() => {
                    if let Some(item) = found.value.into_iter().next() {
                        return Acted::well(Event::DraftMade(attempt, draft_of(item.id)));
                    }
                }
                // With files it may be incomplete: another one is made in its place.
                Ok(found) => {
                    for item in found.value {
                        self.discard(&item.id).await;
                    }
                }
                Err(failure) => return draft_failed(attempt, failure),
            }
        }
        let content = self.content();
        let operation_id = self.operation_id();
        let made = self.mailbox.create_draft(&drafts, Content::Draft(&content), &operation_id).await;
        let mut draft = match made {
            Ok(answer) => answer.value,
            Err(failure) => return draft_failed(attempt, failure),
        };
        for file in &self.email.content.attachments {
            let attachment = Attachment {
                name: &file.name,
                content_type: &file.content_type,
                content_id: None,
                inline: false,
                content: &file.content,
            };
            match self.mailbox.attach(&draft, attachment).await {
                Ok(answer) => draft = answer.value,
                Err(failure) => {
                    self.discard(&draft).await;
                    return draft_failed(attempt, failure);
                }
            }
        }
        Acted::well(Event::DraftMade(attempt, draft_of(draft)))
    }

    /// Deletes a draft of ours that is not recorded, and so never was nor will be submitted: in this step none is, and
    /// whoever was about to record it is fenced. If it cannot be deleted now, the next attempt finds it by its mark.
    async fn discard(&self, draft: &ItemId) {
        if let Err(failure) =
            self.mailbox.delete_item(&ItemId::new(draft.id.clone()), Deletion::HardDelete).await
        {
            tracing::debug!(mailbox = %self.turn.mailbox, reason = failure.reason.code(), "a draft is left behind");
        }
    }

    /// Begun and given up before the deadline that is stored: whoever finds it relies on that.
    async fn submit(&self, attempt: Attempt, draft: &Draft, deadline: Timestamp) -> Acted {
        let id =
            ItemId { id: draft.item_id.as_str().into(), change_key: Some(draft.change_key.as_str().into()) };
        let mailbox = self.mailbox.under(self.turn.warrant(Some(deadline)));
        let sent = mailbox.send_item(&id, &Folder::WellKnown(WellKnown::SentItems)).await;
        let Err(failure) = sent else { return Acted::well(Event::Submitted(attempt)) };
        let stale = matches!(
            failure.code.as_deref(),
            Some("ErrorStaleObject" | "ErrorChangeKeyRequiredForWriteOperations" | "ErrorChangeKeyRequired")
        );
        if stale {
            // The server saved the draft once more by itself. It was not sent: its new change key is read.
            return match self.mailbox.get_item(&ItemId::new(draft.item_id.as_str())).await {
                Ok(answer) => Acted::well(Event::DraftChanged(attempt, draft_of(answer.value.id))),
                Err(other) => Acted::failed(
                    Event::SubmitFailed(attempt, failure.execution, other.reason, other.back_off),
                    other,
                ),
            };
        }
        Acted::failed(
            Event::SubmitFailed(attempt, failure.execution, failure.reason, failure.back_off),
            failure,
        )
    }

    async fn take_or_find(&self, attempt: Attempt, draft: &Draft) -> Acted {
        match self.find(draft).await {
            Ok(finding) => Acted::well(Event::Found(attempt, finding)),
            Err(failure) => {
                Acted::failed(Event::LookFailed(attempt, failure.reason, failure.back_off), failure)
            }
        }
    }

    /// Takes the draft away from everybody else, or finds where it went.
    async fn find(&self, draft: &Draft) -> Result<Finding, Failure> {
        let root = Folder::WellKnown(WellKnown::MsgFolderRoot);
        let aside = Folder::Id(self.mailbox.ensure_folder(&root, ASIDE).await?.value);
        match self.mailbox.move_item(&ItemId::new(draft.item_id.as_str()), &aside).await {
            Ok(answer) => return Ok(Finding::Taken(draft_of(answer.value))),
            Err(failure) if failure.reason == Reason::ItemNotFound => {}
            Err(failure) => return Err(failure),
        }
        let operation_id = self.operation_id();
        let look = async |folder: &Folder| self.mailbox.find_by_operation_id(folder, &operation_id).await;
        if !look(&Folder::WellKnown(WellKnown::SentItems)).await?.value.is_empty() {
            return Ok(Finding::Sent);
        }
        if !look(&Folder::WellKnown(WellKnown::Outbox)).await?.value.is_empty() {
            return Ok(Finding::Outbox);
        }
        let taken_before = look(&aside).await?.value.into_iter().next();
        Ok(taken_before.map_or(Finding::Nowhere, |item| Finding::Taken(draft_of(item.id))))
    }

    fn content(&self) -> codec::Draft {
        let email = &self.email.content;
        let addresses = |list: &[String]| list.iter().map(Address::new).collect();
        codec::Draft {
            subject: email.subject.clone(),
            body: match &email.body {
                OutgoingBody::Text(text) => codec::Body::Text(text.clone()),
                OutgoingBody::Html(html) => codec::Body::Html(html.clone()),
            },
            importance: Importance::Normal,
            from: None,
            to: addresses(&email.to),
            cc: addresses(&email.cc),
            bcc: addresses(&email.bcc),
            reply_to: Vec::new(),
            message_id: Some(self.message_id()),
            in_reply_to: None,
            references: None,
        }
    }
}

fn draft_failed(attempt: Attempt, failure: Failure) -> Acted {
    Acted::failed(Event::DraftFailed(attempt, failure.reason, failure.back_off), failure)
}

fn draft_of(id: ItemId) -> Draft {
    Draft { item_id: id.id.into(), change_key: id.change_key.map(Into::into).unwrap_or_default() }
}
