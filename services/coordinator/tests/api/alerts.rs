//! AlertService and StatusService.

use std::fmt::Write as _;

use mailyard_coordinator::leader::Beating;
use mailyard_policy::{
    Reason,
    alert::{Level, Regarding},
    id::{AlertId, Epoch, Incarnation},
    operation::State,
    reason::Scope,
};
use mailyard_store::{
    holder::{Commit, Lane},
    notices::{Alert, Booking},
};
use mailyard_wire::admin::{AlertState, GetAlertRequest, GetStatusRequest, ListAlertsRequest};

use crate::house::{House, PARENT, address, answered, at, kept, name, told};

/// Books so many alerts about the first mailbox and one, resolved, about the profile.
async fn book(house: &House, count: u128) {
    let profile = house.profile("Main").await.uid.parse().unwrap();
    house.import(1).await;
    let mailbox = house.store.mailbox_at(&house.org, &address(1)).await.unwrap().unwrap().set.id;
    let alert = |n: u128| Alert {
        id: AlertId::new(n),
        org: house.org.clone(),
        reason: Reason::ImpersonationDenied,
        level: Level::Warning,
        scope: Scope::Mailbox,
        regarding: Regarding::Mailbox(mailbox),
        regarding_name: String::new(),
        profile: Some(profile),
        count: 3,
        operations: [true, false, false],
        summary: format!("number {n}"),
        first_time: at(n as i64),
        last_time: at(n as i64 + 1),
        resolved_time: None,
        notice: None,
    };
    let high = Alert {
        reason: Reason::ProfileFailureRatioHigh,
        level: Level::Error,
        scope: Scope::Profile,
        regarding: Regarding::Profile(profile),
        resolved_time: Some(at(5000)),
        notice: Some("sent".into()),
        ..alert(count + 1)
    };
    let alerts = (1..=count).map(alert).chain([high]).collect();
    house.store.book(&house.lead, &Booking { alerts, ..Booking::default() }).await.unwrap();
}

fn list(filter: &str, page_token: &str) -> ListAlertsRequest {
    ListAlertsRequest {
        parent: PARENT.into(),
        page_size: 1000,
        page_token: page_token.into(),
        filter: filter.into(),
    }
}

#[tokio::test]
async fn alerts_are_listed_newest_first_and_say_what_to_do() {
    let house = House::new().await;
    book(&house, 1001).await;
    let first = answered(house.alerts().list_alerts(list("", "")).await);
    let second = answered(house.alerts().list_alerts(list("", &first.next_page_token)).await);
    assert_eq!((first.alerts.len(), second.alerts.len(), second.next_page_token.as_str()), (1000, 2, ""));
    let summaries = first.alerts.iter().chain(&second.alerts).map(|alert| alert.summary.clone());
    assert_eq!(
        summaries.collect::<Vec<_>>(),
        (1..=1002).rev().map(|n| format!("number {n}")).collect::<Vec<_>>()
    );
    let high = &first.alerts[0];
    assert_eq!((high.state(), &*high.regarding, &*high.profile), (AlertState::Resolved, "Main", "Main"));
    assert_eq!((&*high.notice, &*high.remedy), ("sent", Reason::ProfileFailureRatioHigh.entry().remedy));
    assert_eq!(first.alerts[1].regarding, address(1));
    for alert in &first.alerts {
        let entry = alert.reason.parse::<Reason>().unwrap().entry();
        assert_eq!(alert.guide, entry.guide.unwrap_or_default());
    }
    let resolved = answered(house.alerts().list_alerts(list("state = resolved", "")).await);
    assert_eq!(resolved.alerts, std::slice::from_ref(high));
    let request = GetAlertRequest { name: high.name.clone() };
    assert_eq!(answered(house.alerts().get_alert(request).await), *high);
    let mut table = String::new();
    let _ = writeln!(table, "{}", told(house.alerts().list_alerts(list("severity = high", "")).await));
    let unknown = GetAlertRequest { name: name("alerts", "none") };
    let _ = writeln!(table, "{}", told(house.alerts().get_alert(unknown).await));
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn the_status_says_how_the_whole_fares() {
    let house = House::new().await;
    book(&house, 2).await;
    let profile = house.store.profile_named(&house.org, "Main").await.unwrap().unwrap();
    let request = || GetStatusRequest { parent: PARENT.into() };
    let before = answered(house.status().get_status(request()).await);
    assert_eq!((before.orphaned_shards, before.workers.len()), (1, 0));

    let claimed = house.hold().await.remove(0);
    let commit = Commit { kept: Some(kept(State::Enabled, State::Disabled)), ..Commit::default() };
    house.commit(&claimed.fence, commit).await;
    let lane = Lane { open: Some(Reason::Exchange5xx), ..Lane::default() };
    house.store.keep_lane(profile.id, 0, Epoch(9), &lane, &[]).await.unwrap();
    *house.leader.beating.lock().unwrap() =
        vec![Beating { incarnation: Incarnation::new(1), mailboxes: 1, oldest_due_millis: 40 }];
    let status = answered(house.status().get_status(request()).await);
    let mut table = format!("{} leader {}\n", status.version, status.has_leader);
    for it in &status.workers {
        let _ = writeln!(
            table,
            "worker {} {} {} shards {} mailboxes {} due {}",
            it.id, it.state, it.build, it.shards, it.mailboxes, it.oldest_due_millis
        );
    }
    for it in &status.profiles {
        let counts = (it.not_eligible, it.ok, it.failing);
        let _ = writeln!(table, "profile {} {counts:?} {}", it.display_name, it.held_back_reason);
    }
    for it in &status.operations {
        let (operation, state) = (it.operation().as_str_name(), it.state().as_str_name());
        let _ = writeln!(table, "{operation} {state} {:?} {}", it.reason, it.count);
    }
    for it in &status.open_alerts {
        let _ = writeln!(table, "{} {}", it.level().as_str_name(), it.count);
    }
    insta::assert_snapshot!(table);
    assert_eq!((status.orphaned_shards, status.term), (0, house.lead.term.0));
    *house.leader.lead.lock().unwrap() = None;
    assert!(!answered(house.status().get_status(request()).await).has_leader);
}
