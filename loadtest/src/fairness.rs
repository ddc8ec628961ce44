//! A server that cannot keep up, and one mailbox of which somebody has a great deal of news: who has to wait how long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Outcome,
    figures::{Bound, Table},
    stand::{Data, Profile, Sim, Stand, steady},
    told,
    track::{free, tracked},
};

/// Each answer comes so late: two connections carry twenty requests a second.
const LATE_MS: u64 = 100;
const CONNECTIONS: u16 = 2;
/// Everybody wants to be polled this often, which is more than the server can bear.
const PERIOD: &str = "1s";
/// Messages of one delivery.
const PORTION: usize = 1000;
/// Bytes of a message's text.
const SIZE: usize = 500;

/// The table of fairness.
///
/// # Errors
/// A process that does not begin, or polls nobody.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let (mailboxes, backlog) = (stand.count(200, 40), stand.count(100_000, 2000));
    let long = Duration::from_secs(stand.count(120, 15) as u64);
    let sim = Sim::start(stand, "sim-fairness", mailboxes, &[])?;
    let addresses = sim.addresses()?;
    let busy = addresses.first().ok_or("the simulator has no mailbox")?;
    let data = Data::new(stand, "data-fairness");
    let ops = free()?;
    let mut settings = steady(PERIOD);
    settings.push(format!("listen.ops={ops}"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();

    let server = data.serve(&settings)?;
    let profile = Profile { connections: CONNECTIONS, ..Profile::basic(PERIOD) };
    data.enable(&sim, &addresses, &profile)?;
    server.stop()?;
    for _ in 0..backlog / PORTION {
        sim.deliver(busy, PORTION, SIZE).await?;
    }
    sim.fault(&json!({ "kind": "slow_body", "delay_ms": LATE_MS })).await?;
    let server = data.serve(&settings)?;
    // Once round, so that everybody has taken his place.
    sim.saw("SyncFolderItems", sim.requests("SyncFolderItems").await? + mailboxes as u64).await?;

    let begun = tracked(ops).await?;
    let turns = watched(&sim, long).await?;
    let progress = tracked(ops).await? - begun;
    server.stop()?;

    let title = format!(
        "One mailbox with {backlog} new messages among {mailboxes}, two connections, answers 0.1 s late"
    );
    let mut table = Table::new(title);
    let counts: Vec<f64> = turns.polls.values().map(|polls| *polls as f64).collect();
    table.single("Jain's index over polls", "1", &[jain(&counts)]).bound(Bound::AtLeast(0.95));
    table.single("polls of each mailbox", "polls", &counts);
    let own = turns.polls.get(busy).copied().unwrap_or_default();
    table.single("polls of the one with the messages", "polls", &[own as f64]);
    let gaps: Vec<f64> =
        turns.gaps.iter().filter(|(address, _)| *address != busy).map(|(_, gap)| gap.as_secs_f64()).collect();
    table.single("the longest gap of each neighbour", "s", &gaps);
    table.single("messages tracked meanwhile", "messages", &[progress as f64]);
    Ok(told(table))
}

/// What a while of overload brought each mailbox.
struct Turns {
    polls: BTreeMap<String, u64>,
    /// The longest time without a poll.
    gaps: BTreeMap<String, Duration>,
}

async fn watched(sim: &Sim, long: Duration) -> Outcome<Turns> {
    let first = sim.polls().await?;
    let begun = Instant::now();
    let mut last: BTreeMap<String, (u64, Instant)> =
        first.iter().map(|(address, count)| (address.clone(), (*count, begun))).collect();
    let mut gaps: BTreeMap<String, Duration> = BTreeMap::new();
    while begun.elapsed() < long {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let counts = sim.polls().await?;
        let now = Instant::now();
        for (address, count) in counts {
            let Some(seen) = last.get_mut(&address) else { continue };
            let gap = gaps.entry(address).or_default();
            *gap = (*gap).max(now - seen.1);
            if count > seen.0 {
                *seen = (count, now);
            }
        }
    }
    let polls = last.into_iter().map(|(address, (count, _))| {
        let before = first.get(&address).copied().unwrap_or_default();
        (address, count - before)
    });
    Ok(Turns { polls: polls.collect(), gaps })
}

/// Jain's index: 1 if all have the same share, one n-th if one of n has everything.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) =
        shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equals_and_falls_with_each_who_is_left_out() {
        for (shares, index) in [(&[7.0; 9][..], 1.0), (&[1.0, 0.0, 0.0, 0.0], 0.25), (&[4.0, 8.0], 0.9)] {
            assert!((jain(shares) - index).abs() < 1e-9, "{shares:?}: {}", jain(shares));
        }
    }
}
