//! MailboxService.

use std::{fmt::Write as _, time::Duration};

use mailyard_policy::{
    Reason,
    id::{Epoch, OperationId},
    operation::{Kind, State},
};
use mailyard_store::{
    holder::{Commit, Cycle, Lane},
    query::Filter,
};
use mailyard_wire::{
    FieldMask,
    admin::{
        Approval, CycleOutcome, DecideApprovalRequest, ExplainMailboxRequest, GetMailboxRequest,
        ImportMailboxesRequest, ListMailboxesRequest, Mailbox, MailboxCredentials, MailboxState,
        OperationState, PollMailboxesRequest, Selection, TestAndEnableRequest, UpdateMailboxRequest, Why,
    },
    cluster::{HeldCycle, HeldMailbox, HeldOperation},
    convert::moment,
};

use secrecy::ExposeSecret as _;

use crate::house::{HEADER, House, PARENT, PASSWORD, address, answered, at, kept, name, told};

fn import(rows: &str, validate_only: bool) -> ImportMailboxesRequest {
    let csv = format!("{HEADER}\n{rows}").into_bytes();
    ImportMailboxesRequest { parent: PARENT.into(), csv, validate_only }
}

#[tokio::test]
async fn an_import_is_whole_or_says_row_and_column_of_everything_that_is_wrong() {
    let house = House::new().await;
    house.profile("Main").await;
    house.import(2).await;
    let count = async || house.store.count_mailboxes(&house.org, &Filter::All).await.unwrap();
    let mut table = String::new();
    for (what, rows) in [
        ("nothing", String::new()),
        ("a good row and wrong ones", {
            "ok@contoso.example,Ok,user,Main,sss,sss,none\n\
             nobody,No,person,Main,sss,forward,sss\n\
             ok@contoso.example,Again,user,Main,sss,sss,none\n"
                .to_owned()
        }),
        ("a profile that is none", "a@contoso.example,A,user,Mian,sss,sss,none\n".to_owned()),
        ("addresses that are taken", {
            format!(
                "new@contoso.example,New,user,Main,sss,sss,none\n\n{},M,user,Main,sss,sss,none\n{},M,user,,,,\n",
                address(2).to_uppercase(),
                address(1)
            )
        }),
    ] {
        for validate_only in [true, false] {
            let refused = told(house.mailboxes().import_mailboxes(import(&rows, validate_only)).await);
            if validate_only {
                let _ = writeln!(table, "{what}: {refused}");
            } else {
                assert!(
                    table.ends_with(&format!("{what}: {refused}\n")),
                    "the same as when it is only checked"
                );
            }
        }
    }
    insta::assert_snapshot!(table);
    assert_eq!((count().await, house.nudges()), (2, 1), "nothing was made");

    let good = "new@contoso.example,New,queue,main,sss,none,none\n";
    assert_eq!(answered(house.mailboxes().import_mailboxes(import(good, true)).await).imported, 1);
    assert_eq!((count().await, house.nudges()), (2, 1), "it was only checked");
    assert_eq!(answered(house.mailboxes().import_mailboxes(import(good, false)).await).imported, 1);
    assert_eq!((count().await, house.nudges()), (3, 2));
}

#[tokio::test]
async fn however_much_is_wrong_the_answer_can_be_taken() {
    let house = House::new().await;
    let (name, kind) = ("ЯЯЯЯЯЯЯЯЯЯЯЯЯЯЯЯ", "щ".repeat(80));
    let rows: Vec<String> = (0..5000).map(|n| format!("{n},{name},{kind},нет,нет,нет,нет\n")).collect();
    let rows = rows.concat();
    let refused = told(house.mailboxes().import_mailboxes(import(&rows, false)).await);
    let (first, last) = (refused.lines().nth(1).unwrap(), refused.lines().last().unwrap());
    assert!(first.starts_with("    csv.rows[2].address: \"0\" is no email address"), "{first}");
    assert!(last.contains("and ") && last.contains(" more"), "{last}");
}

