//! Stories of notifications: what they bring forward, and that nothing depends on them.

use std::time::Duration;

use mailyard_exchange_sim::Settings as Server;
use mailyard_policy::{mailbox, operation::Health, watch};
use mailyard_store::people::{AccountChange, Profile, Secrets};
use mailyard_tests::{Outcome, Stage, hurried, made, rule};
use mailyard_worker::settings::Settings;

/// Streams that lose no time.
fn watching() -> Settings {
    let millis = Duration::from_millis;
    let watch = watch::Rules {
        pace: millis(1),
        gather: millis(100),
        back_off: millis(200),
        back_off_max: millis(400),
        ..watch::Rules::default()
    };
    Settings { watch, ..hurried() }
}

/// The same, and nobody is polled before an hour is over, unless it is notified.
fn hourly() -> Settings {
    let (settings, hour) = (watching(), Duration::from_hours(1));
    let sync = mailbox::Rules { active_period: hour, active_min: hour, active_max: hour, ..settings.sync };
    Settings { sync, ..settings }
}

/// A stage whose mailboxes are tested, and whose profile wishes to be notified.
async fn stage(mailboxes: usize, settings: Settings) -> Outcome<Stage> {
    let stage = Stage::new(mailboxes, settings).await?;
    stage.test_and_enable().await?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let profile = Profile { streaming: true, ..profile };
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.nudge();
    Ok(stage)
}

fn requests(stage: &Stage, operation: &str) -> u64 {
    stage.simulator.stats()["requests"][operation].as_u64().unwrap_or_default()
}

fn stat(stage: &Stage, name: &str) -> u64 {
    stage.simulator.stats()[name].as_u64().unwrap_or_default()
}

/// Waits until so many streams stand for all mailboxes.
async fn stands(stage: &Stage, streams: u64) -> Outcome {
    let all = stage.addresses.len() as u64;
    stage
        .until("everybody is watched", || async {
            Ok(stat(stage, "streams") == streams && stat(stage, "subscriptions") >= all)
        })
        .await
}

