//! Throttling as Exchange does it: requests under way, and budgets of server time that are recharged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    answer::{BUSY, Refusal},
    fault::Strike,
    settings::Settings,
};

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    /// The account with this mailbox.
    Account(u32),
    /// The application.
    Application,
    /// The copy of a mailbox's budget that impersonation is charged to.
    Impersonated(u32),
}

/// A budget of the throttling policy: `EwsMaxBurst`, `EwsRechargeRate`, `EwsCutoffBalance`, and what a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The most that can be saved up.
    pub burst_ms: f64,
    /// What comes back.
    pub recharge_ms_per_hour: f64,
    /// No debt is larger: what would make it so is refused.
    pub cutoff_ms: f64,
    /// What each request costs.
    pub cost_ms: f64,
}

impl Budget {
    pub(crate) fn check(self) -> Result<(), String> {
        let fields = [
            ("burst_ms", self.burst_ms, 0.0),
            ("recharge_ms_per_hour", self.recharge_ms_per_hour, 1.0),
            ("cutoff_ms", self.cutoff_ms, 0.0),
            ("cost_ms", self.cost_ms, 0.0),
        ];
        match fields.into_iter().find(|(_, value, least)| !(*least..1e12).contains(value)) {
            Some((name, _, least)) => Err(format!("{name}: must be at least {least} and less than 10^12")),
            None => Ok(()),
        }
    }

    /// How long it takes until so much came back.
    fn time_for(self, millis: f64) -> Duration {
        Duration::try_from_secs_f64(millis * 3600.0 / self.recharge_ms_per_hour).unwrap_or_default()
    }
}

/// What a payer has, and since when.
#[derive(Clone, Copy, Debug)]
struct Balance {
    millis: f64,
    at: Instant,
}

/// What the budget says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charged {
    /// It runs after this delay.
    Runs(Duration),
    /// It does not; it may after this.
    Refused(Duration),
}

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Load {
    under_way: Mutex<HashMap<Payer, u32>>,
    balances: Mutex<HashMap<Payer, Balance>>,
    hanging: Mutex<HashMap<Payer, u32>>,
}

/// A connection that goes on answering until this is dropped.
#[derive(Debug)]
pub(crate) struct Hanging {
    load: Arc<Load>,
    payer: Payer,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let mut hanging = lock(&self.load.hanging);
        let left = hanging.get(&self.payer).copied().unwrap_or_default().saturating_sub(1);
        hanging.insert(self.payer, left);
    }
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    load: Arc<Load>,
    payers: [Payer; 2],
    /// With this one, of the credential and of the budget.
    pub under_way: [u32; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// A request of a credential begins, for which somebody pays.
    pub fn begin(self: &Arc<Self>, credential: Payer, payer: Payer) -> Ticket {
        let payers = [credential, payer];
        let mut under_way = lock(&self.under_way);
        // A credential that pays itself is one that counts once.
        if credential != payer {
            *under_way.entry(credential).or_default() += 1;
        }
        *under_way.entry(payer).or_default() += 1;
        let under_way = payers.map(|payer| under_way.get(&payer).copied().unwrap_or_default());
        Ticket { load: self.clone(), payers, under_way }
    }

    /// A connection begins that goes on answering.
    ///
    /// # Errors
    /// Its payer has so many already.
    pub fn hang(self: &Arc<Self>, payer: Payer, limit: u32) -> Result<Hanging, Refusal> {
        let mut hanging = lock(&self.hanging);
        let count = hanging.entry(payer).or_default();
        if *count >= limit {
            return Err(TOO_MANY);
        }
        *count += 1;
        Ok(Hanging { load: self.clone(), payer })
    }

    fn charge(&self, payer: Payer, budget: Budget) -> Charged {
        let now = Instant::now();
        let mut balances = lock(&self.balances);
        let balance = balances.entry(payer).or_insert(Balance { millis: budget.burst_ms, at: now });
        let passed = now.saturating_duration_since(balance.at).as_secs_f64();
        balance.millis =
            (balance.millis + passed * budget.recharge_ms_per_hour / 3600.0).min(budget.burst_ms);
        balance.at = now;
        if balance.millis - budget.cost_ms < -budget.cutoff_ms {
            return Charged::Refused(budget.time_for(budget.cost_ms - budget.cutoff_ms - balance.millis));
        }
        balance.millis -= budget.cost_ms;
        let debt = (-balance.millis).clamp(0.0, budget.cost_ms);
        Charged::Runs(budget.time_for(debt).min(Duration::from_secs(1)))
    }
}

