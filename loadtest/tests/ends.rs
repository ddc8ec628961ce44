//! What becomes of the processes that are measured when the measuring is stopped.

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Outcome<T> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if let Some(found) = condition() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("in vain: {what}").into())
}

/// True if it runs: one that nobody has asked for its end yet does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_signal_ends_what_was_started() -> Outcome {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let folder = tempfile::tempdir()?;
        let (binary, pid) = (folder.path().join("mailyard"), folder.path().join("pid"));
        // It is never ready.
        let script = format!("#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", pid.display());
        fs::write(&binary, script)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700))?;
        let measuring = Command::new(env!("CARGO_BIN_EXE_mailyard-loadtest"))
            .args(["memory", "--small", "--binary"])
            .arg(&binary)
            .arg("--folder")
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let child: i32 =
            until("the process that is measured", || fs::read_to_string(&pid).ok()?.trim().parse().ok())?;
        kill_process(Pid::from_raw(measuring.id().cast_signed()).ok_or("no such process")?, signal)?;
        let output = measuring.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(name), "{name}: {said}");
        until("its end", || (!runs(child)).then_some(()))?;
    }
    Ok(())
}
