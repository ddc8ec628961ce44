//! ProfileService.

use std::fmt::Write as _;

use mailyard_policy::{
    Reason,
    id::{Epoch, ProfileId},
    operation::Direction,
};
use mailyard_store::holder::Lane;
use mailyard_wire::{
    FieldMask,
    admin::{
        Authentication, CredentialSource, Credentials, GetProfileRequest, ListProfilesRequest, Profile,
        TestConnectionRequest, UpdateProfileRequest,
    },
    convert::duration,
};
use secrecy::ExposeSecret as _;

use crate::house::{House, PARENT, PASSWORD, answered, create, credentials, name, profile, told};

type Change = (&'static str, fn(&mut Profile));

fn own(profile: &mut Profile) -> &mut Credentials {
    profile.credentials.get_or_insert_default()
}

/// Each breaks a good profile in one way.
const WRONG: &[Change] = &[
    ("no name", |it| it.display_name.clear()),
    ("a blank name", |it| it.display_name = "  ".into()),
    ("a name of two lines", |it| it.display_name = "a\r\nBcc: b".into()),
    ("a long name", |it| it.display_name = "x".repeat(257)),
    ("a bell in the description", |it| it.description = "\u{7}".into()),
    ("no incoming URL", |it| it.incoming_url.clear()),
    ("no URL at all", |it| {
        it.incoming_url.clear();
        it.outgoing_url.clear();
    }),
    ("notifications by delegation", |it| {
        it.streaming = true;
        own(it).set_access(mailyard_wire::admin::Access::Delegation);
    }),
    ("a source of credentials that is none", |it| it.credential_source = 9),
    ("a user beside the mailboxes' own", |it| it.set_credential_source(CredentialSource::Mailbox)),
    ("an application, another sender and notifications beside the mailboxes' own", |it| {
        it.set_credential_source(CredentialSource::Mailbox);
        *own(it) = Credentials { authentication: Authentication::Oauth.into(), ..Credentials::default() };
        it.outgoing_credentials = Some(credentials("sender", PASSWORD));
        it.streaming = true;
    }),
    ("plain HTTP", |it| it.incoming_url = "http://mail.contoso.example/EWS".into()),
    ("no URL but a word", |it| it.outgoing_url = "exchange".into()),
    ("a password in the URL", |it| it.incoming_url = "https://me:Tannenbaum@mail.contoso.example/".into()),
    ("a password with a slash in the URL", |it| {
        it.outgoing_url = "https://me:Tannen/baum@contoso.example/".into();
    }),
    ("a scheme of the future", |it| own(it).authentication = 99),
    ("no user", |it| own(it).user.clear()),
    ("a user that Basic cannot carry", |it| own(it).user = "a:b".into()),
    ("no password", |it| own(it).password.clear()),
    ("a password with a line end", |it| own(it).password.push('\n')),
    ("an access that is none", |it| own(it).access = 7),
    ("another sender without a password", |it| {
        it.outgoing_credentials = Some(Credentials { user: "sender".into(), ..Credentials::default() });
    }),
    ("no certificate", |it| it.ca_pem = Some("nonsense".into())),
    ("a certificate cut in two", |it| {
        it.ca_pem = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into());
    }),
    ("too many connections", |it| it.max_connections = 301),
    ("far too many connections", |it| it.max_connections = 65_546),
    ("a long interval", |it| it.min_poll_interval = Some(duration(std::time::Duration::from_mins(1441)))),
    ("autodiscover beside a URL", |it| {
        it.autodiscover = true;
        it.outgoing_url.clear();
    }),
    ("autodiscover with an application", |it| {
        it.autodiscover = true;
        (it.incoming_url, it.outgoing_url) = (String::new(), String::new());
        *own(it) = Credentials { authentication: Authentication::Oauth.into(), ..Credentials::default() };
    }),
    ("an idle period of nothing", |it| it.idle_max = Some(duration(std::time::Duration::ZERO))),
    ("a deadline longer than the deployment's", |it| {
        it.request_deadline = Some(duration(std::time::Duration::from_secs(21)));
    }),
    ("an owner who has no address", |it| it.owner_email = Some("the boss".into())),
    ("mails to nobody", |it| {
        it.owner_email = None;
        it.alert_owner = Some(true);
    }),
    ("much at once", |it| {
        it.display_name.clear();
        own(it).user.clear();
        it.max_connections = 1000;
    }),
];

