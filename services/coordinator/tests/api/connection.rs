//! Test Connection against a simulated Exchange.

use std::fmt::Write as _;

use mailyard_exchange_sim::{Options, Simulator};
use mailyard_policy::Reason;
use mailyard_wire::admin::{
    Authentication, CredentialSource, Credentials, GetProfileRequest, Mailbox, MailboxCredentials, Profile,
    TestConnectionRequest, UpdateMailboxRequest,
};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::house::{House, create, credentials, name, profile, told, until};

struct Exchange {
    simulator: Simulator,
    profile: Profile,
    _folder: tempfile::TempDir,
}

async fn exchange() -> Exchange {
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(Options::new(2, 1, folder.path().join("sim"))).await.unwrap();
    let ready = simulator.ready();
    let profile = Profile {
        incoming_url: ready.ews_url.clone(),
        outgoing_url: ready.ews_url.clone(),
        credentials: Some(credentials(&ready.user, &ready.password)),
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file).unwrap()),
        ..profile()
    };
    Exchange { simulator, profile, _folder: folder }
}

fn inline(profile: Profile, address: &str) -> TestConnectionRequest {
    TestConnectionRequest { profile: Some(profile), address: address.to_owned(), ..Default::default() }
}

/// The steps as lines: step, outcome and reason.
async fn steps(house: &House, request: TestConnectionRequest) -> Result<String, Status> {
    let own = request.profile.as_ref().and_then(|profile| profile.credentials.as_ref());
    let password = own.map(|own| own.password.clone()).unwrap_or_default();
    let mut answers = house.profiles().test_connection(request).await?.into_inner();
    let mut lines = String::new();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        assert!(password.is_empty() || !format!("{answer:?}").contains(&password));
        let step = answer.step.unwrap();
        let entry = step.reason.parse::<Reason>().map(Reason::entry).ok();
        let advice = entry.map(|entry| (entry.remedy, entry.guide.unwrap_or_default()));
        assert_eq!((&*step.remedy, &*step.guide), advice.unwrap_or_default(), "{step:?}");
        let outcome = step.outcome().as_str_name().trim_start_matches("STEP_OUTCOME_").to_lowercase();
        let _ = writeln!(lines, "{} {} {outcome} {}", step.direction, step.name, step.reason);
    }
    Ok(lines.lines().map(str::trim).collect::<Vec<_>>().join("\n"))
}

const WELL: &str = "dns success\nconnect success\ntls success\nhttp success\nauthenticate success\nimpersonate success\n\
    inbox success\nversion success\nthrottling success";

#[tokio::test]
async fn a_connection_is_tested_step_by_step_before_anything_is_stored() {
    let house = House::new().await;
    let Exchange { simulator, profile, .. } = &exchange().await;
    let address = simulator.addresses()[0].clone();
    let unnamed = Profile { display_name: String::new(), ..profile.clone() };
    assert_eq!(steps(&house, inline(unnamed, &address)).await.unwrap(), WELL);

    let mut table = String::new();
    let user = &simulator.ready().user;
    let wrong_password = Profile { credentials: Some(credentials(user, "wrong")), ..profile.clone() };
    let untrusted = Profile { ca_pem: None, ..profile.clone() };
    let nobody = Profile { outgoing_url: "https://127.0.0.1:9/EWS/Exchange.asmx".into(), ..profile.clone() };
    for (what, profile, address) in [
        ("a wrong password", wrong_password, address.as_str()),
        ("an authority that is not known", untrusted, &address),
        ("a mailbox that is none", profile.clone(), "nobody@contoso.example"),
        ("no mailbox", profile.clone(), ""),
        ("another server for sending", nobody, &address),
    ] {
        let told = steps(&house, inline(profile, address)).await.unwrap();
        let _ = writeln!(table, "{what}:\n{told}\n");
    }
    insta::assert_snapshot!(table);
    assert_eq!((house.store.profiles(None).await.unwrap().len(), house.nudges()), (0, 0));
}

