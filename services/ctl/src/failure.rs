//! Why a command failed: what is told, and how it ends.

use std::{error::Error as _, io, path::Path};

use mailyard_host::data_dir;
use mailyard_wire::{
    reason::Reason,
    status::{Refusal, Violation},
};
use tonic::{Code, Status};

use crate::exit::Exit;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell.
    Told(Box<Told>),
    /// Nobody reads any longer what is written.
    Output(io::Error),
}

/// What is told of a failure.
#[derive(Debug)]
pub struct Told {
    /// How the command ends.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// The reason's code; `None`: none of the catalogue.
    pub reason: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
    /// What is wrong, field by field.
    pub violations: Vec<Violation>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Told(told) => {
                out.write_str(&told.message)?;
                told.reason.as_ref().map_or(Ok(()), |reason| write!(out, " [{reason}]"))
            }
            Self::Output(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure without a reason of the catalogue.
    pub(crate) fn new(exit: Exit, message: impl Into<String>, remedy: &str) -> Self {
        let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
        Self::Told(Box::new(Told {
            exit,
            message: message.into(),
            reason: None,
            remedy,
            violations: Vec::new(),
        }))
    }

    /// A failure that this program finds by itself, for a reason of the catalogue.
    pub(crate) fn of(reason: Reason, exit: Exit, message: impl Into<String>) -> Self {
        let entry = reason.entry();
        Self::Told(Box::new(Told {
            exit,
            message: message.into(),
            reason: Some(entry.code.to_owned()),
            remedy: Some(entry.remedy.to_owned()),
            violations: Vec::new(),
        }))
    }

    /// A file that cannot be used.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(Exit::Other, format!("{}: {error}", path.display()), "")
    }

    /// The server is away; it may come back.
    pub(crate) fn away(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message, "Look whether the server runs, then repeat the command.")
    }

    /// True if the server is away, and may come back.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Told(told) if told.exit == Exit::Unavailable)
    }

    /// The same failure with one more thing to do.
    pub(crate) fn advise(mut self, advice: &str) -> Self {
        if let Self::Told(told) = &mut self {
            let before = told.remedy.take().map(|remedy| remedy + " ").unwrap_or_default();
            told.remedy = Some(before + advice);
        }
        self
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<data_dir::Error> for Failure {
    fn from(error: data_dir::Error) -> Self {
        let exit = match error {
            data_dir::Error::NobodyThere { .. } => Exit::Unavailable,
            _ => Exit::Other,
        };
        Self::new(exit, error.to_string(), "")
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if status.source().is_some() {
            // Made by the transport: no server said it.
            return Self::away(format!("the connection to the server is lost: {}", causes(&status)));
        }
        let refusal = Refusal::from(&status);
        Self::Told(Box::new(Told {
            exit: exit(refusal.code),
            message: refusal.message,
            reason: refusal.reason,
            remedy: refusal.remedy,
            violations: refusal.violations,
        }))
    }
}

/// What lies at the bottom of an error, in the words of whoever found it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn exit(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotPermitted,
        Code::Aborted | Code::AlreadyExists => Exit::Conflict,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::Unavailable => Exit::Unavailable,
        Code::FailedPrecondition => Exit::Precondition,
        _ => Exit::Other,
    }
}
