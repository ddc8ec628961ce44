//! What goes wrong next, drawn from a seed.

use std::{collections::BTreeMap, time::Duration};

use mailyard_policy::id;
use serde_json::{Value, json};

/// A kind of fault as it may come.
struct Chance {
    /// The rule without its time.
    rule: &'static str,
    /// It stands no longer, in seconds.
    longest: u64,
    /// The kind does not come again before, in seconds.
    rest: u64,
}

const fn chance(rule: &'static str, longest: u64) -> Chance {
    Chance { rule, longest, rest: 0 }
}

/// Polls are slow all the time, by a rule of their own: other slow answers are those of fetches. A password that is
/// refused again when it is tried the second time, after a minute, waits for a person: it rests longer.
#[rustfmt::skip]
const CHANCES: &[Chance] = &[
    chance(r#"{"kind":"server_busy","rate":0.05}"#, 8),
    chance(r#"{"kind":"server_busy_hint","hint_ms":0,"rate":0.1}"#, 8),
    chance(r#"{"kind":"server_busy_hint","hint_ms":3000,"rate":0.02}"#, 8),
    chance(r#"{"kind":"response_code","code":"ErrorInternalServerError","inner":"ErrorServerBusy","hint_ms":2000,"rate":0.02}"#, 8),
    chance(r#"{"kind":"response_code","code":"ErrorTooManyObjectsOpened","rate":0.02}"#, 8),
    chance(r#"{"kind":"http_503","rate":0.02}"#, 8),
    chance(r#"{"kind":"http_503","hint_ms":2000,"rate":0.02}"#, 8),
    chance(r#"{"kind":"concurrency","limit":4}"#, 10),
    chance(r#"{"kind":"concurrency","limit":6,"hint_ms":1500}"#, 10),
    chance(r#"{"kind":"lost_response","rate":0.1}"#, 8),
    chance(r#"{"kind":"cut_connection","rate":0.1}"#, 8),
    chance(r#"{"kind":"slow_body","operation":"GetItem","delay_ms":3000,"rate":0.5}"#, 10),
    chance(r#"{"kind":"slow_body","operation":"GetItem","delay_ms":25000,"rate":0.1}"#, 5),
    chance(r#"{"kind":"mailbox_unavailable","rate":0.02}"#, 8),
    chance(r#"{"kind":"partial_batch","rate":0.3}"#, 10),
    chance(r#"{"kind":"stopped_batch","rate":0.3}"#, 10),
    chance(r#"{"kind":"repeated_changes"}"#, 10),
    chance(r#"{"kind":"bad_sync_state","rate":0.1}"#, 8),
    chance(r#"{"kind":"ntlm_reset","rate":0.5}"#, 10),
    chance(r#"{"kind":"unauthorized","count":1}"#, 5),
    Chance { rule: r#"{"kind":"unauthorized"}"#, longest: 6, rest: 180 },
    Chance { rule: r#"{"kind":"down"}"#, longest: 8, rest: 60 },
];

/// Faults in the order of a seed.
pub struct Draw {
    seed: u64,
    number: u64,
    resting: BTreeMap<String, Duration>,
}

impl Draw {
    /// The faults of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, number: 0, resting: BTreeMap::new() }
    }

    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number += 1;
        id::hash(&[self.seed.to_be_bytes(), self.number.to_be_bytes()].concat()) % limit.max(1)
    }

    /// The rule that is set at this time of the run; `None`: its kind rests.
    pub fn rule(&mut self, at: Duration) -> Option<Value> {
        let place = usize::try_from(self.below(CHANCES.len() as u64)).unwrap_or_default();
        let Chance { rule, longest, rest } = CHANCES.get(place)?;
        let seconds = 1 + self.below(*longest);
        let mut rule: Value = serde_json::from_str(rule).ok()?;
        let kind = rule["kind"].as_str()?.to_owned();
        if self.resting.get(&kind).is_some_and(|until| at < *until) {
            return None;
        }
        if *rest > 0 {
            self.resting.insert(kind, at + Duration::from_secs(*rest));
        }
        rule["for_seconds"] = json!(seconds);
        Some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_every_chance_is_a_rule() {
        let drawn = |seed| {
            let mut draw = Draw::new(seed);
            (0..3600).filter_map(|second| draw.rule(Duration::from_secs(second))).collect::<Vec<_>>()
        };
        let rules = drawn(1);
        assert_eq!(rules, drawn(1));
        assert_ne!(rules, drawn(2));
        for Chance { rule, .. } in CHANCES {
            let mut rule: Value =
                serde_json::from_str(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
            let like = |drawn: &Value| {
                rule["for_seconds"] = drawn["for_seconds"].clone();
                *drawn == rule
            };
            assert!(rules.iter().any(like), "{rule} is never drawn");
        }
        let refused = |rule: &&Value| rule["kind"] == "unauthorized" && rule["count"].is_null();
        assert!(rules.iter().filter(refused).count() <= 3600 / 180, "a kind that rests comes too often");
    }
}
