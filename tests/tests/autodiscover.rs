//! Stories of profiles whose servers are found by Autodiscover.

use mailyard_policy::{Reason, profile::Authentication};
use mailyard_store::{
    holder::Located,
    people::{Profile, Secrets},
};
use mailyard_tests::{Outcome, Stage, hurried, made, rule};

/// A profile that says no more than who asks.
async fn stage(by: Authentication) -> Outcome<Stage> {
    let stage = Stage::signing_in(by, hurried()).await?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let profile = Profile { incoming_url: None, outgoing_url: None, ..profile };
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.nudge();
    Ok(stage)
}

async fn located(stage: &Stage, address: &str) -> Outcome<Located> {
    let mailbox = stage.store.mailbox_at(&stage.org, address).await?.ok_or("no mailbox")?;
    Ok(stage.store.located(mailbox.set.id).await?.ok_or("it was not looked for")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_are_found_once_and_mail_flows() -> Outcome {
    for by in [Authentication::Basic, Authentication::Ntlm] {
        let stage = stage(by).await?;
        stage.test_and_enable().await?;
        let (one, two) = (&stage.addresses[0], &stage.addresses[1]);
        stage.simulator.deliver(&made(one, 1));
        stage.enqueue(one, two, "found").await?;
        stage
            .until("one came in, and one was sent and came in", || async {
                Ok(stage.emails().await?.len() == 3)
            })
            .await?;
        for address in [one, two] {
            let Located { place, attempts } = located(&stage, address).await?;
            let found = place.location.found.ok_or("nothing was found")?;
            assert_eq!((&found.url, found.doubted), (&stage.simulator.ready().ews_url, false), "{by}");
            let attempts = attempts.unwrap_or_default();
            assert!(attempts.iter().any(|line| line.contains(" found ")), "{by}: {attempts:?}");
            assert!(!attempts.join("\n").contains(address.as_str()), "{attempts:?}");
        }
        stage.shutdown.begin();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_is_not_found_costs_its_neighbours_nothing() -> Outcome {
    let stage = stage(Authentication::Basic).await?;
    let (one, two) = (&stage.addresses[0], &stage.addresses[1]);
    let unknown = format!(r#"{{"kind":"autodiscover_error","code":"InvalidUser","mailbox":"{one}"}}"#);
    stage.simulator.fault(rule(&unknown)?)?;
    stage.test_and_enable().await?;
    stage.simulator.deliver(&made(two, 1));
    stage.until("its neighbour is tracked", || async { Ok(!stage.emails().await?.is_empty()) }).await?;
    let mailbox = stage.store.mailbox_at(&stage.org, one).await?.ok_or("no mailbox")?;
    assert_eq!(mailbox.operations[0].reason, Some(Reason::MailboxNotFoundOnServer));
    let Located { place, .. } = located(&stage, one).await?;
    assert_eq!(place.location.found, None);
    assert_eq!(place.location.missed.map(|miss| miss.reason), Some(Reason::MailboxNotFoundOnServer));
    Ok(())
}
