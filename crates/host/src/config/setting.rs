//! The kinds of values that keys have, and how they are written.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// A kind of value.
pub trait Setting: Sized {
    /// What may be written, for people.
    const ALLOWED: &'static str;

    /// Reads a value; `None`: it is not one.
    fn read(text: &str) -> Option<Self>;

    /// As it is written in a file.
    fn write(&self) -> String;
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

impl Setting for Duration {
    const ALLOWED: &'static str = "a duration such as \"90s\", \"5m\" or \"24h\"";

    fn read(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok()
    }

    fn write(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string().replace("day", "d").replace(' ', ""))
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
        let durations = [0, 1, 90, 300, 3600, 86_400].map(Duration::from_secs);
        for duration in durations {
            let written = duration.write();
            assert_eq!(Duration::read(written.trim_matches('"')), Some(duration), "{written}");
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
        assert_eq!(Bytes::read("64MB"), None);
        assert_eq!(Option::<u16>::read(""), Some(None));
    }
}
