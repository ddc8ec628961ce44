//! Values on their way out of rows: ids as 16 bytes, times as milliseconds, words and one-line forms as text.

use std::{fmt::Display, str::FromStr, time::Duration};

use bytes::Bytes;
use mailyard_policy::{Timestamp, operation::Method};

use crate::{Error, Result, secret::Envelope};

/// Reading of columns by name. A backend says how the five kinds of values are read, and the rest follows.
pub(crate) trait Columns {
    /// Bytes, an id's too.
    fn bytes_at(&self, name: &str) -> Result<Option<&[u8]>>;
    /// A text.
    fn text_at(&self, name: &str) -> Result<Option<&str>>;
    /// A number.
    fn number_at(&self, name: &str) -> Result<Option<i64>>;
    /// True or false.
    fn flag_at(&self, name: &str) -> Result<Option<bool>>;

    /// The bytes of an id or hash.
    fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N]> {
        self.maybe_bytes(name)?.ok_or_else(|| missing(name))
    }

    /// The same, where there may be none.
    fn maybe_bytes<const N: usize>(&self, name: &str) -> Result<Option<[u8; N]>> {
        let Some(bytes) = self.bytes_at(name)? else { return Ok(None) };
        let wrong = |_| Error::Corrupt(format!("{name} has {} bytes and not {N}", bytes.len()));
        bytes.try_into().map(Some).map_err(wrong)
    }

    /// Bytes of any length.
    fn blob(&self, name: &str) -> Result<Bytes> {
        self.maybe_blob(name)?.ok_or_else(|| missing(name))
    }

    /// The same, where there may be none.
    fn maybe_blob(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.bytes_at(name)?.map(Bytes::copy_from_slice))
    }

    /// A number that is never negative.
    fn number(&self, name: &str) -> Result<u64> {
        let number = self.number_at(name)?.ok_or_else(|| missing(name))?;
        u64::try_from(number).map_err(|_| Error::Corrupt(format!("{name} is negative")))
    }

    /// A number that is never negative and never large.
    fn small<T: TryFrom<u64>>(&self, name: &str) -> Result<T> {
        let number = self.number(name)?;
        T::try_from(number).map_err(|_| Error::Corrupt(format!("{name} is {number}")))
    }

    /// A text.
    fn text(&self, name: &str) -> Result<String> {
        self.str(name).map(ToOwned::to_owned)
    }

    /// A text, to be read at once.
    fn str(&self, name: &str) -> Result<&str> {
        self.text_at(name)?.ok_or_else(|| missing(name))
    }

    /// A text, where there may be none.
    fn maybe_text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.text_at(name)?.map(ToOwned::to_owned))
    }

    /// True or false.
    fn flag(&self, name: &str) -> Result<bool> {
        self.flag_at(name)?.ok_or_else(|| missing(name))
    }

    /// A moment.
    fn time(&self, name: &str) -> Result<Timestamp> {
        self.maybe_time(name)?.ok_or_else(|| missing(name))
    }

    /// A moment, where there may be none.
    fn maybe_time(&self, name: &str) -> Result<Option<Timestamp>> {
        Ok(self.number_at(name)?.map(Timestamp::from_millis))
    }

    /// A duration.
    fn duration(&self, name: &str) -> Result<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// A duration, where there may be none.
    fn maybe_duration(&self, name: &str) -> Result<Option<Duration>> {
        Ok(self.number_at(name)?.map(|millis| Duration::from_millis(millis.unsigned_abs())))
    }

    /// A word or one-line form.
    fn word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T> {
        parse(name, self.str(name)?)
    }

    /// A word or one-line form, where there may be none.
    fn maybe_word<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>> {
        self.text_at(name)?.map(|text| parse(name, text)).transpose()
    }

    /// A secret as it is stored, in the columns `key_id`, `wrapped_key` and `sealed`; `None`: there is none.
    fn envelope(&self) -> Result<Option<Envelope>> {
        let Some(key_id) = self.maybe_text("key_id")? else { return Ok(None) };
        let (wrapped_key, sealed) = (self.blob("wrapped_key")?.into(), self.blob("sealed")?.into());
        Ok(Some(Envelope { key_id, wrapped_key, sealed }))
    }
}

fn missing(name: &str) -> Error {
    Error::Corrupt(format!("{name} is missing"))
}

/// Reads a word or one-line form of this column.
pub(crate) fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| Error::Corrupt(format!("{name}: {error}")))
}

/// Three methods as they are stored: `sss,sss,none`.
pub(crate) fn methods_text([incoming, outgoing, act]: [Method; 3]) -> String {
    format!("{incoming},{outgoing},{act}")
}

/// Three methods as they were stored.
pub(crate) fn methods(name: &str, text: &str) -> Result<[Method; 3]> {
    let words: Vec<Method> = text.split(',').map(|word| parse(name, word)).collect::<Result<_>>()?;
    words.try_into().map_err(|_| Error::Corrupt(format!("{name}: three methods are expected")))
}

/// Lines as they are stored: addresses and Message-IDs have no line breaks.
pub(crate) fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n")
}

/// Lines as they were stored.
pub(crate) fn split_lines(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split('\n').map(ToOwned::to_owned).collect() }
}
