//! The figures of a process, each defined once: read as OpenMetrics text, and sent to a collector if there is one.
//!
//! Labels are bounded: never a mailbox or an address, and only so many profiles.

mod instrument;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use mailyard_policy::operation::Direction;
use mailyard_policy::{
    Nature, Reason,
    alert::Level,
    operation::{Health, Kind},
};
use opentelemetry::metrics::Meter;
use prometheus_client::{encoding::text, registry::Registry};

use self::instrument::{Counter, Definitions, Gauge, Histogram, Label};

/// Profiles beyond so many share the label `other`.
const PROFILES: usize = 500;

/// Seconds: from a poll in time to one that is two hours late.
const LAG: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0];
/// Seconds: from an answer of the same room to a body that arrives for a minute.
const REQUEST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// A profile as a label: cheap to copy, made once by [`Metrics::profile`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile(Arc<str>);

/// How a turn of a mailbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What was due is done.
    Success,
    /// It failed for this reason.
    Failed(Reason),
    /// Another holder has the mailbox.
    Fenced,
}

/// The figures of this process. Copies count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    registry: Registry,
    profiles: Mutex<HashMap<Box<str>, Profile>>,
    polls: Counter<3>,
    lag: Histogram<2>,
    failures: Counter<3>,
    messages: Counter<2>,
    message_failures: Counter<3>,
    requests: Histogram<3>,
    connections: Gauge<1>,
    mailboxes: Gauge<2>,
    alerts: Gauge<1>,
    fenced: Counter<1>,
    unreadable: Counter<1>,
}

impl Metrics {
    /// The figures of a process that plays this role; sent by the meter of [`Guard::meter`](crate::telemetry::Guard::meter).
    pub fn new(role: &'static str, meter: Option<Meter>) -> Self {
        let mut of = Definitions::new(meter);
        let build = of.gauge("mailyard_build_info", "What runs", ["version", "role"]);
        build.set([Label::Word(env!("CARGO_PKG_VERSION")), Label::Word(role)], 1);
        Self(Arc::new(Figures {
            polls: of.counter(
                "mailyard_polls",
                "Turns of mailboxes that ended",
                ["profile", "operation", "outcome"],
            ),
            lag: of.histogram(
                "mailyard_poll_lag",
                "From when a turn was due to when it began",
                ["profile", "operation"],
                LAG,
            ),
            failures: of.counter(
                "mailyard_failures",
                "Turns that failed",
                ["profile", "operation", "reason"],
            ),
            messages: of.counter("mailyard_messages", "Messages tracked or sent", ["profile", "direction"]),
            message_failures: of.counter(
                "mailyard_message_failures",
                "Attempts to track or to send a message that failed because of that message",
                ["profile", "direction", "reason"],
            ),
            requests: of.histogram(
                "mailyard_ews_request_duration",
                "Requests to Exchange, by what came of them",
                ["profile", "operation", "outcome"],
                REQUEST,
            ),
            connections: of.gauge("mailyard_connections", "Open connections to Exchange", ["profile"]),
            mailboxes: of.gauge("mailyard_mailboxes", "Mailboxes held here", ["profile", "state"]),
            alerts: of.gauge("mailyard_alerts_open", "Open alerts", ["level"]),
            fenced: of.counter(
                "mailyard_fenced_writes",
                "Writes refused because another holder has the mailbox",
                ["operation"],
            ),
            unreadable: of.counter(
                "mailyard_unreadable_rows",
                "Rows of the database that could not be understood and were passed over",
                ["table"],
            ),
            profiles: Mutex::default(),
            registry: of.finish(),
        }))
    }

    /// The label of a profile. Keep it: looking it up takes a lock.
    pub fn profile(&self, name: &str) -> Profile {
        let mut known = self.0.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = known.get(name) {
            return profile.clone();
        }
        let bounded = if known.len() < PROFILES { name } else { "other" };
        let profile = Profile(bounded.into());
        if known.len() < PROFILES {
            known.insert(name.into(), profile.clone());
        }
        profile
    }

    /// A turn began so long after it was due.
    pub fn poll_began(&self, profile: &Profile, operation: Kind, lag: Duration) {
        self.0.lag.record([profile.into(), word(operation)], lag);
    }

    /// A turn ended.
    pub fn poll_ended(&self, profile: &Profile, operation: Kind, turn: Turn) {
        let outcome = match turn {
            Turn::Success => Label::Word("success"),
            Turn::Failed(reason) if reason.is_server_fault() => Label::Word("server_fault"),
            Turn::Failed(reason) => nature(reason),
            Turn::Fenced => Label::Word("fenced"),
        };
        self.0.polls.add([profile.into(), word(operation), outcome], 1);
        if let Turn::Failed(reason) = turn {
            self.0.failures.add([profile.into(), word(operation), Label::Word(reason.code())], 1);
        }
    }

    /// So many messages are tracked or sent, durably.
    pub fn messages(&self, profile: &Profile, direction: Direction, count: u64) {
        self.0.messages.add([profile.into(), Label::Word(direction.word())], count);
    }

