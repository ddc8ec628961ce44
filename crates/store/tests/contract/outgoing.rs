//! Emails on their way out, and the feed of events.

use std::sync::Arc;

use mailyard_policy::{
    Reason,
    alert::What,
    id::{Attempt, Incarnation, MailboxId, OutgoingId, RecordId},
    operation::State as OperationState,
    outbox::{Delivery, State, Step},
};
use mailyard_store::{
    Store,
    fleet::Leadership,
    holder::{Commit, DeliveryChange, Fence},
    records::{Direction, EmailState, NewOutgoing},
};

use crate::world::{World, at, kept, message, outgoing, refused, track};

fn change(id: u128, from: &Delivery, to: &Delivery) -> Commit {
    let due = (!to.state.is_final()).then_some(at(0));
    let id = OutgoingId::new(id);
    let internet_message_id = (to.state == State::Sent).then(|| "<Sent@contoso.example>".to_owned());
    let delivery = DeliveryChange { id, from: from.clone(), to: to.clone(), due, internet_message_id };
    Commit { delivery: Some(delivery), at: at(5), ..Commit::default() }
}

fn sending() -> Delivery {
    Delivery {
        state: State::Sending,
        step: Step::Claimed { attempt: Attempt(1) },
        attempt: Attempt(1),
        ..Delivery::pending(None)
    }
}

fn in_state(state: State) -> Delivery {
    Delivery { state, ..Delivery::pending(None) }
}

pub async fn a_request_key_makes_one_email(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mailbox = claimed[0].fence.mailbox;
    let email = outgoing(500, mailbox, Some("k1"));
    let (first, new) = store.enqueue(&world.org, &email).await.unwrap();
    assert!(
        new && first.state == EmailState::Outgoing(State::PendingSend)
            && first.direction == Direction::Outgoing
    );
    assert_eq!(first.id, RecordId::new(500));
    assert_eq!(first.mailboxes, std::slice::from_ref(&first.mailbox));
    let retried = NewOutgoing { id: OutgoingId::new(501), at: at(900), ..email.clone() };
    assert_eq!(store.enqueue(&world.org, &retried).await.unwrap(), (first.clone(), false));
    assert_eq!(store.enqueued(&world.org, &retried).await.unwrap().as_ref(), Some(&first));
    let mut other = retried.clone();
    other.content.bcc.clear();
    assert_eq!(refused(store.enqueued(&world.org, &other).await).0, Reason::RequestIdReused);
    let (reason, field) = refused(store.enqueue(&world.org, &other).await);
    assert_eq!((reason, field.as_str()), (Reason::RequestIdReused, "idempotency_key"));
    let unkeyed = NewOutgoing { idempotency_key: None, ..retried };
    assert_eq!(store.enqueued(&world.org, &unkeyed).await.unwrap(), None);
    assert!(store.enqueue(&world.org, &unkeyed).await.unwrap().1);
    let lost = outgoing(502, MailboxId::new(12345), None);
    assert_eq!(refused(store.enqueue(&world.org, &lost).await).0, Reason::ResourceNotFound);
    assert_eq!(store.email(first.id).await.unwrap(), Some(first));
}

pub async fn a_cancel_and_a_step_never_both_win(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 20).await;
    let (mut canceled, mut begun) = (0, 0);
    for (n, claimed) in claimed.iter().enumerate() {
        let id = 700 + n as u128;
        store.enqueue(&world.org, &outgoing(id, claimed.fence.mailbox, None)).await.unwrap();
        let (cancel, step) = tokio::join!(
            store.cancel(RecordId::new(id), at(4)),
            store.commit(&claimed.fence, change(id, &Delivery::pending(None), &sending())),
        );
        let email = store.email(RecordId::new(id)).await.unwrap().unwrap();
        if cancel.is_ok() {
            assert_eq!(refused(step).0, Reason::EtagMismatch);
            assert_eq!(email.state, EmailState::Outgoing(State::Canceled));
            assert_eq!(
                store.reload(&claimed.fence).await.unwrap().fence,
                claimed.fence,
                "nothing was written"
            );
            canceled += 1;
        } else {
            assert_eq!(refused(cancel).0, Reason::EmailNotCancelable);
            assert!(step.is_ok());
            assert_eq!(
                (email.state, email.step.as_deref()),
                (EmailState::Outgoing(State::Sending), Some("claimed"))
            );
            begun += 1;
        }
    }
    assert_eq!(canceled + begun, 20);
    assert_eq!(refused(store.cancel(RecordId::new(9), at(1)).await).0, Reason::ResourceNotFound);
}

