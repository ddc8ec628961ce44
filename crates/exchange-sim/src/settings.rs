//! What can be changed while the simulator runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{auth::ExtendedProtection, throttle::Budget};

/// What an administrator of Exchange sets. Through the control door, fields that are not named stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether NTLM has to be bound to the TLS connection.
    pub extended_protection: ExtendedProtection,
    /// NTLM authenticates a single request, not the connection.
    pub auth_persist_single_request: bool,
    /// How long tokens live that are issued from now on.
    pub token_seconds: u32,
    /// How many requests of one credential may be under way; `None`: any number.
    pub max_concurrency: Option<u32>,
    /// The same for one budget: that of the caller, or of the mailbox that is impersonated.
    pub max_budget_concurrency: Option<u32>,
    /// How many subscriptions each mailbox may have.
    pub max_subscriptions: u32,
    /// How many streaming connections each budget may have; `None`: 3 for Exchange 2013, else 10.
    pub hanging_connections: Option<u32>,
    /// How long a minute lasts for subscriptions and streaming connections.
    pub minute_ms: u64,
    /// How often a streaming connection says that it stands, in milliseconds.
    pub status_ms: u64,
    /// How many servers stand behind the one that clients see. Each knows its own subscriptions only.
    pub backends: u32,
    /// How much time of the server each budget holds; `None`: it is not counted.
    pub budget: Option<Budget>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extended_protection: ExtendedProtection::Allow,
            auth_persist_single_request: false,
            token_seconds: 3599,
            max_concurrency: None,
            max_budget_concurrency: None,
            max_subscriptions: 5000,
            hanging_connections: None,
            minute_ms: 60_000,
            status_ms: 45_000,
            backends: 1,
            budget: None,
        }
    }
}

impl Settings {
    /// These settings, changed by those that are named.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn changed(self, change: &[u8]) -> Result<Self, String> {
        let change: serde_json::Map<String, Value> =
            serde_json::from_slice(change).map_err(|error| error.to_string())?;
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let Value::Object(all) = &mut all {
            all.extend(change);
        }
        let changed: Self = serde_json::from_value(all).map_err(|error| error.to_string())?;
        if let Some(budget) = changed.budget {
            budget.check()?;
        }
        let least = [
            ("minute_ms", changed.minute_ms),
            ("status_ms", changed.status_ms),
            ("backends", changed.backends.into()),
        ];
        match least.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name}: must be at least 1")),
            None => Ok(changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_changes_and_nothing_else() {
        let old = Settings { token_seconds: 60, ..Settings::default() };
        let changed = |change: &str| old.changed(change.as_bytes());
        assert_eq!(changed("{}"), Ok(old));
        assert_eq!(
            changed(r#"{"extended_protection":"require","max_concurrency":3}"#),
            Ok(Settings {
                extended_protection: ExtendedProtection::Require,
                max_concurrency: Some(3),
                ..old
            })
        );
        assert_eq!(changed(r#"{"max_concurrency":null}"#), Ok(old));
        for (change, error) in [
            (r#"{"colour":1}"#, "unknown field `colour`"),
            (r#"{"extended_protection":"maybe"}"#, "unknown variant `maybe`"),
            (r#"{"token_seconds":-1}"#, "invalid value: integer `-1`"),
            (
                r#"{"budget":{"burst_ms":1,"recharge_ms_per_hour":0,"cutoff_ms":1,"cost_ms":1}}"#,
                "recharge_ms_per_hour",
            ),
            (r#"{"minute_ms":0}"#, "minute_ms"),
            (r#"{"backends":0}"#, "backends"),
            ("[]", "invalid type"),
        ] {
            let told = changed(change).expect_err(change);
            assert!(told.contains(error), "{change}: {told}");
        }
    }
}
