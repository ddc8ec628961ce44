//! From the core's words to the messages and back.

use std::time::Duration;

use mailyard_policy::{
    Timestamp,
    alert::Level,
    operation::{Health, Kind, Method, NextRun, Operation, Status, Why},
    outbox,
    reason::Scope,
};

use crate::{admin, records};

/// A moment.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A moment, cut to milliseconds.
pub fn moment(at: &prost_types::Timestamp) -> Timestamp {
    let millis = at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000);
    Timestamp::from_millis(millis)
}

/// A duration.
pub fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() }
}

/// A duration; `None`: it is negative.
pub fn span(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// The word of an enum's value: `OPERATION_STATE_RETRYING` of `OperationState` is `retrying`.
pub fn word(name: &'static str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

macro_rules! pairs {
    ($($core:ty = $wire:ty { $($from:path = $to:path),+ $(,)? })+) => {$(
        impl From<$core> for $wire {
            fn from(value: $core) -> Self {
                match value { $($from => $to),+ }
            }
        }
    )+};
}

pairs! {
    Kind = admin::OperationKind {
        Kind::Incoming = admin::OperationKind::Incoming,
        Kind::Outgoing = admin::OperationKind::Outgoing,
        Kind::Act = admin::OperationKind::Act,
    }
    Method = admin::Method {
        Method::None = admin::Method::None,
        Method::ServerSide = admin::Method::Sss,
        Method::Forward = admin::Method::Forward,
    }
    Status = admin::TestStatus {
        Status::NotRun = admin::TestStatus::NotRun,
        Status::Success = admin::TestStatus::Success,
        Status::Failure = admin::TestStatus::Failure,
    }
    Health = admin::MailboxState {
        Health::NotEligible = admin::MailboxState::NotEligible,
        Health::Ok = admin::MailboxState::Ok,
        Health::Failing = admin::MailboxState::Failing,
    }
    Why = admin::Why {
        Why::Phase = admin::Why::Phase,
        Why::MinimumInterval = admin::Why::MinimumInterval,
        Why::RetryGap = admin::Why::RetryGap,
        Why::BackOff = admin::Why::BackOff,
        Why::Breaker = admin::Why::Breaker,
        Why::TestRetry = admin::Why::TestRetry,
        Why::TestWanted = admin::Why::TestWanted,
        Why::PollWanted = admin::Why::PollWanted,
        Why::Backlog = admin::Why::Backlog,
        Why::Notified = admin::Why::Notified,
    }
    Level = admin::AlertLevel {
        Level::Information = admin::AlertLevel::Information,
        Level::Warning = admin::AlertLevel::Warning,
        Level::Error = admin::AlertLevel::Error,
    }
    Scope = admin::AlertScope {
        Scope::Item = admin::AlertScope::Item,
        Scope::Mailbox = admin::AlertScope::Mailbox,
        Scope::Profile = admin::AlertScope::Profile,
        Scope::Request = admin::AlertScope::Unspecified,
    }
    outbox::State = records::EmailState {
        outbox::State::Draft = records::EmailState::Draft,
        outbox::State::PendingSend = records::EmailState::PendingSend,
        outbox::State::Sending = records::EmailState::Sending,
        outbox::State::Sent = records::EmailState::Sent,
        outbox::State::Failed = records::EmailState::Failed,
        outbox::State::Canceled = records::EmailState::Canceled,
        outbox::State::Expired = records::EmailState::Expired,
        outbox::State::NeedsPerson = records::EmailState::NeedsPerson,
    }
}

/// The word of a state without its numbers.
pub fn operation_state(word: &str) -> admin::OperationState {
    let name = format!("OPERATION_STATE_{}", word.to_uppercase());
    admin::OperationState::from_str_name(&name).unwrap_or_default()
}

/// The word of a cycle's outcome.
pub fn cycle_outcome(word: &str) -> admin::CycleOutcome {
    let name = format!("CYCLE_OUTCOME_{}", word.to_uppercase());
    admin::CycleOutcome::from_str_name(&name).unwrap_or_default()
}

/// The method that a message names; `None`: it names none.
pub fn method(method: admin::Method) -> Option<Method> {
    match method {
        admin::Method::Unspecified => None,
        admin::Method::None => Some(Method::None),
        admin::Method::Sss => Some(Method::ServerSide),
        admin::Method::Forward => Some(Method::Forward),
    }
}

/// An operation of a mailbox with its next run.
pub fn mailbox_operation(operation: &Operation, next: Option<NextRun>) -> admin::MailboxOperation {
    admin::MailboxOperation {
        method: admin::Method::from(operation.method).into(),
        state: operation_state(operation.state.word()).into(),
        status: admin::TestStatus::from(operation.status()).into(),
        enabled: operation.is_enabled(),
        failures: operation.failures().into(),
        next_run: next.map(|next| timestamp(next.at)),
        why: next.map_or(admin::Why::Unspecified, |next| next.why.into()).into(),
        reason: operation.reason.map(|reason| reason.code().to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        for millis in [0, -1, 1, 1_772_366_400_250, -62_135_596_800_000] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(moment(&timestamp(at)), at);
        }
        for millis in [0, 1, 60_000, 86_400_250] {
            let length = Duration::from_millis(millis);
            assert_eq!(span(&duration(length)), Some(length));
        }
        assert_eq!(span(&prost_types::Duration { seconds: -1, nanos: 0 }), None);
    }

    #[test]
    fn words_of_states_and_outcomes_have_their_values() {
        for state in ["off", "untested", "testing", "enabled", "retrying", "disabled"] {
            assert_eq!(word(operation_state(state).as_str_name(), "OPERATION_STATE_"), state);
        }
        for outcome in ["success", "transient", "throttled", "permanent", "server_fault", "fenced"] {
            assert_eq!(word(cycle_outcome(outcome).as_str_name(), "CYCLE_OUTCOME_"), outcome);
        }
    }
}
