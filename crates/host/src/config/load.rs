//! Reads the configuration from everywhere it may stand, and says exactly what is wrong where.

use std::{
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::{DeTable, DeValue};

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
    /// In several keys together.
    Together,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(out, "{}:{line}:{column}: ", path.display()),
            Self::Variable(name) => write!(out, "environment variable {name}: "),
            Self::Flag(name) => write!(out, "{name}: "),
            Self::Together => Ok(()),
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
        write!(out, "{}{}", self.place, self.what)
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
    let mut config = Config::default();
    let mut problems = Vec::new();
    if let Some(path) = file {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        read_file(&mut config, path, &text, &mut problems);
    }
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let key = key.to_lowercase();
        let place = Place::Variable(name.clone());
        let (section, key) = key.split_once("__").unwrap_or((&key, ""));
        set(&mut config, section, key, &value, place, &mut problems);
    }
    for (name, value) in flags {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        set(&mut config, section, key, value, Place::Flag((*name).to_owned()), &mut problems);
    }
    problems.extend(together(&config));
    if problems.is_empty() { Ok(config) } else { Err(Error::Wrong(problems)) }
}

fn read_file(config: &mut Config, path: &Path, text: &str, problems: &mut Vec<Problem>) {
    let place = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::File { path: path.to_owned(), line, column }
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let what = error.message().to_owned();
            return problems.push(Problem { place: place(error.span().unwrap_or(0..0)), what });
        }
    };
    for (section, value) in table.get_ref() {
        let DeValue::Table(keys) = value.get_ref() else {
            let what = format!(
                "{:?} must stand in a section; {}",
                section.get_ref(),
                nearest_key(section.get_ref())
            );
            problems.push(Problem { place: place(section.span()), what });
            continue;
        };
        let known = KEYS.iter().any(|key| key.section == section.get_ref());
        if !known {
            let names = KEYS.iter().map(|key| key.section);
            let what =
                format!("there is no section [{}]{}", section.get_ref(), nearest(section.get_ref(), names));
            problems.push(Problem { place: place(section.span()), what });
            continue;
        }
        for (key, value) in keys {
            let there = place(key.span());
            match scalar(value.get_ref()) {
                Some(text) => set(config, section.get_ref(), key.get_ref(), &text, there, problems),
                None => {
                    let what = format!("{}.{} must be a single value", section.get_ref(), key.get_ref());
                    problems.push(Problem { place: there, what });
                }
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn set(config: &mut Config, section: &str, key: &str, text: &str, place: Place, problems: &mut Vec<Problem>) {
    let what = match config.set(section, key, text) {
        Some(true) => return,
        Some(false) => {
            let known = KEYS.iter().find(|known| known.section == section && known.name == key);
            let allowed = known.map(|known| known.allowed).unwrap_or_default();
            // A value may be a secret that stands in the wrong place: it is not repeated.
            format!("the value of {section}.{key} is not allowed there; write {allowed}")
        }
        None => {
            let full = format!("{section}.{key}");
            format!("there is no key {full}{}", nearest_key(&full))
        }
    };
    problems.push(Problem { place, what });
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

/// What is right alone and wrong together.
fn together(config: &Config) -> Vec<Problem> {
    let Config { sync, exchange, alerts, smtp, breaker, .. } = config;
    let checks = [
        (sync.active_min > sync.active_period, "sync.active_min must not be longer than sync.active_period"),
        (sync.active_period > sync.active_max, "sync.active_period must not be longer than sync.active_max"),
        (sync.active_min.is_zero(), "sync.active_min must be longer than nothing"),
        (sync.retry_gap.is_zero(), "sync.retry_gap must be longer than nothing"),
        (sync.retry_attempts == 0, "sync.retry_attempts must be at least 1"),
        (exchange.request_deadline.is_zero(), "exchange.request_deadline must be longer than nothing"),
        (
            exchange.request_deadline > Duration::from_secs(20),
            "exchange.request_deadline must be at most 20s: the leases of a cluster rely on it",
        ),
        (exchange.connect_timeout.is_zero(), "exchange.connect_timeout must be longer than nothing"),
        (exchange.max_message_size.0 == 0, "exchange.max_message_size must be more than nothing"),
        (
            alerts.clear_below > alerts.failure_ratio,
            "alerts.clear_below must not be above alerts.failure_ratio",
        ),
        (
            breaker.faults == 0 || breaker.successes == 0,
            "breaker.faults and breaker.successes must be at least 1",
        ),
        (breaker.canary_first.is_zero(), "breaker.canary_first must be longer than nothing"),
        (
            !smtp.host.is_empty() && !smtp.from.contains('@'),
            "smtp.from must be an address when smtp.host is set",
        ),
        (
            smtp.user.is_empty() != smtp.password_file.is_none(),
            "smtp.user and smtp.password_file must be set together or not at all",
        ),
    ];
    let wrong = checks.into_iter().filter(|(wrong, _)| *wrong);
    wrong.map(|(_, what)| Problem { place: Place::Together, what: what.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tree::default_file, *};

    fn problems(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = folder.path().join("mailyard.toml");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load(Some(&path), environment, flags) {
            Ok(_) => String::new(),
            Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
        }
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = folder.path().join("mailyard.toml");
        fs::write(&path, default_file()).unwrap_or_else(|error| panic!("{error}"));
        let read = load(Some(&path), [], &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, Config::default());
        assert!(
            default_file().contains("# The usual period of a mailbox.\nactive_period = \"5m\"\n"),
            "{}",
            default_file()
        );
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let read = |file: &str, variable: Option<&str>, flag: Option<&str>| {
            let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
            let path = folder.path().join("mailyard.toml");
            fs::write(&path, file).unwrap_or_else(|error| panic!("{error}"));
            let variables = variable.map(|value| ("MAILYARD__SYNC__RETRY_GAP".to_owned(), value.to_owned()));
            let flags: Vec<(&str, &str)> = flag.map(|value| ("sync.retry_gap", value)).into_iter().collect();
            load(Some(&path), variables, &flags)
                .map(|config| config.sync.retry_gap.as_secs())
                .unwrap_or_default()
        };
        let file = "[sync]\nretry_gap = \"1m\"\n";
        assert_eq!([read("", None, None), read(file, None, None)], [300, 60]);
        assert_eq!([read(file, Some("2m"), None), read(file, Some("2m"), Some("3m"))], [120, 180]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_place() {
        let cases = [
            (
                "[sync]\nactive_perod = \"5m\"\n",
                "FILE:2:1: there is no key sync.active_perod; the nearest is sync.active_period",
            ),
            ("[snyc]\n", "FILE:1:2: there is no section [snyc]; the nearest is sync"),
            (
                "\n\n[sync]\n  retry_gap = \"soon\"\n",
                "FILE:4:3: the value of sync.retry_gap is not allowed there; write a duration such as \"90s\", \"5m\" or \"24h\"",
            ),
            (
                "[sync]\nretry_attempts = 300\n",
                "FILE:2:1: the value of sync.retry_attempts is not allowed there; write a whole number, 0 to 255",
            ),
            ("[sync]\nretry_gap = [1]\n", "FILE:2:1: sync.retry_gap must be a single value"),
            ("[alerts]\nfailure_ratio = 0.3\n", "alerts.clear_below must not be above alerts.failure_ratio"),
            (
                "[smtp]\ntls = \"ssl\"\n",
                "FILE:2:1: the value of smtp.tls is not allowed there; write none, starttls or implicit",
            ),
            (
                "[exchange]\nrequest_deadline = \"30s\"\n",
                "exchange.request_deadline must be at most 20s: the leases of a cluster rely on it",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(problems(text, &[], &[]), expected);
        }
        assert!(problems("[sync\n", &[], &[]).starts_with("FILE:1:"));
        assert_eq!(
            problems("", &[("MAILYARD__SYNC__RETRYGAP", "1m")], &[]),
            "environment variable MAILYARD__SYNC__RETRYGAP: there is no key sync.retrygap; the nearest is sync.retry_gap"
        );
        assert_eq!(problems("", &[("MAILYARD_DATA", "x"), ("HOME", "y")], &[]), "");
        assert!(
            problems("", &[], &[("listen.grpc", "here")])
                .starts_with("listen.grpc: the value of listen.grpc")
        );
    }
}
