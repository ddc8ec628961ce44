use super::*;
use crate::{event::Thing, mailbox::INBOX};

const OWNER: Payer = Payer::Account(0);

fn event(parent: u32) -> Event {
    let thing = Thing::Item { number: 1, version: 1 };
    Event { kind: Kind::Created, at: 0, thing, parent, before: None }
}

fn subscription(way: Way) -> Subscription {
    let lifetime = Duration::from_mins(30);
    let wanted = Wanted { lifetime, folders: Some(vec![INBOX]), kinds: vec![Kind::Created] };
    Subscription::new(way, 1, 1, OWNER, 0, wanted)
}

#[test]
fn only_what_is_wanted_waits() {
    let one = subscription(Way::Streaming);
    let reader = Arc::new(Notify::new());
    one.attach(&reader);
    let moved = Event { before: Some((1, INBOX)), ..event(9) };
    let mail = Event { kind: Kind::NewMail, ..event(INBOX) };
    for happened in [event(INBOX), event(9), moved, mail] {
        assert!(one.offer(&happened));
    }
    assert_eq!(one.take(&reader), Taken::Events(vec![event(INBOX), moved]));
    assert_eq!(one.take(&reader), Taken::Events(Vec::new()));
}

#[test]
fn the_last_reader_has_it_until_too_much_is_missed() {
    let one = subscription(Way::Streaming);
    let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let code = |taken| match taken {
        Taken::Over(refusal) => refusal.code.into_owned(),
        Taken::Events(events) => events.len().to_string(),
    };
    one.attach(&first);
    one.attach(&second);
    one.detach(&first);
    assert_eq!(code(one.take(&first)), "ErrorNewEventStreamConnectionOpened");
    for _ in 0..QUEUE {
        one.offer(&event(INBOX));
    }
    assert_eq!(code(one.take(&second)), "4000");
    for _ in 0..=QUEUE {
        one.offer(&event(INBOX));
    }
    assert_eq!(code(one.take(&second)), "ErrorMissedNotificationEvents");
    one.end();
    assert_eq!(code(one.take(&second)), "ErrorSubscriptionUnsubscribed");
    assert!(!one.offer(&event(INBOX)), "nothing is kept for it any more");
}

#[test]
fn events_are_fetched_by_watermark() {
    let one = subscription(Way::Pull);
    for _ in 0..=BATCH {
        one.offer(&event(INBOX));
    }
    let code = |watermark: &str| one.fetch(watermark).expect_err(watermark).code.into_owned();
    let start = one.watermark(0);
    let first = one.fetch(&start).expect("events");
    assert_eq!((first.events.len(), first.more, first.previous), (BATCH, true, 0));
    assert_eq!(one.fetch(&start).expect("the same again").events, first.events);
    let second = one.fetch(&one.watermark(first.position)).expect("events");
    assert_eq!((second.events.len(), second.more, second.previous), (1, false, BATCH as u64));
    assert_eq!(code(&start), "ErrorEventNotFound");
    assert_eq!(code(&one.watermark(99)), "ErrorInvalidWatermark");
    assert_eq!(code("AAAA"), "ErrorInvalidWatermark");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_has_no_subscription_any_more() {
    let all = Subscriptions::default();
    let one = Arc::new(subscription(Way::Streaming));
    let code = |found: Result<_, Refusal>| found.err().map(|refusal| refusal.code.into_owned());
    assert_eq!(code(all.add(one.clone(), 1).map(|()| one.clone())), None);
    let other = Arc::new(subscription(Way::Pull));
    let full = code(all.add(other, 1).map(|()| one.clone()));
    assert_eq!(full.as_deref(), Some("ErrorExceededSubscriptionCount"));
    let not_found = Some("ErrorSubscriptionNotFound".to_owned());
    assert_eq!(code(all.find(&one.id, OWNER, 1)), not_found, "another server does not know it");
    let stranger = code(all.find(&one.id, Payer::Application, 0));
    assert_eq!(stranger.as_deref(), Some("ErrorSubscriptionAccessDenied"));
    let reader = Arc::new(Notify::new());
    one.attach(&reader);
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(code(all.find(&one.id, OWNER, 0)), None, "somebody reads it");
    one.detach(&reader);
    tokio::time::advance(Duration::from_mins(31)).await;
    assert_eq!(code(all.find(&one.id, OWNER, 0)), not_found);
    assert_eq!(all.count(), 0);
}