#[tokio::test]
async fn what_is_wrong_with_a_profile_is_said_field_by_field() {
    let house = House::new().await;
    let mut table = String::new();
    for (what, breaks) in WRONG {
        let mut wrong = profile();
        breaks(&mut wrong);
        let refused = told(house.profiles().create_profile(create(wrong)).await);
        assert!(!refused.contains("annen"), "what may be a password is not repeated: {refused}");
        let _ = writeln!(table, "{what}: {refused}");
    }
    let mut taken = profile();
    house.profile("Main").await;
    taken.display_name = "MAIN".into();
    let _ = writeln!(table, "a taken name: {}", told(house.profiles().create_profile(create(taken)).await));
    for (what, parent) in [("no organization", ""), ("an unknown one", "organizations/nowhere")] {
        let request =
            mailyard_wire::admin::CreateProfileRequest { parent: parent.into(), ..create(profile()) };
        let _ = writeln!(table, "{what}: {}", told(house.profiles().create_profile(request).await));
    }
    insta::assert_snapshot!(table);
    assert_eq!(house.store.profiles(None).await.unwrap().len(), 1, "nothing else was made");
}

#[tokio::test]
async fn a_profile_leaves_signing_in_to_its_mailboxes() {
    let house = House::new().await;
    let scheme =
        || Some(Credentials { authentication: Authentication::Ntlm.into(), ..Credentials::default() });
    let of_mailboxes = Profile {
        display_name: "New".into(),
        credential_source: CredentialSource::Mailbox.into(),
        credentials: scheme(),
        ..profile()
    };
    let made = answered(house.profiles().create_profile(create(of_mailboxes)).await);
    assert_eq!((made.credential_source(), made.credentials), (CredentialSource::Mailbox, scheme()));

    let old = answered(house.profiles().create_profile(create(profile())).await);
    assert_eq!(old.credential_source(), CredentialSource::Profile);
    let update = async |change: Profile| {
        let profile = Some(Profile { name: name("emailServerProfiles", "Main"), ..change });
        let request = UpdateProfileRequest { profile, ..UpdateProfileRequest::default() };
        house.profiles().update_profile(request).await
    };
    let source =
        |source: CredentialSource| Profile { credential_source: source.into(), ..Profile::default() };
    let left = answered(update(source(CredentialSource::Mailbox)).await);
    let shown = left.credentials.clone().unwrap();
    assert_eq!((shown.authentication(), shown.user.as_str()), (Authentication::Basic, ""));
    assert!(!shown.password_set);
    let id = house.store.profile_named(&house.org, "Main").await.unwrap().unwrap();
    assert!(house.store.secret(&id, Direction::Incoming).await.unwrap().is_none(), "nobody uses it");
    // Who writes back what was read changes nothing else.
    let same = answered(update(left.clone()).await);
    assert_eq!(Profile { etag: left.etag.clone(), ..same }, left);
    let mut table = String::new();
    for (what, change) in [
        ("back without an account", source(CredentialSource::Profile)),
        ("notifications", Profile { streaming: true, ..Profile::default() }),
        ("a user", Profile { credentials: Some(credentials("svc", PASSWORD)), ..Profile::default() }),
    ] {
        let _ = writeln!(table, "{what}: {}", told(update(change).await));
    }
    insta::assert_snapshot!(table);
    let own =
        Profile { credentials: Some(credentials("svc", PASSWORD)), ..source(CredentialSource::Profile) };
    assert!(answered(update(own).await).credentials.unwrap().password_set);
}

