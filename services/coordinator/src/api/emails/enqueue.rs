//! EnqueueEmail: an email is taken to be sent, once for each key.

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::OutgoingId,
    operation::{Kind, Method},
};
use mailyard_store::{
    people::{Approval, Mailbox, MailboxKind, Settings},
    records::{Attachment, Email, NewOutgoing, OutgoingBody, OutgoingContent},
};
use mailyard_wire::{
    convert::moment,
    records::{self, EnqueueEmailRequest, EnqueueEmailResponse, enqueue_email_request::Body},
    status::refusal,
};
use tonic::Status;

use super::message;
use crate::api::{Api, input::Input, new_id, refuse::Told as _};

/// Recipients of one email, all kinds together.
const MOST_RECIPIENTS: usize = 500;
/// Characters of a subject: no line of a header is longer.
const LONGEST_SUBJECT: usize = 998;
/// Bytes of a body.
const LARGEST_BODY: usize = 8 << 20;
/// Files of one email.
const MOST_ATTACHMENTS: usize = 100;
/// Bytes of all files of an email: in base 64 they still fit into a request that Exchange takes by default.
const LARGEST_ATTACHMENTS: usize = 25 << 20;
/// Characters of a file's name or media type.
const LONGEST_NAME: usize = 255;
/// Characters of an idempotency key.
const LONGEST_KEY: usize = 256;
const ANY_TYPE: &str = "application/octet-stream";

impl Api {
    pub(super) async fn enqueue(&self, request: EnqueueEmailRequest) -> Result<EnqueueEmailResponse, Status> {
        let org = self.org(&request.parent).await?;
        let Taken { key, content, expires } = check(request)?;
        let Some(mailbox) = self.store.mailbox_at(&org, &content.from).await.told()? else {
            return Err(not_enabled("there is no such mailbox"));
        };
        let email = NewOutgoing {
            id: OutgoingId::new(new_id()?),
            mailbox: mailbox.set.id,
            idempotency_key: key,
            content: OutgoingContent { from: mailbox.set.address.clone(), ..content },
            expires,
            at: self.now(),
        };
        let settings = self.store.settings(&org).await.told()?;
        if let Err(refused) = may_send(&mailbox, &settings).and_then(|()| not_late(expires, email.at)) {
            // What was taken before stays taken, whatever has changed since.
            let before = self.store.enqueued(&org, &email).await.told()?;
            return before.map(|email| answer(&email, false)).ok_or(refused);
        }
        let (email, created) = self.store.enqueue(&org, &email).await.told()?;
        if created {
            tracing::info!(email = %email.id, "an email is to be sent");
            self.leader.nudge();
        }
        Ok(answer(&email, created))
    }
}

fn answer(email: &Email, created: bool) -> EnqueueEmailResponse {
    EnqueueEmailResponse { email: Some(message::email(email)), created }
}

/// A request whose form is right.
struct Taken {
    key: Option<String>,
    content: OutgoingContent,
    expires: Option<Timestamp>,
}

fn check(request: EnqueueEmailRequest) -> Result<Taken, Status> {
    let mut input = Input::default();
    let EnqueueEmailRequest { idempotency_key, from, to, cc, bcc, subject, body, attachments, .. } = request;
    let key = input.line("idempotency_key", &idempotency_key, LONGEST_KEY);
    let from = input.address("from", &from);
    recipients([("to", &to), ("cc", &cc), ("bcc", &bcc)], &mut input);
    let subject = input.line("subject", &subject, LONGEST_SUBJECT);
    let (field, text) = match &body {
        Some(Body::Html(html)) => ("html", html.as_str()),
        Some(Body::Text(text)) => ("text", text.as_str()),
        None => ("text", ""),
    };
    input.prose(field, text, LARGEST_BODY);
    let attachments = files(attachments, &mut input);
    let expires = request.expire_time.as_ref().map(|at| input.moment("expire_time", moment(at)));
    input.done()?;
    let body = match body {
        Some(Body::Html(html)) => OutgoingBody::Html(html),
        Some(Body::Text(text)) => OutgoingBody::Text(text),
        None => OutgoingBody::Text(String::new()),
    };
    let content = OutgoingContent { from, to, cc, bcc, subject, body, attachments };
    Ok(Taken { key: (!key.is_empty()).then_some(key), content, expires })
}

fn recipients(lists: [(&str, &Vec<String>); 3], input: &mut Input) {
    let count: usize = lists.iter().map(|(_, list)| list.len()).sum();
    if count == 0 {
        input.wrong("to", "there is no recipient; one in to, cc or bcc is required");
    } else if count > MOST_RECIPIENTS {
        return input
            .wrong("to", format!("{count} recipients are too many; up to {MOST_RECIPIENTS} are taken"));
    }
    for (field, list) in lists {
        for (at, address) in list.iter().enumerate() {
            input.address(&format!("{field}[{at}]"), address);
        }
    }
}

fn files(attachments: Vec<records::Attachment>, input: &mut Input) -> Vec<Attachment> {
    let size: usize = attachments.iter().map(|file| file.content.len()).sum();
    if size > LARGEST_ATTACHMENTS {
        let detail = format!(
            "the files have {size} bytes together; up to {} MiB are taken",
            LARGEST_ATTACHMENTS >> 20
        );
        input.refuse(Reason::AttachmentTooLarge, "attachments", detail);
    }
    if attachments.len() > MOST_ATTACHMENTS {
        input.wrong("attachments", format!("more than {MOST_ATTACHMENTS} files are too many"));
        return Vec::new();
    }
    let file = |(at, file): (usize, records::Attachment)| {
        let field = format!("attachments[{at}].content_type");
        let content_type = match input.line(&field, &file.content_type, LONGEST_NAME) {
            empty if empty.is_empty() => ANY_TYPE.to_owned(),
            given => given,
        };
        if !is_media_type(&content_type) {
            input.wrong(&field, "it is no media type such as application/pdf");
        }
        let name = input.name(&format!("attachments[{at}].name"), &file.name, LONGEST_NAME);
        Attachment { name, content_type, content: Bytes::from(file.content) }
    };
    attachments.into_iter().enumerate().map(file).collect()
}

/// `type/subtype`, with parameters or without.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub))
}

/// The sender's method, approval and state: the first that is wrong is named.
fn may_send(mailbox: &Mailbox, settings: &Settings) -> Result<(), Status> {
    let outgoing = &mailbox.operations[Kind::Outgoing as usize];
    let needs_approval = match mailbox.set.kind {
        MailboxKind::User => settings.approve_users,
        MailboxKind::Queue => settings.approve_queues,
        MailboxKind::Forward => false,
    };
    if mailbox.set.methods[Kind::Outgoing as usize] != Method::ServerSide {
        return Err(not_enabled("its method for outgoing mail is none"));
    }
    if needs_approval && mailbox.approval != Approval::Approved {
        return Err(not_enabled(&format!("its approval is {}", mailbox.approval)));
    }
    if !outgoing.is_enabled() {
        let why = outgoing.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        return Err(not_enabled(&format!("its state for outgoing mail is {}{why}", outgoing.state.word())));
    }
    Ok(())
}

fn not_enabled(detail: &str) -> Status {
    refusal(Reason::EmailSenderNotEnabled, "from", &format!("the sender's mailbox cannot send: {detail}"))
}

fn not_late(expires: Option<Timestamp>, now: Timestamp) -> Result<(), Status> {
    match expires {
        Some(at) if at <= now => Err(refusal(Reason::FieldInvalid, "expire_time", "it has passed already")),
        _ => Ok(()),
    }
}
