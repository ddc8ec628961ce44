//! Stories of a coordinator with its worker: breaker, failure ratio, halted tests, explanations, and an orderly end.

use std::time::Duration;

use mailyard_exchange_sim::Options;
use mailyard_host::{clock, config::Config};
use mailyard_policy::{
    Reason,
    id::OperationId,
    operation::{Health, Kind, State},
};
use mailyard_store::{
    people::{LongState, Mailbox, Secrets, Selection},
    query::{Filter, Page},
};
use mailyard_tests::{Outcome, Stage, hurried, rule};
use mailyard_wire::{
    SESSION_PROTOCOL,
    cluster::{
        FromWorker, Hello, from_coordinator, from_worker, session_service_client::SessionServiceClient,
    },
};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What holds for a minute holds for a moment.
fn config() -> Config {
    let mut config = Config::default();
    config.alerts.hold = Duration::from_millis(300);
    config.alerts.clear_hold = Duration::from_millis(300);
    config
}

async fn stage(mailboxes: usize) -> Outcome<Stage> {
    Stage::with(Options::new, mailboxes, hurried(), config()).await
}

async fn mailboxes(stage: &Stage) -> Outcome<Vec<Mailbox>> {
    let page = Page { after: None, limit: 1000 };
    Ok(stage.store.mailboxes(&stage.org, &Filter::All, &page).await?)
}

