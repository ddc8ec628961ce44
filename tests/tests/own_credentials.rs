//! Stories of mailboxes that sign in as themselves: each with its password, its connections and its faults.

use mailyard_exchange_sim::{Options, Settings as Server};
use mailyard_host::config::Config;
use mailyard_policy::{
    Reason,
    operation::{Health, Kind},
    outbox,
    profile::{Authentication, CredentialSource, Credentials},
};
use mailyard_store::{
    people::{AccountChange, Mailbox, Profile, Secrets},
    records::{Direction, EmailState},
};
use mailyard_tests::{Outcome, Stage, credentials, hurried, made, rule};

/// A stage whose profile leaves signing in to its mailboxes, of which none can do it yet.
async fn stage(mailboxes: usize, how: impl FnOnce(Profile) -> Profile) -> Outcome<Stage> {
    let both = [Authentication::Ntlm, Authentication::Basic];
    let options =
        |mailboxes, seed, folder| credentials::accepting(&both, Options::new(mailboxes, seed, folder));
    let stage = Stage::with(options, mailboxes, hurried(), Config::default()).await?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let authentication = Authentication::Ntlm;
    let profile = Profile {
        credential_source: CredentialSource::Mailbox,
        credentials: Credentials { authentication, ..Credentials::none() },
        ..profile
    };
    stage.store.update_profile(&how(profile), &Secrets::default(), false).await?;
    stage.nudge();
    Ok(stage)
}

async fn mailbox(stage: &Stage, number: usize) -> Outcome<Mailbox> {
    Ok(stage.store.mailbox_at(&stage.org, &stage.addresses[number]).await?.ok_or("no mailbox")?)
}

/// Gives a mailbox its account with a password; `None`: the right one.
async fn sign_in(stage: &Stage, number: usize, password: Option<&str>) -> Outcome {
    let before = mailbox(stage, number).await?;
    let user = before.set.address.clone();
    let password = password.unwrap_or(&stage.simulator.ready().password).into();
    let account = AccountChange::Set { user, password };
    stage.store.update_mailbox(&before.set, &account, before.revision).await?;
    stage.nudge();
    Ok(())
}

/// A mail to a mailbox is tracked there.
async fn tracks(stage: &Stage, number: usize) -> Outcome {
    let received = async || -> Outcome<usize> {
        let all = stage.emails().await?;
        Ok(all.iter().filter(|email| email.direction == Direction::Incoming).count())
    };
    let before = received().await?;
    stage.simulator.deliver(&made(&stage.addresses[number], 1));
    stage.until("mail is tracked", || async { Ok(received().await? > before) }).await
}

/// Why incoming and outgoing do not work.
fn reasons(mailbox: &Mailbox) -> [Option<Reason>; 2] {
    [Kind::Incoming, Kind::Outgoing].map(|kind| mailbox.operations[kind as usize].reason)
}

fn stat(stage: &Stage, name: &str) -> u64 {
    stage.simulator.stats()[name].as_u64().unwrap_or_default()
}

