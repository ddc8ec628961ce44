//! Profiles whose application gets tokens by a certificate.

use std::fmt::Write as _;

use mailyard_policy::{id::ProfileId, operation::Direction};
use mailyard_wire::{
    FieldMask,
    admin::{
        Authentication, Credentials, OAuth, Profile, StepOutcome, TestConnectionRequest, UpdateProfileRequest,
    },
};
use rcgen::{CertificateParams, KeyPair};
use secrecy::ExposeSecret as _;
use tokio_stream::StreamExt as _;

use crate::house::{House, PASSWORD, answered, create, credentials, profile, told};

/// A certificate, and its key.
fn certificate(last_year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    // Written as it is read, line by line.
    (certificate.pem().replace("\r\n", "\n"), key.serialize_pem().replace("\r\n", "\n"))
}

fn application() -> OAuth {
    let (certificate, key) = certificate(2099);
    OAuth {
        tenant: "contoso.example".into(),
        client: "6f3c9a52-0000-0000-0000-000000000001".into(),
        certificate_pem: certificate + &key,
        ..OAuth::default()
    }
}

fn by_oauth(oauth: OAuth) -> Credentials {
    Credentials { authentication: Authentication::Oauth.into(), oauth: Some(oauth), ..Credentials::default() }
}

fn with(credentials: Credentials) -> Profile {
    Profile { credentials: Some(credentials), ..profile() }
}

fn update(made: &Profile, credentials: Credentials, paths: &[&str]) -> UpdateProfileRequest {
    let profile = Profile { name: made.name.clone(), credentials: Some(credentials), ..Profile::default() };
    let paths = paths.iter().map(ToString::to_string).collect();
    UpdateProfileRequest {
        profile: Some(profile),
        update_mask: Some(FieldMask { paths }),
        set_default: false,
    }
}

