//! Reads the configuration from everywhere it may stand, and says exactly what is wrong where.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::tree::{Config, KEYS};

/// Names of environment variables begin so: `MAILYARD__SYNC__ACTIVE_PERIOD`.
const PREFIX: &str = "MAILYARD__";

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line and a column that count from 1.
    File {
        /// Which.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(out, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => out.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what may stand there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everything that is wrong in it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problem>),
}

/// The configuration from a file (if one is named), the environment, and flags such as `("sync.active_period", "1m")`.
///
/// # Errors
/// [`Error`], with every problem and not only the first.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, &str)],
) -> Result<Config, Error> {
    let mut reader = Reader::default();
    if let Some(path) = file {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        reader.file(path, &text);
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let (section, key) = key.split_once("__").unwrap_or((key, ""));
        let key = (section.to_lowercase(), key.to_lowercase());
        let place = Place::Variable(name);
        reader.set((&key.0, &key.1), &value, Form::Any, &place, &place);
    }
    for (name, value) in flags {
        let place = Place::Flag((*name).to_owned());
        reader.set(name.split_once('.').unwrap_or((name, "")), value, Form::Any, &place, &place);
    }
    reader.finish()
}

/// The environment of this process, as far as it is meant for the configuration.
pub fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// How a value is written: only a file tells texts from numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Quoted,
    Bare,
    Any,
}

