//! The simulator against exchangelib, a client that was written by others: where they disagree, exchangelib is right.

use std::{error::Error, process::Stdio};

use mailyard_exchange_sim::{Options, Scheme, Simulator};

/// Tells a story to a simulator with two mailboxes; `None`: there is no Python for it.
async fn tell(story: &str, options: impl FnOnce(&mut Options)) -> Result<Option<Simulator>, Box<dyn Error>> {
    let Ok(python) = std::env::var("MAILYARD_PYTHON") else {
        eprintln!(
            "SKIPPED: MAILYARD_PYTHON names no Python with the packages of tests/python/requirements.txt"
        );
        return Ok(None);
    };
    let folder = tempfile::tempdir()?;
    let mut all = Options::new(2, 1, folder.path());
    options(&mut all);
    let simulator = Simulator::start(all).await?;
    let ready = serde_json::to_string(simulator.ready())?;
    let story = format!("{}/python/{story}.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = tokio::process::Command::new(python);
    command.args([&story, &ready]).stdin(Stdio::null()).kill_on_drop(true);
    let told = command.output().await?;
    let (out, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success() && out.ends_with("ok\n"), "{out}\n{errors}\n{}", simulator.stats());
    Ok(Some(simulator))
}

#[tokio::test]
async fn others_sign_in_by_ntlm_negotiate_and_tokens() -> Result<(), Box<dyn Error>> {
    let told = tell("exchangelib_auth", |options| {
        options.auth = vec![Scheme::Ntlm, Scheme::Negotiate, Scheme::OAuth];
        options.version = (15, 0, 847);
    });
    if let Some(simulator) = told.await? {
        simulator.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn exchangelib_finds_the_way_and_is_told_of_what_happens() -> Result<(), Box<dyn Error>> {
    if let Some(simulator) = tell("exchangelib_discovery", |_| {}).await? {
        simulator.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn exchangelib_reads_writes_and_sends() -> Result<(), Box<dyn Error>> {
    let Some(simulator) = tell("exchangelib_story", |_| {}).await? else { return Ok(()) };
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
