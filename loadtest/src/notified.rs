//! Mailboxes that are watched by notifications, and polled rarely: how long it takes until new mail is tracked.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Outcome,
    figures::{Bound, Table},
    stand::{Data, Profile, Sim, Stand, steady, until},
    told,
    track::{free, tracked},
};

/// Nobody is polled sooner by himself.
const PERIOD: &str = "10m";
/// Mailboxes of one connection.
const GROUP: u64 = 200;
/// Between two messages.
const PACE: Duration = Duration::from_millis(100);
/// Who joins waits for others before a connection is opened anew: twice as long, everybody is told of.
const GATHERED: Duration = Duration::from_secs(10);
/// The subjects of delivered messages begin so; a number follows.
const SUBJECT: &str = "news ";

/// The table of notifications.
///
/// # Errors
/// A process that does not begin, mailboxes that are not watched, or mail that is not tracked.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let (mailboxes, messages) = (stand.count(1000, 40), stand.count(1800, 60));
    let ops = free()?;
    let mut settings = steady(PERIOD);
    settings.push(format!("listen.ops={ops}"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let sim = Sim::start(stand, "sim-notified", mailboxes, &[])?;
    let addresses = sim.addresses()?;
    let data = Data::new(stand, "data-notified");
    let server = data.serve(&settings)?;
    let profile = Profile { connections: 10, streaming: true, ..Profile::basic(PERIOD) };
    data.enable(&sim, &addresses, &profile)?;
    everybody_is_watched(&sim, mailboxes as u64).await?;

    let before = (tracked(ops).await?, sim.requests("SyncFolderItems").await?);
    let delivered = deliver(&sim, &addresses, messages).await?;
    let all = before.0 + messages as u64;
    until("all mail is tracked", async || Ok(tracked(ops).await? >= all)).await?;
    let polls = sim.requests("SyncFolderItems").await? - before.1;
    let emails = data.ask(&["email", "list", "--filter", "direction = incoming"])?;
    server.stop()?;

    let took = took(&delivered, &emails)?;
    let title = format!(
        "New mail with notifications: {mailboxes} mailboxes, polled every {PERIOD} by themselves, a message each {} ms",
        PACE.as_millis()
    );
    let mut table = Table::new(title);
    table.single("messages", "1", &[messages as f64]);
    table.single("polls meanwhile", "1", &[polls as f64]);
    table.single("from its delivery to its record", "s", &took);
    table.single("99 of 100 took no longer", "s", &[percentile(&took, 99)]).bound(Bound::AtMost(2.0));
    Ok(told(table))
}

async fn everybody_is_watched(sim: &Sim, mailboxes: u64) -> Outcome {
    let streams = mailboxes.div_ceil(GROUP);
    until("everybody is watched", async || Ok(sim.watched().await? == (mailboxes, streams))).await?;
    tokio::time::sleep(GATHERED).await;
    Ok(())
}

/// Delivers messages to one mailbox after the other; when each was handed over, by its subject.
async fn deliver(sim: &Sim, addresses: &[String], messages: usize) -> Outcome<BTreeMap<String, Timestamp>> {
    let mut delivered = BTreeMap::new();
    let mut pace = tokio::time::interval(PACE);
    for (number, address) in addresses.iter().cycle().take(messages).enumerate() {
        pace.tick().await;
        let subject = format!("{SUBJECT}{number}");
        delivered.insert(subject.clone(), Timestamp::now());
        sim.deliver_made(&json!({ "to": [address], "subject": subject, "text": "News." })).await?;
    }
    Ok(delivered)
}

/// Seconds from the delivery of each message to the making of its record, both by the clock of this machine.
fn took(delivered: &BTreeMap<String, Timestamp>, emails: &Value) -> Outcome<Vec<f64>> {
    let mut took = Vec::with_capacity(delivered.len());
    for email in emails.as_array().into_iter().flatten() {
        let text = |key: &str| email[key].as_str().unwrap_or_default();
        if let Some(begun) = delivered.get(text("subject")) {
            let made: Timestamp = text("create_time").parse()?;
            took.push(made.duration_since(*begun).as_secs_f64().max(0.0));
        }
    }
    if took.len() == delivered.len() {
        return Ok(took);
    }
    Err(format!("{} of {} messages have a record each", took.len(), delivered.len()).into())
}

/// The smallest figure that so many of a hundred do not exceed.
fn percentile(figures: &[f64], of_hundred: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * of_hundred).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_figure_that_enough_do_not_exceed() {
        let figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (figures, of_hundred, expected) in
            [(&figures[..], 99, 198.0), (&figures, 50, 100.0), (&[7.0], 99, 7.0)]
        {
            assert!((percentile(figures, of_hundred) - expected).abs() < 1e-9, "{of_hundred}");
        }
    }

    #[test]
    fn each_message_is_found_by_its_subject_once() -> Outcome {
        let at = |text: &str| text.parse::<Timestamp>();
        let delivered = BTreeMap::from([("news 0".to_owned(), at("2026-03-01T12:00:00Z")?)]);
        let email = json!({ "subject": "news 0", "create_time": "2026-03-01T12:00:00.250Z" });
        assert_eq!(took(&delivered, &json!([email]))?, [0.25]);
        assert!(took(&delivered, &json!([])).is_err() && took(&delivered, &json!([email, email])).is_err());
        Ok(())
    }
}
