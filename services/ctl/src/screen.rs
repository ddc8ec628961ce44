//! The streams of a command: results go to standard output, everything else to standard error.

use std::io::{self, IsTerminal as _, Read, Write};

use crate::{exit::Exit, failure::Failure, values::printable};

/// Where a command reads and writes.
pub(crate) struct Screen {
    pub(crate) out: Box<dyn Write + Send>,
    pub(crate) err: Box<dyn Write + Send>,
    pub(crate) input: Box<dyn Read + Send>,
    pub(crate) err_is_terminal: bool,
    pub(crate) input_is_terminal: bool,
    /// What to say if the command is left before its end.
    going_on: Option<String>,
    /// A line of progress stands on the terminal and is not ended.
    line_is_open: bool,
}

impl Screen {
    /// The standard streams.
    pub(crate) fn of_process() -> Self {
        let terminals = (io::stderr().is_terminal(), io::stdin().is_terminal());
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), Box::new(io::stdin()), terminals)
    }

    /// These streams; whether standard error and standard input are terminals.
    pub(crate) fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        input: Box<dyn Read + Send>,
        (err_is_terminal, input_is_terminal): (bool, bool),
    ) -> Self {
        Self { out, err, input, err_is_terminal, input_is_terminal, going_on: None, line_is_open: false }
    }

    /// Writes a result.
    pub(crate) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.end_line();
        self.out.write_all(text)?;
        self.out.flush()
    }

    /// Tells something beside the result.
    pub(crate) fn note(&mut self, text: &str) {
        self.end_line();
        self.tell(&format!("{}\n", printable(text)));
    }

    /// Tells how far it is: on a terminal in one line that changes.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.err_is_terminal {
            self.line_is_open = true;
            self.tell(&format!("\r\x1b[K{}", printable(text)));
        } else {
            self.note(text);
        }
    }

    /// What to say if the command is left before its end; empty: nothing.
    pub(crate) fn goes_on(&mut self, text: &str) {
        self.going_on = (!text.is_empty()).then(|| text.to_owned());
    }

    /// Tells that the command is left before its end.
    pub(crate) fn left(&mut self, exit: Exit, why: &str) -> Exit {
        let going_on = self.going_on.take();
        self.note(&format!("error: {why}"));
        if let Some(text) = going_on {
            self.note(&format!("  {text}"));
        }
        exit
    }

    /// Tells why the command failed.
    pub(crate) fn failure(&mut self, failure: &Failure) -> Exit {
        let told = match failure {
            Failure::Output(error) => return self.left(Exit::Other, &format!("standard output: {error}")),
            Failure::Told(told) => told,
        };
        let mut lines = told.message.lines().filter(|line| !line.trim().is_empty());
        let reason = told.reason.as_deref().map(|reason| format!("   [{reason}]")).unwrap_or_default();
        self.note(&format!("error: {}{reason}", lines.next().unwrap_or("it failed")));
        lines.for_each(|line| self.note(&format!("  why:  {line}")));
        for violation in &told.violations {
            let detail = &violation.description;
            // A single violation repeats the message.
            let rest = if told.message.contains(detail) { String::new() } else { format!(": {detail}") };
            self.note(&format!("  field: {}{rest}", violation.field));
        }
        if let Some(remedy) = &told.remedy {
            self.note(&format!("  fix:  {remedy}"));
        }
        if let Some(reason) = &told.reason {
            self.note(&format!("  more: mailyard explain {reason}"));
        }
        told.exit
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.line_is_open) {
            self.tell("\n");
        }
    }

    fn tell(&mut self, text: &str) {
        // If nobody can be told, there is nobody to tell that either.
        let _untold = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }
}
