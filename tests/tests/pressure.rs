//! Stories of a worker whose server is slow, throttles, or fails one item: who has to wait, and who must not.

use std::time::Duration;

use mailyard_host::clock;
use mailyard_policy::{Reason, id::ProfileId, operation::Kind, outbox};
use mailyard_store::{
    people::{AccountChange, NewMailbox, Profile, Secrets},
    query::Page,
    records::{Direction, EmailState},
};
use mailyard_tests::{Outcome, Stage, hurried, made, rule};
use mailyard_worker::settings::Settings;

/// Changes the profile of the stage.
async fn change(stage: &Stage, how: impl FnOnce(Profile) -> Profile) -> Outcome<Profile> {
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    Ok(stage.store.update_profile(&how(profile), &Secrets::default(), false).await?)
}

/// Moves the last mailbox to a profile of its own, on the same server.
async fn set_apart(stage: &Stage, profile: Profile) -> Outcome<String> {
    let other = Profile {
        id: ProfileId::new(clock::new_id()?),
        display_name: "Other".to_owned(),
        max_connections: 10,
        ..profile
    };
    let password = stage.simulator.ready().password.clone().into();
    let secrets = Secrets { incoming: Some(password), outgoing: None };
    let other = stage.store.create_profile(&other, &secrets, false).await?;
    let address = stage.addresses.last().ok_or("no mailbox")?;
    let mailbox = stage.store.mailbox_at(&stage.org, address).await?.ok_or("no mailbox")?;
    let set = NewMailbox { profile: Some(other.id), ..mailbox.set };
    stage.store.update_mailbox(&set, &AccountChange::Keep, mailbox.revision).await?;
    Ok(address.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_keeps_no_turns_from_other_profiles() -> Outcome {
    // Requests wait for much longer than this story, and there are few turns.
    let settings = Settings { max_inflight: 2, request_deadline: Duration::from_mins(10), ..hurried() };
    let stage = Stage::new(4, settings).await?;
    let slow = change(&stage, |profile| Profile { max_connections: 1, ..profile }).await?;
    let apart = set_apart(&stage, slow).await?;
    stage.test_and_enable().await?;
    for address in stage.addresses.iter().filter(|address| **address != apart) {
        let slowly = format!(r#"{{"kind":"slow_body","mailbox":"{address}","delay_ms":600000}}"#);
        stage.simulator.fault(rule(&slowly)?)?;
    }
    let first = &stage.addresses[0];
    stage.simulator.deliver(&made(first, 1));
    for delivered in 1..=3 {
        stage.simulator.deliver(&made(&apart, 1));
        stage
            .until("the other profile's mail is tracked", || async {
                Ok(stage.emails().await?.len() == delivered)
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_whose_deadline_passed_at_the_gate_is_not_begun() -> Outcome {
    let settings = Settings {
        outbox: outbox::Rules { retry_gap: Duration::from_hours(1), ..Default::default() },
        ..hurried()
    };
    let stage = Stage::new(6, settings).await?;
    let deadline = Duration::from_secs(2);
    change(&stage, |profile| Profile { request_deadline: Some(deadline), ..profile }).await?;
    stage.test_and_enable().await?;
    let probes = stage.simulator.submissions().len();
    let (one, two) = (&stage.addresses[0], &stage.addresses[1]);
    // While the draft is made, the server asks for a pause that lasts longer than a sending may.
    stage.simulator.fault(rule(r#"{"kind":"slow_body","operation":"CreateItem","delay_ms":1800}"#)?)?;
    stage.enqueue(one, two, "late").await?;
    stage
        .until("the draft is made", || async {
            Ok(stage.simulator.list(one, "Drafts").is_some_and(|drafts| !drafts.is_empty()))
        })
        .await?;
    let pause = r#"{"kind":"server_busy_hint","operation":"SyncFolderItems","hint_ms":4000,"count":1}"#;
    stage.simulator.fault(rule(pause)?)?;
    stage
        .until("the sending is put off", || async {
            let emails = stage.emails().await?;
            let outgoing = emails.iter().find(|email| email.direction == Direction::Outgoing);
            assert_eq!(stage.simulator.submissions().len(), probes, "it was sent behind its deadline");
            Ok(outgoing.is_some_and(|email| {
                email.state == EmailState::Outgoing(outbox::State::PendingSend)
                    && email.reason == Some(Reason::RequestNotBegun)
            }))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_is_tried_again_and_the_mailbox_is_none_the_worse() -> Outcome {
    let stage = Stage::new(1, hurried()).await?;
    stage.test_and_enable().await?;
    let one = &stage.addresses[0];
    stage.simulator.fault(rule(r#"{"kind":"poison"}"#)?)?;
    stage.simulator.fault(rule(r#"{"kind":"mailbox_unavailable","operation":"MoveItem","count":4}"#)?)?;
    stage.simulator.deliver(&made(one, 3));
    let page = Page { after: None, limit: 100 };
    stage
        .until("all of them lie in their folder", || async {
            let aside = stage.store.quarantined(&stage.org, None, &page).await?;
            Ok(aside.len() >= 3 && aside.iter().all(|item| item.moved))
        })
        .await?;
    let mailbox = stage.store.mailbox_at(&stage.org, one).await?.ok_or("no mailbox")?;
    let failed: Vec<_> =
        stage.store.cycles(mailbox.set.id).await?.into_iter().filter_map(|it| it.reason).collect();
    assert_eq!(failed, [], "no cycle failed");
    assert_eq!(mailbox.operations[Kind::Incoming as usize].failures(), 0);
    Ok(())
}

/// Jain's index: 1 if all have the same share, one n-th if one of n has everything.
fn jain(shares: &[u64]) -> f64 {
    let sum: u64 = shares.iter().sum();
    let squares: u64 = shares.iter().map(|share| share * share).sum();
    (sum * sum) as f64 / (shares.len() as u64 * squares) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_very_many_messages_delays_nobody_on_a_server_that_cannot_keep_up() -> Outcome {
    const MESSAGES: usize = 400;
    let settings = Settings { turn: Duration::from_millis(100), ..hurried() };
    let stage = Stage::new(20, settings).await?;
    change(&stage, |profile| Profile { max_connections: 1, ..profile }).await?;
    stage.test_and_enable().await?;
    let busy = &stage.addresses[0];
    stage.simulator.fault(rule(r#"{"kind":"slow_body","delay_ms":20}"#)?)?;
    let polls = || stage.addresses.iter().map(|one| stage.simulator.requests("SyncFolderItems", one));
    let before: Vec<_> = polls().collect();
    stage.simulator.deliver(&made(busy, MESSAGES as u32));
    stage.until("everything is tracked", || async { Ok(stage.emails().await?.len() == MESSAGES) }).await?;
    let shares: Option<Vec<u64>> = polls().zip(before).map(|(now, before)| Some(now? - before?)).collect();
    let shares = shares.ok_or("no such mailbox")?;
    assert!(jain(&shares) >= 0.95, "{shares:?}");
    // It took many turns, and after each of them it was everybody else's.
    assert!(shares[1..].iter().all(|share| *share >= 4), "{shares:?}");
    Ok(())
}