/// How often a wrong password was shown.
fn refusals(stage: &Stage) -> u64 {
    let refused = &stage.simulator.stats()["refused_sign_ins"];
    ["basic", "wrong_password"].iter().filter_map(|why| refused[why].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_one_mailboxs_fault_and_the_others_go_on() -> Outcome {
    let stage = stage(3, |profile| profile).await?;
    let missing = Some(Reason::MailboxCredentialsMissing);
    stage.test_and_enable().await?;
    stage
        .until("it says why it does not run", || async {
            Ok(reasons(&mailbox(&stage, 0).await?) == [missing, missing])
        })
        .await?;
    assert_eq!(stat(&stage, "connections"), 0, "nobody can sign in, so nobody was asked");

    sign_in(&stage, 0, None).await?;
    sign_in(&stage, 1, None).await?;
    sign_in(&stage, 2, Some("wrong")).await?;
    stage.test_and_enable().await?;
    tracks(&stage, 0).await?;
    let sent = stage.simulator.submissions().len();
    stage.enqueue(&stage.addresses[1], "customer@fabrikam.example", "as myself").await?;
    stage
        .until("it is sent", || async {
            let state = EmailState::Outgoing(outbox::State::Sent);
            Ok(stage.emails().await?.iter().any(|email| email.state == state))
        })
        .await?;
    assert_eq!(stage.simulator.submissions().len(), sent + 1);

    let refused = mailbox(&stage, 2).await?;
    let rejected = Some(Reason::MailboxAuthRejected);
    assert_eq!((refused.health, reasons(&refused)), (Health::Failing, [rejected, rejected]));
    // It was shown once, and neither a poll, nor an email, nor a change of its profile shows it again.
    assert_eq!(refusals(&stage), 1);
    stage.enqueue(&stage.addresses[2], "customer@fabrikam.example", "waits").await?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let profile = Profile { max_connections: 3, ..profile };
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.nudge();
    for number in [0, 1] {
        tracks(&stage, number).await?;
    }
    assert_eq!(refusals(&stage), 1);
    let lane = stage.store.lane(stage.profile, 0).await?.unwrap_or_default();
    assert_eq!(lane.open, None, "{}: the profile has no fault", lane.breaker);

    sign_in(&stage, 2, None).await?;
    stage.test_and_enable().await?;
    tracks(&stage, 2).await?;
    assert_eq!(reasons(&mailbox(&stage, 2).await?), [None, None]);
    assert_eq!(refusals(&stage), 1);

    // Without credentials it stops by itself.
    let before = mailbox(&stage, 2).await?;
    stage.store.update_mailbox(&before.set, &AccountChange::Forget, before.revision).await?;
    stage.nudge();
    stage
        .until("it says why it does not run", || async {
            Ok(reasons(&mailbox(&stage, 2).await?) == [missing, missing])
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_for_each_mailbox() -> Outcome {
    let stage = stage(4, |profile| Profile { max_connections: 1, ..profile }).await?;
    for number in 0..4 {
        sign_in(&stage, number, None).await?;
    }
    // Exchange would refuse a second connection of the same account.
    stage.simulator.set(Server { max_concurrency: Some(1), ..Server::default() });
    stage.test_and_enable().await?;
    stage.simulator.fault(rule(r#"{"kind":"slow_body","delay_ms":50}"#)?)?;
    for address in &stage.addresses {
        stage.simulator.deliver(&made(address, 20));
    }
    stage.until("everything is tracked", || async { Ok(stage.emails().await?.len() == 80) }).await?;
    assert!(stat(&stage, "max_concurrent") >= 2, "{}", stage.simulator.stats());
    for number in 0..4 {
        let failed = stage.store.cycles(mailbox(&stage, number).await?.set.id).await?;
        let failed: Vec<_> = failed.into_iter().filter_map(|cycle| cycle.reason).collect();
        assert_eq!(failed, [], "mailbox {number}");
    }
    // Who is asked to wait waits alone, however long.
    let one = &stage.addresses[0];
    let busy = format!(r#"{{"kind":"server_busy_hint","mailbox":"{one}","hint_ms":600000}}"#);
    stage.simulator.fault(rule(&busy)?)?;
    stage
        .until("one has to wait", || async {
            Ok(reasons(&mailbox(&stage, 0).await?)[0] == Some(Reason::ExchangeServerBusy))
        })
        .await?;
    for number in 1..4 {
        tracks(&stage, number).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn autodiscover_looks_with_the_mailboxs_own_password() -> Outcome {
    let stage = stage(2, |profile| {
        let authentication = Authentication::Basic;
        let credentials = Credentials { authentication, ..profile.credentials };
        Profile { incoming_url: None, outgoing_url: None, credentials, ..profile }
    })
    .await?;
    sign_in(&stage, 0, None).await?;
    sign_in(&stage, 1, Some("wrong")).await?;
    stage.test_and_enable().await?;
    tracks(&stage, 0).await?;
    assert_eq!(reasons(&mailbox(&stage, 1).await?), [Some(Reason::MailboxAuthRejected); 2]);
    let refused = refusals(&stage);
    assert!((1..=2).contains(&refused), "no more than a search may show it: {refused}");
    tracks(&stage, 0).await?;
    assert_eq!(refusals(&stage), refused);
    let lane = stage.store.lane(stage.profile, 0).await?.unwrap_or_default();
    assert_eq!(lane.open, None, "{}", lane.breaker);
    sign_in(&stage, 1, None).await?;
    stage.test_and_enable().await?;
    tracks(&stage, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_still_the_profiles_fault() -> Outcome {
    let stage = stage(3, |profile| profile).await?;
    for number in 0..3 {
        sign_in(&stage, number, None).await?;
    }
    stage.test_and_enable().await?;
    stage.simulator.fault(rule(r#"{"kind":"http_503"}"#)?)?;
    stage
        .until("the breaker is open", || async {
            let lane = stage.store.lane(stage.profile, 0).await?.unwrap_or_default();
            Ok(lane.open.is_some())
        })
        .await?;
    for number in 0..3 {
        assert_eq!(mailbox(&stage, number).await?.operations[0].failures(), 0, "no mailbox pays for it");
    }
    stage.simulator.clear_faults();
    for number in 0..3 {
        tracks(&stage, number).await?;
    }
    Ok(())
}
