//! Values on their way into and out of rows: ids as 16 bytes, times as milliseconds, words and one-line forms as text.

use std::{fmt::Display, str::FromStr, time::Duration};

use mailyard_policy::{Timestamp, id, operation::Method, tracking::MessageKey};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Result};

/// The database's clock in milliseconds.
macro_rules! now {
    () => {
        "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
    };
}
pub(super) use now;

/// Everything that fails before a commit changed nothing.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// What stands in a column as bytes.
pub(super) trait Key {
    /// Its bytes.
    fn key(&self) -> Vec<u8>;
}

macro_rules! keys {
    ($($name:path),+) => {$(
        impl Key for $name {
            fn key(&self) -> Vec<u8> {
                self.to_bytes().to_vec()
            }
        }
    )+};
}

keys!(
    id::ProfileId,
    id::MailboxId,
    id::RecordId,
    id::OutgoingId,
    id::OperationId,
    id::AlertId,
    id::Incarnation,
    id::Nonce,
    id::UploadId,
    MessageKey
);

/// Reading of columns by name.
pub(super) trait Columns {
    /// The bytes of an id or hash.
    fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N]>;
    /// The same, where there may be none.
    fn maybe_bytes<const N: usize>(&self, name: &str) -> Result<Option<[u8; N]>>;
    /// A number that is never negative.
    fn number(&self, name: &str) -> Result<u64>;
    /// A text.
    fn text(&self, name: &str) -> Result<String>;
    /// A text, where there may be none.
    fn maybe_text(&self, name: &str) -> Result<Option<String>>;
    /// True or false.
    fn flag(&self, name: &str) -> Result<bool>;
    /// A moment.
    fn time(&self, name: &str) -> Result<Timestamp>;
    /// A moment, where there may be none.
    fn maybe_time(&self, name: &str) -> Result<Option<Timestamp>>;
    /// A word or one-line form.
    fn word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T>;
    /// A word or one-line form, where there may be none.
    fn maybe_word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>>;
}

impl Columns for SqliteRow {
    fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N]> {
        array(name, self.try_get(name)?)
    }

    fn maybe_bytes<const N: usize>(&self, name: &str) -> Result<Option<[u8; N]>> {
        self.try_get::<Option<&[u8]>, _>(name)?.map(|bytes| array(name, bytes)).transpose()
    }

    fn number(&self, name: &str) -> Result<u64> {
        let number: i64 = self.try_get(name)?;
        u64::try_from(number).map_err(|_| Error::Corrupt(format!("{name} is negative")))
    }

    fn text(&self, name: &str) -> Result<String> {
        Ok(self.try_get(name)?)
    }

    fn maybe_text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.try_get(name)?)
    }

    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.try_get::<i64, _>(name)? != 0)
    }

    fn time(&self, name: &str) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.try_get(name)?))
    }

    fn maybe_time(&self, name: &str) -> Result<Option<Timestamp>> {
        Ok(self.try_get::<Option<i64>, _>(name)?.map(Timestamp::from_millis))
    }

    fn word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T> {
        parse(name, self.try_get(name)?)
    }

    fn maybe_word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>> {
        self.try_get::<Option<&str>, _>(name)?.map(|text| parse(name, text)).transpose()
    }
}

fn array<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::Corrupt(format!("{name} has {} bytes and not {N}", bytes.len())))
}

/// Reads a word or one-line form of this column.
pub(super) fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| Error::Corrupt(format!("{name}: {error}")))
}

/// A moment as it is stored.
pub(super) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

/// A duration as it is stored.
pub(super) fn duration_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Three methods as they are stored: `sss,sss,none`.
pub(super) fn methods_text([incoming, outgoing, act]: [Method; 3]) -> String {
    format!("{incoming},{outgoing},{act}")
}

/// Three methods as they were stored.
pub(super) fn methods(name: &str, text: &str) -> Result<[Method; 3]> {
    let words: Vec<Method> = text.split(',').map(|word| parse(name, word)).collect::<Result<_>>()?;
    words.try_into().map_err(|_| Error::Corrupt(format!("{name}: three methods are expected")))
}

/// Lines as they are stored: addresses and Message-IDs have no line breaks.
pub(super) fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n")
}

/// Lines as they were stored.
pub(super) fn split_lines(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split('\n').map(ToOwned::to_owned).collect() }
}
