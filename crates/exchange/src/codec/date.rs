//! Dates in answers: read leniently, because mailboxes hold every kind.

use mailyard_policy::Timestamp;

/// The moment of a date in an answer. A date without a zone is UTC. `None` for what cannot be read and for what
/// servers write where there is no date (year 1, 1601, 4501).
pub fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let local: jiff::civil::DateTime = text.parse().ok()?;
        Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    let year = moment.to_zoned(jiff::tz::TimeZone::UTC).year();
    (1602..4500).contains(&year).then(|| Timestamp::from_millis(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_leniently() {
        for (text, millis) in [
            ("2026-03-01T12:00:00Z", Some(1_772_366_400_000)),
            (" 2026-03-01T12:00:00.25Z\n", Some(1_772_366_400_250)),
            ("2026-03-01T14:00:00+02:00", Some(1_772_366_400_000)),
            ("2026-03-01T12:00:00", Some(1_772_366_400_000)),
            ("2026-03-01", Some(1_772_323_200_000)),
            ("0001-01-01T00:00:00Z", None),
            ("1601-01-01T00:00:00Z", None),
            ("4501-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(read(text).map(Timestamp::as_millis), millis, "{text}");
        }
    }
}
