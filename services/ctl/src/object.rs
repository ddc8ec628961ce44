//! What is shown: an object with keys in order. Tables and JSON are two ways to write the same one.

use mailyard_host::config::short;
use mailyard_wire::{Duration, Timestamp, convert};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::values::{printable, rfc3339};

/// Keys with values, in the order in which they are shown. What is absent has no key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Vec<(&'static str, Value)>);

/// A value.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Text(String),
    /// What programs get whole, and people only hear of.
    Document(String),
    /// RFC 3339 with milliseconds.
    Time(String),
    Number(u64),
    Flag(bool),
    Texts(Vec<String>),
    Object(Object),
    Objects(Vec<Object>),
}

impl Object {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, key: &'static str, value: Value) -> Self {
        self.0.push((key, value));
        self
    }

    /// A text; absent if it is empty.
    pub(crate) fn text(self, key: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { self } else { self.with(key, Value::Text(text)) }
    }

    /// A document; absent if it is empty.
    pub(crate) fn document(self, key: &'static str, text: &str) -> Self {
        if text.is_empty() { self } else { self.with(key, Value::Document(text.to_owned())) }
    }

    /// The word of an enum's value; absent if none is given.
    pub(crate) fn word(self, key: &'static str, name: &'static str, prefix: &str) -> Self {
        let word = convert::word(name, prefix);
        if word == "unspecified" { self } else { self.text(key, word) }
    }

    pub(crate) fn number(self, key: &'static str, number: impl Into<u64>) -> Self {
        self.with(key, Value::Number(number.into()))
    }

    pub(crate) fn flag(self, key: &'static str, flag: bool) -> Self {
        self.with(key, Value::Flag(flag))
    }

    /// A flag that may be absent.
    pub(crate) fn maybe(self, key: &'static str, flag: Option<bool>) -> Self {
        match flag {
            Some(flag) => self.flag(key, flag),
            None => self,
        }
    }

    pub(crate) fn time(self, key: &'static str, at: Option<&Timestamp>) -> Self {
        match at {
            Some(at) => self.with(key, Value::Time(rfc3339(at))),
            None => self,
        }
    }

    /// A duration such as `5m`.
    pub(crate) fn span(self, key: &'static str, duration: Option<&Duration>) -> Self {
        match duration.and_then(convert::span) {
            Some(duration) => self.text(key, short(duration)),
            None => self,
        }
    }

    pub(crate) fn texts(self, key: &'static str, texts: Vec<String>) -> Self {
        self.with(key, Value::Texts(texts))
    }

    pub(crate) fn object(self, key: &'static str, object: Object) -> Self {
        self.with(key, Value::Object(object))
    }

    pub(crate) fn objects(self, key: &'static str, objects: Vec<Object>) -> Self {
        self.with(key, Value::Objects(objects))
    }

    pub(crate) fn entries(&self) -> &[(&'static str, Value)] {
        &self.0
    }

    /// What a path such as `operations.incoming.state` leads to.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
        let (_, value) = self.0.iter().find(|(known, _)| *known == key)?;
        match (value, rest) {
            (value, None) => Some(value),
            (Value::Object(object), Some(rest)) => object.get(rest),
            _ => None,
        }
    }
}

impl Value {
    /// In one line, for people. Empty: there is nothing to show.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Text(text) if text.contains('\n') => format!("({} lines)", text.lines().count()),
            Self::Text(text) => printable(text),
            Self::Document(text) => format!("({} bytes)", text.len()),
            Self::Time(time) => match time.split_once('.') {
                Some((seconds, _)) => format!("{seconds}Z"),
                None => time.clone(),
            },
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Texts(texts) => printable(&texts.join(", ")),
            Self::Object(_) | Self::Objects(_) => String::new(),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
