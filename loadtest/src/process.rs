//! Processes on a core of their own, and what the operating system says of them.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::ChildStdout,
};

use crate::Outcome;

/// The core of the client that is measured.
pub const CLIENT: usize = 0;
/// The core of the simulator, and of this program, which mostly waits.
pub const SERVER: usize = 1;

/// A process on one core; stopped when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// This thread, and what it starts from now on, runs on this core only.
///
/// # Errors
/// There is no such core.
pub fn pin(core: usize) -> Outcome {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| format!("core {core} cannot be used: {error}").into())
}

impl Process {
    /// Starts a program on a core. What it prints and logs goes to a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        core: usize,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Outcome<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Self::spawn(core, &mut command)
    }

    /// The same, and reads the first line that it prints.
    ///
    /// # Errors
    /// It cannot be started, or its first line is not what is expected.
    pub async fn ready<A: AsRef<OsStr>, T: DeserializeOwned>(
        core: usize,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Outcome<(Self, T)> {
        let log_file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
        let mut process = Self::spawn(core, &mut command)?;
        let mut line = String::new();
        let out = ChildStdout::from_std(process.child.stdout.take().ok_or("its output is ours")?)?;
        BufReader::new(out).read_line(&mut line).await?;
        let ready = serde_json::from_str(&line).map_err(|error| {
            format!("{} did not begin ({error}): see {}", program.display(), log.display())
        })?;
        Ok((process, ready))
    }

    fn spawn(core: usize, command: &mut Command) -> Outcome<Self> {
        pin(core)?;
        let child = command.spawn();
        pin(SERVER)?;
        let child = child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child })
    }

    fn of(&self, file: &str) -> Outcome<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?)
    }

    /// Milliseconds of user and system time of all its threads so far, in steps of ten.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Outcome<f64> {
        let stat = self.of("stat")?;
        // The name in brackets may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).ok_or("its times cannot be read")?;
        Ok((ticks.0 + ticks.1) as f64 * 10.0)
    }

    /// Resident bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Outcome<u64> {
        let status = self.of("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kilobytes: u64 = line.trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn stop(mut self) -> Outcome {
        let pid = Pid::from_raw(self.child.id().cast_signed()).ok_or("no such process")?;
        kill_process(pid, Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
