//! The simulator against curl, which speaks NTLM by itself: three legs, one connection, no MIC and no channel bindings.

use std::{error::Error, process::Stdio};

use mailyard_exchange_sim::{ExtendedProtection, Options, Scheme, Settings, Simulator};

const ENVELOPE: &str = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
    xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
    xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><s:Body><m:GetFolder><m:FolderShape>\
    <t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds>\
    </m:GetFolder></s:Body></s:Envelope>";

/// Asks twice on one connection: for each answer its status, the connections that were made for it, and its challenges.
async fn ask(simulator: &Simulator, curl: &str, arguments: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let ready = simulator.ready();
    let output = tokio::process::Command::new(curl)
        .args(["--silent", "--show-error", "--noproxy", "*", "--cacert", &ready.ca_file, "--data", ENVELOPE])
        .args([
            "--header",
            "Content-Type: text/xml; charset=utf-8",
            "--output",
            "/dev/null",
            "--output",
            "/dev/null",
        ])
        .args(["--write-out", "%{http_code} %{num_connects} %header{www-authenticate}\n"])
        .args(arguments)
        .args([&ready.ews_url, &ready.ews_url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (out, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}\n{errors}");
    Ok(out.lines().map(|line| line.trim_end().to_owned()).collect())
}

#[tokio::test]
async fn curl_signs_in_by_ntlm() -> Result<(), Box<dyn Error>> {
    let Ok(curl) = std::env::var("MAILYARD_CURL") else {
        eprintln!("SKIPPED: MAILYARD_CURL names no curl that knows NTLM");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut options = Options::new(1, 1, folder.path());
    options.auth = vec![Scheme::Basic, Scheme::Ntlm];
    let simulator = Simulator::start(options).await?;
    let ready = simulator.ready();
    let password = &ready.password;
    let upn = format!("{}:{password}", ready.user);
    let windows = format!("{}\\svc-mailyard:{password}", ready.nt_domain);
    let mailbox = format!("{}:{password}", simulator.addresses()[0]);
    let wrong = format!("{}:wrong", ready.user);
    let bearer = format!("Bearer {password}");
    let header = format!("Authorization: {bearer}");
    let well = ["200 1", "200 0"];
    let offered = "401 1 NTLM";
    let cases: [(&[&str], [&str; 2]); 7] = [
        (&["--ntlm", "--user", &upn], well),
        (&["--ntlm", "--user", &windows], well),
        (&["--ntlm", "--user", &mailbox], well),
        (&["--anyauth", "--user", &upn], well),
        (&["--basic", "--user", &upn], well),
        (&["--ntlm", "--user", &wrong], [offered, "401 0 NTLM"]),
        (&["--header", &header], [offered, "401 0 NTLM"]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(ask(&simulator, &curl, arguments).await?, expected, "{arguments:?}");
    }
    let stats = simulator.stats();
    assert_eq!(stats["requests"]["GetFolder"], 10, "{stats}");
    assert_eq!(stats["handshakes"], 4, "one for each connection that was accepted: {stats}");
    // Without bindings nobody gets in where they are required.
    simulator.set(Settings { extended_protection: ExtendedProtection::Require, ..Settings::default() });
    assert_eq!(ask(&simulator, &curl, &["--ntlm", "--user", &upn]).await?, [offered, "401 0 NTLM"]);
    assert_eq!(simulator.stats()["refused_sign_ins"]["no_bindings"], 2);
    simulator.shutdown().await;
    Ok(())
}
