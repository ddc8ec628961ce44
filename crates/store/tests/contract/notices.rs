//! Facts, alerts, mails to people.

use std::sync::Arc;

use mailyard_policy::{
    Reason,
    alert::{Fact, Level, Regarding, What},
    id::{AlertId, MailboxId, Org, RecordId},
    operation::Kind,
    reason::Scope,
};
use mailyard_store::{
    Store,
    notices::{Alert, Booking, Notice, RatioState},
    query::{Filter, Operator},
};

use crate::world::{World, at, compare, fenced, page, refused};

fn fact(n: i64) -> Fact {
    let what = What::Failing(Kind::Incoming, Reason::MailboxUnavailable);
    Fact { regarding: Regarding::Mailbox(MailboxId::new(1)), what, at: at(n) }
}

fn alert(id: u128, regarding: Regarding) -> Alert {
    Alert {
        id: AlertId::new(id),
        org: Org::default(),
        reason: Reason::MailboxUnavailable,
        level: Level::Warning,
        scope: Scope::Mailbox,
        regarding,
        regarding_name: String::new(),
        profile: None,
        count: 1,
        operations: [true, false, true],
        summary: "1 failure".to_owned(),
        first_time: at(id as i64),
        last_time: at(id as i64),
        resolved_time: None,
        notice: None,
    }
}

pub async fn facts_are_booked_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add([1]).await;
    store.raise(&world.lead, &world.org, &[fact(1), fact(2), fact(3)]).await.unwrap();
    let facts = store.unbooked(2).await.unwrap();
    assert_eq!(
        facts.iter().map(|unbooked| unbooked.fact.clone().unwrap()).collect::<Vec<_>>(),
        [fact(1), fact(2)]
    );
    let booking = Booking {
        facts: facts.iter().map(|unbooked| unbooked.number).collect(),
        alerts: vec![alert(1, Regarding::Mailbox(MailboxId::new(1)))],
        ratios: vec![RatioState { profile: world.profile, state: "high since=5".to_owned() }],
        notices: vec![],
    };
    store.book(&world.lead, &booking).await.unwrap();
    assert_eq!(store.unbooked(9).await.unwrap().len(), 1);
    fenced(&store.book(&world.lead, &booking).await);
    assert_eq!(store.ratio_states().await.unwrap(), booking.ratios);
    let open = store.open_alerts().await.unwrap();
    let named = Alert { regarding_name: crate::world::address(1), ..booking.alerts[0].clone() };
    assert_eq!(open, [named]);
    let deposed = mailyard_store::fleet::Leadership { term: mailyard_policy::id::Term(0), ..world.lead };
    fenced(&store.raise(&deposed, &world.org, &[fact(4)]).await);
}

pub async fn alerts_are_listed_and_forgotten(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add([1]).await;
    let (mailbox, email) = (Regarding::Mailbox(MailboxId::new(1)), RecordId::new(5));
    let mut alerts = vec![
        alert(1, mailbox),
        Alert { resolved_time: Some(at(50)), ..alert(2, Regarding::Profile(world.profile)) },
        Alert { level: Level::Error, profile: Some(world.profile), ..alert(3, Regarding::Email(email)) },
    ];
    store.book(&world.lead, &Booking { alerts: alerts.clone(), ..Booking::default() }).await.unwrap();
    let ids = async |filter: Filter, after: Option<String>, limit| {
        let found = store.alerts(&world.org, &filter, &page(after, limit)).await.unwrap();
        found.into_iter().map(|alert| alert.id.get()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Filter::All, None, 9).await, [3, 2, 1]);
    assert_eq!(ids(Filter::All, Some(alerts[2].page_key()), 1).await, [2]);
    let cases: [(&'static str, String, &[u128]); 6] = [
        ("state", "open".to_owned(), &[3, 1]),
        ("level", "error".to_owned(), &[3]),
        ("regarding", "M001@contoso.EXAMPLE".to_owned(), &[1]),
        ("regarding", "main".to_owned(), &[2]),
        ("regarding", email.to_string(), &[3]),
        ("profile", "MAIN".to_owned(), &[3]),
    ];
    for (field, value, expected) in cases {
        assert_eq!(ids(compare(field, Operator::Equal, &*value), None, 9).await, expected, "{field}");
    }
    alerts[0].count = 7;
    alerts[0].resolved_time = Some(at(60));
    store
        .book(&world.lead, &Booking { alerts: vec![alerts[0].clone()], ..Booking::default() })
        .await
        .unwrap();
    assert_eq!(store.alert(alerts[0].id).await.unwrap().unwrap().count, 7);
    assert_eq!(store.forget(&world.lead, at(55)).await.unwrap(), 1);
    assert_eq!(ids(Filter::All, None, 9).await, [3, 1]);
}

pub async fn a_mail_is_tried_until_it_is_accepted_or_given_up(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let alerts =
        vec![alert(1, Regarding::Profile(world.profile)), alert(2, Regarding::Profile(world.profile))];
    let notice = |alert| Notice {
        number: 0,
        alert: AlertId::new(alert),
        to: "boss@contoso.example".to_owned(),
        subject: "S".to_owned(),
        text: "T".to_owned(),
        attempts: 0,
    };
    let booking =
        Booking { alerts: alerts.clone(), notices: vec![notice(1), notice(2)], ..Booking::default() };
    store.book(&world.lead, &booking).await.unwrap();
    let told = async |id| store.alert(AlertId::new(id)).await.unwrap().unwrap().notice;
    assert_eq!(told(1).await.as_deref(), Some("waiting"));
    let due = store.due_notices(at(0), 9).await.unwrap();
    assert_eq!(due.len(), 2);
    let failed = Err(Reason::SmtpFailed);
    store.notice_attempted(&world.lead, due[0].number, failed, Some(at(60))).await.unwrap();
    store.notice_attempted(&world.lead, due[1].number, failed, None).await.unwrap();
    assert_eq!(
        (told(1).await.as_deref(), told(2).await.as_deref()),
        (Some("SMTP_FAILED"), Some("SMTP_FAILED"))
    );
    assert_eq!(store.due_notices(at(59), 9).await.unwrap(), []);
    let again = store.due_notices(at(60), 9).await.unwrap();
    assert_eq!((again.len(), again[0].attempts), (1, 1));
    store.notice_attempted(&world.lead, again[0].number, Ok(()), None).await.unwrap();
    assert_eq!(told(1).await.as_deref(), Some("sent"));
    store.book(&world.lead, &Booking { alerts, ..Booking::default() }).await.unwrap();
    assert_eq!(told(1).await.as_deref(), Some("sent"), "a later booking forgets nothing");
    assert_eq!(store.due_notices(at(99_999), 9).await.unwrap(), []);
    let astray = Booking { notices: vec![notice(9)], ..Booking::default() };
    assert_eq!(refused(store.book(&world.lead, &astray).await).0, Reason::ResourceNotFound);
}
