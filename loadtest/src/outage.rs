//! A server that is down: how often it is asked meanwhile, and how everybody comes back once it is up.
//!
//! Periods are a minute, not five, and so is the wait after a failure: an outage of five minutes is five periods long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mailyard_host::clock;
use mailyard_policy::Timestamp;
use serde_json::json;

use crate::{
    Outcome,
    figures::{Bound, Table},
    stand::{Data, Profile, Sim, Stand, steady},
    told,
};

/// A burst is looked for in windows of this length.
const WINDOW: Duration = Duration::from_secs(5);
/// How often the server is looked at: what is seen at a look may have happened so much sooner.
const LOOK: Duration = Duration::from_millis(200);
/// Nothing is waited for longer.
const LONGEST: Duration = Duration::from_mins(5);

/// What was counted by when, oldest first.
type Samples = Vec<(Timestamp, u64)>;

/// The table of an outage of this length.
///
/// # Errors
/// A process that does not begin, or a breaker that does not open or close.
pub async fn run(stand: &Stand, long: Duration) -> Outcome<Table> {
    let (mailboxes, seconds) = (stand.count(5000, 100), stand.count(60, 5) as u64);
    let period = Duration::from_secs(seconds);
    let text = format!("{seconds}s");
    let mut settings = steady(&text);
    settings.push(format!("sync.retry_gap={text}"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let sim = Sim::start(stand, "sim-outage", mailboxes, &[])?;
    let data = Data::new(stand, "data-outage");
    let server = data.serve(&settings)?;
    data.enable(&sim, &sim.addresses()?, &Profile::basic(&text))?;
    // Whoever was tested last has been polled once when this is over.
    tokio::time::sleep(period).await;

    let usual = polls(&sim, period * 2).await?;
    let down = down(&sim, &data, long).await?;
    let back = back(&sim, &data, period).await?;
    server.stop()?;

    let mut table = Table::new(format!("A server that is down, {mailboxes} mailboxes, polled every {text}"));
    table.row("before, all the time", "polls/s", &[mean(&usual)]);
    table.row("before, the busiest 5 s", "polls/s", &[peak(&usual, WINDOW)]);
    let most = Bound::RatioAtMost(1.2);
    table.row("after the closing, the busiest 5 s", "polls/s", &[peak(&back.polls, WINDOW)]).bound(most);
    let per_minute = per_minute(&down.attempts, down.opened);
    table.single("down: attempts from the opening on", "1/min", &per_minute);
    let worst = per_minute.iter().copied().fold(0.0, f64::max);
    table.single("down: the worst minute", "1/min", &[worst]).bound(Bound::AtMost(12.0));
    table.single("down: attempts until the opening", "1", &[down.until_opening as f64]);
    let closed = back.closed.as_secs_f64();
    table.single("from recovery to the closing", "s", &[closed]).bound(Bound::AtMost(65.0));
    let all = back.all.as_secs_f64();
    table
        .single("from the closing until everybody was polled", "s", &[all])
        .bound(Bound::AtMost((period + LOOK).as_secs_f64()));
    Ok(told(table))
}

/// Polls in a while.
async fn polls(sim: &Sim, long: Duration) -> Outcome<Samples> {
    let (begun, mut samples) = (Instant::now(), Samples::new());
    while begun.elapsed() < long {
        samples.push((clock::now(), sim.polls().await?.values().sum()));
        tokio::time::sleep(LOOK).await;
    }
    Ok(samples)
}

/// What reached the server while it was down.
struct Down {
    attempts: Samples,
    opened: Timestamp,
    until_opening: u64,
}

async fn down(sim: &Sim, data: &Data<'_>, long: Duration) -> Outcome<Down> {
    sim.fault(&json!({ "kind": "down" })).await?;
    let (begun, mut attempts) = (Instant::now(), Samples::new());
    // Closely at first: what came before the opening does not count.
    let mut opened = None;
    while opened.is_none() {
        attempted(sim, &mut attempts, Duration::from_millis(10), Duration::from_secs(3)).await?;
        opened = opening(data)?;
        if begun.elapsed() > LONGEST {
            return Err("the breaker did not open in time".into());
        }
    }
    let opened = opened.unwrap_or_default();
    let left = long.saturating_sub(begun.elapsed());
    attempted(sim, &mut attempts, LOOK, left).await?;
    let before = attempts.iter().rfind(|(at, _)| at.to_string() <= opened).copied();
    let (opened, until_opening) = before.ok_or("the breaker was open before the server was down")?;
    Ok(Down { attempts, opened, until_opening })
}

async fn attempted(sim: &Sim, samples: &mut Samples, every: Duration, long: Duration) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < long {
        // A connection that is refused and a request on one that stood count once each.
        let count = sim.struck().await?.get("down").copied().unwrap_or_default();
        samples.push((clock::now(), count));
        tokio::time::sleep(every).await;
    }
    Ok(())
}

/// When the breaker opened, as its alert says: RFC 3339 in UTC, so that texts are ordered as moments are.
fn opening(data: &Data<'_>) -> Outcome<Option<String>> {
    if data.held_back()?.is_none() {
        return Ok(None);
    }
    let alerts = data.ask(&["alert", "list", "--filter", "state = open"])?;
    let of_profile = alerts.as_array().into_iter().flatten().filter(|alert| alert["scope"] == "profile");
    Ok(of_profile.filter_map(|alert| Some(alert["first_time"].as_str()?.to_owned())).min())
}

/// Attempts in each minute after a moment; the last one may be shorter.
fn per_minute(samples: &Samples, from: Timestamp) -> Vec<f64> {
    let Some((last, _)) = samples.last() else { return Vec::new() };
    let by = |at: Timestamp| samples.iter().rfind(|(when, _)| *when <= at).map_or(0, |(_, count)| *count);
    let mut minutes = Vec::new();
    let mut begin = from;
    while begin < *last {
        let end = begin + Duration::from_mins(1);
        minutes.push((by(end) - by(begin)) as f64);
        begin = end;
    }
    minutes
}

/// How everybody came back.
struct Back {
    closed: Duration,
    all: Duration,
    polls: Samples,
}

async fn back(sim: &Sim, data: &Data<'_>, period: Duration) -> Outcome<Back> {
    sim.heal().await?;
    let begun = Instant::now();
    let mut before = sim.polls().await?;
    loop {
        let now = sim.polls().await?;
        if data.held_back()?.is_none() {
            break;
        }
        // It was open after these.
        before = now;
        if begun.elapsed() > LONGEST {
            return Err("the breaker did not close in time".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (closed, closing) = (begun.elapsed(), Instant::now());
    let (mut all, mut polls) = (None, Samples::new());
    while all.is_none() || closing.elapsed() < period * 2 {
        let (at, now) = (clock::now(), sim.polls().await?);
        polls.push((at, now.values().sum()));
        if everybody(&before, &now) {
            all = all.or(Some(closing.elapsed()));
        }
        if closing.elapsed() > LONGEST {
            return Err("not everybody was polled in time".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Back { closed, all: all.unwrap_or_default(), polls })
}

/// True if each count has grown.
fn everybody(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> bool {
    now.iter().all(|(address, count)| before.get(address).is_none_or(|before| count > before))
}

/// How many a second from the first sample to the last.
fn mean(samples: &Samples) -> f64 {
    samples.first().zip(samples.last()).map_or(0.0, |(first, last)| rate(*first, *last))
}

fn rate(from: (Timestamp, u64), to: (Timestamp, u64)) -> f64 {
    (to.1 - from.1) as f64 / to.0.since(from.0).as_secs_f64()
}

/// The highest rate in any window of at least this length.
fn peak(samples: &Samples, window: Duration) -> f64 {
    let rates = samples.iter().filter_map(|from| {
        let to = samples.iter().find(|to| to.0 >= from.0 + window)?;
        Some(rate(*from, *to))
    });
    rates.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counts: &[(i64, u64)]) -> Samples {
        counts.iter().map(|(second, count)| (Timestamp::from_millis(second * 1000), *count)).collect()
    }

    #[test]
    fn bursts_are_found_wherever_they_begin() {
        let samples = samples(&[(0, 0), (2, 2), (4, 4), (6, 24), (8, 26), (10, 28)]);
        assert!((mean(&samples) - 2.8).abs() < 1e-9);
        assert!((peak(&samples, Duration::from_secs(4)) - 5.5).abs() < 1e-9);
        assert!(peak(&samples, Duration::from_secs(20)).abs() < 1e-9);
    }

    #[test]
    fn minutes_are_counted_from_the_opening() {
        let samples = samples(&[(0, 7), (10, 9), (65, 11), (71, 12), (130, 20), (140, 21)]);
        assert_eq!(per_minute(&samples, Timestamp::from_millis(10_000)), [2.0, 9.0, 1.0]);
    }
}