/// Waits until mail that is delivered to everybody is tracked in each mailbox.
async fn is_told(stage: &Stage) -> Outcome {
    let before = stage.emails().await?.len();
    for address in &stage.addresses {
        stage.simulator.deliver(&made(address, 1));
    }
    let all = before + stage.addresses.len();
    stage.until("mail is tracked", || async { Ok(stage.emails().await?.len() == all) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_tracked_when_it_comes_although_the_period_is_an_hour() -> Outcome {
    let stage = stage(2, hourly()).await?;
    stands(&stage, 1).await?;
    is_told(&stage).await?;
    let polls = requests(&stage, "SyncFolderItems");
    for _ in 0..20 {
        stage.simulator.deliver(&made(&stage.addresses[0], 1));
    }
    stage.until("all of them are tracked", || async { Ok(stage.emails().await?.len() == 22) }).await?;
    let polls = requests(&stage, "SyncFolderItems") - polls;
    assert!(polls <= 4, "{polls} polls for one burst");
    assert_eq!((requests(&stage, "Subscribe"), stat(&stage, "wrong_affinity")), (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_and_fifty_mailboxes_make_two_streams() -> Outcome {
    let stage = stage(250, hourly()).await?;
    stands(&stage, 2).await?;
    let most = stat(&stage, "max_concurrent");
    assert!(most <= 10, "{most} requests at once");
    for address in [&stage.addresses[0], &stage.addresses[249]] {
        stage.simulator.deliver(&made(address, 1));
    }
    stage.until("mail is tracked", || async { Ok(stage.emails().await?.len() == 2) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_loses_is_subscribed_anew() -> Outcome {
    let stage = stage(2, hourly()).await?;
    stands(&stage, 1).await?;
    for lost in [
        r#"{"kind":"cut_stream","count":1,"code":"ErrorSubscriptionNotFound"}"#,
        r#"{"kind":"cut_stream","count":1,"code":"ErrorReadEventsFailed"}"#,
        r#"{"kind":"cut_stream","count":1}"#,
    ] {
        let subscribed = requests(&stage, "Subscribe");
        stage.simulator.fault(rule(lost)?)?;
        stage
            .until("they are subscribed anew", || async {
                Ok(requests(&stage, "Subscribe") == subscribed + 2 && stat(&stage, "streams") == 1)
            })
            .await?;
        is_told(&stage).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_time_is_over_is_opened_again_for_the_same_subscriptions() -> Outcome {
    let stage = stage(2, hourly()).await?;
    // Half an hour lasts less than a second.
    stage.simulator.set(Server { minute_ms: 25, ..Server::default() });
    let opened = requests(&stage, "GetStreamingEvents");
    stage
        .until("it was opened again and again", || async {
            Ok(requests(&stage, "GetStreamingEvents") >= opened + 4)
        })
        .await?;
    let subscribed = requests(&stage, "Subscribe");
    is_told(&stage).await?;
    assert_eq!(requests(&stage, "Subscribe"), subscribed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_given_up() -> Outcome {
    let settings = hourly();
    let silence = Duration::from_millis(400);
    let settings = Settings { watch: watch::Rules { silence, ..settings.watch }, ..settings };
    let stage = stage(1, settings).await?;
    stage.simulator.set(Server { status_ms: 50, ..Server::default() });
    stands(&stage, 1).await?;
    is_told(&stage).await?;
    let opened = requests(&stage, "GetStreamingEvents");
    stage.simulator.fault(rule(r#"{"kind":"silent_stream","count":1}"#)?)?;
    stage
        .until("another one is opened", || async { Ok(requests(&stage, "GetStreamingEvents") > opened) })
        .await?;
    is_told(&stage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_notify_leaves_polling_as_it_is() -> Outcome {
    let usual = Server::default();
    let none_may_hang = Server { hanging_connections: Some(0), ..usual };
    for (refused, server) in [
        (
            r#"{"kind":"response_code","operation":"Subscribe","code":"ErrorSubscriptionDelegateAccessNotSupported"}"#,
            usual,
        ),
        (
            r#"{"kind":"response_code","operation":"Subscribe","code":"ErrorExceededSubscriptionCount"}"#,
            usual,
        ),
        (r#"{"kind":"response_code","operation":"Subscribe","code":"ErrorProxyRequestNotAllowed"}"#, usual),
        (
            r#"{"kind":"response_code","operation":"GetStreamingEvents","code":"ErrorExceededConnectionCount"}"#,
            usual,
        ),
        (r#"{"kind":"clock_skew","skew_ms":0}"#, none_may_hang),
    ] {
        let settings = watching();
        let watch = watch::Rules { back_off_max: Duration::from_hours(1), ..settings.watch };
        let watch = watch::Rules { gather: Duration::from_hours(1), ..watch };
        let stage = Stage::new(2, Settings { watch, ..settings }).await?;
        stage.simulator.set(server);
        stage.simulator.fault(rule(refused)?)?;
        stage.test_and_enable().await?;
        let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
        let profile = Profile { streaming: true, ..profile };
        stage.store.update_profile(&profile, &Secrets::default(), false).await?;
        stage.nudge();
        stage.until("it is asked for", || async { Ok(requests(&stage, "Subscribe") >= 1) }).await?;
        for _ in 0..3 {
            is_told(&stage).await?;
        }
        assert!(
            requests(&stage, "Subscribe") <= 2 && requests(&stage, "GetStreamingEvents") <= 1,
            "{refused}"
        );
        for address in &stage.addresses {
            let mailbox = stage.store.mailbox_at(&stage.org, address).await?.ok_or("gone")?;
            assert_eq!(mailbox.health, Health::Ok, "{refused}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_a_group_stay_on_one_server() -> Outcome {
    let stage = Stage::new(5, hourly()).await?;
    stage.simulator.set(Server { backends: 3, ..Server::default() });
    stage.test_and_enable().await?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let profile = Profile { streaming: true, ..profile };
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.nudge();
    stands(&stage, 1).await?;
    is_told(&stage).await?;
    assert_eq!(requests(&stage, "Subscribe"), 5, "none was lost");
    assert_eq!((stat(&stage, "wrong_affinity"), stat(&stage, "wrong_anchor_mailbox")), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_streamed_while_the_breaker_is_open() -> Outcome {
    let stage = stage(2, watching()).await?;
    stands(&stage, 1).await?;
    stage.simulator.fault(rule(r#"{"kind":"http_503"}"#)?)?;
    let held =
        || async { Ok(stage.store.lane(stage.profile, 0).await?.is_some_and(|lane| lane.open.is_some())) };
    stage.until("the server is left alone", held).await?;
    stage.until("its stream has ended", || async { Ok(stat(&stage, "streams") == 0) }).await?;
    let asked = requests(&stage, "Subscribe");
    stage.simulator.clear_faults();
    stands(&stage, 1).await?;
    assert!(requests(&stage, "Subscribe") > asked);
    is_told(&stage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_polled_any_more_is_not_watched_and_a_worker_that_stops_watches_nobody() -> Outcome {
    let stage = stage(2, hourly()).await?;
    stands(&stage, 1).await?;
    let mailbox = stage.store.mailbox_at(&stage.org, &stage.addresses[0]).await?.ok_or("gone")?;
    let methods = [mailyard_policy::operation::Method::None; 3];
    let set = mailyard_store::people::NewMailbox { methods, ..mailbox.set };
    stage.store.update_mailbox(&set, &AccountChange::Keep, mailbox.revision).await?;
    stage.nudge();
    stage.until("its subscription has ended", || async { Ok(stat(&stage, "subscriptions") == 1) }).await?;
    stage.simulator.deliver(&made(&stage.addresses[1], 1));
    stage.until("the other one is still told", || async { Ok(stage.emails().await?.len() == 1) }).await?;
    stage.shutdown.begin();
    stage.until("the stream has ended", || async { Ok(stat(&stage, "streams") == 0) }).await
}
