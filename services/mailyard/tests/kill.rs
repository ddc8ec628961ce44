//! The server is killed again and again while mail flows; afterwards nothing is lost and nothing was done twice.
//!
//! A short run by default. A longer one: `MAILYARD_KILLS=50 MAILYARD_AIMED=5 cargo test --release -p mailyard --test kill`.

use std::{path::PathBuf, time::Duration};

use mailyard_tests::{
    Outcome,
    kill::{Killing, Plan},
};

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_and_does_nothing_twice() -> Outcome {
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_mailyard")),
        folder: folder.path().to_owned(),
        seed: number("MAILYARD_SEED", 1) as u64,
        mailboxes: 5,
        random: number("MAILYARD_KILLS", 5),
        aimed: number("MAILYARD_AIMED", 1),
        incoming_every: Duration::from_millis(700),
        outgoing_every: Duration::from_millis(1500),
    };
    let report = Box::pin(Killing::begin(plan).await?.run()).await?;
    println!("{report}");
    report.verdict().map_err(Into::into)
}
