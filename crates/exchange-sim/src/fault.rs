//! Faults by rule: what the server does wrong, to whom, how often, until when.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `ErrorMailboxStoreUnavailable` in each response message.
    MailboxUnavailable,
    /// `ErrorServerBusy` as a fault without a hint.
    ServerBusy,
    /// `ErrorServerBusy` with `BackOffMilliseconds`.
    ServerBusyHint,
    /// HTTP 503, with `Retry-After` if there is a hint.
    #[serde(rename = "http_503")]
    Http503,
    /// HTTP 401 whatever the credential.
    Unauthorized,
    /// The connection ends instead of the answer to the last leg of an NTLM handshake.
    NtlmReset,
    /// HTTP 401 for a good token, with `claims` until one comes that was asked for with claims.
    TokenRefused,
    /// A proxy's page with status 200.
    #[serde(rename = "html_200")]
    Html200,
    /// More than `limit` requests of a credential at once: `ErrorExceededConnectionCount`; with a hint `ErrorServerBusy`.
    Concurrency,
    /// `ErrorImpersonateUserDenied`.
    ImpersonationDenied,
    /// `ErrorNonExistentMailbox`.
    NoSuchMailbox,
    /// The request is executed and the connection is cut before the answer.
    LostResponse,
    /// The request is executed at once and answered late.
    SlowBody,
    /// The connection is cut and nothing is executed.
    CutConnection,
    /// `ErrorInvalidSyncStateData`.
    BadSyncState,
    /// Some items cannot be read.
    Poison,
    /// Changes of a page are told again on the next one.
    RepeatedChanges,
    /// Of a batch some items fail and the rest is not attempted.
    PartialBatch,
    /// Of a batch nothing is attempted.
    StoppedBatch,
    /// The server's clock is wrong.
    ClockSkew,
    /// Nobody answers.
    Down,
}

/// A rule. Absent fields mean any; it stands until it is deleted, `for_seconds` are over or it has struck `count` times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub kind: Kind,
    /// Only for this operation, such as `GetItem`.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only for this mailbox, by its address.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// How large a share of requests is struck, 0 to 1.
    #[serde(default = "all")]
    pub rate: f64,
    /// How long it stands.
    #[serde(default)]
    pub for_seconds: Option<f64>,
    /// How often it strikes.
    #[serde(default)]
    pub count: Option<u64>,
    /// The hint of throttling.
    #[serde(default)]
    pub hint_ms: Option<u64>,
    /// How late a slow answer comes.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// How wrong the clock is; negative: it is behind.
    #[serde(default)]
    pub skew_ms: Option<i64>,
    /// How many requests of a credential may be under way.
    #[serde(default)]
    pub limit: Option<u32>,
    /// The challenge asks for claims.
    #[serde(default)]
    pub claims: bool,
}

fn all() -> f64 {
    1.0
}

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
}

impl Rule {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.rate) {
            return Err("rate: must be between 0 and 1".to_owned());
        }
        if self.for_seconds.is_some_and(|seconds| !(0.0..1e9).contains(&seconds)) {
            return Err("for_seconds: must be between 0 and 1000000000".to_owned());
        }
        let everybody = matches!(self.kind, Kind::Down | Kind::ClockSkew | Kind::NtlmReset);
        if everybody && self.operation.is_some() {
            return Err("operation: this kind concerns every operation".to_owned());
        }
        if everybody && self.mailbox.is_some() {
            return Err("mailbox: this kind concerns every mailbox".to_owned());
        }
        match self.kind {
            Kind::ClockSkew if self.count.is_some() => {
                Err("count: a clock is wrong until it is right again".to_owned())
            }
            Kind::ClockSkew if self.rate < 1.0 => Err("rate: a clock is wrong for every request".to_owned()),
            Kind::SlowBody if self.delay_ms.is_none() => Err("delay_ms: slow_body needs it".to_owned()),
            Kind::Concurrency if self.limit.is_none() => Err("limit: concurrency needs it".to_owned()),
            Kind::ClockSkew if self.skew_ms.is_none() => Err("skew_ms: clock_skew needs it".to_owned()),
            _ => Ok(()),
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

    /// The same, for rules that have something more to say of a request.
    pub fn strikes_if(
        &mut self,
        kind: Kind,
        operation: &str,
        mailbox: &str,
        concerns: impl FnOnce(&Rule) -> bool,
    ) -> Option<Strike> {
        let seed = self.seed;
        let standing = self.standing(kind, operation, mailbox).filter(|standing| concerns(&standing.rule))?;
        standing.asked += 1;
        if chance(&[seed, standing.number, standing.asked]) >= standing.rule.rate {
            return None;
        }
        standing.left = standing.left.map(|left| left - 1);
        let strike = Strike {
            hint: standing.rule.hint_ms.map(Duration::from_millis),
            delay: Duration::from_millis(standing.rule.delay_ms.unwrap_or_default()),
            claims: standing.rule.claims,
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
        let Some(standing) = self.standing(Kind::Poison, operation, mailbox) else { return false };
        if chance(&[seed, standing.number, item[0], item[1]]) >= standing.rule.rate {
            return false;
        }
        standing.left = standing.left.map(|left| left - 1);
        *self.struck.entry(Kind::Poison).or_default() += 1;
        true
    }

    /// The rule of this kind that concerns a request.
    fn standing(&mut self, kind: Kind, operation: &str, mailbox: &str) -> Option<&mut Standing> {
        let now = Instant::now();
        self.rules.retain(|standing| standing.until.is_none_or(|until| until > now));
        self.rules.iter_mut().find(|standing| {
            standing.rule.kind == kind
                && standing.left != Some(0)
                && standing.rule.operation.as_deref().is_none_or(|wanted| wanted == operation)
                && standing.rule.mailbox.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(mailbox))
        })
    }
}

/// A number between 0 and 1 that follows from these.
pub(crate) fn chance(parts: &[u64]) -> f64 {
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

    #[test]
    fn bad_rules_are_refused_by_field() {
        for (json, field) in [
            (r#"{"kind":"down","rate":2}"#, "rate"),
            (r#"{"kind":"slow_body"}"#, "delay_ms"),
            (r#"{"kind":"clock_skew"}"#, "skew_ms"),
            (r#"{"kind":"concurrency"}"#, "limit"),
            (r#"{"kind":"ntlm_reset","operation":"GetItem"}"#, "operation"),
            (r#"{"kind":"down","for_seconds":-1}"#, "for_seconds"),
            (r#"{"kind":"down","mailbox":"a@x"}"#, "mailbox"),
            (r#"{"kind":"down","operation":"GetItem"}"#, "operation"),
            (r#"{"kind":"clock_skew","skew_ms":1,"rate":0.5}"#, "rate"),
            (r#"{"kind":"clock_skew","skew_ms":1,"count":1}"#, "count"),
        ] {
            assert!(rule(json).check().is_err_and(|error| error.starts_with(field)), "{json}");
        }
        for json in [r#"{"kind":"nonsense"}"#, r#"{"kind":"down","colour":1}"#, "{}"] {
            assert!(serde_json::from_str::<Rule>(json).is_err(), "{json}");
        }
    }
}
