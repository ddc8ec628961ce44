//! Stories of profiles that sign in by each scheme: mail comes in and is tracked, and mail goes out.

use mailyard_exchange_sim::{Options, Simulator};
use mailyard_policy::profile::Authentication;
use mailyard_store::people::{Profile, Secrets};
use mailyard_tests::{Outcome, Stage, credentials, hurried};

fn figure(simulator: &Simulator, name: &str) -> u64 {
    simulator.stats()[name].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_flows_by_each_scheme() -> Outcome {
    for (by, handshakes, tokens) in [
        (Authentication::Ntlm, true, false),
        (Authentication::Negotiate, true, false),
        (Authentication::Auto, true, false),
        (Authentication::OAuth, false, true),
    ] {
        let stage = Stage::signing_in(by, hurried()).await?;
        stage.mail_flows(&stage.simulator, &stage.simulator).await?;
        let shaken = figure(&stage.simulator, "handshakes");
        assert_eq!(shaken > 0, handshakes, "{by}: {shaken} handshakes");
        let issued = figure(&stage.simulator, "tokens");
        assert_eq!(issued, u64::from(tokens), "{by}: one token for everything");
        // Authenticated connections are kept, and shared by all mailboxes.
        assert!(shaken <= 10, "{by}: {shaken} handshakes");
        stage.shutdown.begin();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_and_sending_go_their_own_ways() -> Outcome {
    let stage = Stage::signing_in(Authentication::OAuth, hurried()).await?;
    let folder = tempfile::tempdir()?;
    let options = Options::new(stage.addresses.len(), 1, folder.path());
    let sending = Simulator::start(credentials::accepting(&[Authentication::Ntlm], options)).await?;
    let ready = sending.ready();
    let (outgoing, secret) = credentials::of(Authentication::Ntlm, ready)?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let both = profile.ca_pem.clone().unwrap_or_default() + &std::fs::read_to_string(&ready.ca_file)?;
    let profile = Profile {
        outgoing_url: Some(ready.ews_url.clone()),
        outgoing_credentials: Some(outgoing),
        ca_pem: Some(both),
        ..profile
    };
    let secrets = Secrets { incoming: None, outgoing: Some(secret) };
    stage.store.update_profile(&profile, &secrets, false).await?;
    stage.nudge();
    stage.mail_flows(&stage.simulator, &sending).await?;
    assert_eq!(figure(&stage.simulator, "handshakes"), 0);
    assert_eq!(figure(&stage.simulator, "tokens"), 1);
    assert!(figure(&sending, "handshakes") > 0);
    assert!(stage.simulator.submissions().is_empty(), "nothing leaves where mail is only read");
    Ok(())
}
