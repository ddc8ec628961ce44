//! The import: what is read, what is refused and with which words.

use mailyard_policy::{id::Org, profile::CredentialSource};
use mailyard_store::people::Profile;
use proptest::prelude::*;

use super::*;

const HEADER: &str = "address,display_name,kind,profile,incoming,outgoing,act";

fn row(number: u64, address: &str) -> Row {
    Row {
        row: number,
        address: address.to_owned(),
        display_name: "Anna".to_owned(),
        kind: MailboxKind::User,
        profile: Some("main".to_owned()),
        methods: [Some(Method::ServerSide), Some(Method::ServerSide), Some(Method::None)],
        owner_email: None,
        crm_id: None,
        process_email_from: None,
    }
}

#[test]
fn rows_are_read_whatever_wrote_the_file() {
    let line = |address: &str| format!("{address},Anna,user,main,sss,sss,none");
    let (a, b) = (line("a@x.test"), line("b@x.test"));
    for (name, file, second) in [
        ("plain", format!("{HEADER}\n{a}\n{b}\n"), 3),
        ("no end of line at the end", format!("{HEADER}\n{a}\n{b}"), 3),
        ("byte order mark, CR LF", format!("\u{feff}{HEADER}\r\n{a}\r\n{b}\r\n"), 3),
        ("CR alone", format!("{HEADER}\r{a}\r{b}\r"), 3),
        ("blank rows", format!("{HEADER}\n{a}\n\n,,,,,,\r\n  \n{b}\n\n"), 6),
        (
            "quotes",
            format!(
                "\"{}\"\n{a}\n\"b@x.test\",\"Anna\",user,main,sss,sss,none\n",
                HEADER.replace(',', "\",\"")
            ),
            3,
        ),
        ("blanks around", format!("{HEADER}\n{a}\n b@x.test , Anna,user ,main,sss,sss,none \n"), 3),
    ] {
        let read = parse(file.as_bytes());
        assert_eq!(read, Ok(vec![row(2, "a@x.test"), row(second, "b@x.test")]), "{name}");
    }
}

#[test]
fn columns_may_stand_in_any_order_and_cells_may_be_empty() {
    let file = "act,crm_id,kind,address,process_email_from,profile,outgoing,owner_email,incoming,display_name\n\
                ,account/7,queue,a@x.test,2026-03-01T12:00:00Z,,,boss@x.test,none,\"Doe, \"\"J\"\"\"\n\
                ,,forward,b@x.test,2026-03-01,,,,,\n";
    let expected = vec![
        Row {
            display_name: "Doe, \"J\"".to_owned(),
            kind: MailboxKind::Queue,
            profile: None,
            methods: [Some(Method::None), None, None],
            owner_email: Some("boss@x.test".to_owned()),
            crm_id: Some("account/7".to_owned()),
            process_email_from: Some(Timestamp::from_millis(1_772_366_400_000)),
            ..row(2, "a@x.test")
        },
        Row {
            display_name: "b@x.test".to_owned(),
            kind: MailboxKind::Forward,
            profile: None,
            methods: [None; 3],
            process_email_from: Some(Timestamp::from_millis(1_772_323_200_000)),
            ..row(3, "b@x.test")
        },
    ];
    assert_eq!(parse(file.as_bytes()), Ok(expected));
}

