//! Command lines against a fake server: what is written, what is asked, how it ends.

mod canned;
mod fake;
mod waits;
mod world;

use std::future::pending;

use clap::CommandFactory as _;
use mailyard_wire::{reason::Reason, status};
use tonic::{Code, Status};

use self::world::{Arguments, Outcome, World, run_on};

/// Command lines with what came of each.
fn transcript(lines: impl IntoIterator<Item = (String, Outcome)>) -> String {
    let told = lines.into_iter().map(|(line, outcome)| format!("$ mailyard {line}\n{outcome}"));
    told.collect::<Vec<_>>().join("\n")
}

const LINES: &[&str] = &[
    "profile list",
    "profile get 'Head office'",
    "profile create 'Head office' --user x",
    "profile update 'Head office' --user x --default",
    "profile test 'Head office'",
    "mailbox import FOLDER/mailboxes.csv",
    "mailbox import FOLDER/mailboxes.csv --dry-run",
    "mailbox approve --all",
    "mailbox reject ada@contoso.test bob@contoso.test",
    "mailbox test-enable --all",
    "mailbox test-enable --all --wait",
    "mailbox poll ada@contoso.test",
    "mailbox poll --all --wait",
    "mailbox poll bare1@contoso.test bare2@contoso.test",
    "mailbox poll bare1@contoso.test --wait",
    "mailbox update ada@contoso.test --profile 'Head office'",
    "mailbox list",
    "mailbox get ada@contoso.test",
    "mailbox explain bob@contoso.test",
    "email list",
    "email get 01jd0000000000000000000001",
    "email content 01jd0000000000000000000001",
    "email send --from ada@contoso.test --to kim@fabrikam.test --subject Offer --text Hello",
    "email send --from ada@contoso.test --to kim@fabrikam.test --wait",
    "email cancel 01jd0000000000000000000001",
    "email resolve 01jd0000000000000000000001 --sent",
    "alert list",
    "alert get 01jd0000000000000000000001",
    "operation list",
    "operation get 01jd0000000000000000000001",
    "operation watch 01jd0000000000000000000001",
    "operation cancel 01jd0000000000000000000001",
    "settings get",
    "settings update --approve-users no",
    "status",
    "explain mailbox_not_approved",
    "explain impersonation-denied",
];

async fn all_lines(suffix: &str) -> String {
    let world = World::start();
    world.file("mailboxes.csv", "address\n");
    let mut outcomes = Vec::new();
    for line in LINES {
        outcomes.push(((*line).to_owned(), world.run(&format!("{line}{suffix}")).await));
    }
    transcript(outcomes)
}

#[tokio::test]
async fn every_command_writes_for_people() {
    insta::assert_snapshot!(all_lines("").await);
}

#[tokio::test]
async fn every_command_writes_for_programs() {
    insta::assert_snapshot!(all_lines(" -o json").await);
}

#[tokio::test]
async fn every_json_is_one_value() {
    let world = World::start();
    world.file("mailboxes.csv", "address\n");
    for line in LINES.iter().filter(|line| !line.contains("content")) {
        let out = world.run(&format!("{line} -o json")).await.out;
        let value: serde_json::Value = serde_json::from_str(&out).expect(line);
        assert_eq!(value.is_array(), line.contains(" list"), "{line}");
    }
}

/// The fields of a message that are not at their defaults, more or less.
fn said(call: &str) -> String {
    let empty = ["\"\"", "None", "[]", "false", "0", "Unspecified"];
    let mut call = call.to_owned();
    for value in empty {
        while let Some(end) =
            call.find(&format!(": {value}, ")).or_else(|| call.find(&format!(": {value} }}")))
        {
            let start = call[..end].rfind([' ', '{']).map_or(0, |at| at + 1);
            let after = end + 2 + value.len();
            let rest = call[after..].trim_start_matches(',').trim_start().to_owned();
            call = format!("{}{rest}", &call[..start]);
        }
    }
    call
}

