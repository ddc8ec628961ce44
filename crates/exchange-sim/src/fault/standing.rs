//! The rules that stand, and whom they strike.

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Kind, Rule};
use crate::answer::Refusal;

/// The rules that stand.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    seed: u64,
    rules: Vec<Standing>,
    struck: BTreeMap<Kind, u64>,
    /// Raised by each change: who keeps something derived looks whether it is still true.
    pub version: u64,
}

#[derive(Debug)]
struct Standing {
    number: u64,
    rule: Rule,
    until: Option<Instant>,
    left: Option<u64>,
    asked: u64,
}

/// A rule that strikes this request.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub hint: Option<Duration>,
    pub delay: Duration,
    pub claims: bool,
    pub target: String,
    pub code: String,
    pub inner: Option<String>,
}

impl Strike {
    /// What a rule with a response code says.
    pub fn refusal(self) -> Refusal {
        let hint = self.hint.map(|hint| ("BackOffMilliseconds", hint.as_millis().to_string()));
        let inner = self.inner.map(|inner| ("InnerErrorResponseCode", inner));
        Refusal {
            code: self.code.into(),
            values: inner.into_iter().chain(hint).collect(),
            ..Refusal::new("", "The request could not be processed.")
        }
    }
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub fn add(&mut self, rule: Rule) {
        self.version += 1;
        let until = rule.for_seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let left = rule.count;
        self.rules.push(Standing { number: self.version, rule, until, left, asked: 0 });
    }

    pub fn clear(&mut self) {
        self.version += 1;
        self.rules.clear();
    }

    /// How often each kind has struck.
    pub fn struck(&self) -> &BTreeMap<Kind, u64> {
        &self.struck
    }

    /// True while no rule stands: nothing has to be asked.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule of this kind strikes, decided by seed, rule and the number of the request under it.
    pub fn strikes(&mut self, kind: Kind, operation: &str, mailbox: &str) -> Option<Strike> {
        self.strikes_if(kind, operation, mailbox, |_| true)
    }

    /// The same, for rules that look at the name by which the server is asked.
    pub fn strikes_at(&mut self, kind: Kind, operation: &str, mailbox: &str, host: &str) -> Option<Strike> {
        let named = |rule: &Rule| rule.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host));
        self.strikes_if(kind, operation, mailbox, named)
    }

    /// The same, for rules that have something more to say of a request.
    pub fn strikes_if(
        &mut self,
        kind: Kind,
        operation: &str,
        mailbox: &str,
        concerns: impl Fn(&Rule) -> bool,
    ) -> Option<Strike> {
        let seed = self.seed;
        let standing = self.standing(kind, operation, mailbox, concerns)?;
        standing.asked += 1;
        if chance(&[seed, standing.number, standing.asked]) >= standing.rule.rate {
            return None;
        }
        standing.left = standing.left.map(|left| left - 1);
        let strike = Strike {
            hint: standing.rule.hint_ms.map(Duration::from_millis),
            delay: Duration::from_millis(standing.rule.delay_ms.unwrap_or_default()),
            claims: standing.rule.claims,
            target: standing.rule.target.clone().unwrap_or_default(),
            code: standing.rule.code.clone().unwrap_or_default(),
            inner: standing.rule.inner.clone(),
        };
        *self.struck.entry(kind).or_default() += 1;
        Some(strike)
    }

    /// How wrong the clock is at the moment, in milliseconds.
    pub fn skew(&self) -> i64 {
        let now = Instant::now();
        let standing = self.rules.iter().find(|standing| {
            standing.rule.kind == Kind::ClockSkew && standing.until.is_none_or(|until| until > now)
        });
        standing.and_then(|standing| standing.rule.skew_ms).unwrap_or_default()
    }

    /// True if an item is poisoned: chosen by seed, rule and item, it stays so while the rule stands.
    pub fn poisons(&mut self, operation: &str, mailbox: &str, item: [u64; 2]) -> bool {
        let seed = self.seed;
        let Some(standing) = self.standing(Kind::Poison, operation, mailbox, |_| true) else { return false };
        if chance(&[seed, standing.number, item[0], item[1]]) >= standing.rule.rate {
            return false;
        }
        standing.left = standing.left.map(|left| left - 1);
        *self.struck.entry(Kind::Poison).or_default() += 1;
        true
    }

    /// The rule of this kind that concerns a request.
    fn standing(
        &mut self,
        kind: Kind,
        operation: &str,
        mailbox: &str,
        concerns: impl Fn(&Rule) -> bool,
    ) -> Option<&mut Standing> {
        let now = Instant::now();
        self.rules.retain(|standing| standing.until.is_none_or(|until| until > now));
        self.rules.iter_mut().find(|standing| {
            standing.rule.kind == kind
                && standing.left != Some(0)
                && standing.rule.operation.as_deref().is_none_or(|wanted| wanted == operation)
                && standing.rule.mailbox.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(mailbox))
                && concerns(&standing.rule)
        })
    }
}

/// A number between 0 and 1 that follows from these.
fn chance(parts: &[u64]) -> f64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.to_be_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[tokio::test(start_paused = true)]
    async fn rules_strike_whom_and_how_often_they_say() {
        let mut faults = Faults::new(1);
        faults.add(rule(r#"{"kind":"http_503","operation":"GetItem","mailbox":"A@x","count":2}"#));
        let mut strikes = |operation, mailbox| faults.strikes(Kind::Http503, operation, mailbox).is_some();
        assert!(!strikes("SyncFolderItems", "a@x"));
        assert!(!strikes("GetItem", "b@x"));
        assert!(strikes("GetItem", "a@x") && strikes("GetItem", "a@x") && !strikes("GetItem", "a@x"));
        assert_eq!(faults.struck().get(&Kind::Http503), Some(&2));

        faults.clear();
        faults.add(rule(r#"{"kind":"down","for_seconds":5}"#));
        assert!(faults.strikes(Kind::Down, "", "").is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(faults.strikes(Kind::Down, "", "").is_none());
    }

    #[test]
    fn a_rate_is_kept_and_repeats_with_the_seed() {
        let draw = |seed| {
            let mut faults = Faults::new(seed);
            faults.add(rule(r#"{"kind":"server_busy","rate":0.25}"#));
            (0..1000).map(|_| faults.strikes(Kind::ServerBusy, "", "").is_some()).collect::<Vec<_>>()
        };
        let first = draw(7);
        assert_eq!(first, draw(7));
        assert_ne!(first, draw(8));
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((200..300).contains(&struck), "{struck} of 1000");
    }
}
