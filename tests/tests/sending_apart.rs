//! Stories of a profile that sends with another account than it reads with: each way fails and is well by itself.

use mailyard_host::config::Config;
use mailyard_policy::{Reason, breaker::Breakers, operation, outbox};
use mailyard_store::{
    notices::Alert,
    people::{Profile, Secrets},
    records::{Direction, EmailState},
};
use mailyard_tests::{Outcome, Stage, credentials, hurried, made};

/// How often a wrong password may be shown: two turns that meet it at once, and three canaries.
const REFUSALS: u64 = 5;

/// Sets the password of a direction.
async fn set_password(stage: &Stage, direction: operation::Direction, password: &str) -> Outcome {
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let apart = profile.outgoing_credentials.clone().unwrap_or_else(|| profile.credentials.clone());
    let profile = Profile { outgoing_credentials: Some(apart), ..profile };
    let secret = |of| (direction == of).then(|| password.into());
    let secrets = Secrets {
        incoming: secret(operation::Direction::Incoming),
        outgoing: secret(operation::Direction::Outgoing),
    };
    stage.store.update_profile(&profile, &secrets, false).await?;
    stage.nudge();
    Ok(())
}

async fn held(stage: &Stage) -> Outcome<[Option<Reason>; 2]> {
    let lane = stage.store.lane(stage.profile, 0).await?.unwrap_or_default();
    // Before anything happened to it nothing is kept.
    Ok(lane.breaker.parse().map_or([None; 2], |breakers: Breakers| breakers.held()))
}

async fn told(stage: &Stage) -> Outcome<Vec<Alert>> {
    let open = stage.store.open_alerts().await?;
    Ok(open.into_iter().filter(|alert| alert.reason == Reason::ProfileAuthRejected).collect())
}

/// Mail that came in, and mail that went out.
async fn counts(stage: &Stage) -> Outcome<[usize; 2]> {
    let emails = stage.emails().await?;
    let tracked = emails.iter().filter(|email| email.direction == Direction::Incoming).count();
    let sent = EmailState::Outgoing(outbox::State::Sent);
    Ok([tracked, emails.iter().filter(|email| email.state == sent).count()])
}

/// Each mailbox has one mail to read and one to send.
async fn mail_for_all(stage: &Stage) -> Outcome {
    for address in &stage.addresses {
        stage.simulator.deliver(&made(address, 1));
        stage.enqueue(address, "customer@fabrikam.example", "apart").await?;
    }
    Ok(())
}

fn refusals(stage: &Stage) -> u64 {
    let refused = &stage.simulator.stats()["refused_sign_ins"];
    ["basic", "wrong_password"].iter().filter_map(|why| refused[why].as_u64()).sum()
}

async fn story(refused: operation::Direction, summary: &str) -> Outcome {
    use operation::Direction::{Incoming, Outgoing};
    let by = mailyard_policy::profile::Authentication::Basic;
    let options = |mailboxes, seed, folder| {
        credentials::accepting(&[by], mailyard_exchange_sim::Options::new(mailboxes, seed, folder))
    };
    let stage = Stage::build(by, options, 4, hurried(), Config::default()).await?;
    let right = stage.simulator.ready().password.clone();
    set_password(&stage, Outgoing, &right).await?;
    stage.test_and_enable().await?;
    set_password(&stage, refused, "wrong").await?;
    let rejected = Some(Reason::ProfileAuthRejected);
    let (expected, other) = match refused {
        Incoming => ([rejected, None], Outgoing),
        Outgoing => ([None, rejected], Incoming),
    };
    stage
        .until("only the refused way is held back", || async {
            if refused == Outgoing {
                // Nothing is found out of it while nobody sends.
                stage.enqueue(&stage.addresses[0], "customer@fabrikam.example", "apart").await?;
            }
            Ok(held(&stage).await? == expected)
        })
        .await?;
    let before = counts(&stage).await?;
    mail_for_all(&stage).await?;
    stage
        .until("the other way goes on", || async {
            let at = other as usize;
            Ok(counts(&stage).await?[at] == before[at] + stage.addresses.len())
        })
        .await?;
    stage
        .until("the alert names the way", || async {
            let told = told(&stage).await?;
            Ok(told.iter().any(|alert| alert.summary.contains(summary)))
        })
        .await?;
    // Runs that are well on the other way neither close the breaker nor show the password again.
    for address in &stage.addresses {
        stage.simulator.deliver(&made(address, 1));
    }
    if other == Incoming {
        stage
            .until("mail is read on", || async { Ok(counts(&stage).await?[0] == 2 * stage.addresses.len()) })
            .await?;
    }
    assert_eq!(held(&stage).await?, expected);
    assert!(refusals(&stage) <= REFUSALS, "{}", stage.simulator.stats());
    assert_eq!(counts(&stage).await?[refused as usize], before[refused as usize]);

    set_password(&stage, refused, &right).await?;
    stage
        .until("everything has gone its way, and nothing is told any more", || async {
            let [tracked, sent] = counts(&stage).await?;
            let enqueued = stage.emails().await?.len() - tracked;
            let all = tracked == 2 * stage.addresses.len() && sent == enqueued;
            Ok(all && held(&stage).await? == [None; 2] && told(&stage).await?.is_empty())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sending_password_holds_back_sending_alone() -> Outcome {
    story(operation::Direction::Outgoing, "for outgoing mail only").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reading_password_holds_back_reading_alone() -> Outcome {
    story(operation::Direction::Incoming, "for incoming mail only").await
}