#[test]
fn a_wrong_row_says_where_and_what_is_allowed() {
    use Reason::{FieldInvalid, MethodNotSupported, ResourceAlreadyExists};
    let good = "good@x.test,Anna,user,main,sss,sss,none";
    for (line, column, reason, part) in [
        (",Anna,user,main,sss,sss,none", "address", FieldInvalid, "required"),
        ("anna,Anna,user,main,sss,sss,none", "address", FieldInvalid, "anna@example.com"),
        ("a@b@x.test,Anna,user,main,sss,sss,none", "address", FieldInvalid, "no email address"),
        ("Anna <a@x.test>,Anna,user,main,sss,sss,none", "address", FieldInvalid, "no email address"),
        ("GOOD@x.test,Anna,user,main,sss,sss,none", "address", ResourceAlreadyExists, "row 2 already"),
        ("a@x.test,Anna,person,main,sss,sss,none", "kind", FieldInvalid, "user, queue, forward"),
        ("a@x.test,Anna,User,main,sss,sss,none", "kind", FieldInvalid, "user, queue, forward"),
        ("a@x.test,Anna,,main,sss,sss,none", "kind", FieldInvalid, "\"\" is none of"),
        ("a@x.test,Anna,user,main,pop3,sss,none", "incoming", FieldInvalid, "none, sss, forward"),
        ("a@x.test,Anna,user,main,forward,sss,none", "incoming", MethodNotSupported, "none or sss"),
        ("a@x.test,Anna,user,main,sss,forward,none", "outgoing", MethodNotSupported, "none or sss"),
        ("a@x.test,Anna,user,main,sss,sss,sss", "act", MethodNotSupported, "not synchronized"),
        ("a@x.test,Anna,user,main,sss,sss,forward", "act", MethodNotSupported, "none is allowed"),
        ("a@x.test,Anna,user,main,sss,sss", "", FieldInvalid, "6 fields"),
        ("a@x.test,Doe, J,user,main,sss,sss,none", "", FieldInvalid, "double quotes"),
        ("a@x.test,\"Anna,user,main,sss,sss,none\n", "", FieldInvalid, "2 fields"),
        ("a@x.test,\"An\nna\",user,main,sss,sss,none", "display_name", FieldInvalid, "line break"),
        ("a@x.test,A\u{0}nna,user,main,sss,sss,none", "display_name", FieldInvalid, "control character"),
    ] {
        let file = format!("{HEADER}\r\n{good}\r\n\r\n{line}");
        let error = parse(file.as_bytes()).expect_err(line);
        let [problem] = error.problems.as_slice() else { panic!("{line}: {error}") };
        assert_eq!((problem.row, problem.reason), (Some(4), reason), "{line}: {error}");
        assert_eq!(problem.column.as_deref().unwrap_or_default(), column, "{line}: {error}");
        assert!(problem.detail.contains(part), "{line}: {error}");
    }
}

#[test]
fn optional_cells_are_checked_too() {
    let long = "x".repeat(LONGEST_TEXT + 1);
    for (cells, column) in [
        ("boss,,", "owner_email"),
        (&*format!(",{long},"), "crm_id"),
        (",,yesterday", "process_email_from"),
        (",,2026-13-01", "process_email_from"),
    ] {
        let file = format!(
            "{HEADER},owner_email,crm_id,process_email_from\na@x.test,Anna,user,main,sss,sss,none,{cells}\n"
        );
        let error = parse(file.as_bytes()).expect_err(column);
        assert_eq!(error.problems[0].column.as_deref(), Some(column), "{error}");
    }
}

#[test]
fn a_wrong_file_says_what_to_do() {
    let wide: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin = [HEADER.as_bytes(), b"\na@x.test,J\xf6rg,user,main,sss,sss,none\n"].concat();
    for (file, column, part) in [
        (b"".to_vec(), "", "it is empty; the first row names the columns address,"),
        (HEADER.into(), "", "holds no mailbox"),
        (HEADER.replace(',', ";").into(), "", "separated by ';'"),
        (HEADER.replace(',', "\t").into(), "", "separated by '\\t'"),
        ([b"\xff\xfe".as_slice(), &wide].concat(), "", "UTF-16"),
        (latin, "display_name", "not UTF-8"),
        (HEADER.replace("kind", "knd").into(), "knd", "did you mean kind?"),
        (
            format!("{HEADER},password\n").into(),
            "password",
            "no such column (required: address, display_name",
        ),
        (format!("{HEADER},kind\n").into(), "kind", "twice"),
        (HEADER.replace(",act", "").into(), "act", "missing"),
        (vec![b'x'; MAX_BYTES + 1], "", "larger than 32 MiB"),
    ] {
        let error = parse(&file).expect_err(part);
        let problem = &error.problems[0];
        assert_eq!(problem.column.as_deref().unwrap_or_default(), column, "{error}");
        assert!(problem.detail.contains(part), "{part}: {error}");
    }
}

