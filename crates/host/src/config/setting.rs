//! The kinds of values that keys have, and how they are written.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use http::Uri;
use mailyard_policy::names::{Domains, Names};
use tracing::level_filters::LevelFilter;

/// A kind of value.
pub trait Setting: Sized {
    /// What may be written, for people.
    const ALLOWED: &'static str;

    /// True: it may be written as a table too, whose pairs are the parts of its text.
    const TABLE: bool = false;

    /// Reads a value; `None`: it is not one.
    fn read(text: &str) -> Option<Self>;

    /// As it is written in a file.
    fn write(&self) -> String;
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// No wait is longer: sums with moments stay far from the end of time.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// A duration in the largest unit that it is a whole number of, down to milliseconds: `5m`, `90s`, `48h`.
pub fn short(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("h", 3_600_000_u128), ("m", 60_000), ("s", 1000)];
    let whole = units.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    let (unit, size) = whole.unwrap_or(if millis == 0 { ("s", 1) } else { ("ms", 1) });
    format!("{}{unit}", millis / size)
}

impl Setting for Duration {
    const ALLOWED: &'static str = "a duration such as \"90s\", \"5m\" or \"24h\", at most a year";

    fn read(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST)
    }

    fn write(&self) -> String {
        quoted(&short(*self))
    }
}

impl Setting for SocketAddr {
    const ALLOWED: &'static str = "an address and a port such as \"127.0.0.1:7443\"; port 0: any free one";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for String {
    const ALLOWED: &'static str = "a text";

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Setting for Uri {
    const ALLOWED: &'static str =
        "a URL such as \"http://127.0.0.1:4317\" or \"https://collector.example:4317\"";

    fn read(text: &str) -> Option<Self> {
        let uri: Self = text.parse().ok()?;
        (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()).then_some(uri)
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Names {
    const ALLOWED: &'static str =
        "HOST:PORT with IP:PORT, _SERVICE._tcp.DOMAIN with srv:HOST:PORT, or either with none";
    const TABLE: bool = true;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Domains {
    const ALLOWED: &'static str = "domains separated by commas, such as \"example.org, mail.example.net\"";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn read(text: &str) -> Option<Self> {
        Some(text.into())
    }

    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for bool {
    const ALLOWED: &'static str = "true or false";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! numbers {
    ($($kind:ident $allowed:literal),+) => {$(
        impl Setting for $kind {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

numbers! { u8 "a whole number, 0 to 255", u16 "a whole number, 0 to 65535", u64 "a whole number" }

/// A value that may be absent: an empty text.
impl<T: Setting> Setting for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::read(text).map(Some) }
    }

    fn write(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::write)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Setting for Bytes {
    const ALLOWED: &'static str = "a size such as \"64MiB\" or \"512KiB\"";

    fn read(text: &str) -> Option<Self> {
        let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Self)
    }

    fn write(&self) -> String {
        let (unit, shift) = match self.0 {
            0 => ("B", 0),
            bytes if bytes % (1 << 30) == 0 => ("GiB", 30),
            bytes if bytes % (1 << 20) == 0 => ("MiB", 20),
            bytes if bytes % (1 << 10) == 0 => ("KiB", 10),
            _ => ("B", 0),
        };
        quoted(&format!("{}{unit}", self.0 >> shift))
    }
}

/// Which log lines are written: a level, and other levels for single targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    /// From a text; `None`: it is none.
    pub fn of(text: &str) -> Option<Self> {
        <Self as Setting>::read(text)
    }

    /// As a filter of log lines reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for LogLevel {
    const ALLOWED: &'static str =
        "error, warn, info, debug, trace or off, and such for single targets: \"info,ractor=warn\"";

    /// A bare word must be a level: a filter would take a mistyped one for a target, and silence all others.
    fn read(text: &str) -> Option<Self> {
        let is_word = |word: &str| word.starts_with(|letter: char| letter.is_ascii_alphabetic());
        let is_level = |word: &str| is_word(word) && word.parse::<LevelFilter>().is_ok();
        let good = |part: &str| match part.split_once('=') {
            Some((target, level)) => !target.is_empty() && is_level(level),
            None => is_level(part),
        };
        text.split(',').all(|part| good(part.trim())).then(|| Self(text.to_owned()))
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

/// A share between 0 and 1, kept in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Setting for Percent {
    const ALLOWED: &'static str = "a share between 0 and 1 in hundredths, such as 0.5";

    fn read(text: &str) -> Option<Self> {
        let share: f64 = text.parse().ok()?;
        let hundredths = share * 100.0;
        let whole = (0.0..=100.0).contains(&hundredths) && (hundredths - hundredths.round()).abs() < 1e-9;
        whole.then(|| Self(hundredths.round() as u8))
    }

    fn write(&self) -> String {
        format!("{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Kinds of values that are words.
macro_rules! words {
    ($($(#[$doc:meta])+ $name:ident $allowed:literal { $($(#[$variant_doc:meta])+ $variant:ident $word:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])+ $variant,)+ }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }

        impl Setting for $name {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn write(&self) -> String {
                quoted(&self.to_string())
            }
        }
    )+};
}

words! {
    /// How log lines are written.
    LogFormat "auto, text or json" {
        /// Text on a terminal, JSON otherwise.
        Auto "auto",
        /// Text for people.
        Text "text",
        /// One JSON object per line.
        Json "json",
    }
    /// How a mail relay is spoken to.
    SmtpTls "none, starttls or implicit" {
        /// In clear text: only on the same host.
        None "none",
        /// Encrypted before anything is said.
        StartTls "starttls",
        /// Encrypted from the first byte.
        Implicit "implicit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        for (millis, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (300_000, "5m"),
            (3_600_000, "1h"),
            (172_800_000, "48h"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(duration.write(), format!("\"{expected}\""));
            assert_eq!(Duration::read(expected), Some(duration), "{expected}");
        }
        for refused in ["", "5", "-1s", "soon", "400d", "5 parsecs"] {
            assert_eq!(Duration::read(refused), None, "{refused}");
        }
        for bytes in [0, 1, 1024, 64 << 20, 3 << 30, 1025] {
            let written = Bytes(bytes).write();
            assert_eq!(Bytes::read(written.trim_matches('"')), Some(Bytes(bytes)), "{written}");
        }
        for (text, share) in [
            ("0", Some(0)),
            ("0.5", Some(50)),
            ("0.45", Some(45)),
            ("1", Some(100)),
            ("1.01", None),
            ("0.455", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(Percent::read(text), share.map(Percent), "{text}");
        }
        for (text, good) in [
            ("info,ractor=warn", true),
            ("off", true),
            ("debug, mailyard_store=trace", true),
            ("inof", false),
            ("", false),
            ("info,", false),
            ("info,=warn", false),
            ("info,ractor=warm", false),
            ("3", false),
        ] {
            assert_eq!(LogLevel::read(text).is_some(), good, "{text}");
        }
        for (text, good) in [
            ("http://127.0.0.1:4317", true),
            ("https://collector", true),
            ("127.0.0.1:4317", false),
            ("grpc://collector:4317", false),
            ("collector", false),
        ] {
            assert_eq!(Uri::read(text).is_some(), good, "{text}");
        }
        assert_eq!(Bytes::read("64MB"), None);
        assert_eq!(Option::<u16>::read(""), Some(None));
    }
}
