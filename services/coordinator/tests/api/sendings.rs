//! EmailService: emails to be sent.

use std::{fmt::Write as _, time::Duration};

use mailyard_host::clock;
use mailyard_policy::{
    id::{Attempt, OutgoingId, RecordId},
    mailbox::Kept,
    operation::{Method, State},
    outbox::{self, Delivery},
};
use mailyard_store::{
    holder::{Commit, DeliveryChange, Fence},
    people::{Approval, Selection},
};
use mailyard_wire::{
    convert::timestamp,
    records::{
        Attachment, CancelEmailRequest, Direction, Email, EmailState, EnqueueEmailRequest,
        EnqueueEmailResponse, GetEmailContentRequest, ResolveEmailRequest, enqueue_email_request::Body,
    },
};

use crate::house::{House, PARENT, address, answered, at, kept, name, told};

/// The first mailbox may send; the second is not approved, the third is disabled, the fourth has no method.
async fn senders() -> (House, Fence) {
    let house = House::new().await;
    house.profile("Main").await;
    house.import(3).await;
    house.import_csv(&format!("{},M,user,Main,sss,none,none\n", address(4))).await;
    let approved = Selection::Addresses(vec![address(1), address(3), address(4)]);
    house.store.decide_approval(&house.org, &approved, Approval::Approved, at(0)).await.unwrap();
    let claimed = house.hold().await;
    let states = [State::Enabled, State::Untested, State::Disabled];
    let mut fence = claimed[0].fence;
    for (claimed, state) in claimed.iter().zip(states) {
        let mut kept: Kept = kept(State::Enabled, state);
        kept.operations[1].method = Method::ServerSide;
        if state == State::Disabled {
            kept.operations[1].reason = Some(mailyard_policy::Reason::EmailSendAsDenied);
        }
        let commit = Commit { kept: Some(kept), ..Commit::default() };
        let after = house.commit(&claimed.fence, commit).await;
        if after.mailbox == fence.mailbox {
            fence = after;
        }
    }
    (house, fence)
}

fn good() -> EnqueueEmailRequest {
    EnqueueEmailRequest {
        parent: PARENT.into(),
        idempotency_key: "activity-1".into(),
        from: address(1),
        to: vec!["guest@fabrikam.example".into()],
        cc: Vec::new(),
        bcc: Vec::new(),
        subject: "Offer".into(),
        body: Some(Body::Text("Hello.\nAda".into())),
        attachments: vec![file(4)],
        expire_time: None,
    }
}

fn file(size: usize) -> Attachment {
    Attachment { name: "offer.pdf".into(), content_type: "application/pdf".into(), content: vec![b'x'; size] }
}

async fn enqueue(house: &House, request: EnqueueEmailRequest) -> EnqueueEmailResponse {
    answered(house.emails().enqueue_email(request).await)
}

