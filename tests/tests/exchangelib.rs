//! The simulator against exchangelib, a client that was written by others: where they disagree, exchangelib is right.

use std::{error::Error, process::Stdio};

use mailyard_exchange_sim::{Options, Simulator};

const STORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/exchangelib_story.py");

#[tokio::test]
async fn exchangelib_reads_writes_and_sends() -> Result<(), Box<dyn Error>> {
    let Ok(python) = std::env::var("MAILYARD_PYTHON") else {
        eprintln!(
            "SKIPPED: MAILYARD_PYTHON names no Python with the packages of tests/python/requirements.txt"
        );
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let simulator = Simulator::start(Options::new(2, 1, folder.path())).await?;
    let ready = serde_json::to_string(simulator.ready())?;
    let mut story = tokio::process::Command::new(python);
    story.args([STORY, &ready]).stdin(Stdio::null()).kill_on_drop(true);
    let told = story.output().await?;
    let (out, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success() && out.ends_with("ok\n"), "{out}\n{errors}\n{}", simulator.stats());
    let sent: Vec<_> = simulator
        .submissions()
        .into_iter()
        .map(|sent| (sent.mailbox, sent.to.join(" "), sent.send_key))
        .collect();
    let hidden = "hidden@outside.example";
    let [one, two] = &simulator.addresses()[..] else { return Err("two mailboxes".into()) };
    assert_eq!(
        sent,
        [
            (one.clone(), format!("{two} {hidden}"), Some(format!("op-{one}"))),
            (one.clone(), two.clone(), None),
            (two.clone(), format!("{one} {hidden}"), Some(format!("op-{two}"))),
            (two.clone(), one.clone(), None),
        ]
    );
    simulator.shutdown().await;
    Ok(())
}