fn list(filter: &str, page_size: i32, page_token: &str) -> ListMailboxesRequest {
    ListMailboxesRequest {
        parent: PARENT.into(),
        page_size,
        page_token: page_token.into(),
        filter: filter.into(),
    }
}

#[tokio::test]
async fn more_than_a_thousand_mailboxes_are_listed_page_by_page_each_once() {
    let house = House::new().await;
    let profile = house.profile("Main").await;
    house.import(1100).await;
    house.import_csv("queue@contoso.example,Queue,queue,Main,sss,none,none\n").await;
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = answered(house.mailboxes().list_mailboxes(list("kind = user", 5000, &token)).await);
        assert_eq!(page.total_size, 1100);
        seen.extend(page.mailboxes);
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 2);
    let addresses: Vec<&str> = seen.iter().map(|mailbox| mailbox.address.as_str()).collect();
    assert_eq!(addresses, (1..=1100).map(address).collect::<Vec<_>>());
    let Mailbox { profile: resource, profile_display_name, .. } = &seen[0];
    assert_eq!((resource, profile_display_name.as_str()), (&profile.name, "Main"));
    let exact = answered(house.mailboxes().list_mailboxes(list("kind = user", 550, "")).await);
    let last =
        answered(house.mailboxes().list_mailboxes(list("kind = user", 550, &exact.next_page_token)).await);
    assert_eq!((last.mailboxes.len(), last.next_page_token.as_str()), (550, ""), "no empty page at the end");
    for last in [seen[7].uid.as_str(), &address(8), &address(8).to_uppercase()] {
        let request = GetMailboxRequest { name: name("mailboxes", last) };
        assert_eq!(answered(house.mailboxes().get_mailbox(request).await), seen[7]);
    }
    let mut table = String::new();
    for (filter, size, token) in [
        ("stat = failing", 0, ""),
        ("kind = person", 0, ""),
        ("", -1, ""),
        ("kind = queue", 0, exact.next_page_token.as_str()),
    ] {
        let refused = told(house.mailboxes().list_mailboxes(list(filter, size, token)).await);
        let _ = writeln!(table, "{filter:?}: {refused}");
    }
    for last in ["nobody@contoso.example", "00000000000000000000000000"] {
        let request = GetMailboxRequest { name: name("mailboxes", last) };
        let _ = writeln!(table, "{last}: {}", told(house.mailboxes().get_mailbox(request).await));
    }
    insta::assert_snapshot!(table);
}

fn addresses(addresses: &[&str]) -> Option<Selection> {
    Some(Selection { addresses: addresses.iter().map(ToString::to_string).collect(), filter: None })
}

fn matching(filter: &str) -> Option<Selection> {
    Some(Selection { addresses: Vec::new(), filter: Some(filter.to_owned()) })
}

