//! Bad input gets a clear error, the right exit code, and changes nothing.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use mailyard_exchange_sim::Ready;
use mailyard_host::data_dir::{DataDir, Endpoint};
use mailyard_tests::{Outcome, process::Process};

const BINARY: &str = env!("CARGO_BIN_EXE_mailyard");

async fn run(arguments: &[&str]) -> Outcome<Output> {
    let mut command = tokio::process::Command::new(BINARY);
    Ok(command
        .args(arguments)
        .env_remove("MAILYARD_DATA")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?)
}

/// It ends with this code, and says each of these.
async fn refused(arguments: &[&str], code: i32, says: &[&str]) -> Outcome {
    let output = run(arguments).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    for expected in says {
        assert!(errors.contains(expected), "{arguments:?}: {expected:?} in {errors}");
    }
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[tokio::test]
async fn a_server_that_cannot_begin_says_why() -> Outcome {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let data = text(&data);
    refused(&["serve"], 2, &["--data DIR"]).await?;

    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[sync]\nactive_period = \"5m\"\nactive_perod = \"1m\"\n")?;
    let place = format!("{}:3:1", wrong.display());
    refused(&["serve", "--data", data, "--config", text(&wrong)], 1, &[&place, "active_period"]).await?;
    refused(&["serve", "--data", data, "--set", "sync.active_period=soon"], 1, &["sync.active_period"])
        .await?;

    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    refused(&["serve", "--data", data, "--listen", &address], 1, &[&address, "--listen"]).await?;

    let held = DataDir::open(data)?;
    let pid = std::process::id().to_string();
    refused(&["serve", "--data", data], 1, &["another server", &pid]).await?;
    drop(held);
    Ok(())
}

#[tokio::test]
async fn a_simulator_is_what_it_is_asked_to_be() -> Outcome {
    refused(&["sim", "--auth", "basic,kerberos"], 2, &["kerberos", "basic, ntlm, negotiate, oauth"]).await?;
    refused(&["sim", "--version", "15.3"], 2, &["15.0", "15.1", "15.2"]).await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let place = format!("--folder={}", folder.path().display());
    for (arguments, with_tokens) in [
        (vec!["sim", &place], false),
        (vec!["sim", "--auth", "ntlm,negotiate,oauth", "--version", "15.0", &place], true),
    ] {
        let (simulator, ready): (_, Ready) = Process::start(Path::new(BINARY), arguments, &log).await?;
        assert_eq!(ready.oauth.is_some(), with_tokens);
        assert_eq!(folder.path().join("application.pem").exists(), with_tokens);
        assert_eq!(simulator.stop().await?, Some(0));
    }
    Ok(())
}

#[tokio::test]
async fn a_database_of_a_newer_schema_is_left_alone() -> Outcome {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let (server, _): (_, Endpoint) = Process::start(Path::new(BINARY), serve(&data), &log).await?;
    assert_eq!(server.stop().await?, Some(0));
    let newer = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                 db.execute('UPDATE _sqlx_migrations SET version = version + 1000'); db.commit()";
    let database = data.join("mailyard.db");
    let aged = tokio::process::Command::new("python3").args(["-c", newer, text(&database)]).status().await?;
    assert!(aged.success());
    refused(&["serve", "--data", text(&data)], 1, &["schema", "newer Mailyard"]).await
}

fn serve(data: &Path) -> Vec<PathBuf> {
    vec!["serve".into(), "--data".into(), data.to_owned()]
}

#[tokio::test]
async fn a_client_is_told_what_is_wrong() -> Outcome {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let at = text(&data).to_owned();
    refused(&["--data", &at, "status"], 8, &["mailyard serve"]).await?;
    refused(
        &["--data", &at, "profile", "create", "P", "--url", "https://x.test", "--password", "p"],
        2,
        &["SECRET_ON_COMMAND_LINE", "--password-file"],
    )
    .await?;

    let log = folder.path().join("log");
    let (server, _): (_, Endpoint) = Process::start(Path::new(BINARY), serve(&data), &log).await?;
    let secret = folder.path().join("password");
    std::fs::write(&secret, "geheim\n")?;
    let secret = text(&secret);
    let profile =
        ["--data", &at, "profile", "create", "P", "--user", "svc@x.test", "--password-file", secret];
    refused(&profile, 1, &["PROFILE_LOCATION_MISSING"]).await?;
    let with_url = [&profile[..], &["--url", "https://127.0.0.1:9/EWS/Exchange.asmx"]].concat();
    let created = run(&with_url).await?;
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    refused(&with_url, 5, &["RESOURCE_ALREADY_EXISTS"]).await?;

    let csv = folder.path().join("mailboxes.csv");
    let head = "address,display_name,kind,profile,incoming,outgoing,act\n";
    for (code, rows, says) in [
        (1, "a@x.test,,user,P,sss,sss,none\nb@x.test,,robot,P,sss,sss,none\n", ["row 3", "kind"]),
        (1, "a@x.test,,user,P,sss,sss,sss\n", ["METHOD_NOT_SUPPORTED", "act"]),
        (5, "a@x.test,,user,P,sss,sss,none\nA@X.test,,user,P,sss,sss,none\n", ["row 3", "address"]),
    ] {
        std::fs::write(&csv, format!("{head}{rows}"))?;
        refused(&["--data", &at, "mailbox", "import", text(&csv)], code, &says).await?;
        let list = run(&["--data", &at, "mailbox", "list", "-o", "json"]).await?;
        assert_eq!(String::from_utf8_lossy(&list.stdout).trim(), "[]", "nothing is half imported");
    }
    refused(&["--data", &at, "mailbox", "get", "nobody@x.test"], 3, &["RESOURCE_NOT_FOUND"]).await?;
    refused(
        &["--data", &at, "mailbox", "list", "--filter", "stat = ok"],
        1,
        &["FILTER_FIELD_UNKNOWN", "state"],
    )
    .await?;
    assert_eq!(server.stop().await?, Some(0));
    let database = std::fs::read(data.join("mailyard.db"))?;
    assert!(!database.windows(6).any(|bytes| bytes == b"geheim"), "a secret lies in the database");
    assert!(!std::fs::read_to_string(&log)?.contains("geheim"), "a secret lies in the log");
    Ok(())
}
