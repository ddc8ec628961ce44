//! Settings, profiles, mailboxes, approval, lists.

use std::{sync::Arc, time::Duration};

use mailyard_policy::{
    Reason,
    connection_test::{Step, StepName, StepOutcome},
    id::{Org, ProfileId, Revision},
    operation::{Direction, Method, State},
    profile::{Access, Authentication, Credentials, OAuth},
};
use mailyard_store::{
    Store,
    holder::Commit,
    people::{AccountChange, Approval, ConnectionTest, NewMailbox, Profile, Secrets, Selection, Settings},
    query::{ALERT_FIELDS, EMAIL_FIELDS, Field, FieldKind, Filter, MAILBOX_FIELDS, Operator, Value},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::world::{
    World, address, at, compare, kept, mailbox, message, outgoing, page, profile, refused, track,
};

pub async fn settings_are_changed_against_their_revision(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let first = store.settings(&world.org).await.unwrap();
    assert!(first.approve_users && first.approve_queues && first.default_profile.is_none());
    let wanted = Settings {
        default_profile: Some(world.profile),
        default_methods: [Method::ServerSide, Method::None, Method::None],
        approve_queues: false,
        ..first.clone()
    };
    let changed = store.update_settings(&world.org, &wanted).await.unwrap();
    assert_eq!(changed, Settings { revision: Revision(1), ..wanted.clone() });
    assert_eq!(store.settings(&world.org).await.unwrap(), changed);
    assert_eq!(refused(store.update_settings(&world.org, &first).await).0, Reason::EtagMismatch);
    let unknown = Settings { default_profile: Some(ProfileId::new(5)), ..changed };
    assert_eq!(refused(store.update_settings(&world.org, &unknown).await).0, Reason::ResourceNotFound);
    assert_eq!(refused(store.settings(&Org("nobody".to_owned())).await).0, Reason::ResourceNotFound);
}

pub async fn profile_names_are_unique_ignoring_case(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let created = store.create_profile(&profile(1, "Straße Ost"), &Secrets::default(), false).await.unwrap();
    for (id, name) in [(2, "straße ost"), (3, "STRASSE OST"), (4, "MAIN")] {
        let (reason, field) =
            refused(store.create_profile(&profile(id, name), &Secrets::default(), false).await);
        assert_eq!(
            (reason, field.as_str()),
            (Reason::ResourceAlreadyExists, "profile.display_name"),
            "{name}"
        );
    }
    let renamed = Profile { display_name: "main".to_owned(), ..created.clone() };
    assert_eq!(
        refused(store.update_profile(&renamed, &Secrets::default(), false).await).0,
        Reason::ResourceAlreadyExists
    );
    let recased = Profile { display_name: "STRASSE ost".to_owned(), ..created.clone() };
    assert_eq!(
        store.update_profile(&recased, &Secrets::default(), false).await.unwrap().display_name,
        "STRASSE ost"
    );
    assert_eq!(
        refused(store.update_profile(&created, &Secrets::default(), false).await).0,
        Reason::EtagMismatch
    );
    let found = store.profile_named(&world.org, "sTRAßE OST").await.unwrap().unwrap();
    assert_eq!((found.id, found.revision), (created.id, Revision(2)));
    let names: Vec<_> =
        store.profiles(Some(&world.org)).await.unwrap().into_iter().map(|p| p.display_name).collect();
    assert_eq!(names, ["Main", "STRASSE ost"]);
    assert_eq!(store.profiles(None).await.unwrap().len(), 2);
}

pub async fn the_last_test_of_a_profile_is_kept_whole(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    assert_eq!(store.connection_test(world.profile).await.unwrap(), None);
    let step = |name, outcome, reason| Step {
        name,
        outcome,
        reason,
        duration: Duration::from_millis(7),
        evidence: "it's \"at\" 10.0.0.1".to_owned(),
        request: "<a>\n".to_owned(),
        response: String::new(),
    };
    let first = ConnectionTest {
        at: at(1),
        address: Some("ada@contoso.example".to_owned()),
        steps: vec![
            (None, step(StepName::Dns, StepOutcome::Success, None)),
            (None, step(StepName::Http, StepOutcome::Failure, Some(Reason::ProfileUrlWrong))),
        ],
    };
    let second = ConnectionTest {
        at: at(2),
        address: None,
        steps: vec![(Some(Direction::Outgoing), step(StepName::Tls, StepOutcome::Warning, None))],
    };
    let none = ConnectionTest { steps: Vec::new(), ..first.clone() };
    for test in [first, second, none] {
        store.keep_connection_test(world.profile, &test).await.unwrap();
        assert_eq!(store.connection_test(world.profile).await.unwrap(), Some(test));
    }
    assert_eq!(store.connection_test(ProfileId::new(99)).await.unwrap(), None);
}

pub async fn a_profile_becomes_the_default_with_its_own_writing_or_not_at_all(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let default = async || store.settings(&world.org).await.unwrap();
    assert_eq!(
        refused(store.create_profile(&profile(1, "MAIN"), &Secrets::default(), true).await).0,
        Reason::ResourceAlreadyExists
    );
    assert_eq!((default().await.default_profile, default().await.revision), (None, Revision(0)));
    let first = store.create_profile(&profile(1, "First"), &Secrets::default(), true).await.unwrap();
    assert_eq!((default().await.default_profile, default().await.revision), (Some(first.id), Revision(1)));
    let second = store.create_profile(&profile(2, "Second"), &Secrets::default(), false).await.unwrap();
    assert_eq!(default().await.default_profile, Some(first.id));
    let late = Profile { revision: Revision(9), ..second.clone() };
    assert_eq!(refused(store.update_profile(&late, &Secrets::default(), true).await).0, Reason::EtagMismatch);
    assert_eq!(default().await.default_profile, Some(first.id));
    let second = store.update_profile(&second, &Secrets::default(), true).await.unwrap();
    store.update_profile(&second, &Secrets::default(), true).await.unwrap();
    assert_eq!((default().await.default_profile, default().await.revision), (Some(second.id), Revision(2)));
}

pub async fn profiles_come_back_as_they_were_set(store: Arc<dyn Store>) {
    let oauth = OAuth {
        tenant: "contoso.example".to_owned(),
        client: "application".to_owned(),
        certificate_pem: "CERTIFICATE".to_owned(),
        authority: Some("https://login.contoso.example".to_owned()),
        resource: Some("https://mail.contoso.example".to_owned()),
    };
    let outgoing = Credentials {
        authentication: Authentication::OAuth,
        access: Access::Delegation,
        oauth: Some(oauth),
        ..Credentials::none()
    };
    let full = Profile {
        ca_pem: Some("PEM".to_owned()),
        outgoing_credentials: Some(outgoing),
        ..profile(1, "Full")
    };
    assert_eq!(store.create_profile(&full, &Secrets::default(), false).await.unwrap(), full);
    let bare = Profile {
        incoming_url: None,
        outgoing_url: None,
        process_email_from: None,
        owner_email: None,
        request_deadline: None,
        ..profile(2, "Bare")
    };
    assert_eq!(store.create_profile(&bare, &Secrets::default(), false).await.unwrap(), bare);
    assert_eq!(store.profile(full.id).await.unwrap(), Some(full));
    assert_eq!(store.profile(ProfileId::new(3)).await.unwrap(), None);
    let gone = profile(3, "Gone");
    assert_eq!(
        refused(store.update_profile(&gone, &Secrets::default(), false).await).0,
        Reason::ResourceNotFound
    );
}

pub async fn an_import_is_all_or_nothing_and_names_the_row(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add(1..=3).await;
    let good = |n| mailbox(n, Some(world.profile));
    let cases: [(Vec<NewMailbox>, Reason, &str); 3] = [
        (
            vec![good(4), NewMailbox { address: address(2).to_uppercase(), ..good(5) }],
            Reason::ResourceAlreadyExists,
            "rows[1].address",
        ),
        (
            vec![good(4), good(5), NewMailbox { address: address(4).to_lowercase(), ..good(6) }],
            Reason::ResourceAlreadyExists,
            "rows[2].address",
        ),
        (vec![good(4), mailbox(5, Some(ProfileId::new(9)))], Reason::ResourceNotFound, "rows[1].profile"),
    ];
    for (rows, reason, field) in cases {
        assert_eq!(
            refused(store.create_mailboxes(&world.org, &rows, at(0)).await),
            (reason, field.to_owned())
        );
        assert_eq!(store.count_mailboxes(&world.org, &Filter::All).await.unwrap(), 3);
    }
    let many: Vec<NewMailbox> =
        (10..1210).map(|n| mailbox(n, (n % 2 == 0).then_some(world.profile))).collect();
    store.create_mailboxes(&world.org, &many, at(0)).await.unwrap();
    assert_eq!(store.count_mailboxes(&world.org, &Filter::All).await.unwrap(), 1203);
    assert_eq!(store.health_counts().await.unwrap()[0].not_eligible, 603);
    assert_eq!(store.health_counts().await.unwrap(), store.recount_health().await.unwrap());
    let found = store.mailbox_at(&world.org, &address(10).to_uppercase()).await.unwrap().unwrap();
    assert_eq!((found.set, found.approval), (many[0].clone(), Approval::Pending));
    assert_eq!(
        found.operations.map(|operation| operation.state),
        [State::Untested, State::Untested, State::Off]
    );
}

pub async fn an_address_change_asks_for_approval_anew(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let id = claimed[0].fence.mailbox;
    store
        .decide_approval(&world.org, &Selection::Matching(Filter::All), Approval::Approved, at(1))
        .await
        .unwrap();
    let before = store.mailbox(id).await.unwrap().unwrap();
    let renamed = NewMailbox { display_name: "Renamed".to_owned(), ..before.set.clone() };
    let after = store.update_mailbox(&renamed, &AccountChange::Keep, before.revision).await.unwrap();
    assert_eq!((&after.set, after.approval), (&renamed, Approval::Approved));
    let taken = NewMailbox { address: address(2), ..renamed.clone() };
    assert_eq!(
        refused(store.update_mailbox(&taken, &AccountChange::Keep, after.revision).await).0,
        Reason::ResourceAlreadyExists
    );
    let moved = NewMailbox { address: "new@contoso.example".to_owned(), ..renamed };
    let after = store.update_mailbox(&moved, &AccountChange::Keep, after.revision).await.unwrap();
    assert_eq!((after.set, after.approval), (moved, Approval::Pending));
}

pub async fn approval_is_decided_for_all_or_none(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add(1..=3).await;
    let some = |list: &[u128]| Selection::Addresses(list.iter().map(|n| address(*n)).collect());
    let decide =
        async |selection, approval| store.decide_approval(&world.org, &selection, approval, at(1)).await;
    let result = decide(some(&[1, 9]), Approval::Approved).await;
    assert_eq!(refused(result), (Reason::ResourceNotFound, "addresses[1]".to_owned()));
    let approved = compare("approval", Operator::Equal, "approved");
    assert_eq!(store.count_mailboxes(&world.org, &approved).await.unwrap(), 0);
    assert_eq!(decide(some(&[1, 2, 1]), Approval::Approved).await.unwrap(), 2);
    assert_eq!(decide(Selection::Matching(Filter::All), Approval::Approved).await.unwrap(), 1);
    assert_eq!(decide(some(&[2]), Approval::Rejected).await.unwrap(), 1);
    assert_eq!(store.count_mailboxes(&world.org, &approved).await.unwrap(), 2);
}

/// A value that a field of this kind can have.
fn some_value(kind: FieldKind) -> Value {
    match kind {
        FieldKind::Text => Value::Text("x".to_owned()),
        FieldKind::Word(words) => Value::Text(words[0].to_owned()),
        FieldKind::Number => Value::Number(1),
        FieldKind::Time => Value::Time(at(0)),
        FieldKind::Flag => Value::Flag(true),
    }
}

fn every(fields: &'static [Field]) -> impl Iterator<Item = Filter> {
    fields.iter().flat_map(|field| {
        [Operator::Equal, Operator::NotEqual].map(|operator| Filter::Compare {
            field: field.name,
            operator,
            value: some_value(field.kind),
        })
    })
}

pub async fn lists_are_filtered(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 4).await;
    let mut fence = claimed[1].fence;
    let mut failing = kept(State::Disabled, State::Enabled);
    failing.operations[0].reason = Some(Reason::ImpersonationDenied);
    world.commit(&mut fence, Commit { kept: Some(failing), ..Commit::default() }).await;
    let text = compare;
    let not = |filter| Filter::Not(Box::new(filter));
    let created = |operator| Filter::Compare { field: "create_time", operator, value: Value::Time(at(0)) };
    let cases: Vec<(Filter, &[u128])> = vec![
        (Filter::All, &[1, 2, 3, 4]),
        (text("address", Operator::Equal, "m003@contoso.EXAMPLE"), &[3]),
        (text("address", Operator::Contains, "M00"), &[1, 2, 3, 4]),
        (text("state", Operator::Equal, "failing"), &[2]),
        (text("operation_state", Operator::Equal, "disabled"), &[2]),
        (text("operation_state", Operator::NotEqual, "disabled"), &[1, 3, 4]),
        (text("reason", Operator::Equal, "IMPERSONATION_DENIED"), &[2]),
        (text("reason", Operator::NotEqual, "IMPERSONATION_DENIED"), &[1, 3, 4]),
        (not(text("reason", Operator::Contains, "DENIED")), &[1, 3, 4]),
        (text("outgoing", Operator::Equal, "enabled"), &[2]),
        (text("profile", Operator::Equal, "mAIN"), &[1, 2, 3, 4]),
        (text("crm_id", Operator::Equal, "crm-4"), &[4]),
        (created(Operator::GreaterOrEqual), &[1, 2, 3, 4]),
        (created(Operator::Less), &[]),
        (
            Filter::Or(vec![
                text("address", Operator::Contains, "001"),
                text("display_name", Operator::Equal, "MAILBOX 4"),
            ]),
            &[1, 4],
        ),
        (
            Filter::And(vec![
                text("address", Operator::Greater, "m001@contoso.example"),
                not(text("state", Operator::Equal, "failing")),
            ]),
            &[3, 4],
        ),
        (Filter::Or(vec![]), &[]),
        (text("display_name", Operator::Equal, "' OR 1=1 --"), &[]),
    ];
    for (filter, expected) in cases {
        let found = store.mailboxes(&world.org, &filter, &page(None, 100)).await.unwrap();
        let numbers: Vec<u128> = found.iter().map(|mailbox| mailbox.set.id.get()).collect();
        assert_eq!(numbers, expected, "{filter:?}");
        assert_eq!(store.count_mailboxes(&world.org, &filter).await.unwrap(), expected.len() as u64);
    }
    for filter in every(MAILBOX_FIELDS) {
        store.count_mailboxes(&world.org, &filter).await.unwrap();
    }
    let counts = store.operation_counts(&world.org).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.3).sum::<u64>(), 12);
    assert!(counts.contains(&(
        crate::world::KINDS[0],
        "disabled".to_owned(),
        Some(Reason::ImpersonationDenied),
        1
    )));
}