/// The open alerts of a reason.
async fn open(stage: &Stage, reason: Reason) -> Outcome<Vec<mailyard_store::notices::Alert>> {
    let alerts = stage.store.open_alerts().await?;
    Ok(alerts.into_iter().filter(|alert| alert.reason == reason).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_half_of_the_mailboxes_failing_is_one_alert_and_no_mail_without_a_relay() -> Outcome {
    let stage = stage(5).await?;
    let mut profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    profile.alert_owner = true;
    profile.owner_email = Some("owner@exchange.test".to_owned());
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.test_and_enable().await?;
    for address in &stage.addresses[..2] {
        stage
            .simulator
            .fault(rule(&format!(r#"{{"kind":"mailbox_unavailable","mailbox":"{address}"}}"#))?)?;
    }
    stage
        .until("two of five fail", || async {
            let all = mailboxes(&stage).await?;
            Ok(all.iter().filter(|mailbox| mailbox.health == Health::Failing).count() == 2)
        })
        .await?;
    assert!(open(&stage, Reason::ProfileFailureRatioHigh).await?.is_empty(), "two of five are not half");
    let third = &stage.addresses[2];
    stage.simulator.fault(rule(&format!(r#"{{"kind":"mailbox_unavailable","mailbox":"{third}"}}"#))?)?;
    stage
        .until("the ratio's alert is open", || async {
            Ok(!open(&stage, Reason::ProfileFailureRatioHigh).await?.is_empty())
        })
        .await?;
    let alert = open(&stage, Reason::ProfileFailureRatioHigh).await?.remove(0);
    assert_eq!(alert.summary, "60 % of 5 mailboxes are failing (3 of 5)");
    assert_eq!(alert.notice.as_deref(), Some("SMTP_NOT_CONFIGURED"));
    stage.simulator.clear_faults();
    stage.test_and_enable().await?;
    stage
        .until("it is resolved", || async {
            Ok(open(&stage, Reason::ProfileFailureRatioHigh).await?.is_empty())
        })
        .await?;
    assert_eq!(stage.store.health_counts().await?, stage.store.recount_health().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_mailed_once_by_a_relay_of_its_own() -> Outcome {
    let Ok(python) = std::env::var("MAILYARD_PYTHON") else {
        eprintln!(
            "SKIPPED: MAILYARD_PYTHON names no Python with the packages of tests/python/requirements.txt"
        );
        return Ok(());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/smtp_server.py");
    let mut relay = tokio::process::Command::new(python)
        .arg(script)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(relay.stdout.take().ok_or("its output is ours")?).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next_line().await?.ok_or("it ended")?)?;
    let mut config = config();
    config.smtp.host = "127.0.0.1".to_owned();
    config.smtp.port = first["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    config.smtp.from = "mailyard@crm.test".to_owned();
    config.smtp.tls = mailyard_host::config::SmtpTls::None;
    let stage = Stage::with(Options::new, 2, hurried(), config).await?;
    let mut profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    profile.alert_owner = true;
    profile.owner_email = Some("owner@exchange.test".to_owned());
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.test_and_enable().await?;
    stage.simulator.fault(rule(r#"{"kind":"mailbox_unavailable"}"#)?)?;
    let mail = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await??.ok_or("it ended")?;
    let mail: serde_json::Value = serde_json::from_str(&mail)?;
    assert_eq!((&mail["from"], &mail["to"][0]), (&"mailyard@crm.test".into(), &"owner@exchange.test".into()));
    let content = mail["content"].as_str().unwrap_or_default();
    for expected in ["100 %", "Simulated", "MAILBOX_UNAVAILABLE", "mailyard profile test"] {
        assert!(content.contains(expected), "{expected}: {content}");
    }
    stage
        .until("the alert says that the mail was sent", || async {
            let alerts = open(&stage, Reason::ProfileFailureRatioHigh).await?;
            Ok(alerts.first().is_some_and(|alert| alert.notice.as_deref() == Some("sent")))
        })
        .await?;
    stage
        .until("everybody is disabled", || async {
            let all = mailboxes(&stage).await?;
            Ok(all.iter().all(|mailbox| mailbox.operations[Kind::Incoming as usize].state == State::Disabled))
        })
        .await?;
    let more = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await;
    assert!(more.is_err(), "one mail per breach: {more:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_costs_no_mailbox_anything() -> Outcome {
    let stage = stage(6).await?;
    stage.test_and_enable().await?;
    stage.simulator.fault(rule(r#"{"kind":"down"}"#)?)?;
    stage
        .until("the breaker is open, and everybody counts as failing", || async {
            let lane = stage.store.lane(stage.profile, 0).await?;
            let told = open(&stage, Reason::ProfileFailureRatioHigh).await?;
            Ok(lane.is_some_and(|lane| lane.open.is_some()) && !told.is_empty())
        })
        .await?;
    stage.simulator.clear_faults();
    stage
        .until("the breaker is closed, and nobody fails", || async {
            let lane = stage.store.lane(stage.profile, 0).await?;
            let well = mailboxes(&stage).await?.iter().all(|mailbox| mailbox.health == Health::Ok);
            Ok(well && lane.is_some_and(|lane| lane.open.is_none()))
        })
        .await?;
    for mailbox in mailboxes(&stage).await? {
        assert_eq!(
            mailbox.operations.map(|operation| operation.failures()),
            [0; 3],
            "{}",
            mailbox.set.address
        );
    }
    stage.until("no alert is open", || async { Ok(stage.store.open_alerts().await?.is_empty()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_of_many_halts_at_the_breaker_and_goes_on_by_itself() -> Outcome {
    let stage = stage(8).await?;
    stage.simulator.fault(rule(r#"{"kind":"down"}"#)?)?;
    let id = OperationId::new(clock::new_id()?);
    let all = Selection::Matching(Filter::All);
    stage.store.start_test(&stage.org, id, &all, "all", clock::now()).await?;
    stage.leader.nudge();
    stage
        .until("the breaker is open", || async {
            Ok(stage.store.lane(stage.profile, 0).await?.is_some_and(|lane| lane.open.is_some()))
        })
        .await?;
    let again = OperationId::new(clock::new_id()?);
    let one = Selection::Addresses(vec![stage.addresses[0].clone(), stage.addresses[1].clone()]);
    stage.store.start_test(&stage.org, again, &one, "two", clock::now()).await?;
    stage.leader.nudge();
    stage
        .until("both are paused, and an alert says so", || async {
            let paused = async |id| {
                let operation = stage.store.operation(id).await?.ok_or("no operation")?;
                let reason = operation.reason == Some(Reason::ProfileTestHalted);
                Outcome::Ok(operation.state == LongState::Paused && reason)
            };
            let told = open(&stage, Reason::ProfileTestHalted).await?.len() == 1;
            Ok(paused(id).await? && paused(again).await? && told)
        })
        .await?;
    stage.simulator.clear_faults();
    stage
        .until("both end, and everybody is enabled", || async {
            let ended = async |id| {
                let operation = stage.store.operation(id).await?.ok_or("no operation")?;
                Outcome::Ok(operation.state == LongState::Done)
            };
            let enabled = mailboxes(&stage).await?.iter().all(|mailbox| {
                mailbox.operations[Kind::Incoming as usize].state == State::Enabled
                    && mailbox.operations[Kind::Outgoing as usize].state == State::Enabled
            });
            Ok(ended(id).await? && ended(again).await? && enabled)
        })
        .await?;
    stage.until("no alert is open", || async { Ok(stage.store.open_alerts().await?.is_empty()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_explains_what_it_holds_and_gives_it_back_at_the_end() -> Outcome {
    let stage = stage(3).await?;
    stage.test_and_enable().await?;
    let mailbox = stage.store.mailbox_at(&stage.org, &stage.addresses[0]).await?.ok_or("no mailbox")?;
    stage
        .until("its holder tells of a cycle", || async {
            let held = stage.leader.explain(mailbox.set.id).await.ok_or("not held")?;
            assert!(held.operations[Kind::Incoming as usize].next_run.is_some());
            Ok(held.cycles.iter().any(|cycle| cycle.outcome == "success"))
        })
        .await?;
    let nobody = mailyard_policy::id::MailboxId::new(1);
    assert_eq!(stage.leader.explain(nobody).await, None);
    stage
        .until("its worker tells how many it holds", || async {
            let beating = stage.leader.beating().await;
            Ok(beating.iter().map(|worker| worker.mailboxes).collect::<Vec<_>>() == [3])
        })
        .await?;
    stage.shutdown.begin();
    assert!(stage.shutdown.finished(Duration::from_secs(10)).await);
    let shards = stage.store.shards().await?;
    assert!(shards.iter().all(|shard| shard.owner.is_none()), "{shards:?}");
    Ok(())
}

/// A second hand on the file puts the faults in.
async fn hand(stage: &Stage) -> Outcome<SqliteConnection> {
    Ok(SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&stage.database)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_understood_stop_neither_alerts_nor_ratios() -> Outcome {
    let stage = stage(1).await?;
    stage.test_and_enable().await?;
    hand(&stage)
        .await?
        .execute(
            "INSERT INTO fact(org, text, at) VALUES ('default', 'of a later version', 0);
             INSERT INTO lane(profile_id, lane, org, epoch, breaker, open, throttle)
               SELECT profile_id, 1, org, 0, '', 'OF_A_LATER_VERSION', '' FROM profile;
             UPDATE profile SET lanes = 2",
        )
        .await?;
    let one = &stage.addresses[0];
    stage.simulator.fault(rule(&format!(r#"{{"kind":"mailbox_unavailable","mailbox":"{one}"}}"#))?)?;
    stage
        .until("its alert is open, and the ratio's", || async {
            let unavailable = open(&stage, Reason::MailboxUnavailable).await?;
            Ok(!unavailable.is_empty() && !open(&stage, Reason::ProfileFailureRatioHigh).await?.is_empty())
        })
        .await?;
    assert!(stage.store.unbooked(9).await?.iter().all(|fact| fact.fact.is_ok()), "it is not met again");
    let id = OperationId::new(clock::new_id()?);
    let all = Selection::Matching(Filter::All);
    stage.simulator.clear_faults();
    stage.store.start_test(&stage.org, id, &all, "all", clock::now()).await?;
    stage
        .until("tests are handed out and end", || async {
            Ok(stage.store.operation(id).await?.ok_or("no operation")?.state == LongState::Done)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_leadership_and_begin_anew_with_the_next() -> Outcome {
    let stage = stage(2).await?;
    stage.test_and_enable().await?;
    let mut hand = hand(&stage).await?;
    let sessions = async |count: usize, what: &str| {
        stage.until(what, || async { Ok(stage.leader.beating().await.len() == count) }).await
    };
    sessions(1, "the worker is here").await?;
    hand.execute("UPDATE coordinator SET nonce = randomblob(16), lease_until = lease_until + 3600000")
        .await?;
    sessions(0, "its session is closed").await?;
    assert_eq!(stage.leading.now(), None);
    hand.execute("UPDATE coordinator SET lease_until = 0").await?;
    sessions(1, "it found who leads").await?;
    assert!(stage.leading.now().is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_declared_dead_is_told_so_when_it_comes_again() -> Outcome {
    let stage = stage(1).await?;
    stage.until("the worker is here", || async { Ok(!stage.leader.beating().await.is_empty()) }).await?;
    let row = "SELECT worker_id, incarnation FROM worker";
    let (worker_id, incarnation): (String, Vec<u8>) =
        sqlx::query_as(row).fetch_one(&mut hand(&stage).await?).await?;
    hand(&stage).await?.execute("UPDATE worker SET state = 'dead'").await?;
    let hello = Hello {
        worker_id,
        incarnation,
        protocol_min: SESSION_PROTOCOL.0,
        protocol_max: SESSION_PROTOCOL.1,
        ..Hello::default()
    };
    let first = FromWorker { message: Some(from_worker::Message::Hello(hello)) };
    let mut sessions = SessionServiceClient::new(stage.sessions.clone());
    let mut told = sessions.session(tokio_stream::once(first)).await?.into_inner();
    let Some(from_coordinator::Message::Refused(refused)) =
        told.message().await?.and_then(|told| told.message)
    else {
        return Err("it was not refused".into());
    };
    assert_eq!(refused.reason, Reason::WorkerUnreachable.code());
    Ok(())
}