    /// An attempt to track or to send one message failed, and the mailbox goes on with the others.
    pub fn message_failed(&self, profile: &Profile, direction: Direction, reason: Reason) {
        let labels = [profile.into(), Label::Word(direction.word()), Label::Word(reason.code())];
        self.0.message_failures.add(labels, 1);
    }

    /// A request to Exchange took so long; the operation is the name of the EWS call, such as `SyncFolderItems`.
    pub fn request(
        &self,
        profile: &Profile,
        operation: &'static str,
        failed: Option<Reason>,
        took: Duration,
    ) {
        let outcome = Label::Word(failed.map_or("success", Reason::code));
        self.0.requests.record([profile.into(), Label::Word(operation), outcome], took);
    }

    /// So many connections are open now.
    pub fn connections(&self, profile: &Profile, open: usize) {
        self.0.connections.set([profile.into()], open);
    }

    /// So many mailboxes are in this state now.
    pub fn mailboxes(&self, profile: &Profile, state: Health, count: usize) {
        self.0.mailboxes.set([profile.into(), Label::Word(state.word())], count);
    }

    /// So many alerts of a level are open now.
    pub fn open_alerts(&self, level: Level, count: usize) {
        self.0.alerts.set([Label::Word(level.word())], count);
    }

    /// A write was refused because another holder has the mailbox.
    pub fn fenced_write(&self, operation: Kind) {
        self.0.fenced.add([word(operation)], 1);
    }

    /// A row of this table could not be understood and was passed over.
    pub fn unreadable_row(&self, table: &'static str) {
        self.0.unreadable.add([Label::Word(table)], 1);
    }

    /// All figures as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut page = String::new();
        // A string takes everything.
        let _written = text::encode(&mut page, &self.0.registry);
        page
    }
}

impl From<&Profile> for Label {
    fn from(profile: &Profile) -> Self {
        Self::Name(profile.0.clone())
    }
}

fn word(operation: Kind) -> Label {
    Label::Word(operation.word())
}

fn nature(reason: Reason) -> Label {
    Label::Word(match reason.nature() {
        Nature::Transient => "transient",
        Nature::Throttled => "throttled",
        Nature::Permanent | Nature::Configuration => "permanent",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_figure() {
        let metrics = Metrics::new("embedded", None);
        let head_office = metrics.profile("Head \"office\"\n");
        metrics.poll_began(&head_office, Kind::Incoming, Duration::from_secs(3));
        metrics.poll_ended(&head_office, Kind::Incoming, Turn::Success);
        metrics.poll_ended(&head_office, Kind::Incoming, Turn::Failed(Reason::ProfileAuthRejected));
        metrics.poll_ended(&head_office, Kind::Outgoing, Turn::Fenced);
        metrics.messages(&head_office, Direction::Incoming, 7);
        metrics.messages(&head_office, Direction::Outgoing, 2);
        metrics.message_failed(&head_office, Direction::Incoming, Reason::ItemCorrupt);
        metrics.request(&head_office, "SyncFolderItems", None, Duration::from_millis(12));
        metrics.connections(&head_office, 4);
        metrics.mailboxes(&head_office, Health::Failing, 9);
        metrics.mailboxes(&head_office, Health::Failing, 8);
        metrics.open_alerts(Level::Error, 1);
        metrics.fenced_write(Kind::Incoming);
        metrics.unreadable_row("fact");
        let page = metrics.render().replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert!(page.ends_with("# EOF\n"));
        assert!(page.contains("mailyard_poll_lag_seconds_bucket{le=\"5.0\",profile="), "{page}");
        // The lines of one figure stand in any order.
        let mut lines: Vec<&str> = page.lines().filter(|line| !line.contains("_bucket{")).collect();
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn failures_are_counted_by_what_may_be_expected() {
        let metrics = Metrics::new("test", None);
        let profile = metrics.profile("p");
        for reason in Reason::catalogue().iter().map(|entry| entry.reason) {
            metrics.poll_ended(&profile, Kind::Act, Turn::Failed(reason));
        }
        let page = metrics.render();
        let total = |figure: &str| -> usize {
            let lines = page.lines().filter(|line| line.starts_with(figure));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
        };
        assert_eq!(total("mailyard_polls_total{"), Reason::catalogue().len());
        assert_eq!(total("mailyard_failures_total{"), Reason::catalogue().len());
        for outcome in ["transient", "throttled", "permanent", "server_fault"] {
            assert!(
                total(&format!(
                    "mailyard_polls_total{{profile=\"p\",operation=\"act\",outcome=\"{outcome}\""
                )) > 0
            );
        }
    }

    #[test]
    fn profiles_beyond_the_bound_share_a_label() {
        let metrics = Metrics::new("test", None);
        for name in 0..PROFILES * 2 {
            let profile = metrics.profile(&name.to_string());
            metrics.connections(&profile, 1);
        }
        assert_eq!(metrics.profile("0"), Profile("0".into()));
        let series =
            metrics.render().lines().filter(|line| line.starts_with("mailyard_connections{")).count();
        assert_eq!(series, PROFILES + 1);
    }
}