pub async fn emails_are_filtered(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let mut fence = claimed[0].fence;
    let mut second = message(2, "b");
    second.head.subject = "ΟΔΟΣ 5".to_owned();
    second.head.to = vec!["carol@contoso.example".to_owned()];
    world.commit(&mut fence, track([message(1, "a"), second])).await;
    store.enqueue(&world.org, &outgoing(900, claimed[1].fence.mailbox, None)).await.unwrap();
    let cases = [
        (compare("subject", Operator::Contains, "GRÖSSE"), 1),
        (compare("subject", Operator::Contains, "οδοσ"), 1),
        (compare("to", Operator::Equal, "B@contoso.example"), 1),
        (compare("to", Operator::Equal, "contoso.example"), 0),
        (compare("to", Operator::Contains, "CAROL"), 1),
        (compare("from", Operator::Equal, "sender@CONTOSO.example"), 2),
        (compare("direction", Operator::Equal, "outgoing"), 1),
        (compare("state", Operator::Equal, "received"), 2),
        (compare("internet_message_id", Operator::Equal, "<M2@contoso.example>"), 1),
        (compare("mailbox", Operator::Equal, &*address(1)), 2),
        (compare("mailbox", Operator::Equal, &*address(2)), 1),
        (compare("mailbox", Operator::NotEqual, &*address(2)), 2),
        (Filter::Compare { field: "size", operator: Operator::Equal, value: Value::Number(6000) }, 2),
    ];
    for (filter, expected) in cases {
        assert_eq!(world.emails(filter.clone()).await.len(), expected, "{filter:?}");
    }
    for filter in every(EMAIL_FIELDS) {
        world.emails(filter).await;
    }
    for filter in every(ALERT_FIELDS) {
        store.alerts(&world.org, &filter, &page(None, 5)).await.unwrap();
    }
}

