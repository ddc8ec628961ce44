//! The story: what is done, and what must be seen then.

use std::time::Duration;

use serde_json::json;

use super::play::{Missing, Play};

/// A step must be seen within this.
const SEEN: Duration = Duration::from_secs(20);

/// A step of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Tracked,
    Sent,
    Retrying,
    Disabled,
    Throttled,
    Ratio,
    Recovered,
}

/// The whole story.
pub(super) const STORY: &[Step] = &[
    Step::Tracked,
    Step::Sent,
    Step::Retrying,
    Step::Disabled,
    Step::Throttled,
    Step::Ratio,
    Step::Recovered,
];

impl Step {
    fn number(self) -> usize {
        self as usize + 1
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tracked => "tracked",
            Self::Sent => "sent",
            Self::Retrying => "retrying",
            Self::Disabled => "disabled",
            Self::Throttled => "throttled",
            Self::Ratio => "ratio",
            Self::Recovered => "recovered",
        }
    }
}

/// Tells the story; of the step whose number is in `skip` only what must be seen, and not what causes it.
pub(super) async fn tell(play: &Play, story: &[Step], skip: Option<&str>) -> Result<(), Missing> {
    for step in story {
        let skipped = skip == Some(step.number().to_string().as_str());
        let seen = tokio::time::timeout(play.left(SEEN), one(play, *step, skipped)).await;
        let what = match seen {
            Ok(Ok(what)) => what,
            Ok(Err(error)) => {
                return Err(Missing { step: step.number(), name: step.name(), why: error.to_string() });
            }
            Err(_) => {
                return Err(Missing {
                    step: step.number(),
                    name: step.name(),
                    why: "not seen in time".to_owned(),
                });
            }
        };
        play.say(&format!("{} {:<10} {what}", step.number(), step.name()));
    }
    Ok(())
}

type Seen = Result<String, Box<dyn std::error::Error + Send + Sync>>;

async fn one(play: &Play, step: Step, skipped: bool) -> Seen {
    match step {
        Step::Tracked => tracked(play, skipped).await,
        Step::Sent => sent(play, skipped).await,
        Step::Retrying => retrying(play, skipped).await,
        Step::Disabled => disabled(play, skipped).await,
        Step::Throttled => throttled(play, skipped).await,
        Step::Ratio => ratio(play, skipped).await,
        Step::Recovered => recovered(play, skipped).await,
    }
}

async fn tracked(play: &Play, skipped: bool) -> Seen {
    let (to, subject) = (play.address(0), "An order from a customer");
    if !skipped {
        let mail =
            json!({"to": [to], "from": "customer@example.org", "subject": subject, "text": "Ten, please."});
        play.control.post("/deliver", &mail).await?;
    }
    let filter = format!("mailbox = \"{to}\" AND direction = incoming AND subject = \"{subject}\"");
    let email = play.until(async || Ok(play.emails(&filter).await?.into_iter().next())).await?;
    Ok(format!("mail arrived in {to} and is email {}", email.uid))
}

async fn sent(play: &Play, skipped: bool) -> Seen {
    let (from, to, subject) = (play.address(0), play.address(1), "Your order is on its way");
    if !skipped {
        play.enqueue(from, to, subject).await?;
    }
    let filter = format!("direction = outgoing AND state = sent AND subject = \"{subject}\"");
    let email = play.until(async || Ok(play.emails(&filter).await?.into_iter().next())).await?;
    let arrived = play
        .until(async || {
            let inbox = play.control.get(&format!("/mailbox/{to}/inbox")).await?;
            let items = inbox.as_array().into_iter().flatten();
            let copies = items.filter(|item| item["subject"] == subject).count();
            Ok((copies > 0).then_some(copies))
        })
        .await?;
    if arrived != 1 {
        return Err(format!("it lies {arrived} times in the Inbox of {to}").into());
    }
    Ok(format!("email {} left the CRM, and lies once in the Inbox of {to}", email.uid))
}

async fn retrying(play: &Play, skipped: bool) -> Seen {
    let address = play.address(2);
    if !skipped {
        play.fault("mailbox_unavailable", address).await?;
    }
    let incoming = play
        .until(async || {
            let incoming = play.incoming(address).await?;
            let retrying = incoming.state() == mailyard_wire::admin::OperationState::Retrying;
            Ok((retrying && incoming.failures > 0 && incoming.next_run.is_some()).then_some(incoming))
        })
        .await?;
    let next = incoming.next_run.as_ref().map(mailyard_wire::convert::moment).unwrap_or_default();
    Ok(format!(
        "{address} fails with {}, {} times so far, and runs next at {next}",
        incoming.reason, incoming.failures
    ))
}

async fn disabled(play: &Play, skipped: bool) -> Seen {
    let address = play.address(2);
    if skipped {
        play.control.delete("/fault").await?;
    }
    let (incoming, failed) = play
        .until(async || {
            let (incoming, failed) = play.incoming_and_failures(address).await?;
            let disabled = incoming.state() == mailyard_wire::admin::OperationState::Disabled;
            Ok((disabled).then_some((incoming, failed)))
        })
        .await?;
    if failed != 10 {
        return Err(format!("it is disabled after {failed} failures").into());
    }
    Ok(format!("{address} is disabled after its tenth failure: {}", incoming.reason))
}

async fn throttled(play: &Play, skipped: bool) -> Seen {
    let address = play.address(3);
    if !skipped {
        let rule = json!({"kind": "server_busy_hint", "mailbox": address, "hint_ms": 1500, "count": 2});
        play.control.post("/fault", &rule).await?;
    }
    let reason = play.until(async || play.throttled_cycle(address).await).await?;
    let incoming = play.incoming(address).await?;
    if incoming.failures > 0 || !incoming.enabled {
        return Err(format!("{address} has {} counted failures", incoming.failures).into());
    }
    Ok(format!("{address} was asked to wait ({reason}), does so, and no failure is counted"))
}

async fn ratio(play: &Play, skipped: bool) -> Seen {
    let failing = if skipped { 5..6 } else { 5..12 };
    for number in failing {
        play.fault("mailbox_unavailable", play.address(number)).await?;
    }
    let filter = "reason = PROFILE_FAILURE_RATIO_HIGH AND state = open";
    let alert = play.until(async || Ok(play.alerts(filter).await?.into_iter().next())).await?;
    let mail = if alert.notice.is_empty() {
        String::new()
    } else {
        format!("; mail to the owner: {}", alert.notice)
    };
    Ok(format!("alert: {}{mail}", alert.summary))
}

async fn recovered(play: &Play, skipped: bool) -> Seen {
    if !skipped {
        play.control.delete("/fault").await?;
    }
    let ended = play.test_and_enable().await?;
    if ended.failed > 0 || ended.skipped > 0 {
        return Err(
            format!("{} of {} tests did not succeed", ended.failed + ended.skipped, ended.total).into()
        );
    }
    let open = "reason = PROFILE_FAILURE_RATIO_HIGH AND state = open";
    play.until(async || {
        let (failing, alerts) = (play.failing().await?, play.alerts(open).await?);
        Ok((failing == 0 && alerts.is_empty()).then_some(()))
    })
    .await?;
    Ok(format!(
        "the cause is gone: {} mailboxes are tested and enabled again, the alert is resolved",
        ended.succeeded
    ))
}