#[tokio::test]
async fn a_selection_names_addresses_or_a_filter() {
    let house = House::new().await;
    house.profile("Main").await;
    house.import(3).await;
    let approve = |selection, approval: Approval| DecideApprovalRequest {
        parent: PARENT.into(),
        selection,
        approval: approval.into(),
    };
    let many: Vec<String> = (0..10_001).map(address).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let both = Selection { addresses: vec![address(1)], filter: Some(String::new()) };
    let mut table = String::new();
    for (what, selection, approval) in [
        ("neither", None, Approval::Approved),
        ("nothing in it", Some(Selection::default()), Approval::Approved),
        ("both", Some(both), Approval::Approved),
        ("no address", addresses(&["x"]), Approval::Approved),
        ("an address without a mailbox", addresses(&[&address(1), &address(4)]), Approval::Approved),
        ("too many", addresses(&many), Approval::Approved),
        ("a filter that is none", matching("kind ="), Approval::Approved),
        ("no approval", matching(""), Approval::Unspecified),
    ] {
        let refused = told(house.mailboxes().decide_approval(approve(selection, approval)).await);
        let _ = writeln!(table, "{what}: {refused}");
    }
    let nothing = TestAndEnableRequest { parent: PARENT.into(), selection: matching("kind = queue") };
    let _ = writeln!(table, "a test of nothing: {}", told(house.mailboxes().test_and_enable(nothing).await));
    insta::assert_snapshot!(table);
    assert_eq!(house.nudges(), 1, "that was the import");

    let changed = async |selection, approval| {
        answered(house.mailboxes().decide_approval(approve(selection, approval)).await).changed
    };
    assert_eq!(changed(addresses(&[&address(1), &address(2)]), Approval::Approved).await, 2);
    assert_eq!(changed(matching(""), Approval::Approved).await, 1);
    assert_eq!(changed(matching("kind = queue"), Approval::Rejected).await, 0);
    assert_eq!(changed(addresses(&[&address(3)]), Approval::Pending).await, 1, "taken back");
    assert_eq!(house.nudges(), 5);

    let poll = PollMailboxesRequest { parent: PARENT.into(), selection: addresses(&[&address(2)]) };
    let polled = answered(house.mailboxes().poll_mailboxes(poll).await).mailboxes;
    let request = GetMailboxRequest { name: polled[0].clone() };
    let mailbox = answered(house.mailboxes().get_mailbox(request).await);
    assert_eq!((mailbox.address.as_str(), mailbox.polls_pending, polled.len()), (&*address(2), 1, 1));
    assert_eq!(mailbox.approval(), Approval::Approved);

    let test = TestAndEnableRequest { parent: PARENT.into(), selection: matching("kind = user") };
    let operation = answered(house.mailboxes().test_and_enable(test).await);
    assert_eq!((operation.selection.as_str(), operation.total, operation.skipped), ("kind = user", 3, 1));
    assert!(operation.uid.parse::<OperationId>().is_ok());
    assert_eq!(house.nudges(), 7);
}

#[tokio::test]
async fn a_mailbox_tells_when_it_runs_next_and_why_then() {
    let house = House::new().await;
    let profile = house.profile("Main").await;
    house.import(1).await;
    let claimed = house.hold().await.remove(0);
    let retrying = kept(State::Enabled, State::Retrying { failures: 2 });
    let cycle = Cycle {
        operation: Kind::Outgoing,
        start: at(5),
        duration: Duration::from_millis(250),
        items: 0,
        outcome: "transient",
        reason: Some(Reason::MailboxUnavailable),
    };
    let commit = Commit { kept: Some(retrying), cycle: Some(cycle), ..Commit::default() };
    house.commit(&claimed.fence, commit).await;

    let explain = async || {
        let request = ExplainMailboxRequest { name: name("mailboxes", &address(1)) };
        answered(house.mailboxes().explain_mailbox(request).await)
    };
    let stored = explain().await;
    let mailbox = stored.mailbox.unwrap();
    let operations = mailbox.operations.clone().unwrap();
    let (incoming, outgoing) = (operations.incoming.unwrap(), operations.outgoing.unwrap());
    assert_eq!((mailbox.state(), mailbox.worker.as_str()), (MailboxState::Failing, "w1"));
    assert_eq!((incoming.state(), incoming.why()), (OperationState::Enabled, Why::Phase));
    let now = mailyard_host::clock::now();
    let wait = moment(&incoming.next_run.unwrap()).since(now);
    assert!(wait <= Duration::from_mins(5), "{wait:?}");
    assert_eq!(
        (outgoing.state(), outgoing.why(), outgoing.failures),
        (OperationState::Retrying, Why::RetryGap, 2)
    );
    assert_eq!(operations.act.unwrap().next_run, None);
    assert!(!stored.from_holder && stored.work.is_empty());
    assert_eq!((stored.cycles.len(), stored.cycles[0].outcome()), (1, CycleOutcome::Transient));
    assert_eq!(stored.cycles[0].reason, "MAILBOX_UNAVAILABLE");

    let lane = Lane { open: Some(Reason::ProfileConnectFailed), ..Lane::default() };
    house.store.keep_lane(profile.uid.parse().unwrap(), 0, Epoch(9), &lane, &[]).await.unwrap();
    let operations = explain().await.mailbox.unwrap().operations.unwrap();
    assert_eq!(
        (operations.incoming.unwrap().why(), operations.outgoing.unwrap().why()),
        (Why::Breaker, Why::Breaker)
    );

    let held = |operation: &str, next_run, why: &str| HeldOperation {
        operation: operation.to_owned(),
        next_run,
        why: why.to_owned(),
    };
    let cycle = HeldCycle {
        operation: "incoming".into(),
        start: at(7).as_millis(),
        duration_millis: 80,
        items: 3,
        outcome: "success".into(),
        reason: String::new(),
    };
    *house.leader.held.lock().unwrap() = Some(HeldMailbox {
        operations: vec![
            held("sss enabled period=120000", Some(at(60).as_millis()), "backlog"),
            held("sss disabled reason=IMPERSONATION_DENIED", None, ""),
            held("none off", None, ""),
        ],
        cycles: vec![cycle],
        work: "reading the Inbox".into(),
    });
    let live = explain().await;
    let operations = live.mailbox.unwrap().operations.unwrap();
    let (incoming, outgoing) = (operations.incoming.unwrap(), operations.outgoing.unwrap());
    assert_eq!((incoming.next_run.as_ref().map(moment), incoming.why()), (Some(at(60)), Why::Backlog));
    assert_eq!(
        (outgoing.state(), outgoing.reason.as_str()),
        (OperationState::Disabled, "IMPERSONATION_DENIED")
    );
    assert_eq!((live.from_holder, live.work.as_str(), live.cycles[0].items), (true, "reading the Inbox", 3));
}