#[tokio::test]
async fn a_stored_profile_is_tested_with_its_stored_password() {
    let house = House::new().await;
    let Exchange { simulator, profile, .. } = &exchange().await;
    house.profiles().create_profile(create(profile.clone())).await.unwrap();
    let request = TestConnectionRequest {
        name: name("emailServerProfiles", "Main"),
        address: simulator.addresses()[0].clone(),
        ..Default::default()
    };
    let main = GetProfileRequest { name: request.name.clone() };
    let before = house.profiles().get_profile(main.clone()).await.unwrap().into_inner();
    assert_eq!(before.last_test, None);
    assert_eq!(steps(&house, request.clone()).await.unwrap(), WELL);
    until("the result is kept", async || {
        let profile = house.profiles().get_profile(main.clone()).await.unwrap().into_inner();
        profile.last_test.is_some_and(|test| test.steps.len() == 9 && test.address == request.address)
    })
    .await;

    let mut table = String::new();
    let both = TestConnectionRequest { profile: Some(profile.clone()), ..request.clone() };
    let unknown = TestConnectionRequest { name: name("emailServerProfiles", "None"), ..request };
    let no_password =
        Profile { credentials: Some(credentials(&simulator.ready().user, "")), ..profile.clone() };
    for (what, request) in [
        ("neither", TestConnectionRequest::default()),
        ("both", both),
        ("an unknown profile", unknown),
        ("no password", inline(no_password, "")),
        (
            "a password in a URL",
            inline(Profile { incoming_url: "https://me:pw@a.example/".into(), ..profile.clone() }, ""),
        ),
        ("no address", inline(profile.clone(), "nobody")),
    ] {
        let refused = told(house.profiles().test_connection(request).await.map(|answer| answer.map(|_| ())));
        let _ = writeln!(table, "{what}: {refused}");
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn where_mailboxes_sign_in_as_themselves_one_of_them_tests_the_connection() {
    let house = House::new().await;
    let Exchange { simulator, profile, .. } = &exchange().await;
    let scheme = Credentials { authentication: Authentication::Basic.into(), ..Credentials::default() };
    let of_mailboxes = Profile {
        credential_source: CredentialSource::Mailbox.into(),
        credentials: Some(scheme),
        ..profile.clone()
    };
    house.profiles().create_profile(create(of_mailboxes.clone())).await.unwrap();
    house.profile("Other").await;
    let [one, two] = [0, 1].map(|number| simulator.addresses()[number].clone());
    house.import_csv(&format!("{one},One,user,Main,sss,sss,none\n{two},Two,user,Other,sss,sss,none\n")).await;
    let ask = |address: &str| TestConnectionRequest {
        name: name("emailServerProfiles", "Main"),
        address: address.to_owned(),
        ..Default::default()
    };
    let mut table = String::new();
    for (what, request) in [
        ("no mailbox", ask("")),
        ("an unknown mailbox", ask("nobody@contoso.example")),
        ("a mailbox of another profile", ask(&two)),
        ("a mailbox without credentials", ask(&one)),
        ("a profile that is not stored", inline(of_mailboxes, &one)),
    ] {
        let refused = told(house.profiles().test_connection(request).await.map(|answer| answer.map(|_| ())));
        let _ = writeln!(table, "{what}: {refused}");
    }
    for (what, password) in [("a wrong password", "wrong"), ("its own", &simulator.ready().password)] {
        let credentials = Some(MailboxCredentials {
            user: one.clone(),
            password: password.to_owned(),
            ..MailboxCredentials::default()
        });
        let mailbox = Some(Mailbox { name: name("mailboxes", &one), credentials, ..Mailbox::default() });
        let request = UpdateMailboxRequest { mailbox, ..UpdateMailboxRequest::default() };
        house.mailboxes().update_mailbox(request).await.unwrap();
        let _ = writeln!(table, "{what}:\n{}\n", steps(&house, ask(&one)).await.unwrap());
    }
    insta::assert_snapshot!(table);
}
