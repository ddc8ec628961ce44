//! The simulator behind DavMail, which makes IMAP and SMTP of EWS: where they disagree, DavMail is right.

use std::{fs, path::Path, process::Stdio};

use mailyard_exchange_sim::{Options, Simulator};
use mailyard_tests::{
    Outcome,
    stranger::{Stranger, free_address},
};
use tokio::process::Command;

const PASSWORD: &str = "changeit";

/// DavMail in front of a simulator; `None`: it is not there.
async fn davmail(simulator: &Simulator, folder: &Path, ports: [u16; 2]) -> Outcome<Option<Stranger>> {
    let Ok(jar) = std::env::var("MAILYARD_DAVMAIL") else {
        eprintln!("SKIPPED: MAILYARD_DAVMAIL names no davmail.jar");
        return Ok(None);
    };
    let ready = simulator.ready();
    let trust = folder.join("trust.p12");
    let made = Command::new("keytool")
        .args(["-importcert", "-noprompt", "-alias", "authority", "-storetype", "PKCS12"])
        .args(["-storepass", PASSWORD, "-file", &ready.ca_file])
        .arg("-keystore")
        .arg(&trust)
        .output()
        .await?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let [imap, smtp] = ports;
    let properties = folder.join("davmail.properties");
    fs::write(
        &properties,
        format!(
            "davmail.server=true\ndavmail.mode=EWS\ndavmail.url={}\ndavmail.imapPort={imap}\n\
             davmail.smtpPort={smtp}\ndavmail.popPort=\ndavmail.caldavPort=\ndavmail.ldapPort=\n\
             davmail.allowRemote=false\ndavmail.bindAddress=127.0.0.1\ndavmail.disableUpdateCheck=true\n\
             davmail.enableKerberos=false\ndavmail.logFilePath={}\nlog4j.logger.davmail=INFO\n",
            ready.ews_url,
            folder.join("davmail.log").display(),
        ),
    )?;
    let mut command = Command::new("java");
    command
        .arg("-Djava.awt.headless=true")
        .arg(format!("-Djavax.net.ssl.trustStore={}", trust.display()))
        .arg(format!("-Djavax.net.ssl.trustStorePassword={PASSWORD}"))
        .args(["-jar", &jar, "-server"])
        .arg(&properties);
    let listening = ports.map(|port| ([127, 0, 0, 1], port).into());
    Stranger::start(command, &listening, &folder.join("out.log")).await.map(Some)
}

#[tokio::test]
async fn davmail_reads_files_and_sends() -> Outcome {
    let folder = tempfile::tempdir()?;
    let simulator = Simulator::start(Options::new(2, 1, folder.path())).await?;
    let ports = [free_address().await?.port(), free_address().await?.port()];
    let Some(_davmail) = davmail(&simulator, folder.path(), ports).await? else { return Ok(()) };
    let story = format!("{}/python/davmail_story.py", env!("CARGO_MANIFEST_DIR"));
    let told = Command::new("python3")
        .args([&story, &serde_json::to_string(simulator.ready())?])
        .args(ports.map(|port| port.to_string()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (out, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    let log = fs::read_to_string(folder.path().join("davmail.log")).unwrap_or_default();
    assert!(told.status.success() && out.ends_with("ok\n"), "{out}\n{errors}\n{log}\n{}", simulator.stats());
    let [one, two] = &simulator.addresses()[..] else { return Err("two mailboxes".into()) };
    let sent: Vec<_> = simulator.submissions().into_iter().map(|sent| (sent.mailbox, sent.to)).collect();
    assert_eq!(sent, [(one.clone(), vec![two.clone(), "hidden@outside.example".to_owned()])]);
    simulator.shutdown().await;
    Ok(())
}