#[tokio::test]
async fn a_mailbox_without_a_profile_says_so_and_takes_one() {
    let house = House::new().await;
    house.profile("Main").await;
    house.import(1).await;
    house.import_csv("bare@contoso.example,Bare,user,,sss,sss,none\n").await;
    let bare = "bare@contoso.example";
    let incoming = async || {
        let request = ExplainMailboxRequest { name: name("mailboxes", bare) };
        let mailbox = answered(house.mailboxes().explain_mailbox(request).await).mailbox.unwrap();
        mailbox.operations.unwrap().incoming.unwrap()
    };
    let poll = async |selection| {
        house.mailboxes().poll_mailboxes(PollMailboxesRequest { parent: PARENT.into(), selection }).await
    };
    let update = async |etag: &str, profile: &str, paths: &[&str]| {
        let mailbox = Some(Mailbox {
            name: name("mailboxes", bare),
            etag: etag.to_owned(),
            profile: profile.to_owned(),
            ..Mailbox::default()
        });
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let request = UpdateMailboxRequest { mailbox, update_mask: Some(FieldMask { paths }) };
        house.mailboxes().update_mailbox(request).await
    };
    let shown = incoming().await;
    assert_eq!((shown.reason.as_str(), shown.next_run), ("PROFILE_NOT_SET", None));
    let both = answered(poll(matching("")).await);
    assert_eq!(both.mailboxes.len(), 1);
    let refused: Vec<_> = both.refused.iter().map(|refused| (&*refused.address, &*refused.reason)).collect();
    assert_eq!(refused, [(bare, "PROFILE_NOT_SET")]);
    let test = TestAndEnableRequest { parent: PARENT.into(), selection: addresses(&[bare]) };
    let operation = answered(house.mailboxes().test_and_enable(test).await);
    assert_eq!((operation.total, operation.skipped), (1, 1));

    let main = name("emailServerProfiles", "Main");
    let mut table = String::new();
    for (what, refused) in [
        ("a poll", told(poll(addresses(&[bare])).await)),
        ("another etag", told(update("\"7\"", &main, &["profile"]).await)),
        (
            "a profile that is none",
            told(update("", &name("emailServerProfiles", "Mian"), &["profile"]).await),
        ),
        ("a field that is none", told(update("", &main, &["address"]).await)),
        ("no name for people", told(update("", &main, &["display_name"]).await)),
    ] {
        let _ = writeln!(table, "{what}: {refused}");
    }
    insta::assert_snapshot!(table);

    let nudges = house.nudges();
    let changed = answered(update("\"1\"", &main, &["profile"]).await);
    assert_eq!((changed.profile_display_name.as_str(), changed.etag.as_str()), ("Main", "\"2\""));
    assert_eq!(incoming().await.reason, "");
    assert_eq!(answered(poll(addresses(&[bare])).await).mailboxes, [changed.name]);
    assert_eq!(house.nudges(), nudges + 2);
    let bared = answered(update("", "", &["profile"]).await);
    assert_eq!((bared.profile.as_str(), bared.polls_pending), ("", 0));
    assert_eq!(incoming().await.reason, "PROFILE_NOT_SET");
}

