//! The tutorial of the documentation, carried out as it is written: each command must succeed.

use std::{path::Path, process::Stdio, time::Duration};

const TUTORIAL: &str = include_str!("../../../docs/first-tenant.md");

/// The commands of the document, in their order; those that go on running go into the background until the end.
fn script(binary: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let mut script = format!(
        "set -euo pipefail\nshopt -s expand_aliases\nmailyard() {{ {binary} \"$@\"; }}\n\
         trap 'kill $(jobs -p) 2>/dev/null' EXIT\n"
    );
    for block in TUTORIAL.split("\n```\n").skip(1).step_by(2) {
        let block =
            block.replace("/tmp/", &format!("{folder}/")).replace("--mailboxes 1000", "--mailboxes 20");
        for line in block.lines() {
            match line {
                line if line.starts_with("alias ") => {}
                line if line.starts_with("mailyard sim ") => {
                    let quiet = line.replace(" | tee ", " > ");
                    script.push_str(&format!(
                        "{} &\n{}\n",
                        binary_of(&quiet, binary),
                        wait_for(&folder, "exchange.json")
                    ));
                }
                "mailyard serve" => {
                    script
                        .push_str(&format!("{binary} serve > {folder}/serve.out 2> {folder}/serve.log &\n"));
                    script.push_str(&format!("{}\n", wait_for(&folder, "serve.out")));
                }
                line => script.push_str(&format!("{line}\n")),
            }
        }
    }
    script
}

/// A function does not go into the background well: its shell would be killed, and not the program.
fn binary_of(line: &str, binary: &str) -> String {
    line.replacen("mailyard", binary, 1)
}

fn wait_for(folder: &str, file: &str) -> String {
    format!("until [ -s {folder}/{file} ]; do read -rt 0.05 <> <(:) || :; done")
}

#[tokio::test]
async fn every_command_of_the_tutorial_works() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let script = script(env!("CARGO_BIN_EXE_mailyard"), folder.path());
    let run = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(Duration::from_secs(90), run).await??;
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let log = std::fs::read_to_string(folder.path().join("serve.log")).unwrap_or_default();
    assert!(run.status.success(), "{script}\n{out}\n{errors}\n{log}");
    assert!(
        !log.contains('@') && !log.contains("Hello"),
        "no address and no subject stands in the log: {log}"
    );
    for expected in ["Hello back", "sent", "MAILBOX_UNAVAILABLE", "retrying", "By NTLM", "By a token"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    Ok(())
}