pub async fn sendings_are_due_for_who_can_send(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 2).await;
    let mut fence = claimed.remove(0).fence;
    for n in [802, 801] {
        store.enqueue(&world.org, &outgoing(n, fence.mailbox, None)).await.unwrap();
    }
    let due = async || store.due_outgoing(world.incarnation, at(9000), 10).await.unwrap();
    assert_eq!(due().await, [], "its outgoing operation is not enabled");
    for (state, able) in [
        (OperationState::Enabled, true),
        (OperationState::Disabled, false),
        (OperationState::Retrying { failures: 2 }, true),
    ] {
        world
            .commit(&mut fence, Commit { kept: Some(kept(OperationState::Off, state)), ..Commit::default() })
            .await;
        assert_eq!(due().await == [fence.mailbox], able, "{state}");
    }
    assert_eq!(store.due_outgoing(Incarnation::new(9), at(9000), 10).await.unwrap(), []);
    let waiting = store.outgoing(fence.mailbox, at(9000), 10).await.unwrap();
    assert_eq!(waiting.iter().map(|email| email.id.get()).collect::<Vec<_>>(), [801, 802], "oldest first");
    let asked = outgoing(801, fence.mailbox, None);
    assert_eq!((&waiting[0].content, &waiting[0].delivery), (&asked.content, &Delivery::pending(None)));

    let later = Delivery { not_before: Some(at(50)), ..Delivery::pending(None) };
    let mut wait = change(801, &Delivery::pending(None), &later);
    wait.delivery.as_mut().unwrap().due = Some(at(50));
    world.commit(&mut fence, wait).await;
    assert_eq!(store.outgoing(fence.mailbox, at(49), 10).await.unwrap().len(), 1);
    assert_eq!(store.outgoing(fence.mailbox, at(50), 10).await.unwrap().len(), 2);
    world.commit(&mut fence, change(801, &later, &sending())).await;
    world.commit(&mut fence, change(801, &sending(), &in_state(State::Sent))).await;
    world.commit(&mut fence, change(802, &Delivery::pending(None), &in_state(State::Expired))).await;
    assert_eq!(due().await, []);
    let sent = store.email(RecordId::new(801)).await.unwrap().unwrap();
    assert_eq!(sent.internet_message_id.as_deref(), Some("<Sent@contoso.example>"));
    let others = Fence { ..claimed[0].fence };
    assert_eq!(
        refused(store.commit(&others, change(801, &sending(), &sending())).await).0,
        Reason::ResourceNotFound
    );
}

pub async fn a_doubt_is_settled_by_a_person(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    for (id, sent, end) in [(601, true, State::Sent), (602, false, State::Canceled)] {
        store.enqueue(&world.org, &outgoing(id, fence.mailbox, None)).await.unwrap();
        let record = RecordId::new(id);
        assert_eq!(refused(store.settle_doubt(record, sent, at(2)).await).0, Reason::EmailNotCancelable);
        world.commit(&mut fence, change(id, &Delivery::pending(None), &in_state(State::NeedsPerson))).await;
        assert_eq!(refused(store.cancel(record, at(2)).await).0, Reason::EmailNotCancelable);
        let email = store.settle_doubt(record, sent, at(3)).await.unwrap();
        assert_eq!((email.state, email.next_attempt), (EmailState::Outgoing(end), None));
    }
    let facts = store.unbooked(10).await.unwrap();
    assert_eq!(facts.iter().filter(|fact| fact.fact.as_ref().unwrap().what == What::Settled).count(), 2);
}

pub async fn a_copy_is_linked_with_its_sending(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    store.enqueue(&world.org, &outgoing(900, fence.mailbox, None)).await.unwrap();
    let mut copy = message(1, "a");
    copy.sending = Some(OutgoingId::new(900));
    let mut stranger = message(2, "b");
    stranger.sending = Some(OutgoingId::new(12));
    world.commit(&mut fence, track([copy.clone(), stranger.clone()])).await;
    let linked = async |id| store.email(id).await.unwrap().unwrap().linked;
    assert_eq!(linked(copy.record).await, Some(RecordId::new(900)));
    assert_eq!(linked(RecordId::new(900)).await, Some(copy.record));
    assert_eq!(linked(stranger.record).await, None, "an id that is nobody's links nothing");
}

pub async fn events_have_gapless_positions(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let [mut a, mut b] = [0, 1].map(|n: usize| claimed[n].fence);
    world.commit(&mut a, track([message(1, "a"), message(2, "b")])).await;
    assert_eq!(store.events(&world.org, 0, 100).await.unwrap(), [], "nothing is published yet");
    assert_eq!(store.publish(&world.lead, 1).await.unwrap(), 1);
    world.commit(&mut b, track([message(1, "c")])).await;
    store.enqueue(&world.org, &outgoing(900, a.mailbox, None)).await.unwrap();
    world.commit(&mut a, change(900, &Delivery::pending(None), &sending())).await;
    // A step that changes no state is no event.
    let stepped = Delivery { failures: 1, ..sending() };
    world.commit(&mut a, change(900, &sending(), &stepped)).await;
    while store.publish(&world.lead, 2).await.unwrap() > 0 {}
    let events = store.events(&world.org, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), (1..=5).collect::<Vec<_>>());
    let changes: Vec<_> = events.iter().map(|event| event.change.as_str()).collect();
    assert_eq!(changes, ["created", "created", "sighted", "created", "state"]);
    assert_eq!(store.events(&world.org, 3, 1).await.unwrap(), [events[3].clone()]);
    let stale = Leadership { term: mailyard_policy::id::Term(0), ..world.lead };
    assert!(store.publish(&stale, 1).await.is_err());
    assert_eq!(store.feed_incarnation().await.unwrap(), store.feed_incarnation().await.unwrap());
}
