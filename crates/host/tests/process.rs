//! A process as others see it: how it answers signals, and what it writes to standard error.
//!
//! The process is this test program itself, started again with a part to play.

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mailyard_host::{
    config::{self, Config},
    shutdown::{Kind, Shutdown},
    telemetry,
};
use rustix::process::{Pid, Signal, kill_process};

/// Names the part that the started process plays.
const PART: &str = "HOST_TEST_PART";

fn play(part: &str) -> std::io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(["--exact", "part", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Plays a part if this is the started process.
#[test]
fn part() -> Result<(), Box<dyn Error>> {
    let Ok(part) = env::var(PART) else { return Ok(()) };
    let config = config::load(None, [("MAILYARD__LOG__FORMAT".to_owned(), "json".to_owned())], &[])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let kept = runtime.block_on(serve(&part, &config))?;
    std::process::exit(i32::from(!kept));
}

async fn serve(part: &str, config: &Config) -> Result<bool, Box<dyn Error>> {
    let guard = telemetry::init(&config.log, &config.telemetry, "test")?;
    let shutdown = Shutdown::on_signals()?;
    if part == "stubborn" {
        shutdown.spawn(Kind::Helpful, "stubborn", std::future::pending());
    }
    tracing::info!(profile = "head office", attempt = 3, "a constant message");
    tracing::debug!("below the level");
    writeln!(std::io::stdout(), "\nready")?;
    shutdown.wished().await;
    tokio::spawn(async { panic!("on \"purpose\"") }).await.err();
    writeln!(std::io::stdout(), "\nwished")?;
    let finished = shutdown.finished(Duration::from_secs(30)).await;
    guard.shutdown().await;
    Ok(finished)
}

/// Reads what the process says until it says this.
fn await_line(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    wanted: &str,
) -> Result<(), Box<dyn Error>> {
    for line in lines {
        if line? == wanted {
            return Ok(());
        }
    }
    Err(format!("it ended without {wanted:?}").into())
}

fn story(part: &str, signals: &[Signal]) -> Result<(Option<i32>, String), Box<dyn Error>> {
    let mut child = play(part)?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    for (signal, awaited) in signals.iter().zip(["ready", "wished"]) {
        if let Err(error) = await_line(&mut said, awaited) {
            child.kill()?;
            return Err(error);
        }
        kill_process(pid, *signal)?;
    }
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

#[test]
fn one_signal_is_a_wish_and_the_second_an_end() -> Result<(), Box<dyn Error>> {
    for (part, signals, code) in [
        ("obliging", &[Signal::TERM][..], 0),
        ("obliging", &[Signal::INT], 0),
        ("stubborn", &[Signal::TERM, Signal::TERM], 130),
        ("stubborn", &[Signal::INT, Signal::TERM], 130),
    ] {
        let (ended, said) = story(part, signals)?;
        assert_eq!(ended, Some(code), "{part} {signals:?}: {said}");
    }
    Ok(())
}

#[test]
fn every_line_of_the_log_is_an_object_with_its_values_in_fields() -> Result<(), Box<dyn Error>> {
    let (_, log) = story("obliging", &[Signal::TERM])?;
    let lines: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let find = |message: &str| lines.iter().find(|line| line["message"] == message);
    let line = find("a constant message").ok_or("not logged")?;
    assert_eq!(
        (&line["profile"], &line["attempt"], &line["level"]),
        (&"head office".into(), &3.into(), &"INFO".into())
    );
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    assert_eq!(find("stopping").map(|line| &line["signal"]), Some(&"SIGTERM".into()));
    let panic = find("a task broke a rule of its own").ok_or("the panic is not logged")?;
    assert_eq!(panic["panic"], "on \"purpose\"");
    assert!(find("below the level").is_none());
    Ok(())
}