#[tokio::test]
async fn a_profile_has_urls_or_autodiscover() {
    let house = House::new().await;
    let asked = Profile {
        autodiscover: true,
        incoming_url: String::new(),
        outgoing_url: String::new(),
        credentials: Some(Credentials { user: "CONTOSO\\svc".into(), ..credentials("", "secret") }),
        ..profile()
    };
    let made = answered(house.profiles().create_profile(create(asked)).await);
    assert!(made.autodiscover && made.incoming_url.is_empty() && made.outgoing_url.is_empty());
    let mut table = String::new();
    let request = TestConnectionRequest { name: made.name.clone(), ..TestConnectionRequest::default() };
    let _ = writeln!(
        table,
        "a test without an address: {}",
        told(house.profiles().test_connection(request).await)
    );
    let url = "https://mail.contoso.example/EWS/Exchange.asmx";
    let changes: [(&str, &[&str], &str, bool); 4] = [
        ("no autodiscover and no URL", &["autodiscover"], "", false),
        ("one URL", &["incoming_url"], url, false),
        ("both, and autodiscover", &["incoming_url", "outgoing_url", "autodiscover"], url, true),
        ("both", &["incoming_url", "outgoing_url"], url, false),
    ];
    for (what, mask, url, autodiscover) in changes {
        let changed = Profile {
            name: made.name.clone(),
            incoming_url: url.into(),
            outgoing_url: url.into(),
            autodiscover,
            ..Profile::default()
        };
        let told = match house.profiles().update_profile(update(changed, mask)).await {
            Ok(done) => format!("autodiscover {}", done.into_inner().autodiscover),
            Err(refused) => told::<Profile>(Err(refused)),
        };
        let _ = writeln!(table, "{what}: {told}");
    }
    let back = Profile { name: made.name, autodiscover: true, ..Profile::default() };
    let back = answered(house.profiles().update_profile(update(back, &["autodiscover"])).await);
    assert!(back.autodiscover && back.incoming_url.is_empty(), "Autodiscover takes the place of the URLs");
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_profile_has_its_defaults_and_never_tells_its_password() {
    let house = House::new().await;
    let request = mailyard_wire::admin::CreateProfileRequest { set_default: true, ..create(profile()) };
    let made = answered(house.profiles().create_profile(request).await);
    let own = made.credentials.clone().unwrap();
    assert!(own.password_set && made.is_default && own.password.is_empty());
    assert_eq!((made.max_connections, made.alert_owner, made.etag.as_str()), (10, Some(true), "\"1\""));
    assert_eq!(made.idle_max, Some(duration(std::time::Duration::from_hours(1))));
    let id: ProfileId = made.uid.parse().unwrap();
    assert_eq!(made.name, name("emailServerProfiles", &made.uid));
    let kept = house.store.profile(id).await.unwrap().unwrap();
    let stored = house.store.secret(&kept, Direction::Incoming).await.unwrap().unwrap();
    assert_eq!(stored.expose_secret(), PASSWORD);
    for last in [made.uid.as_str(), "main", "MAIN"] {
        let request = GetProfileRequest { name: name("emailServerProfiles", last) };
        assert_eq!(answered(house.profiles().get_profile(request).await), made, "{last}");
    }
    let none = GetProfileRequest { name: name("emailServerProfiles", "Other") };
    insta::assert_snapshot!(told(house.profiles().get_profile(none).await));
    let listed = answered(house.profiles().list_profiles(list("", 0, "")).await);
    assert_eq!((listed.profiles, listed.total_size), (vec![made], 1));
}

fn list(filter: &str, page_size: i32, page_token: &str) -> ListProfilesRequest {
    ListProfilesRequest {
        parent: PARENT.into(),
        page_size,
        page_token: page_token.into(),
        filter: filter.into(),
    }
}

#[tokio::test]
async fn profiles_are_listed_by_name_page_by_page() {
    let house = House::new().await;
    for name in ["delta", "Alpha", "charlie", "Bravo", "echo"] {
        house.profile(name).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = answered(house.profiles().list_profiles(list("NOT display_name = echo", 3, &token)).await);
        assert_eq!(page.total_size, 4);
        seen.extend(page.profiles.into_iter().map(|profile| profile.display_name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["Alpha", "Bravo", "charlie", "delta"]);
    let mut table = String::new();
    let first = answered(house.profiles().list_profiles(list("", 3, "")).await);
    for (filter, size, token) in [
        ("nme = a", 0, ""),
        ("display_name =", 0, ""),
        ("", -1, ""),
        ("", 0, "nonsense"),
        ("move_failed = true", 0, first.next_page_token.as_str()),
    ] {
        let refused = told(house.profiles().list_profiles(list(filter, size, token)).await);
        let _ = writeln!(table, "{filter:?} {size}: {refused}");
    }
    insta::assert_snapshot!(table);
}

fn update(profile: Profile, paths: &[&str]) -> UpdateProfileRequest {
    let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
    let update_mask = (!paths.is_empty()).then_some(mask);
    UpdateProfileRequest { profile: Some(profile), update_mask, set_default: false }
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_if_nobody_was_quicker() {
    let house = House::new().await;
    let made = house.profile("Main").await;
    let named = Profile { name: made.name.clone(), ..Profile::default() };
    let set = Profile { description: "head office".into(), max_connections: 20, ..named.clone() };
    let changed = answered(house.profiles().update_profile(update(set.clone(), &[])).await);
    let expected = Profile {
        description: "head office".into(),
        max_connections: 20,
        etag: "\"2\"".into(),
        ..made.clone()
    };
    assert_eq!(changed, expected, "without a mask: what is set");
    let changed = answered(house.profiles().update_profile(update(named.clone(), &["description"])).await);
    assert_eq!(
        (changed.description.as_str(), changed.max_connections),
        ("", 20),
        "with one: also what is empty"
    );
    let cleared = update(named.clone(), &["owner_email"]);
    let changed = answered(house.profiles().update_profile(cleared).await);
    assert_eq!((changed.owner_email, changed.alert_owner), (None, Some(false)));

    let password = Credentials { password: "another-secret".into(), ..Credentials::default() };
    let secret = Profile { credentials: Some(password), etag: changed.etag.clone(), ..named.clone() };
    let changed = answered(house.profiles().update_profile(update(secret, &["credentials.password"])).await);
    let id: ProfileId = made.uid.parse().unwrap();
    let kept = house.store.profile(id).await.unwrap().unwrap();
    let stored = house.store.secret(&kept, Direction::Incoming).await.unwrap().unwrap();
    assert_eq!(stored.expose_secret(), "another-secret");
    let everything = Profile { description: "all".into(), ..changed };
    let kept = answered(house.profiles().update_profile(update(everything, &["*"])).await);
    assert!(kept.credentials.clone().unwrap().password_set && kept.description == "all", "{kept:?}");
    assert_eq!(house.nudges(), 5);

    let mut table = String::new();
    let other = house.profile("Other").await;
    for (what, profile, paths) in [
        ("an old etag", Profile { etag: "\"1\"".into(), ..set.clone() }, &[][..]),
        ("a field that is none", set.clone(), &["colour", "description"]),
        ("an empty password", named.clone(), &["credentials.password"]),
        ("an empty name", named.clone(), &["display_name"]),
        ("a URL less", named.clone(), &["outgoing_url"]),
        (
            "a password in a URL",
            Profile { outgoing_url: "https://me:pw@a.example/".into(), ..named.clone() },
            &[],
        ),
        ("another's name", Profile { display_name: "other".into(), ..named.clone() }, &[]),
        ("mails to nobody", Profile { alert_owner: Some(true), ..named.clone() }, &[]),
        ("nobody", Profile { name: name("emailServerProfiles", "Nobody"), ..set.clone() }, &[]),
        ("no name at all", Profile::default(), &[]),
    ] {
        let refused = told(house.profiles().update_profile(update(profile, paths)).await);
        let _ = writeln!(table, "{what}: {refused}");
    }
    insta::assert_snapshot!(table);
    let request = UpdateProfileRequest { set_default: true, ..update(other.clone(), &["description"]) };
    assert!(answered(house.profiles().update_profile(request).await).is_default);
    let settings = house.store.settings(&house.org).await.unwrap();
    assert_eq!(settings.default_profile.map(|id| id.to_string()), Some(other.uid));
}

#[tokio::test]
async fn a_profile_says_why_its_server_is_left_alone() {
    let house = House::new().await;
    let made = house.profile("Main").await;
    let lane = Lane { open: Some(Reason::ProfileAuthRejected), ..Lane::default() };
    house.store.keep_lane(made.uid.parse().unwrap(), 0, Epoch(1), &lane, &[]).await.unwrap();
    let got = answered(house.profiles().get_profile(GetProfileRequest { name: made.name }).await);
    assert_eq!(got.held_back_reason, "PROFILE_AUTH_REJECTED");
}