#[tokio::test]
async fn flags_become_requests() {
    let world = World::start();
    let password = world.file("password", "s3cret\n");
    world.file("ca.pem", "PEM\n");
    world.file("a.pdf", "%PDF");
    let application = world.file("app.pem", "CERTIFICATE\nKEY\n");
    for secret in [password, application] {
        std::fs::set_permissions(secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("it is ours");
    }
    let mut lines = String::new();
    for (line, input) in [
        (
            "profile create p --url https://m.test/ews --user u --password-file FOLDER/password --ca-file \
             FOLDER/ca.pem --auth basic --min-poll-interval 1m --max-connections 10 --idle-max 60m \
             --process-email-from 2026-03-01 --move-failed --owner-email o@m.test --default",
            "",
        ),
        (
            "profile create p --incoming-url https://a.test --outgoing-url https://b.test --user u --password-file -",
            "s3 \n",
        ),
        ("profile create p --autodiscover --user u@m.test --password-file -", "s3\n"),
        (
            "profile create p --url https://m.test/ews --auth ntlm --credentials-of mailbox --max-connections 2",
            "",
        ),
        ("profile update p --credentials-of profile --user u --password-file FOLDER/password", ""),
        ("profile update p --autodiscover=false --url https://m.test/ews", ""),
        (
            "profile create p --url https://m.test/ews --auth oauth --oauth-tenant contoso.test --oauth-client 6f3c \
             --oauth-certificate FOLDER/app.pem --oauth-authority https://login.test --oauth-resource https://m.test",
            "",
        ),
        (
            "profile update p --outgoing-auth oauth --outgoing-oauth-tenant contoso.test --outgoing-oauth-client 6f3c \
             --outgoing-oauth-certificate - --outgoing-oauth-authority '' --outgoing-oauth-resource ''",
            "CERTIFICATE\nKEY\n",
        ),
        ("profile update p --move-failed=false --alert-owner=off --idle-max 90 --etag '\"3\"'", ""),
        ("profile update p --url https://m.test/ews", ""),
        ("profile test 'Head office / 2' --address a@m.test", ""),
        ("--org other mailbox list --filter 'state = failing'", ""),
        ("mailbox approve --filter 'state = ok'", ""),
        ("mailbox reject - c@m.test", "a@m.test\n\n  b@m.test\r\n"),
        ("mailbox import -", "address\n"),
        ("mailbox update a@m.test --profile 'Head office' --etag '\"3\"'", ""),
        ("mailbox update a@m.test --user 'CONTOSO\\a' --password-file FOLDER/password", ""),
        ("mailbox update a@m.test --password-file -", "s3\n"),
        ("mailbox update a@m.test --forget-credentials", ""),
        ("mailbox update a@m.test --profile '' --display-name A --owner-email o@m.test --crm-id ''", ""),
        ("profile update p --streaming", ""),
        ("profile update p --streaming=false", ""),
        ("email list --mailbox 'a \"b\"@m.test'", ""),
        ("email list --mailbox a@m.test --filter 'size > 1 OR size < 9'", ""),
        ("email get organizations/default/emails/01jd", ""),
        (
            "email send --from a@m.test --to b@m.test --to c@m.test --cc d@m.test --bcc e@m.test --subject S \
             --html '<p>T' --attach FOLDER/a.pdf --idempotency-key K --expires 2026-03-01T12:00:00Z",
            "",
        ),
        ("email send --from a@m.test --to b@m.test --text-file - --idempotency-key K", "T\n"),
        ("email resolve 01jd --not-sent", ""),
        ("settings update --default-profile p --default-act forward --approve-queues", ""),
        ("settings update --default-profile ''", ""),
        ("operation list --live", ""),
    ] {
        let outcome = world.run_with(line, input, false, pending()).await;
        let calls: Vec<String> = world.heard().iter().map(|call| format!("  {}", said(call))).collect();
        assert!(outcome.err.is_empty() && [0, 6].contains(&outcome.exit.code()), "{line}: {outcome}");
        lines.push_str(&format!("$ mailyard {line}\n{}\n", calls.join("\n")));
    }
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn every_failure_is_told_and_ends_with_its_code() {
    let world = World::start();
    let refusals = [
        Reason::FieldInvalid,
        Reason::ResourceNotFound,
        Reason::TokenInvalid,
        Reason::PrivilegeMissing,
        Reason::ResourceAlreadyExists,
        Reason::EtagMismatch,
        Reason::MailboxNotApproved,
        Reason::ClusterNoLeader,
        Reason::ExchangeThrottled,
        Reason::Internal,
    ];
    let mut statuses: Vec<Status> =
        refusals.iter().map(|reason| status::refusal(*reason, "", reason.entry().title)).collect();
    statuses.push(status::refusal(Reason::FieldInvalid, "profile.user", "it is empty"));
    let violations = [("row 2, column kind", "user, queue or forward"), ("row 9", "it is \u{1b}[31mred")];
    let violations = violations.map(|(field, description)| status::Violation {
        field: field.to_owned(),
        description: description.to_owned(),
    });
    let detail = "nothing was imported\nand 7 more";
    statuses.push(status::refusals(Reason::FieldInvalid, detail, &violations));
    let codes = [Code::DeadlineExceeded, Code::Cancelled, Code::Unimplemented, Code::Unavailable];
    statuses.extend(codes.map(|code| Status::new(code, "in its own words")));
    let mut text = String::new();
    for status in statuses {
        let code = status.code();
        world.fake.fail("get_status", status);
        text.push_str(&format!("{code:?}\n{}\n", world.run("status -o json").await));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn help_says_everything() {
    fn pages(command: &mut clap::Command, text: &mut String) {
        if !command.has_subcommands() || command.get_name() == "mailyard" {
            let help = command.render_help();
            text.push_str(&format!("# {}\n{help}\n", command.get_bin_name().unwrap_or_default()));
        }
        for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
            pages(inner, text);
        }
    }
    let mut command = Arguments::command().version("0.1.0");
    command.build();
    let mut text = String::new();
    pages(&mut command, &mut text);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn pages_become_one_list() {
    let world = World::start();
    let out = world.run("mailbox list -o json").await.out;
    let list: Vec<serde_json::Value> = serde_json::from_str(&out).expect("an array");
    assert_eq!((list.len(), world.heard().len()), (5, 3));
}

#[tokio::test]
async fn secrets_stay_off_the_command_line() {
    let mut outcomes = Vec::new();
    for line in [
        "profile create p --user u --password hunter2",
        "profile create p --password=hunter2",
        "profile update p --password",
        "profile update --password hunter2 p",
        "mailbox update a@m.test --user u --password hunter2",
    ] {
        let outcome = run_on(line, "", false, pending()).await;
        assert!(!format!("{outcome}").contains("hunter2"), "{outcome}");
        outcomes.push((line.to_owned(), outcome));
    }
    let world = World::start();
    world.file("open", "s3cret\n");
    world.file("empty", "\n");
    for name in ["open", "empty", "missing"] {
        let line = format!("profile create p --user u --password-file FOLDER/{name}");
        let outcome = world.run(&line).await;
        outcomes.push((line, outcome));
    }
    insta::assert_snapshot!(transcript(outcomes));
}

#[tokio::test]
async fn what_is_wrong_before_a_server_is_asked_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_string_lossy().into_owned();
    let mut outcomes = Vec::new();
    for line in [
        "status",
        "--data EMPTY status",
        "--data EMPTY --org 'No such' status",
        "mailbox approve",
        "mailbox approve --all ada@contoso.test",
        "mailbox approve -",
        "profile update p",
        "mailbox update a@m.test",
        "profile create p --min-poll-interval soon",
        "email send --from a@m.test --text x --html y",
        "email resolve x",
        "settings update",
        "explain MAILBOX_NOT_APROVED",
        "mailbox import /nonexistent.csv",
    ] {
        let outcome = run_on(&line.replace("EMPTY", &path), "", false, pending()).await;
        let err = outcome.err.replace(&path, "EMPTY");
        outcomes.push((line.to_owned(), Outcome { err, ..outcome }));
    }
    insta::assert_snapshot!(transcript(outcomes));
}

#[tokio::test]
async fn what_needs_no_server_asks_none() {
    let default = run_on("config default", "", false, pending()).await;
    assert_eq!(default.out, mailyard_host::config::default_file());
    let catalogue = run_on("explain -o json", "", false, pending()).await;
    let list: Vec<serde_json::Value> = serde_json::from_str(&catalogue.out).expect("an array");
    assert_eq!(list.len(), Reason::catalogue().len());
}