pub async fn pages_are_stable_under_writes(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed[0].fence;
    for n in 0..7 {
        world.commit(&mut fence, track([message(n, &format!("a{n}"))])).await;
    }
    let (mut after, mut seen) = (None, Vec::new());
    for n in 100.. {
        let part = store.emails(&world.org, &Filter::All, &page(after, 2)).await.unwrap();
        let Some(last) = part.last() else { break };
        after = Some(last.page_key());
        seen.extend(part.iter().map(|email| email.subject.clone()));
        // Newer mail arrives meanwhile and belongs to no later page.
        store.enqueue(&world.org, &outgoing(n, fence.mailbox, None)).await.unwrap();
    }
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (7, 7));
    world.add(2..=9).await;
    let first = store.mailboxes(&world.org, &Filter::All, &page(None, 3)).await.unwrap();
    world.add([0]).await;
    let rest = store
        .mailboxes(
            &world.org,
            &Filter::All,
            &page(first.last().map(mailyard_store::people::Mailbox::page_key), 100),
        )
        .await
        .unwrap();
    assert_eq!(
        rest.iter().map(|mailbox| mailbox.set.id.get()).collect::<Vec<_>>(),
        (4..=9).collect::<Vec<_>>()
    );
}

pub async fn bad_filters_and_tokens_are_refused(store: Arc<dyn Store>) {
    let org = Org::default();
    let ask = async |filter, after: Option<&str>| {
        refused(store.emails(&org, &filter, &page(after.map(ToOwned::to_owned), 5)).await).0
    };
    let number = Filter::Compare { field: "subject", operator: Operator::Equal, value: Value::Number(1) };
    let part = Filter::Compare { field: "size", operator: Operator::Contains, value: Value::Number(1) };
    assert_eq!(ask(compare("colour", Operator::Equal, "red"), None).await, Reason::FilterFieldUnknown);
    assert_eq!(ask(number, None).await, Reason::FilterInvalid);
    assert_eq!(ask(part, None).await, Reason::FilterInvalid);
    assert_eq!(ask(Filter::And(vec![Filter::All; 400]), None).await, Reason::FilterInvalid);
    for token in ["", "x", "12:zz", "12"] {
        assert_eq!(ask(Filter::All, Some(token)).await, Reason::PageTokenInvalid, "{token:?}");
    }
    store.emails(&org, &Filter::And(vec![Filter::All; 299]), &page(None, 5)).await.unwrap();
}

