//! A server on which something goes wrong all the time: whether its limit is kept to, whether mail is lost or doubled,
//! and whether everything becomes well again without anybody's hand.

mod limits;
mod rules;
mod well;

use std::time::{Duration, Instant};

use serde_json::json;

use self::{limits::Limits, rules::Draw, well::Found};
use crate::{
    Outcome,
    figures::Table,
    stand::{Data, PROFILE, Profile, Sim, Stand, steady},
    told,
};

const SEED: u64 = 1;
/// One look at the server.
const LOOK: Duration = Duration::from_secs(1);
/// The maximum of connections in its turns, the first one at the beginning.
const MAXIMA: [u16; 3] = [10, 3, 20];
/// A run that is as long sees the server ask for hours, too: it is left alone for the longest that it may ask for.
const LONG: Duration = Duration::from_mins(40);
/// Nothing is waited for longer.
const LONGEST: Duration = Duration::from_mins(30);

/// The table of a run with so long a time of faults.
///
/// # Errors
/// A process that does not begin, or a server that is not well again in half an hour.
pub async fn run(stand: &Stand, long: Duration) -> Outcome<Table> {
    let mailboxes = stand.count(300, 50);
    let deadline = Duration::from_secs(stand.count(20, 2) as u64);
    let sim = Sim::start(stand, "sim-faults", mailboxes, &["--auth", "basic,ntlm"])?;
    let data = Data::new(stand, "data-faults");
    let period = format!("{}s", stand.count(10, 2));
    let mut settings = steady(&period);
    settings.push("sync.retry_gap=30s".to_owned());
    settings.push(format!("exchange.request_deadline={}s", deadline.as_secs()));
    if stand.small {
        settings.push("breaker.credential_canary=5s".to_owned());
    }
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = data.serve(&settings)?;
    let profile = Profile { auth: "ntlm", connections: MAXIMA[0], idle_max: &period, streaming: false };
    data.enable(&sim, &sim.addresses()?, &profile)?;

    let run = Run {
        sim: &sim,
        data: &data,
        addresses: sim.addresses()?,
        limits: Limits::new(MAXIMA[0], deadline + Duration::from_secs(2)),
        draw: Draw::new(SEED),
        delivered: 0,
    };
    let run = run.faults(long).await?;
    sim.heal().await?;
    let healed = Instant::now();
    let found = loop {
        let found = Found::look(&data)?;
        if found.is_well(mailboxes, run.delivered) {
            break found;
        }
        if healed.elapsed() > LONGEST {
            return Err(format!("not everything is well again: {found:?}").into());
        }
        tokio::time::sleep(LOOK).await;
    };
    let healed = healed.elapsed();
    let struck = sim.struck().await?;
    server.stop()?;

    let title =
        format!("{} min of faults, {mailboxes} mailboxes, limits of 10, 3 and 20", long.as_secs() / 60);
    let mut table = Table::new(title);
    run.limits.tell(&mut table);
    table.single("messages delivered", "messages", &[run.delivered as f64]);
    found.tell(&mut table);
    table.single("until everything was well again", "s", &[healed.as_secs_f64()]);
    for (kind, count) in struck {
        table.single(format!("struck: {kind}"), "strikes", &[count as f64]);
    }
    Ok(told(table))
}

struct Run<'a> {
    sim: &'a Sim,
    data: &'a Data<'a>,
    addresses: Vec<String>,
    limits: Limits,
    draw: Draw,
    delivered: u64,
}

impl Run<'_> {
    /// The time of faults, look by look.
    async fn faults(mut self, long: Duration) -> Outcome<Self> {
        // So slow that the connections are needed.
        self.sim
            .fault(&json!({ "kind": "slow_body", "operation": "SyncFolderItems", "delay_ms": 250 }))
            .await?;
        let phase = (long / 12).max(Duration::from_secs(5));
        let (begun, mut asked_for_hours) = (Instant::now(), long < LONG);
        self.sim.end_window().await?;
        for look in 1_u32.. {
            let at = begun.elapsed();
            if at >= long {
                break;
            }
            self.deliver().await?;
            if look.is_multiple_of(3)
                && let Some(rule) = self.draw.rule(at)
            {
                self.sim.fault(&rule).await?;
            }
            if !asked_for_hours && at >= long / 3 {
                asked_for_hours = true;
                self.sim
                    .fault(&json!({ "kind": "server_busy_hint", "hint_ms": 7_200_000, "count": 1 }))
                    .await?;
            }
            let phases = at.as_millis() / phase.as_millis();
            let wanted = MAXIMA[usize::try_from(phases).unwrap_or_default() % MAXIMA.len()];
            if wanted != self.limits.now() {
                self.set(wanted)?;
            }
            tokio::time::sleep((LOOK * look).saturating_sub(begun.elapsed())).await;
            self.limits.saw(Instant::now(), self.sim.end_window().await?);
        }
        Ok(self)
    }

    async fn deliver(&mut self) -> Outcome {
        let place = usize::try_from(self.draw.below(self.addresses.len() as u64)).unwrap_or_default();
        let count = 1 + self.draw.below(3);
        for _ in 0..count {
            self.delivered += 1;
            let subject = format!("{}{}", well::SUBJECT, self.delivered);
            let made = json!({ "to": [self.addresses[place]], "subject": subject, "size": 2000 });
            self.sim.deliver_made(&made).await?;
        }
        Ok(())
    }

    /// Changes the profile's maximum: a larger one holds from before, a smaller one from after it was said.
    fn set(&mut self, maximum: u16) -> Outcome {
        let before = Instant::now();
        self.data.call(&["profile", "update", PROFILE, "--max-connections", &maximum.to_string()])?;
        let at = if maximum > self.limits.now() { before } else { Instant::now() };
        self.limits.set(at, maximum);
        Ok(())
    }
}
