//! `mailyard profile test` with nothing saved: for each planted fault the step that fails and its reason.

use std::{fmt::Write as _, path::Path, process::Stdio};

use mailyard_exchange_sim::{Options, Ready, Scheme, Simulator};
use mailyard_tests::{Outcome, rule, stranger::free_address};
use serde_json::Value;

struct Stage {
    simulator: Simulator,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn start(schemes: &[Scheme]) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let mut options = Options::new(2, 1, folder.path());
        options.auth = schemes.to_vec();
        let simulator = Simulator::start(options).await?;
        std::fs::write(folder.path().join("password"), &simulator.ready().password)?;
        std::fs::write(folder.path().join("wrong"), "wrong")?;
        Ok(Self { simulator, folder })
    }

    /// What the DNS would say of its mail domain.
    fn names(&self) -> String {
        let Ready { ews_url, domain, .. } = self.simulator.ready();
        let server = ews_url.trim_start_matches("https://").split('/').next().unwrap_or_default();
        format!(
            "{domain}:443=none,autodiscover.{domain}:443={server},autodiscover.{domain}:80=none,\
             _autodiscover._tcp.{domain}=none,other.example:443=none,autodiscover.other.example:443=none,\
             autodiscover.other.example:80=none,_autodiscover._tcp.other.example=none"
        )
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What a test needs that goes well; a later flag takes the place of an earlier one.
    fn arguments(&self) -> Vec<(&'static str, String)> {
        let ready = self.simulator.ready();
        vec![
            ("--url", ready.ews_url.clone()),
            ("--user", ready.user.clone()),
            ("--password-file", self.path("password")),
            ("--ca-file", ready.ca_file.clone()),
            ("--address", self.simulator.addresses()[0].clone()),
        ]
    }
}