#[derive(Default)]
struct Reader {
    config: Config,
    /// Where each key was last set, by its full name.
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str) {
        let place = |span: Range<usize>| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Place::File { path: path.to_owned(), line, column }
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                return self.wrong(&place(error.span().unwrap_or(0..0)), error.message().to_owned());
            }
        };
        for (section, value) in table.get_ref() {
            let (name, there) = (section.get_ref(), place(section.span()));
            match value.get_ref() {
                DeValue::Table(keys) if KEYS.iter().any(|key| key.section == name) => {
                    self.section(name, keys, place);
                }
                DeValue::Table(_) => {
                    let nearest = nearest(name, KEYS.iter().map(|key| key.section));
                    self.wrong(&there, format!("there is no section [{name}]{nearest}"));
                }
                _ => {
                    let homes = KEYS.iter().filter(|key| key.name == name);
                    let homes: Vec<String> = homes.map(|key| format!("[{}]", key.section)).collect();
                    let section =
                        if homes.is_empty() { String::new() } else { format!(": {}", homes.join(" or ")) };
                    self.wrong(&there, format!("the key {name} must stand in a section{section}"));
                }
            }
        }
    }

    fn section(&mut self, section: &str, keys: &DeTable<'_>, place: impl Fn(Range<usize>) -> Place) {
        for (key, value) in keys {
            let (name, value_at) = (key.get_ref(), place(value.span()));
            let is_table = KEYS.iter().any(|key| key.table && key.section == section && key.name == name);
            if let (true, DeValue::Table(pairs)) = (is_table, value.get_ref()) {
                self.pairs((section, name), pairs, &place);
                continue;
            }
            match scalar(value) {
                Some((text, form)) => self.set((section, name), &text, form, &place(key.span()), &value_at),
                None => {
                    let what =
                        format!("{section}.{name} must be a single value; a number stands in decimals");
                    self.wrong(&value_at, what);
                }
            }
        }
    }

    /// A key that is written as a table: each pair is told of at its own place.
    fn pairs(&mut self, key: (&str, &str), pairs: &DeTable<'_>, place: &impl Fn(Range<usize>) -> Place) {
        let mut good = String::new();
        for (name, answer) in pairs {
            let at = place(answer.span());
            let text = scalar(answer).map(|(text, _)| text).unwrap_or_default();
            let comma = if good.is_empty() { "" } else { "," };
            let longer = format!("{good}{comma}{}={text}", name.get_ref());
            let before = self.problems.len();
            self.set(key, &longer, Form::Quoted, &at, &at);
            if self.problems.len() == before {
                good = longer;
            }
        }
    }

    fn set(
        &mut self,
        (section, key): (&str, &str),
        text: &str,
        form: Form,
        key_at: &Place,
        value_at: &Place,
    ) {
        let full = format!("{section}.{key}");
        let known = KEYS.iter().find(|known| known.section == section && known.name == key);
        let allowed = known.map(|known| known.allowed).unwrap_or_default();
        match self.config.set(section, key, text) {
            None => self.wrong(key_at, format!("there is no key {full}{}", nearest_key(&full))),
            // A value may be a secret that stands in the wrong place: it is not repeated.
            Some(false) => {
                self.wrong(value_at, format!("the value of {full} is not allowed there; write {allowed}"));
            }
            Some(true) => {
                let written = self.config.written(section, key).unwrap_or_default();
                match (form, written.starts_with(['"', '\''])) {
                    (Form::Quoted, false) => {
                        self.wrong(value_at, format!("{full} stands without quotes; write {allowed}"));
                    }
                    (Form::Bare, true) => {
                        self.wrong(value_at, format!("{full} stands in quotes; write {allowed}"));
                    }
                    _ => {}
                }
                self.places.insert(full, value_at.clone());
            }
        }
    }

    fn wrong(&mut self, place: &Place, what: String) {
        self.problems.push(Problem { place: place.clone(), what });
    }

    fn finish(mut self) -> Result<Config, Error> {
        if self.problems.is_empty() {
            // The defaults go together: where something does not, one of its keys was set somewhere.
            for (_, keys, what) in together(&self.config).into_iter().filter(|(wrong, ..)| *wrong) {
                if let Some(place) = keys.iter().find_map(|key| self.places.get(*key)).cloned() {
                    self.wrong(&place, what.to_owned());
                }
            }
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(Error::Wrong(self.problems)) }
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<(String, Form)> {
    match value.get_ref() {
        DeValue::String(text) => Some((text.to_string(), Form::Quoted)),
        DeValue::Integer(number) if number.radix() == 10 => Some((number.as_str().to_owned(), Form::Bare)),
        DeValue::Float(number) => Some((number.as_str().to_owned(), Form::Bare)),
        DeValue::Boolean(flag) => Some((flag.to_string(), Form::Bare)),
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn nearest_key(full: &str) -> String {
    let names: Vec<String> = KEYS.iter().map(|key| format!("{}.{}", key.section, key.name)).collect();
    nearest(full, names.iter().map(String::as_str))
}

fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let scored = names.map(|name| (strsim::jaro_winkler(wrong, name), name));
    match scored.max_by(|(one, _), (two, _)| one.total_cmp(two)) {
        Some((score, name)) if score > 0.7 => format!("; the nearest is {name}"),
        _ => String::new(),
    }
}

/// What is right alone and wrong together: whether it is so, the keys it is about, and what must be.
type Check = (bool, &'static [&'static str], &'static str);

fn together(config: &Config) -> Vec<Check> {
    [deadlines(config), judgements(config), relay(config)].concat()
}

fn deadlines(Config { sync, exchange, worker, .. }: &Config) -> Vec<Check> {
    /// The leases of a cluster are longer than one request.
    const REQUEST_AT_MOST: Duration = Duration::from_secs(20);
    vec![
        (
            sync.active_min > sync.active_period,
            &["sync.active_min", "sync.active_period"],
            "sync.active_min must not be longer than sync.active_period",
        ),
        (
            sync.active_period > sync.active_max,
            &["sync.active_period", "sync.active_max"],
            "sync.active_period must not be longer than sync.active_max",
        ),
        (sync.active_min.is_zero(), &["sync.active_min"], "sync.active_min must be longer than nothing"),
        (sync.idle_max.is_zero(), &["sync.idle_max"], "sync.idle_max must be longer than nothing"),
        (sync.retry_gap.is_zero(), &["sync.retry_gap"], "sync.retry_gap must be longer than nothing"),
        (sync.retry_attempts == 0, &["sync.retry_attempts"], "sync.retry_attempts must be at least 1"),
        (
            exchange.request_deadline.is_zero() || exchange.request_deadline > REQUEST_AT_MOST,
            &["exchange.request_deadline"],
            "exchange.request_deadline must be longer than nothing and at most 20s: the leases of a cluster rely on it",
        ),
        (
            exchange.cycle_deadline < exchange.request_deadline,
            &["exchange.cycle_deadline", "exchange.request_deadline"],
            "exchange.cycle_deadline must not be shorter than exchange.request_deadline",
        ),
        (
            exchange.connect_timeout.is_zero(),
            &["exchange.connect_timeout"],
            "exchange.connect_timeout must be longer than nothing",
        ),
        (
            exchange.max_message_size.0 == 0,
            &["exchange.max_message_size"],
            "exchange.max_message_size must be more than nothing",
        ),
        (worker.max_inflight == 0, &["worker.max_inflight"], "worker.max_inflight must be at least 1"),
    ]
}

fn judgements(Config { alerts, breaker, .. }: &Config) -> Vec<Check> {
    vec![
        (
            alerts.clear_below > alerts.failure_ratio,
            &["alerts.clear_below", "alerts.failure_ratio"],
            "alerts.clear_below must not be above alerts.failure_ratio",
        ),
        (alerts.renotify.is_zero(), &["alerts.renotify"], "alerts.renotify must be longer than nothing"),
        (breaker.faults == 0, &["breaker.faults"], "breaker.faults must be at least 1"),
        (breaker.successes == 0, &["breaker.successes"], "breaker.successes must be at least 1"),
        (
            breaker.canary_first.is_zero(),
            &["breaker.canary_first"],
            "breaker.canary_first must be longer than nothing",
        ),
        (
            breaker.canary_first > breaker.canary_max,
            &["breaker.canary_first", "breaker.canary_max"],
            "breaker.canary_first must not be longer than breaker.canary_max",
        ),
    ]
}

fn relay(Config { smtp, .. }: &Config) -> Vec<Check> {
    vec![
        (
            !smtp.host.is_empty() && !smtp.from.contains('@'),
            &["smtp.from", "smtp.host"],
            "smtp.from must be an address when smtp.host is set",
        ),
        (
            smtp.user.is_empty() != smtp.password_file.is_none(),
            &["smtp.user", "smtp.password_file"],
            "smtp.user and smtp.password_file must be set together or not at all",
        ),
    ]
}
