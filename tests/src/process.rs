//! Real processes: the one binary, started as anybody starts it, and killed as nobody should.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::Outcome;

/// A process that says nothing in this time does not begin any more.
const READY: Duration = Duration::from_secs(30);

/// A process of the binary; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the binary, and reads the first line that it prints. What it logs goes to a file of its own.
    ///
    /// # Errors
    /// It ended early, or said nothing in time, or something else than expected.
    pub async fn start<T: DeserializeOwned>(
        binary: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> Outcome<(Self, T)> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().ok_or("its output is ours")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(READY, lines.next_line()).await??;
        let line = line.ok_or("it ended before it was ready; its log says why")?;
        let ready = serde_json::from_str(&line)?;
        // Nothing else is expected on its output; it must never wait for a reader.
        tokio::spawn(async move { while matches!(lines.next_line().await, Ok(Some(_))) {} });
        Ok((Self { child }, ready))
    }

    /// Its number.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL: it does nothing any more, not even end.
    ///
    /// # Errors
    /// It is not there.
    pub async fn kill(mut self) -> Outcome {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and its exit code.
    ///
    /// # Errors
    /// It is not there, or does not end in time.
    pub async fn stop(mut self) -> Outcome<Option<i32>> {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.ok_or("it has ended")?, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(READY, self.child.wait()).await??;
        Ok(status.code())
    }
}