async fn secret(house: &House, profile: &Profile, direction: Direction) -> String {
    let id: ProfileId = profile.uid.parse().unwrap();
    let profile = house.store.profile(id).await.unwrap().unwrap();
    house.store.secret(&profile, direction).await.unwrap().unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn a_certificate_is_read_back_and_its_key_never() {
    let house = House::new().await;
    let given = OAuth {
        authority: "https://login.example".into(),
        resource: "https://mail.contoso.example".into(),
        ..application()
    };
    let (certificate, key) =
        given.certificate_pem.split_at(given.certificate_pem.find("-----BEGIN PRIV").unwrap());
    let made = answered(house.profiles().create_profile(create(with(by_oauth(given.clone())))).await);
    let own = made.credentials.clone().unwrap();
    let oauth = own.oauth.clone().unwrap();
    assert_eq!(
        (own.authentication(), own.password_set, own.user.as_str()),
        (Authentication::Oauth, false, "")
    );
    assert_eq!(
        OAuth { key_set: true, certificate_pem: certificate.into(), ..given.clone() },
        OAuth { certificate_subject: String::new(), certificate_expire_time: None, ..oauth.clone() }
    );
    assert!(oauth.certificate_subject.contains("CN="), "{}", oauth.certificate_subject);
    assert_eq!(oauth.certificate_expire_time.map(|at| at.seconds), Some(4_070_908_800));
    assert_eq!(secret(&house, &made, Direction::Incoming).await, key);

    // Whoever writes back what was read changes nothing, and single fields change alone.
    let everything = Profile { description: "all".into(), ..made.clone() };
    let mask = Some(FieldMask { paths: vec!["*".into()] });
    let request = UpdateProfileRequest { profile: Some(everything), update_mask: mask, set_default: false };
    let kept = answered(house.profiles().update_profile(request).await);
    assert_eq!((kept.credentials.as_ref(), kept.description.as_str()), (Some(&own), "all"));
    let other = OAuth { tenant: "fabrikam.example".into(), ..OAuth::default() };
    let request =
        update(&made, by_oauth(other), &["credentials.oauth.tenant", "credentials.oauth.authority"]);
    let changed =
        answered(house.profiles().update_profile(request).await).credentials.unwrap().oauth.unwrap();
    assert_eq!((changed.tenant.as_str(), changed.authority.as_str()), ("fabrikam.example", ""));
    assert_eq!(changed.certificate_pem, certificate);
    assert_eq!(secret(&house, &made, Direction::Incoming).await, key);
    let new = OAuth { certificate_pem: application().certificate_pem, ..OAuth::default() };
    let request = update(&made, by_oauth(new), &["credentials.oauth.certificate_pem"]);
    answered(house.profiles().update_profile(request).await);
    assert_ne!(secret(&house, &made, Direction::Incoming).await, key);
}

#[tokio::test]
async fn each_direction_may_have_its_own_scheme() {
    let house = House::new().await;
    // The scheme of new ones is what is filled in.
    let sender = Credentials { oauth: Some(application()), ..Credentials::default() };
    let both = Profile { outgoing_credentials: Some(sender), ..profile() };
    let made = answered(house.profiles().create_profile(create(both)).await);
    let schemes = |profile: &Profile| {
        let outgoing = profile.outgoing_credentials.as_ref().map(Credentials::authentication);
        (profile.credentials.as_ref().unwrap().authentication(), outgoing)
    };
    assert_eq!(schemes(&made), (Authentication::Basic, Some(Authentication::Oauth)));
    assert_eq!(made.outgoing_credentials.as_ref().unwrap().user, "");
    assert_eq!(secret(&house, &made, Direction::Incoming).await, PASSWORD);
    assert!(secret(&house, &made, Direction::Outgoing).await.contains("PRIVATE KEY"));

    // What the mask names is changed, also to nothing.
    let clear = |path: &str| update(&made, Credentials::default(), &[path]);
    for path in ["outgoing_credentials.oauth.tenant", "outgoing_credentials.oauth.certificate_pem"] {
        let refused = told(house.profiles().update_profile(clear(path)).await);
        assert!(refused.contains(&format!("profile.{path}: it is empty")), "{refused}");
    }
    let gone = answered(house.profiles().update_profile(clear("outgoing_credentials")).await);
    assert_eq!(schemes(&gone), (Authentication::Basic, None));
}

#[tokio::test]
async fn another_scheme_needs_its_own_secret() {
    let house = House::new().await;
    let made = answered(house.profiles().create_profile(create(profile())).await);
    let scheme = "credentials.authentication";
    let oauth = "credentials.oauth";
    let only = |authentication: Authentication| Credentials {
        authentication: authentication.into(),
        ..Credentials::default()
    };
    let mut table = String::new();
    let request = update(&made, only(Authentication::Oauth), &[scheme]);
    let _ = writeln!(
        table,
        "nothing of an application: {}",
        told(house.profiles().update_profile(request).await)
    );
    let named = OAuth { certificate_pem: String::new(), ..application() };
    let request = update(&made, by_oauth(named), &[scheme, oauth]);
    let _ = writeln!(table, "no certificate: {}", told(house.profiles().update_profile(request).await));
    let changed = update(&made, by_oauth(application()), &[scheme, oauth]);
    let changed = answered(house.profiles().update_profile(changed).await);
    let own = changed.credentials.unwrap();
    assert!(own.oauth.is_some_and(|oauth| oauth.key_set) && own.user.is_empty() && !own.password_set);

    for scheme_back in [Authentication::Ntlm, Authentication::Basic] {
        let back = Credentials { user: "CONTOSO\\svc".into(), ..only(scheme_back) };
        let request = update(&made, back.clone(), &[scheme, "credentials.user"]);
        let refused = told(house.profiles().update_profile(request).await);
        let _ = writeln!(table, "{} without a password: {refused}", scheme_back.as_str_name());
    }
    let back = credentials("CONTOSO\\svc", "the next one");
    let request = update(&made, back, &[scheme, "credentials.user", "credentials.password"]);
    let own = answered(house.profiles().update_profile(request).await).credentials.unwrap();
    assert!(own.oauth.is_none() && own.password_set, "{own:?}");
    assert_eq!(secret(&house, &made, Direction::Incoming).await, "the next one");
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn what_is_wrong_with_an_application_is_said_field_by_field() {
    let house = House::new().await;
    let good = application();
    let (expired, its_key) = certificate(2021);
    let (other, _) = certificate(2099);
    let (certificate, key) =
        good.certificate_pem.split_at(good.certificate_pem.find("-----BEGIN PRIV").unwrap());
    let pem = |pem: &str| by_oauth(OAuth { certificate_pem: pem.to_owned(), ..good.clone() });
    let but = |changes: fn(&mut OAuth)| {
        let mut oauth = good.clone();
        changes(&mut oauth);
        by_oauth(oauth)
    };
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let mut table = String::new();
    for (what, credentials) in [
        ("no certificate", pem("")),
        ("nonsense", pem("nonsense")),
        ("no key", pem(certificate)),
        ("only a key", pem(key)),
        ("the key of another one", pem(&(other + key))),
        ("an expired one", pem(&(expired + &its_key))),
        ("a key with a passphrase", pem(&(certificate.to_owned() + &encrypted))),
        ("a large one", pem(&"x".repeat(70_000))),
        ("no tenant", but(|it| it.tenant.clear())),
        ("a tenant that leads elsewhere", but(|it| it.tenant = "a/../b".into())),
        ("no client", but(|it| it.client.clear())),
        ("an authority without TLS", but(|it| it.authority = "http://login.example".into())),
        ("an authority with a question", but(|it| it.authority = "https://login.example/?a=b".into())),
        ("a resource with a blank", but(|it| it.resource = "https://a b".into())),
        ("a user", Credentials { user: "svc".into(), ..by_oauth(good.clone()) }),
        ("a password", Credentials { password: "secret".into(), ..by_oauth(good.clone()) }),
        (
            "NTLM with a certificate",
            Credentials { authentication: Authentication::Ntlm.into(), ..by_oauth(good.clone()) },
        ),
        (
            "Basic with everything of both",
            Credentials { oauth: Some(good.clone()), ..credentials("svc", "secret") },
        ),
        ("oauth with nothing", Credentials { oauth: None, ..by_oauth(good.clone()) }),
    ] {
        let refused = told(house.profiles().create_profile(create(with(credentials))).await);
        assert!(!refused.contains("BEGIN") && !refused.contains("secret"), "{refused}");
        let _ = writeln!(table, "{what}: {refused}");
    }
    insta::assert_snapshot!(table);
    assert!(house.store.profiles(None).await.unwrap().is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_test_tells_of_the_token_in_the_step_that_needs_it() {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = mailyard_exchange_sim::Options::new(1, 1, folder.path());
    let simulator = mailyard_exchange_sim::Simulator::start(options).await.unwrap();
    let ready = simulator.ready();
    // Nobody listens there.
    let oauth = OAuth { authority: "https://127.0.0.1:9".into(), ..application() };
    let tested = Profile {
        incoming_url: ready.ews_url.clone(),
        outgoing_url: ready.ews_url.clone(),
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file).unwrap()),
        ..with(by_oauth(oauth))
    };
    let request = TestConnectionRequest { profile: Some(tested), ..TestConnectionRequest::default() };
    let answers = house.profiles().test_connection(request).await.unwrap().into_inner();
    let steps: Vec<_> = answers.map(|answer| answer.unwrap().step.unwrap()).collect().await;
    let failed: Vec<_> = steps.iter().filter(|step| step.outcome() == StepOutcome::Failure).collect();
    assert_eq!((failed.len(), failed[0].name.as_str()), (1, "authenticate"));
    assert_eq!(failed[0].reason, "PROFILE_TOKEN_ENDPOINT_UNREACHABLE");
}