impl Ticket {
    /// How long the request is held back.
    ///
    /// # Errors
    /// It is too much.
    pub fn pay(&self, settings: &Settings) -> Result<Duration, Refusal> {
        let limits = [settings.max_concurrency, settings.max_budget_concurrency];
        let over =
            limits.into_iter().zip(self.under_way).any(|(limit, now)| limit.is_some_and(|limit| now > limit));
        if over {
            return Err(TOO_MANY);
        }
        match settings.budget.map(|budget| self.load.charge(self.payers[1], budget)) {
            None => Ok(Duration::ZERO),
            Some(Charged::Runs(delay)) => Ok(delay),
            Some(Charged::Refused(after)) => Err(busy(Some(after))),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let [credential, payer] = self.payers;
        let mut under_way = lock(&self.load.under_way);
        let ended = [Some(payer), Some(credential).filter(|credential| *credential != payer)];
        for payer in ended.into_iter().flatten() {
            let left = under_way.get(&payer).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                under_way.remove(&payer);
            } else {
                under_way.insert(payer, left);
            }
        }
    }
}

/// The answer to one request too many at once.
pub(crate) const TOO_MANY: Refusal = Refusal::new(
    "ErrorExceededConnectionCount",
    "You have exceeded the available concurrent connections for your account. Try again once your other requests have completed.",
);

/// The answer to whom a rule says it.
pub(crate) fn too_many(strike: &Strike) -> Refusal {
    if strike.hint.is_some() { busy(strike.hint) } else { TOO_MANY }
}

/// `ErrorServerBusy`, and when it may be over.
pub(crate) fn busy(hint: Option<Duration>) -> Refusal {
    let values = hint.map(|hint| ("BackOffMilliseconds", hint.as_millis().to_string()));
    Refusal { values: values.into_iter().collect(), ..Refusal::new("ErrorServerBusy", BUSY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_count_while_they_live() {
        let load = Arc::new(Load::default());
        let first = load.begin(Payer::Account(0), Payer::Impersonated(1));
        let second = load.begin(Payer::Account(0), Payer::Impersonated(2));
        assert_eq!((first.under_way, second.under_way), ([1, 1], [2, 1]));
        drop(first);
        let own = load.begin(Payer::Account(2), Payer::Account(2));
        let third = load.begin(Payer::Account(0), Payer::Impersonated(2));
        assert_eq!((own.under_way, third.under_way), ([1, 1], [2, 2]));
        drop((second, third, own));
        assert!(lock(&load.under_way).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_runs_dry_and_comes_back() {
        // A second of server time comes back in a second.
        let budget =
            Budget { burst_ms: 200.0, recharge_ms_per_hour: 3_600_000.0, cutoff_ms: 150.0, cost_ms: 100.0 };
        let load = Load::default();
        let millis = Duration::from_millis;
        let charge = |payer| load.charge(Payer::Impersonated(payer), budget);
        let story = [
            Charged::Runs(millis(0)),
            Charged::Runs(millis(0)),
            Charged::Runs(millis(100)),
            Charged::Refused(millis(50)),
        ];
        for expected in story {
            assert_eq!(charge(1), expected);
        }
        assert_eq!(charge(2), Charged::Runs(millis(0)), "another mailbox has its own");
        tokio::time::advance(millis(50)).await;
        assert_eq!(charge(1), Charged::Runs(millis(100)));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(charge(1), Charged::Runs(millis(0)), "no more than the burst is saved");
        assert_eq!(charge(1), Charged::Runs(millis(0)));
        assert_eq!(charge(1), Charged::Runs(millis(100)));
    }
}
