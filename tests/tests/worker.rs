//! Stories of a worker between a simulated Exchange and a store: what comes in is tracked, what is enqueued leaves.

use std::time::Duration;

use mailyard_exchange_sim::Made;
use mailyard_host::clock;
use mailyard_policy::{
    Reason, Timestamp,
    operation::{Health, Kind, State},
    outbox,
};
use mailyard_store::{
    people::{Profile, Secrets},
    query::Page,
    records::{Direction, EmailState},
};
use mailyard_tests::{Outcome, Stage, hurried, made, rule};
use mailyard_worker::settings::Settings;

#[tokio::test(flavor = "multi_thread")]
async fn delivered_mail_is_tracked_once_whatever_happens_to_the_answers() -> Outcome {
    let stage = Stage::new(3, hurried()).await?;
    stage.test_and_enable().await?;
    let (one, two) = (&stage.addresses[0], &stage.addresses[1]);
    stage.simulator.deliver(&made(one, 25));
    stage.simulator.deliver(&Made { to: vec![one.clone(), two.clone()], ..Made::default() });
    stage.simulator.fault(rule(r#"{"kind":"lost_response","rate":0.3,"for_seconds":2}"#)?)?;
    stage.simulator.fault(rule(r#"{"kind":"repeated_changes"}"#)?)?;
    stage.simulator.fault(rule(r#"{"kind":"bad_sync_state","rate":0.2,"for_seconds":2}"#)?)?;
    stage
        .until("all of it is tracked, and seen in both mailboxes", || async {
            let emails = stage.emails().await?;
            Ok(emails.len() >= 26 && emails.iter().any(|email| email.mailboxes.len() == 2))
        })
        .await?;
    let emails = stage.emails().await?;
    assert_eq!(emails.len(), 26, "each once");
    assert!(emails.iter().all(|email| email.direction == Direction::Incoming));
    let shared = emails.iter().filter(|email| email.mailboxes.len() == 2);
    assert_eq!(shared.count(), 1, "one record, two sightings");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_fails_after_its_page_was_written_goes_on_from_there() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let one = &stage.addresses[0];
    let mailbox = stage.store.mailbox_at(&stage.org, one).await?.ok_or("gone")?.set.id;
    let requests =
        |operation: &str| stage.simulator.stats()["requests"][operation].as_u64().unwrap_or_default();
    let before = requests("GetItem");
    stage.simulator.fault(rule(r#"{"kind":"mailbox_unavailable","operation":"GetItem","count":1}"#)?)?;
    // One: a poll between two of several would fetch by itself what it finds.
    stage.simulator.deliver(&made(one, 1));
    stage.until("it is tracked", || async { Ok(stage.emails().await?.len() == 1) }).await?;
    let polls = requests("SyncFolderItems");
    stage.until("it is polled on", || async { Ok(requests("SyncFolderItems") >= polls + 3) }).await?;
    // The one that failed; then what was left of the page: how large it is, and its contents.
    assert_eq!(requests("GetItem") - before, 3, "what is known is not fetched again");
    let cycles = stage.store.cycles(mailbox).await?;
    let told: Vec<_> = cycles.iter().map(|cycle| (cycle.items, cycle.reason)).collect();
    assert_eq!(
        told,
        [(1, None), (0, Some(Reason::MailboxUnavailable))],
        "each cycle once, the last one first"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_that_brought_mail_is_kept_once() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let one = &stage.addresses[0];
    let mailbox = stage.store.mailbox_at(&stage.org, one).await?.ok_or("gone")?.set.id;
    for count in 1..=4 {
        stage.simulator.deliver(&made(one, count));
        let all = (1..=count as usize).sum::<usize>();
        stage.until("it is tracked", || async { Ok(stage.emails().await?.len() == all) }).await?;
    }
    let polls = || stage.simulator.stats()["requests"]["SyncFolderItems"].as_u64().unwrap_or_default();
    let seen = polls();
    stage.until("it is polled on", || async { Ok(polls() >= seen + 2) }).await?;
    let cycles = stage.store.cycles(mailbox).await?;
    assert!(cycles.iter().all(|cycle| cycle.items > 0 && cycle.reason.is_none()));
    assert_eq!(cycles.iter().map(|cycle| cycle.items).sum::<u32>(), 10, "{cycles:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_start_date_holds_at_once_and_an_earlier_one_brings_older_mail() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let (one, hour) = (&stage.addresses[0], std::time::Duration::from_hours(1));
    let polls = || stage.simulator.stats()["requests"]["SyncFolderItems"].as_u64().unwrap_or_default();
    let polled = async |times: u64| {
        let seen = polls();
        stage.until("it is polled on", || async { Ok(polls() >= seen + times) }).await
    };
    let begin = async |at: Timestamp| -> Outcome {
        let profile = stage.store.profile(stage.profile).await?.ok_or("gone")?;
        let profile = Profile { process_email_from: Some(at), ..profile };
        stage.store.update_profile(&profile, &Secrets::default(), false).await?;
        stage.nudge();
        polled(5).await
    };
    stage.simulator.deliver(&made(one, 2));
    stage.until("what comes is tracked", || async { Ok(stage.emails().await?.len() == 2) }).await?;

    begin(clock::now() + hour).await?;
    stage.simulator.deliver(&made(one, 3));
    polled(5).await?;
    assert_eq!(stage.emails().await?.len(), 2, "what came before the new date is left alone");

    begin(clock::now() - hour).await?;
    stage.until("it is tracked now", || async { Ok(stage.emails().await?.len() == 5) }).await?;
    assert!(stage.emails().await?.iter().all(|email| email.mailboxes.len() == 1), "each once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueued_mail_is_sent_once_and_tracked_where_it_arrives() -> Outcome {
    let stage = Stage::new(2, hurried()).await?;
    stage.test_and_enable().await?;
    let (one, two) = (&stage.addresses[0], &stage.addresses[1]);
    stage
        .simulator
        .fault(rule(r#"{"kind":"lost_response","operation":"CreateItem","rate":0.4,"for_seconds":2}"#)?)?;
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(stage.enqueue(one, two, &format!("number {number}")).await?);
    }
    stage
        .until("all of them are sent and arrived", || async {
            let emails = stage.emails().await?;
            let sent = emails
                .iter()
                .filter(|email| email.state == EmailState::Outgoing(outbox::State::Sent))
                .count();
            let arrived = emails.iter().filter(|email| email.direction == Direction::Incoming).count();
            Ok(sent == 8 && arrived == 8)
        })
        .await?;
    let tests = 1;
    assert_eq!(stage.simulator.submissions().len() - tests, 8, "the probe of the first test, and each once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_mailbox_is_disabled_after_ten_failures_and_a_test_brings_it_back() -> Outcome {
    let stage = Stage::new(2, hurried()).await?;
    stage.test_and_enable().await?;
    let one = stage.addresses[0].clone();
    let mailbox = || async { stage.store.mailbox_at(&stage.org, &one).await?.ok_or_else(|| "gone".into()) };
    stage.simulator.fault(rule(&format!(r#"{{"kind":"mailbox_unavailable","mailbox":"{one}"}}"#))?)?;
    stage
        .until("incoming is disabled", || async {
            let mailbox: Outcome<mailyard_store::people::Mailbox> = mailbox().await;
            Ok(mailbox?.operations[Kind::Incoming as usize].state == State::Disabled)
        })
        .await?;
    let failed: Outcome<mailyard_store::people::Mailbox> = mailbox().await;
    let failed = failed?;
    assert_eq!(failed.health, Health::Failing);
    assert_eq!(failed.operations[Kind::Incoming as usize].reason, Some(Reason::MailboxUnavailable));
    let other = stage.store.mailbox_at(&stage.org, &stage.addresses[1]).await?.ok_or("gone")?;
    assert_eq!(other.health, Health::Ok);
    stage.simulator.clear_faults();
    stage.test_and_enable().await?;
    stage
        .until("it is well again", || async {
            let mailbox: Outcome<mailyard_store::people::Mailbox> = mailbox().await;
            Ok(mailbox?.health == Health::Ok)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_put_aside_and_the_rest_comes_through() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let one = &stage.addresses[0];
    stage.simulator.fault(rule(r#"{"kind":"poison","rate":0.4}"#)?)?;
    stage.simulator.deliver(&made(one, 20));
    let page = Page { after: None, limit: 100 };
    stage
        .until("everything is tracked or put aside", || async {
            let aside = stage.store.quarantined(&stage.org, None, &page).await?.len();
            Ok(stage.emails().await?.len() + aside == 20)
        })
        .await?;
    stage
        .until("what was put aside lies in its folder", || async {
            let aside = stage.store.quarantined(&stage.org, None, &page).await?;
            Ok(!aside.is_empty() && aside.iter().all(|item| item.moved && item.reason == Reason::ItemCorrupt))
        })
        .await?;
    let aside = stage.store.quarantined(&stage.org, None, &page).await?;
    assert_eq!(stage.simulator.list(one, "Undeliverable").map(|listed| listed.len()), Some(aside.len()));
    stage.simulator.clear_faults();
    let ids: Vec<String> = aside.into_iter().map(|item| item.item_id).collect();
    let mailbox = stage.store.mailbox_at(&stage.org, one).await?.ok_or("gone")?.set.id;
    stage.store.replay(mailbox, &ids).await?;
    stage.nudge();
    stage.until("it comes through after all", || async { Ok(stage.emails().await?.len() == 20) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_what_cannot_be_read_is_worked_off_and_starves_nobody() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let one = &stage.addresses[0];
    stage.simulator.fault(rule(r#"{"kind":"poison"}"#)?)?;
    // More than two pages of rows, and more than one page of changes.
    stage.simulator.deliver(&made(one, 520));
    stage
        .until("all of them lie in their folder", || async {
            let page = Page { after: None, limit: 1000 };
            let aside = stage.store.quarantined(&stage.org, None, &page).await?;
            Ok(aside.len() >= 520 && aside.iter().all(|item| item.moved))
        })
        .await?;
    stage.simulator.clear_faults();
    stage.simulator.deliver(&made(one, 1));
    stage.until("new mail is tracked", || async { Ok(stage.emails().await?.len() == 1) }).await?;
    let lying = stage.simulator.list(one, "Undeliverable").map(|listed| listed.len());
    // The message by which sending was tested may be one of them.
    assert!(matches!(lying, Some(520 | 521)), "{lying:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_changed_nothing_is_not_repeated_at_once() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    stage.simulator.fault(rule(r#"{"kind":"stopped_batch","operation":"GetItem"}"#)?)?;
    let one = &stage.addresses[0];
    stage.simulator.deliver(&made(one, 300));
    let requests = |name: &str| stage.simulator.stats()["requests"][name].as_u64().unwrap_or_default();
    stage.until("the first are asked for", || async { Ok(requests("GetItem") > 8) }).await?;
    let (asked, looked) = (requests("GetItem"), requests("SyncFolderItems"));
    stage.until("it looks for new mail", || async { Ok(requests("SyncFolderItems") >= looked + 5) }).await?;
    // Seven portions of a page of rows; how often is said by the period, and not by how fast the server answers.
    let turns = (requests("GetItem") - asked) / 7;
    assert!(turns <= 7, "{turns} turns beside 5 looks");
    stage.simulator.clear_faults();
    stage.until("all of it is tracked", || async { Ok(stage.emails().await?.len() == 300) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_takes_too_long_is_given_up_and_fails_the_mailbox() -> Outcome {
    let settings = Settings { cycle_deadline: Duration::from_millis(500), ..hurried() };
    let stage = Stage::new(1, settings).await?;
    stage.test_and_enable().await?;
    let slow = r#"{"kind":"slow_body","operation":"SyncFolderItems","delay_ms":600000}"#;
    stage.simulator.fault(rule(slow)?)?;
    let incoming = async || {
        let mailbox = stage.store.mailbox_at(&stage.org, &stage.addresses[0]).await?.ok_or("gone")?;
        Outcome::Ok(mailbox.operations[Kind::Incoming as usize])
    };
    stage
        .until("it fails for that", || async {
            let operation = incoming().await?;
            Ok(operation.reason == Some(Reason::MailboxCycleDeadline) && operation.failures() > 0)
        })
        .await?;
    stage.simulator.clear_faults();
    stage.until("it is well again", || async { Ok(incoming().await?.reason.is_none()) }).await
}
