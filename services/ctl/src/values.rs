//! Values of flags: durations, moments, words, secrets; and how texts are quoted.

use std::time::Duration;

use mailyard_host::config::Setting as _;
use mailyard_wire::{Timestamp, convert};

/// Reads a duration; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let allowed = "a duration such as 90s, 5m or 24h is expected, at most a year";
    let read = seconds
        .map_or_else(|| Duration::read(text), |seconds| Duration::read(&format!("{}s", seconds.as_secs())));
    read.ok_or_else(|| allowed.to_owned())
}

/// Reads a moment: RFC 3339, or a date, which is its first moment in UTC.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    let day = || {
        let date: jiff::civil::Date = (text.len() == 10).then(|| text.parse().ok())??;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let moment: Option<jiff::Timestamp> = text.parse().ok().or_else(day);
    let moment =
        moment.ok_or("a time such as 2026-03-01T12:00:00Z or a date such as 2026-03-01 is expected")?;
    Ok(Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
}

/// A moment in RFC 3339, UTC, with milliseconds.
pub(crate) fn rfc3339(at: &Timestamp) -> String {
    convert::moment(at).to_string()
}

/// A value that is forgotten as soon as it is read: it should never have been written there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten;

/// Reads anything and keeps nothing of it.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn forget(_secret: &str) -> Result<Forgotten, std::convert::Infallible> {
    Ok(Forgotten)
}

/// A word as a shell reads it back.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A text as a value of a filter.
pub(crate) fn filter_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// A text for people: what would steer a terminal is taken out of it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// `1 mailbox`, `2 mailboxes`.
pub(crate) fn mailboxes(count: u64) -> String {
    if count == 1 { "1 mailbox".to_owned() } else { format!("{count} mailboxes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_moments_are_read() {
        for (text, seconds) in [
            ("1m", Some(60)),
            ("60m", Some(3600)),
            ("24h", Some(86_400)),
            ("90", Some(90)),
            ("0", Some(0)),
            ("1h 30m", Some(5400)),
            ("-1s", None),
            ("soon", None),
            ("99999999999", None),
            ("", None),
        ] {
            assert_eq!(duration(text).ok().map(|found| found.as_secs()), seconds, "{text}");
        }
        for (text, expected) in [
            ("2026-03-01", Some("2026-03-01T00:00:00.000Z")),
            ("2026-03-01T12:00:00+02:00", Some("2026-03-01T10:00:00.000Z")),
            ("2026-03-01T12:00:00.25Z", Some("2026-03-01T12:00:00.250Z")),
            ("2026-03-01T12:00:00", None),
            ("01.03.2026", None),
            ("yesterday", None),
        ] {
            assert_eq!(time(text).ok().map(|at| rfc3339(&at)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, shell, filter) in [
            ("ada@contoso.test", "ada@contoso.test", r#""ada@contoso.test""#),
            ("Head office", "'Head office'", r#""Head office""#),
            ("", "''", r#""""#),
            (r#"it's "\"#, r#"'it'\''s "\'"#, r#""it's \"\\""#),
        ] {
            assert_eq!((shell_word(text).as_str(), filter_text(text).as_str()), (shell, filter));
        }
    }
}