type Change = (&'static str, fn(&mut EnqueueEmailRequest));

/// Each breaks a good request in one way.
const WRONG: &[Change] = &[
    ("no sender", |it| it.from.clear()),
    ("a sender that is no mailbox", |it| it.from = "stranger@contoso.example".into()),
    ("a sender that is not approved", |it| it.from = address(2)),
    ("a sender that is disabled", |it| it.from = address(3)),
    ("a sender without a method", |it| it.from = address(4)),
    ("no recipient", |it| it.to.clear()),
    ("a recipient that is none", |it| it.bcc = vec!["a@b.example\r\nX: y".into(), "x".into()]),
    ("too many recipients", |it| it.cc = vec!["a@b.example".into(); 500]),
    ("a subject of two lines", |it| it.subject = "a\r\nBcc: b@c.example".into()),
    ("a long subject", |it| it.subject = "x".repeat(999)),
    ("a bell in the body", |it| it.body = Some(Body::Html("\u{7}".into()))),
    ("a body that is too large", |it| it.body = Some(Body::Text("x".repeat((8 << 20) + 1)))),
    ("a file without a name", |it| it.attachments[0].name.clear()),
    ("a file of no type", |it| it.attachments[0].content_type = "pdf\r\nX: y".into()),
    ("a file that is too large", |it| it.attachments = vec![file((25 << 20) + 1)]),
    ("files that are too large", |it| it.attachments = vec![file(9 << 20), file(9 << 20), file(9 << 20)]),
    ("too many files", |it| it.attachments = vec![file(1); 101]),
    ("a long key", |it| it.idempotency_key = "x".repeat(257)),
    ("a time that has passed", |it| it.expire_time = Some(timestamp(at(0)))),
    ("a time that is none", |it| {
        it.expire_time = Some(timestamp(mailyard_policy::Timestamp::from_millis(-1)));
    }),
    ("nowhere", |it| it.parent = "organizations/nowhere".into()),
];

#[tokio::test]
async fn what_is_wrong_with_an_email_is_said_and_nothing_is_taken() {
    let (house, _) = senders().await;
    let nudges = house.nudges();
    let mut table = String::new();
    for (what, breaks) in WRONG {
        let mut wrong = good();
        breaks(&mut wrong);
        let _ = writeln!(table, "{what}: {}", told(house.emails().enqueue_email(wrong).await));
    }
    insta::assert_snapshot!(table);
    assert_eq!(house.nudges(), nudges);
    let taken = enqueue(&house, good()).await;
    assert!(taken.created, "none of these has used the key");
}

#[tokio::test]
async fn a_key_makes_one_email_whatever_changes_meanwhile() {
    let (house, fence) = senders().await;
    let nudges = house.nudges();
    let first = enqueue(&house, good()).await;
    let email = first.email.clone().unwrap();
    assert!(
        first.created && email.state() == EmailState::PendingSend && email.direction() == Direction::Outgoing
    );
    assert_eq!((email.size, house.nudges()), (14, nudges + 1));
    let again = enqueue(&house, EnqueueEmailRequest { from: address(1).to_uppercase(), ..good() }).await;
    assert_eq!((again.created, &again.email, house.nudges()), (false, &first.email, nudges + 1));
    let other = EnqueueEmailRequest { subject: "Another offer".into(), ..good() };
    let refused = told(house.emails().enqueue_email(other.clone()).await);
    assert!(refused.starts_with("InvalidArgument REQUEST_ID_REUSED\n    idempotency_key: "), "{refused}");
    let unkeyed = EnqueueEmailRequest { idempotency_key: String::new(), ..good() };
    assert!(enqueue(&house, unkeyed.clone()).await.created && enqueue(&house, unkeyed).await.created);

    // The sender is disabled: who asks for the email of that time still gets it, a new one is refused.
    let disabled = Commit { kept: Some(kept(State::Enabled, State::Disabled)), ..Commit::default() };
    house.commit(&fence, disabled).await;
    assert_eq!(enqueue(&house, good()).await, EnqueueEmailResponse { created: false, ..first });
    let new = EnqueueEmailRequest { idempotency_key: "activity-2".into(), ..other };
    let refused = told(house.emails().enqueue_email(new).await);
    assert!(refused.starts_with("FailedPrecondition EMAIL_SENDER_NOT_ENABLED"), "{refused}");
}

#[tokio::test]
async fn attachments_up_to_the_limit_are_taken() {
    let (house, _) = senders().await;
    let soon = clock::now() + Duration::from_hours(1);
    let large = EnqueueEmailRequest {
        attachments: vec![file(20 << 20), file(5 << 20)],
        body: None,
        expire_time: Some(timestamp(soon)),
        ..good()
    };
    let taken = enqueue(&house, large).await.email.unwrap();
    assert_eq!(taken.size, 25 << 20);
}

async fn step(house: &House, fence: &Fence, email: &Email, from: &Delivery, to: &Delivery) -> Fence {
    let id: RecordId = email.uid.parse().unwrap();
    let due = (!to.state.is_final()).then_some(at(0));
    let (id, internet_message_id) = (OutgoingId::new(id.get()), None);
    let delivery = DeliveryChange { id, from: from.clone(), to: to.clone(), due, internet_message_id };
    house.commit(fence, Commit { delivery: Some(delivery), ..Commit::default() }).await
}

#[tokio::test]
async fn an_email_is_canceled_before_its_sending_and_a_doubt_is_settled_by_a_person() {
    let (house, mut fence) = senders().await;
    let unkeyed = || EnqueueEmailRequest { idempotency_key: String::new(), ..good() };
    let cancel = |email: &Email| CancelEmailRequest { name: email.name.clone() };
    let resolve = |email: &Email, sent| ResolveEmailRequest { name: email.name.clone(), sent };
    let email = enqueue(&house, unkeyed()).await.email.unwrap();
    let canceled = answered(house.emails().cancel_email(cancel(&email)).await);
    assert_eq!(canceled.state(), EmailState::Canceled);

    let mut table = String::new();
    let pending = Delivery::pending(None);
    let sending = Delivery {
        state: outbox::State::Sending,
        step: outbox::Step::Claimed { attempt: Attempt(1) },
        attempt: Attempt(1),
        ..pending.clone()
    };
    let doubt = Delivery { state: outbox::State::NeedsPerson, step: outbox::Step::None, ..sending.clone() };
    for (sent, expected) in [(true, EmailState::Sent), (false, EmailState::Canceled)] {
        let email = enqueue(&house, unkeyed()).await.email.unwrap();
        fence = step(&house, &fence, &email, &pending, &sending).await;
        let _ = writeln!(table, "cancel: {}", told(house.emails().cancel_email(cancel(&email)).await));
        let _ =
            writeln!(table, "resolve: {}", told(house.emails().resolve_email(resolve(&email, sent)).await));
        fence = step(&house, &fence, &email, &sending, &doubt).await;
        let resolved = answered(house.emails().resolve_email(resolve(&email, sent)).await);
        assert_eq!(resolved.state(), expected);
    }
    let request = GetEmailContentRequest { name: email.name.clone() };
    let refused = told(house.emails().get_email_content(request).await.map(|answer| answer.map(|_| ())));
    let _ = writeln!(table, "content: {refused}");
    let unknown = CancelEmailRequest { name: name("emails", "x") };
    let _ = writeln!(table, "unknown: {}", told(house.emails().cancel_email(unknown).await));
    insta::assert_snapshot!(table);
}
