//! Statements with their values, before a database writes them down in its own way.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use mailyard_policy::{Reason, Timestamp, id, tracking::MessageKey};

/// A value that is bound, never written into the text.
#[derive(Clone)]
pub(crate) enum Value {
    /// An id.
    Id(Option<[u8; 16]>),
    /// Other bytes.
    Bytes(Option<Bytes>),
    /// A text.
    Text(Option<String>),
    /// A number, a moment or a duration.
    Number(Option<i64>),
    /// True or false.
    Flag(Option<bool>),
}

/// What kind of value stands in a list or column.
#[derive(Clone, Copy)]
pub(crate) enum Type {
    Id,
    Bytes,
    Text,
    Number,
}

/// A part of a statement.
pub(crate) enum Piece {
    /// Text; each `?` in it is the next of the statement's values.
    Text(Cow<'static, str>),
    /// What is left of it is one of these.
    IsIn(Type, Vec<Value>),
    /// A table of these rows, one or more.
    Rows(&'static [Type], Vec<Vec<Value>>),
    /// The database's clock in milliseconds.
    Now,
    /// The name of the function that says where a text has a part.
    Position,
    /// Keeps others from writing what is read.
    Lock,
}

/// A statement, and what is bound in it.
#[derive(Default)]
pub(crate) struct Statement {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    /// Begins with this text, in which each `?` is a value that is bound in its turn.
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { pieces: vec![Piece::Text(Cow::Borrowed(sql))], values: Vec::new() }
    }

    /// The value of the next `?`.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The value of the first `?`, before those that are bound already.
    pub(crate) fn first(mut self, value: impl Into<Value>) -> Self {
        self.values.insert(0, value.into());
        self
    }

    /// Goes on with this text.
    pub(crate) fn push(mut self, sql: &str) -> Self {
        self.add(sql);
        self
    }

    /// Goes on with a value.
    pub(crate) fn value(mut self, value: impl Into<Value>) -> Self {
        self.add_value(value);
        self
    }

    /// Goes on with the condition that what stands before is one of these.
    pub(crate) fn one_of<T: Into<Value>>(mut self, kind: Type, values: impl IntoIterator<Item = T>) -> Self {
        self.add_one_of(kind, values);
        self
    }

    /// Goes on with a table of these rows, one or more.
    pub(crate) fn rows(mut self, kinds: &'static [Type], rows: Vec<Vec<Value>>) -> Self {
        self.pieces.push(Piece::Rows(kinds, rows));
        self
    }

    /// Goes on with the database's clock.
    pub(crate) fn now(mut self) -> Self {
        self.pieces.push(Piece::Now);
        self
    }

    /// Keeps others from writing the rows that this reads, from the one table that it names.
    pub(crate) fn lock(mut self) -> Self {
        self.pieces.push(Piece::Lock);
        self
    }

    /// See [`Self::push`].
    pub(crate) fn add(&mut self, sql: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.to_mut().push_str(sql),
            _ => self.pieces.push(Piece::Text(Cow::Owned(sql.to_owned()))),
        }
    }

    /// See [`Self::is_in`].
    pub(crate) fn add_one_of<T: Into<Value>>(&mut self, kind: Type, values: impl IntoIterator<Item = T>) {
        self.pieces.push(Piece::IsIn(kind, values.into_iter().map(Into::into).collect()));
    }

    /// Goes on with the name of the function of a text and a part that says where it is; 0: nowhere.
    pub(crate) fn add_position(&mut self) {
        self.pieces.push(Piece::Position);
    }

    /// See [`Self::value`].
    pub(crate) fn add_value(&mut self, value: impl Into<Value>) {
        self.add("?");
        self.values.push(value.into());
    }
}

/// Rows of one statement: none binds more than 30 values for each, and SQLite takes 32,766.
pub(crate) const ROWS: usize = 1000;

/// Statements that wait for no answer and go to the database together, in rounds: those of a round touch different
/// rows, and what a round reads was written in the rounds before it.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) rounds: Vec<Vec<Statement>>,
}

impl Script {
    /// One more statement of this round.
    pub(crate) fn add(&mut self, statement: Statement) {
        match self.rounds.last_mut() {
            Some(round) => round.push(statement),
            None => self.rounds.push(vec![statement]),
        }
    }

    /// Begins another round.
    pub(crate) fn then(&mut self) {
        if self.rounds.last().is_some_and(|round| !round.is_empty()) {
            self.rounds.push(Vec::new());
        }
    }

    /// `head`, the rows and `tail`, in as many statements as they need.
    pub(crate) fn insert<T>(
        &mut self,
        head: &'static str,
        kinds: &'static [Type],
        rows: impl IntoIterator<Item = T>,
        values: impl Fn(T) -> Vec<Value>,
        tail: &str,
    ) {
        let rows: Vec<Vec<Value>> = rows.into_iter().map(values).collect();
        for some in rows.chunks(ROWS) {
            self.add(Statement::new(head).rows(kinds, some.to_vec()).push(tail));
        }
    }
}

macro_rules! ids {
    ($($name:ident),+) => {$(
        impl From<id::$name> for Value {
            fn from(id: id::$name) -> Self {
                Self::Id(Some(id.to_bytes()))
            }
        }

        impl From<Option<id::$name>> for Value {
            fn from(id: Option<id::$name>) -> Self {
                Self::Id(id.map(id::$name::to_bytes))
            }
        }
    )+};
}

ids!(ProfileId, MailboxId, RecordId, OutgoingId, OperationId, AlertId, Incarnation, Nonce, UploadId);

macro_rules! values {
    ($($from:ty, $name:ident => $kind:ident($value:expr);)+) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Self {
                Self::$kind($value)
            }
        }
    )+};
}

values! {
    MessageKey, key => Bytes(Some(Bytes::copy_from_slice(&key.to_bytes())));
    [u8; 32], bytes => Bytes(Some(Bytes::copy_from_slice(&bytes)));
    Vec<u8>, bytes => Bytes(Some(Bytes::from(bytes)));
    Bytes, bytes => Bytes(Some(bytes));
    &str, text => Text(Some(text.to_owned()));
    &String, text => Text(Some(text.clone()));
    String, text => Text(Some(text));
    Option<&str>, text => Text(text.map(ToOwned::to_owned));
    Option<String>, text => Text(text);
    &Option<String>, text => Text(text.clone());
    &id::Org, org => Text(Some(org.0.clone()));
    &id::WorkerId, worker => Text(Some(worker.0.clone()));
    Reason, reason => Text(Some(reason.code().to_owned()));
    Option<Reason>, reason => Text(reason.map(|reason| reason.code().to_owned()));
    i64, number => Number(Some(number));
    u16, number => Number(Some(number.into()));
    u32, number => Number(Some(number.into()));
    u64, number => Number(Some(i64::try_from(number).unwrap_or(i64::MAX)));
    usize, number => Number(Some(i64::try_from(number).unwrap_or(i64::MAX)));
    id::Epoch, epoch => Number(Some(epoch.0 as i64));
    id::Term, term => Number(Some(term.0 as i64));
    id::Revision, revision => Number(Some(revision.0 as i64));
    id::ShardId, shard => Number(Some(shard.get().into()));
    Timestamp, at => Number(Some(at.as_millis()));
    Option<Timestamp>, at => Number(at.map(Timestamp::as_millis));
    Duration, duration => Number(Some(millis(duration)));
    Option<Duration>, duration => Number(duration.map(millis));
    bool, flag => Flag(Some(flag));
    Option<bool>, flag => Flag(flag);
}

/// A duration as it is stored.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