pub async fn secrets_come_back_and_change(store: Arc<dyn Store>) {
    let secrets = |incoming: Option<&str>, outgoing: Option<&str>| Secrets {
        incoming: incoming.map(SecretString::from),
        outgoing: outgoing.map(SecretString::from),
    };
    let id = ProfileId::new(1);
    let read = async || {
        let profile = store.profile(id).await.unwrap().unwrap();
        let mut both = Vec::new();
        for direction in [Direction::Incoming, Direction::Outgoing] {
            let found = store.secret(&profile, direction).await.unwrap();
            both.push(found.map_or(String::new(), |found| found.expose_secret().to_owned()));
        }
        both.join(" ")
    };
    let revisions = |profile: &Profile| {
        let own = profile.outgoing_credentials.as_ref();
        (profile.credentials.secret_revision.0, own.map(|own| own.secret_revision.0))
    };
    let created =
        store.create_profile(&profile(1, "P"), &secrets(Some("Grünkohl-1"), None), false).await.unwrap();
    assert_eq!((revisions(&created), read().await.as_str()), ((1, None), "Grünkohl-1 Grünkohl-1"));
    let same = store.update_profile(&created, &secrets(None, None), false).await.unwrap();
    assert_eq!((revisions(&same), read().await.as_str()), ((1, None), "Grünkohl-1 Grünkohl-1"));
    let changed = store.update_profile(&same, &secrets(Some("second"), None), false).await.unwrap();
    assert_eq!((revisions(&changed), read().await.as_str()), ((3, None), "second second"));
    let own = Credentials { user: "sender".to_owned(), ..Credentials::none() };
    let split = Profile { outgoing_credentials: Some(own), ..changed };
    let split = store.update_profile(&split, &secrets(None, None), false).await.unwrap();
    assert_eq!((revisions(&split), read().await.as_str()), ((3, Some(0)), "second "));
    let split = store.update_profile(&split, &secrets(None, Some("third")), false).await.unwrap();
    assert_eq!((revisions(&split), read().await.as_str()), ((3, Some(5)), "second third"));
    let joined = Profile { outgoing_credentials: None, ..split.clone() };
    let joined = store.update_profile(&joined, &secrets(None, None), false).await.unwrap();
    assert_eq!((revisions(&joined), read().await.as_str()), ((3, None), "second second"));
    // Whoever still has a profile as it was gets no secret that belongs to another account or scheme.
    let another = Credentials { user: "another".to_owned(), ..joined.credentials.clone() };
    let renamed = Profile { credentials: another, ..joined.clone() };
    store.update_profile(&renamed, &secrets(None, None), false).await.unwrap();
    for (stale, direction) in [
        (&same, Direction::Incoming),
        (&split, Direction::Outgoing),
        (&joined, Direction::Incoming),
        (&profile(5, "none"), Direction::Incoming),
    ] {
        let refused = refused(store.secret(stale, direction).await.map(|_| ()));
        assert_eq!(refused.0, Reason::EtagMismatch, "{direction}");
    }
}