/// What is planted: its name, a fault of the server, other flags, and what is to be told.
type Case = (&'static str, &'static str, Vec<(&'static str, String)>, &'static str);

/// Runs the test, and returns what did not go well, one line per step: its name, outcome and reason.
async fn told(stage: &Stage, changes: &[(&'static str, String)]) -> Outcome<String> {
    let mut arguments = stage.arguments();
    for (flag, value) in changes {
        arguments.retain(|(given, _)| given != flag);
        if !value.is_empty() {
            arguments.push((flag, value.clone()));
        }
    }
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mailyard"))
        .args(["profile", "test", "-o", "json"])
        .args(arguments.iter().map(|(flag, value)| format!("{flag}={value}")))
        .env("MAILYARD__EXCHANGE__RESOLVE", stage.names())
        .env("MAILYARD__EXCHANGE__AUTODISCOVER_DOMAINS", "127.0.0.1")
        .env_remove("MAILYARD_DATA")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {errors}"))?;
    let password = &stage.simulator.ready().password;
    assert!(!answer.to_string().contains(password.as_str()), "{answer}");
    let mut lines = String::new();
    for step in answer["steps"].as_array().ok_or("steps")? {
        let word = |key: &str| step[key].as_str().unwrap_or_default();
        assert!(step["duration_ms"].is_u64() && !word("name").is_empty(), "{step}");
        if matches!(word("outcome"), "failure" | "warning") {
            assert!(!word("evidence").is_empty() && !word("remedy").is_empty(), "{step}");
            writeln!(lines, "{} {} {}", word("name"), word("outcome"), word("reason"))?;
        }
    }
    let failed = lines.contains(" failure ");
    assert_eq!(output.status.success(), !failed, "{lines}{errors}");
    Ok(lines.trim_end().to_owned())
}

/// Plants one after the other, and holds each against what is told of it.
async fn holds<F: AsRef<str>>(
    stage: &Stage,
    cases: impl IntoIterator<Item = (&'static str, F, Vec<(&'static str, String)>, &'static str)>,
) -> Outcome {
    let mut wrong = String::new();
    for (what, fault, changes, expected) in cases {
        if !fault.as_ref().is_empty() {
            stage.simulator.fault(rule(fault.as_ref())?)?;
        }
        let told = told(stage, &changes).await?;
        stage.simulator.clear_faults();
        if told != expected {
            writeln!(wrong, "{what}: {told:?} and not {expected:?}")?;
        }
    }
    assert_eq!(wrong, "");
    Ok(())
}

#[tokio::test]
async fn each_planted_fault_has_its_step_and_reason() -> Outcome {
    let stage = Stage::start(&[Scheme::Basic]).await?;
    let nobody = free_address().await?;
    let plain = stage.simulator.ready().control_url.replace("http:", "https:");
    let ews = stage.simulator.ready().ews_url.clone();
    let mut cases: Vec<Case> = vec![
        ("nothing", "", vec![], ""),
        (
            "a name that is none",
            "",
            vec![("--url", "https://nobody.invalid/EWS/Exchange.asmx".into())],
            "dns failure PROFILE_DNS_FAILED",
        ),
        (
            "nobody listens",
            "",
            vec![("--url", format!("https://{nobody}/EWS/Exchange.asmx"))],
            "connect failure PROFILE_CONNECT_FAILED",
        ),
        (
            "an authority that is not known",
            "",
            vec![("--ca-file", String::new())],
            "tls failure PROFILE_TLS_UNTRUSTED",
        ),
        ("no TLS", "", vec![("--url", plain)], "tls failure PROFILE_TLS_FAILED"),
        (
            "another path",
            "",
            vec![("--url", ews.replace("/EWS/Exchange.asmx", "/owa/"))],
            "http failure PROFILE_URL_WRONG",
        ),
        (
            "a wrong password",
            "",
            vec![("--password-file", stage.path("wrong"))],
            "authenticate failure PROFILE_AUTH_REJECTED",
        ),
        (
            "a scheme that is not offered",
            "",
            vec![("--auth", "ntlm".into())],
            "authenticate failure PROFILE_AUTH_SCHEME_MISSING",
        ),
        (
            "an address that is none",
            "",
            vec![("--address", "nobody@exchange.test".into())],
            "impersonate failure MAILBOX_NOT_FOUND_ON_SERVER",
        ),
        (
            "a user that is no address",
            "",
            vec![("--user", "EXCHANGE\\svc-mailyard".into()), ("--address", String::new())],
            "impersonate warning PROFILE_USER_NOT_ADDRESS",
        ),
    ];
    for (what, fault, expected) in [
        ("a page", r#"{"kind":"html_200"}"#, "http failure PROFILE_ANSWER_NOT_EWS"),
        ("not available", r#"{"kind":"http_503"}"#, "http failure EXCHANGE_UNAVAILABLE"),
        (
            "a clock that is wrong",
            r#"{"kind":"clock_skew","skew_ms":600000}"#,
            "http warning PROFILE_CLOCK_SKEW",
        ),
        ("no role", r#"{"kind":"impersonation_denied"}"#, "impersonate failure IMPERSONATION_DENIED"),
        ("a mailbox that is away", r#"{"kind":"mailbox_unavailable"}"#, "inbox failure MAILBOX_UNAVAILABLE"),
        ("busy", r#"{"kind":"server_busy_hint","hint_ms":60000}"#, "throttling failure EXCHANGE_SERVER_BUSY"),
        ("a cut connection", r#"{"kind":"cut_connection"}"#, "http failure PROFILE_CONNECTION_LOST"),
        (
            "an operation that breaks connections",
            r#"{"kind":"cut_connection","operation":"GetFolder"}"#,
            "authenticate failure PROFILE_CONNECTION_LOST",
        ),
    ] {
        cases.push((what, fault, vec![], expected));
    }
    holds(&stage, cases).await?;
    stage.simulator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn each_fault_of_a_handshake_has_its_reason() -> Outcome {
    let stage = Stage::start(&[Scheme::Basic, Scheme::Ntlm]).await?;
    let ntlm = [("--auth", "ntlm".to_owned())];
    assert_eq!(told(&stage, &ntlm).await?, "authenticate warning PROFILE_AUTH_SCHEME_CONFLICT");
    stage.simulator.fault(rule(r#"{"kind":"ntlm_reset"}"#)?)?;
    assert_eq!(told(&stage, &ntlm).await?, "authenticate failure PROFILE_AUTH_CONNECTION_NOT_KEPT");
    stage.simulator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_server_is_looked_for_and_each_fault_of_that_is_told() -> Outcome {
    let stage = Stage::start(&[Scheme::Basic]).await?;
    let led = |to: &str| format!(r#"{{"kind":"redirect_url","target":"{to}"}}"#);
    let cases = [
        ("nothing", String::new(), None, ""),
        (
            "an address that is none",
            r#"{"kind":"autodiscover_error","code":"InvalidUser"}"#.to_owned(),
            None,
            "autodiscover failure MAILBOX_NOT_FOUND_ON_SERVER",
        ),
        (
            "another domain",
            led("https://mail.other.example/autodiscover/autodiscover.xml"),
            None,
            "autodiscover failure AUTODISCOVER_REDIRECT_FOREIGN",
        ),
        (
            "plain HTTP",
            led("http://autodiscover.exchange.test/autodiscover/autodiscover.xml"),
            None,
            "autodiscover failure AUTODISCOVER_REDIRECT_INSECURE",
        ),
        (
            "a circle",
            led("https://autodiscover.exchange.test/autodiscover/autodiscover.xml"),
            None,
            "autodiscover failure AUTODISCOVER_REDIRECT_LOOP",
        ),
        (
            "a domain that says nothing",
            String::new(),
            Some(("--address", "nobody@other.example".to_owned())),
            "autodiscover failure MAILBOX_LOCATION_UNKNOWN",
        ),
        (
            "a wrong password",
            String::new(),
            Some(("--password-file", stage.path("wrong"))),
            "authenticate failure PROFILE_AUTH_REJECTED",
        ),
    ];
    let cases = cases.map(|(what, fault, change, expected)| {
        let mut changes = vec![("--url", String::new()), ("--autodiscover", "true".to_owned())];
        changes.extend(change);
        (what, fault, changes, expected)
    });
    holds(&stage, cases).await?;
    stage.simulator.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_is_to_be_tested_is_named_once() -> Outcome {
    let url = "--url=https://mail.contoso.example/EWS/Exchange.asmx";
    for arguments in [&[][..], &["main", url], &["main", "--user=u@contoso.example"]] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mailyard"))
            .args(["profile", "test"])
            .args(arguments)
            .env_remove("MAILYARD_DATA")
            .stdin(Stdio::null())
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let flag = arguments.last().and_then(|last| last.split('=').next()).unwrap_or("--url");
        assert!(output.status.code() == Some(2) && errors.contains(flag), "{arguments:?}: {errors}");
    }
    assert!(!Path::new("mailyard.db").exists());
    Ok(())
}
