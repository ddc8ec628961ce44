//! How a command ends.

use std::process::{ExitCode, Termination};

/// How a command ends, as scripts see it. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It went well, also if there was nothing to do.
    Success = 0,
    /// Any other failure.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such object.
    NotFound = 3,
    /// Not authenticated, or not permitted.
    NotPermitted = 4,
    /// It exists already, or was changed by somebody else meanwhile.
    Conflict = 5,
    /// It ended, and failed for some.
    SomeFailed = 6,
    /// `--timeout` was over first.
    TimedOut = 7,
    /// No server, or none that leads.
    Unavailable = 8,
    /// The state of things forbids it.
    Precondition = 9,
    /// Ended by an interrupt.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// [`Exit::Success`] if nothing failed, otherwise [`Exit::SomeFailed`].
    pub(crate) fn unless(some_failed: bool) -> Self {
        if some_failed { Self::SomeFailed } else { Self::Success }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}