#[test]
fn many_problems_are_counted_and_many_rows_refused() {
    let rows = |count: usize, kind: &str| {
        let lines: Vec<String> =
            (0..count).map(|n| format!("a{n}@x.test,A,{kind},p,none,none,none")).collect();
        parse(format!("{HEADER}\n{}", lines.join("\n")).as_bytes())
    };
    let error = rows(50, "robot").expect_err("50 wrong rows");
    assert_eq!((error.problems.len(), error.total), (MAX_PROBLEMS, 50));
    assert!(error.to_string().ends_with("and 30 more"), "{error}");
    assert_eq!(rows(MAX_ROWS, "user").map(|rows| rows.len()), Ok(MAX_ROWS));
    let error = rows(MAX_ROWS + 1, "user").expect_err("too many");
    assert!(error.to_string().contains("more than 100000 mailboxes"), "{error}");
}

#[test]
fn profiles_and_defaults_are_filled_in() {
    let profiles = [profile(1, "Main"), profile(2, "Branch")];
    let bare = Row { profile: None, methods: [None; 3], ..row(3, "b@x.test") };
    let defaults = [Method::None, Method::ServerSide, Method::None];
    let resolve = |rows: &[Row]| {
        let mut last = 0;
        resolve(rows, &profiles, Some(ProfileId::new(2)), defaults, || {
            last += 1;
            MailboxId::new(last)
        })
    };
    let made = resolve(&[row(2, "a@x.test"), bare]).expect("both are right");
    let seen: Vec<_> =
        made.iter().map(|made| (made.id.get(), made.profile.map(ProfileId::get), made.methods)).collect();
    let set = [Method::ServerSide, Method::ServerSide, Method::None];
    assert_eq!(seen, [(1, Some(1), set), (2, Some(2), defaults)]);

    let wrong = Row { profile: Some("mian".to_owned()), ..row(7, "c@x.test") };
    let error = resolve(&[row(2, "a@x.test"), wrong]).expect_err("no such profile");
    assert_eq!(error.reason(), Reason::ResourceNotFound);
    let shown =
        "nothing was imported\nrow 7, column profile: there is no profile \"mian\"; did you mean \"Main\"?";
    assert_eq!(error.to_string(), shown);
}

#[test]
fn what_the_store_refuses_is_shown_in_its_row() {
    let rows = [row(2, "a@x.test"), row(9, "b@x.test")];
    for (field, expected) in [
        ("rows[1].address", "nothing was imported\nrow 9, column address: taken"),
        ("rows[5].address", "nothing was imported\ncolumn address: taken"),
        ("", "nothing was imported\ntaken"),
    ] {
        assert_eq!(refused(&rows, field, Reason::ResourceAlreadyExists, "taken").to_string(), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_all_or_nothing_holds(
        tail in proptest::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..80)
    ) {
        let file = [HEADER.as_bytes(), b"\na@x.test,A,user,p,none,none,none\n", &tail].concat();
        match parse(&file) {
            Ok(rows) => prop_assert!(!rows.is_empty()),
            Err(error) => prop_assert!(!error.problems.is_empty() && error.total >= error.problems.len()),
        }
    }
}

fn profile(id: u128, name: &str) -> Profile {
    Profile {
        id: ProfileId::new(id),
        org: Org("default".to_owned()),
        display_name: name.to_owned(),
        description: String::new(),
        incoming_url: None,
        outgoing_url: None,
        credentials: mailyard_policy::profile::Credentials::none(),
        credential_source: CredentialSource::Profile,
        outgoing_credentials: None,
        ca_pem: None,
        process_email_from: None,
        minimum_interval: std::time::Duration::ZERO,
        max_connections: 10,
        idle_max: std::time::Duration::from_hours(1),
        move_failed: false,
        alert_owner: true,
        owner_email: None,
        request_deadline: None,
        streaming: false,
        lanes: 1,
        capabilities: mailyard_policy::outbox::Capabilities::default(),
        create_time: Timestamp::EPOCH,
        revision: mailyard_policy::id::Revision(1),
    }
}
