//! `mailyard demo`: a whole Mailyard and a simulated Exchange in one process, and a story that can be watched or
//! checked.

mod play;
mod story;

use std::{path::PathBuf, time::Duration};

use mailyard_ctl::Exit;
use mailyard_exchange_sim::{Options, Simulator};
use mailyard_host::{
    config::{Config, KEYS},
    data_dir::DataDir,
    metrics::Metrics,
    shutdown::Shutdown,
    telemetry,
};
use mailyard_worker::settings::Settings;

use self::{play::Play, story::STORY};
use crate::{error::Error, serve};

/// Mailboxes of the demonstration.
const MAILBOXES: usize = 12;

/// A whole Mailyard and a simulated Exchange in one process, with time compressed.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// End after this; until it is interrupted otherwise
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    length: Option<Duration>,
    /// Check the story: end after its last step with 0, or with 6 and the name of the step that was not seen
    #[arg(long)]
    assert: bool,
}

/// Runs it.
///
/// # Errors
/// What keeps it from beginning.
pub async fn run(demo: Demo) -> Result<Exit, Error> {
    let folder = std::env::temp_dir().join(format!("mailyard-demo-{}", std::process::id()));
    let shutdown = Shutdown::on_signals()?;
    let exit = tokio::select! {
        exit = show(&demo, folder.clone(), &shutdown) => exit,
        () = shutdown.wished() => Ok(Exit::Interrupted),
    };
    shutdown.begin();
    shutdown.finished(Duration::from_secs(24)).await;
    // It is ours, and of no use to anybody without us.
    let _harmless = std::fs::remove_dir_all(&folder);
    exit
}

async fn show(demo: &Demo, folder: PathBuf, shutdown: &Shutdown) -> Result<Exit, Error> {
    let config = compressed();
    let telemetry = telemetry::init(&config.log, &config.telemetry, "demo")?;
    let simulator = Simulator::start(Options::new(MAILBOXES, 1, folder.join("exchange"))).await?;
    let data = DataDir::open(folder.join("data"))?;
    let metrics = Metrics::new("demo", telemetry.meter());
    println!("A whole Mailyard in one process, and a simulated Exchange on {}", simulator.ready().ews_url);
    println!("Look at it while it runs:  mailyard --data {} status", data.path().display());
    print_changes(&config);
    let begun = tokio::time::Instant::now();
    let running = serve::start(data, &config, Settings::of(&config), &metrics, shutdown).await?;
    let limit = demo.length.filter(|_| demo.assert);
    let play = Play::begin(&running.endpoint, simulator.ready(), begun, limit).await;
    let seen = match play {
        Ok(play) => story::tell(&play, STORY, std::env::var("MAILYARD_DEMO_SKIP").ok().as_deref()).await,
        Err(missing) => Err(missing),
    };
    let exit = match &seen {
        Ok(()) => Exit::Success,
        Err(missing) => {
            eprintln!("error: {missing}");
            Exit::SomeFailed
        }
    };
    if !demo.assert {
        println!("The story is over; the demonstration goes on until it is interrupted.");
        match demo.length {
            Some(length) => tokio::time::sleep_until(begun + length).await,
            None => std::future::pending().await,
        }
    }
    Ok(exit)
}

/// Only what makes people wait is shortened; clocks, leases, request deadlines and the simulator's clock stay real.
fn compressed() -> Config {
    let millis = Duration::from_millis;
    let mut config = Config::default();
    config.sync.active_period = millis(1000);
    config.sync.active_min = millis(500);
    config.sync.active_max = millis(2000);
    config.sync.idle_max = millis(2000);
    config.sync.retry_gap = millis(500);
    config.alerts.hold = millis(2000);
    config.alerts.clear_hold = millis(2000);
    config.breaker.canary_first = millis(500);
    config.breaker.canary_max = millis(2000);
    if let Some(quiet) = mailyard_host::config::LogLevel::of("off") {
        config.log.level = quiet;
    }
    config
}

fn print_changes(config: &Config) {
    println!("Time is compressed; clocks, leases and request deadlines are real:");
    let usual = Config::default();
    for key in KEYS.iter().filter(|key| ["sync", "alerts", "breaker"].contains(&key.section)) {
        let (before, after) = (usual.written(key.section, key.name), config.written(key.section, key.name));
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            println!("  {}.{}: {before} \u{2192} {after}", key.section, key.name);
        }
    }
}