#[tokio::test]
async fn a_mailbox_takes_credentials_of_its_own_that_nobody_reads_again() {
    let house = House::new().await;
    house.profile("Main").await;
    house.import(1).await;
    let update = async |user: &str, password: &str, paths: &[&str]| {
        let credentials = (!paths.contains(&"credentials")).then(|| MailboxCredentials {
            user: user.to_owned(),
            password: password.to_owned(),
            ..MailboxCredentials::default()
        });
        let name = name("mailboxes", &address(1));
        let mailbox = Some(Mailbox { name, credentials, ..Mailbox::default() });
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let request = UpdateMailboxRequest { mailbox, update_mask: Some(FieldMask { paths }) };
        house.mailboxes().update_mailbox(request).await
    };
    let long = "x".repeat(1025);
    let mut table = String::new();
    for (what, user, password, paths) in [
        ("a user alone", "anna", "", &["credentials.user"][..]),
        ("a password alone", "", PASSWORD, &["credentials.password"]),
        ("a user of two lines and a long password", "a\nb", &long, &[]),
        ("nothing in it", "", "", &["credentials.user", "credentials.password"]),
    ] {
        let _ = writeln!(table, "{what}: {}", told(update(user, password, paths).await));
    }
    let nudges = house.nudges();
    let set = answered(update("CONTOSO\\anna", PASSWORD, &[]).await);
    let shown = |user: &str| {
        Some(MailboxCredentials { user: user.to_owned(), password: String::new(), password_set: true })
    };
    assert_eq!(set.credentials, shown("CONTOSO\\anna"));
    let _ = writeln!(table, "another user: {}", told(update("bert", "", &["credentials.user"]).await));
    insta::assert_snapshot!(table);
    let secret = async || {
        let stored = house.store.mailbox_at(&house.org, &address(1)).await.unwrap().unwrap();
        let secret = house.store.account_secret(stored.set.id, &stored.account.unwrap()).await.unwrap();
        secret.expose_secret().to_owned()
    };
    assert_eq!(secret().await, PASSWORD);
    // Who writes back what was read changes nothing.
    let same = answered(update("CONTOSO\\anna", "", &["credentials.user", "credentials.password"]).await);
    assert_eq!((same.etag, house.nudges()), (set.etag.clone(), nudges + 1));
    let renewed = answered(update("", "another one", &["credentials.password"]).await);
    assert_eq!(renewed.credentials, shown("CONTOSO\\anna"));
    assert_eq!(secret().await, "another one");
    let forgotten = answered(update("", "", &["credentials"]).await);
    assert_eq!(forgotten.credentials, None);
    assert_eq!(
        answered(update("", "", &["credentials"]).await).etag,
        forgotten.etag,
        "there is nothing left"
    );
    assert_eq!(house.nudges(), nudges + 3, "each change is told");
}
