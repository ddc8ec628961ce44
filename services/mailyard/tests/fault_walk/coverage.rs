//! The whole catalogue: what the walk does not reach is reached by a test of its own, which is named here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mailyard_policy::Reason;
use mailyard_tests::Outcome;

use crate::rows::ROWS;

/// What the walk sees of everybody who is tested and enabled.
const OF_EVERYBODY: Reason = Reason::MailboxConnected;

/// A reason, the file of the test that reaches it, and its name. The test, or its snapshot, names the reason.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "FIELD_INVALID",
        "services/coordinator/tests/api/sendings.rs",
        "what_is_wrong_with_an_email_is_said_and_nothing_is_taken",
    ),
    (
        "FILTER_INVALID",
        "services/coordinator/tests/api/mailboxes.rs",
        "a_selection_names_addresses_or_a_filter",
    ),
    (
        "FILTER_FIELD_UNKNOWN",
        "services/coordinator/tests/api/alerts.rs",
        "alerts_are_listed_newest_first_and_say_what_to_do",
    ),
    (
        "PAGE_TOKEN_INVALID",
        "services/coordinator/tests/api/operations.rs",
        "operations_are_listed_page_by_page",
    ),
    (
        "ETAG_MISMATCH",
        "services/coordinator/tests/api/profiles.rs",
        "an_update_changes_what_its_mask_names_if_nobody_was_quicker",
    ),
    (
        "REQUEST_ID_REUSED",
        "services/coordinator/tests/api/sendings.rs",
        "a_key_makes_one_email_whatever_changes_meanwhile",
    ),
    (
        "RESOURCE_NOT_FOUND",
        "services/coordinator/tests/api/emails.rs",
        "a_content_comes_in_pieces_that_make_the_whole",
    ),
    (
        "RESOURCE_ALREADY_EXISTS",
        "services/coordinator/tests/api/profiles.rs",
        "what_is_wrong_with_a_profile_is_said_field_by_field",
    ),
    ("PRIVILEGE_MISSING", "services/coordinator/src/api/access.rs", "who_may_call_what"),
    (
        "TOKEN_INVALID",
        "services/coordinator/tests/api/access.rs",
        "every_method_asks_who_calls_before_it_reads_what_is_called",
    ),
    (
        "RPC_UNKNOWN",
        "services/coordinator/tests/api/access.rs",
        "every_method_asks_who_calls_before_it_reads_what_is_called",
    ),
    (
        "SELECTION_EMPTY",
        "services/coordinator/tests/api/mailboxes.rs",
        "a_selection_names_addresses_or_a_filter",
    ),
    (
        "SELECTION_TOO_LARGE",
        "services/coordinator/tests/api/mailboxes.rs",
        "a_selection_names_addresses_or_a_filter",
    ),
    ("PROFILE_LOCATION_MISSING", "services/mailyard/tests/refusals.rs", "a_client_is_told_what_is_wrong"),
    (
        "AUTODISCOVER_WITH_OAUTH",
        "crates/exchange/tests/client/autodiscover.rs",
        "every_scheme_of_a_profile_is_the_same_here",
    ),
    (
        "PROFILE_NOT_SET",
        "services/coordinator/tests/api/mailboxes.rs",
        "a_mailbox_without_a_profile_says_so_and_takes_one",
    ),
    ("METHOD_NOT_SUPPORTED", "services/mailyard/tests/refusals.rs", "a_client_is_told_what_is_wrong"),
    (
        "AUTHENTICATION_NOT_SUPPORTED",
        "services/coordinator/tests/api/profiles.rs",
        "what_is_wrong_with_a_profile_is_said_field_by_field",
    ),
    (
        "CREDENTIALS_MIXED",
        "services/coordinator/tests/api/oauth.rs",
        "what_is_wrong_with_an_application_is_said_field_by_field",
    ),
    ("SECRET_ON_COMMAND_LINE", "services/mailyard/tests/refusals.rs", "a_client_is_told_what_is_wrong"),
    (
        "EMAIL_SENDER_NOT_ENABLED",
        "services/coordinator/tests/api/sendings.rs",
        "what_is_wrong_with_an_email_is_said_and_nothing_is_taken",
    ),
    (
        "EMAIL_NOT_CANCELABLE",
        "services/coordinator/tests/api/sendings.rs",
        "an_email_is_canceled_before_its_sending_and_a_doubt_is_settled_by_a_person",
    ),
    (
        "CONFIG_INVALID",
        "services/coordinator/src/mail/tests.rs",
        "settings_that_cannot_work_are_refused_at_once",
    ),
    (
        "PROFILE_DNS_FAILED",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_CONNECT_FAILED",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_CONNECT_TIMEOUT",
        "crates/exchange/tests/client/connection.rs",
        "a_server_that_does_not_agree_on_tls_says_why",
    ),
    (
        "PROFILE_TLS_UNTRUSTED",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_TLS_NAME_MISMATCH",
        "crates/exchange/tests/client/connection.rs",
        "a_server_must_prove_its_name",
    ),
    ("PROFILE_TLS_EXPIRED", "crates/exchange/tests/client/connection.rs", "a_server_must_prove_its_name"),
    (
        "PROFILE_TLS_VERSION",
        "crates/exchange/tests/client/connection.rs",
        "a_server_that_does_not_agree_on_tls_says_why",
    ),
    (
        "PROFILE_TLS_SUITES",
        "crates/exchange/tests/client/connection.rs",
        "a_server_that_does_not_agree_on_tls_says_why",
    ),
    (
        "PROFILE_TLS_FAILED",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_USER_NOT_ADDRESS",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_AUTH_SCHEME_MISSING",
        "services/mailyard/tests/profile_test.rs",
        "each_planted_fault_has_its_step_and_reason",
    ),
    (
        "PROFILE_AUTH_SCHEME_CONFLICT",
        "services/mailyard/tests/profile_test.rs",
        "each_fault_of_a_handshake_has_its_reason",
    ),
    (
        "PROFILE_AUTH_REFUSED_BEHIND_PROXY",
        "tests/tests/proxies.rs",
        "through_nginx_mail_flows_by_what_needs_no_connection_of_its_own",
    ),
    (
        "PROFILE_AUTH_HANDSHAKE_INVALID",
        "crates/exchange/tests/client/authentication.rs",
        "what_goes_wrong_in_a_handshake_has_its_reason",
    ),
    (
        "PROFILE_TOKEN_ENDPOINT_UNREACHABLE",
        "services/coordinator/tests/api/oauth.rs",
        "a_test_tells_of_the_token_in_the_step_that_needs_it",
    ),
    (
        "PROFILE_AUTHORITY_NOT_FOUND",
        "crates/exchange/tests/client/oauth.rs",
        "a_server_that_names_no_authority_has_its_reason",
    ),
    (
        "PROFILE_TOKEN_REFUSED",
        "crates/exchange/tests/client/oauth.rs",
        "a_test_names_what_is_wrong_with_the_token",
    ),
    (
        "PROFILE_TOKEN_AUDIENCE",
        "crates/exchange/tests/client/oauth.rs",
        "a_refused_token_has_its_reason_and_is_not_tried_on_and_on",
    ),
    (
        "PROFILE_TOKEN_CLAIMS",
        "crates/exchange/tests/client/oauth.rs",
        "claims_that_the_server_asks_for_are_asked_for_once",
    ),
    (
        "PROFILE_CERTIFICATE_INVALID",
        "crates/exchange/src/oauth/certificate.rs",
        "what_is_wrong_with_a_certificate_has_its_reason",
    ),
    (
        "PROFILE_CERTIFICATE_KEY_MISSING",
        "crates/exchange/src/oauth/certificate.rs",
        "what_is_wrong_with_a_certificate_has_its_reason",
    ),
    (
        "PROFILE_CERTIFICATE_KEY_MISMATCH",
        "crates/exchange/src/oauth/certificate.rs",
        "what_is_wrong_with_a_certificate_has_its_reason",
    ),
    (
        "PROFILE_CERTIFICATE_EXPIRED",
        "crates/exchange/tests/client/oauth.rs",
        "a_certificate_that_has_expired_is_not_shown_to_anybody",
    ),
    ("PROFILE_ACCOUNT_LOCKED", "crates/exchange/src/failure.rs", "statuses_become_reasons"),
    ("EXCHANGE_5XX", "crates/exchange/tests/client/connection.rs", "answers_become_results"),
    (
        "PROFILE_FAILURE_RATIO_HIGH",
        "tests/tests/coordinator.rs",
        "more_than_half_of_the_mailboxes_failing_is_one_alert_and_no_mail_without_a_relay",
    ),
    (
        "PROFILE_TEST_HALTED",
        "tests/tests/coordinator.rs",
        "a_test_of_many_halts_at_the_breaker_and_goes_on_by_itself",
    ),
    ("EWS_PROTOCOL_ERROR", "crates/exchange/tests/client/connection.rs", "answers_become_results"),
    ("EWS_ANSWER_TOO_LARGE", "crates/exchange/tests/client/connection.rs", "answers_become_results"),
    (
        "MAILBOX_NOT_APPROVED",
        "services/coordinator/tests/api/operations.rs",
        "a_watch_tells_each_change_with_its_results_until_the_end",
    ),
    (
        "MAILBOX_CYCLE_DEADLINE",
        "tests/tests/worker.rs",
        "a_turn_that_takes_too_long_is_given_up_and_fails_the_mailbox",
    ),
    (
        "MAILBOX_STATE_UNREADABLE",
        "services/worker/tests/holding.rs",
        "a_row_that_cannot_be_understood_is_set_aside_alone",
    ),
    (
        "STORE_UNAVAILABLE",
        "services/coordinator/src/api/refuse.rs",
        "what_the_store_cannot_do_has_its_reason",
    ),
    (
        "ITEM_NOT_FOUND",
        "tests/tests/client_and_simulator.rs",
        "folders_are_made_once_and_items_move_into_them",
    ),
    (
        "ITEM_NOT_ATTEMPTED",
        "tests/tests/client_and_simulator.rs",
        "of_a_batch_that_was_stopped_the_rest_was_not_attempted",
    ),
    (
        "REQUEST_NOT_BEGUN",
        "tests/tests/pressure.rs",
        "a_sending_whose_deadline_passed_at_the_gate_is_not_begun",
    ),
    (
        "MESSAGE_ID_REUSED",
        "crates/store/tests/contract/commits.rs",
        "another_mail_with_the_same_id_is_told_apart",
    ),
    (
        "EMAIL_OUTCOME_UNKNOWN",
        "crates/policy/tests/outbox.rs",
        "a_server_of_which_nothing_is_known_gets_no_second_submission",
    ),
    ("EMAIL_EXPIRED", "crates/policy/tests/outbox.rs", "what_is_too_late_is_not_sent"),
    (
        "CLUSTER_NO_LEADER",
        "services/coordinator/tests/api/operations.rs",
        "only_the_leader_cancels_and_what_has_ended_stays",
    ),
    (
        "WORKER_UNREACHABLE",
        "tests/tests/coordinator.rs",
        "who_was_declared_dead_is_told_so_when_it_comes_again",
    ),
    (
        "SERVER_DRAINING",
        "services/coordinator/tests/api/operations.rs",
        "a_watch_ends_with_the_server_and_the_server_with_its_watches",
    ),
    ("KEY_UNAVAILABLE", "services/coordinator/src/api/refuse.rs", "what_the_store_cannot_do_has_its_reason"),
    (
        "SMTP_NOT_CONFIGURED",
        "tests/tests/coordinator.rs",
        "more_than_half_of_the_mailboxes_failing_is_one_alert_and_no_mail_without_a_relay",
    ),
    (
        "SMTP_FAILED",
        "services/coordinator/src/mail/tests.rs",
        "a_relay_that_is_away_or_silent_is_an_error_in_time",
    ),
    ("INTERNAL", "services/coordinator/src/api/refuse.rs", "what_the_store_cannot_do_has_its_reason"),
];

#[test]
fn every_reason_is_reached_by_the_walk_or_by_a_test_that_is_named() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut reached: BTreeMap<&str, &str> = BTreeMap::from([(OF_EVERYBODY.code(), "the walk")]);
    reached.extend(ROWS.iter().filter_map(|row| Some((row.told.code()?, "the walk"))));
    let (mut wrong, mut unproven) = (Vec::new(), Vec::new());
    for (code, file, test) in ELSEWHERE {
        if let Some(before) = reached.insert(code, file) {
            wrong.push(format!("{code} is reached twice: by {before}, by {file}"));
        }
        match code.parse::<Reason>() {
            Ok(reason) => unproven.extend(unnamed(reason, &root.join(file), test)?),
            Err(unknown) => wrong.push(unknown.to_string()),
        }
    }
    let all: Vec<&str> = Reason::catalogue().iter().map(|entry| entry.code).collect();
    let covered = all.iter().filter(|code| reached.contains_key(*code)).count();
    println!("{} of {} reasons covered", covered - unproven.len(), all.len());
    wrong.extend(unproven);
    wrong.extend(
        all.iter().filter(|code| !reached.contains_key(*code)).map(|code| format!("{code}: no test")),
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What is wrong with the claim that this test reaches the reason.
fn unnamed(reason: Reason, file: &Path, test: &str) -> Outcome<Option<String>> {
    let shown = file.display();
    let source = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let Some(body) = body(&source, test) else {
        return Ok(Some(format!("{reason}: there is no test {test} in {shown}")));
    };
    let variant = format!("{reason:?}");
    let names = |text: &str| has_word(text, reason.code()) || has_word(text, &variant);
    let mut snapshots = snapshots(file, test).into_iter();
    let told =
        names(body) || snapshots.any(|path| std::fs::read_to_string(path).is_ok_and(|text| names(&text)));
    Ok((!told).then(|| format!("{reason}: {test} in {shown} does not name it")))
}

/// A test as it stands in its file.
fn body<'a>(source: &'a str, test: &str) -> Option<&'a str> {
    let begin = source.find(&format!("fn {test}("))?;
    let line = source[..begin].rfind('\n').map_or(0, |end| end + 1);
    let indent: String = source[line..].chars().take_while(|letter| *letter == ' ').collect();
    let end = source[begin..].find(&format!("\n{indent}}}\n"))?;
    source.get(begin..begin + end)
}

/// The snapshots that a test is held against.
fn snapshots(file: &Path, test: &str) -> Vec<PathBuf> {
    let folder = file.parent().map(|folder| folder.join("snapshots")).unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let end = format!("__{test}.snap");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.to_string_lossy().ends_with(&end)).collect()
}

/// True if the word stands there, and not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let inside =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    text.match_indices(word).any(|(at, _)| {
        !inside(text[..at].chars().next_back()) && !inside(text[at + word.len()..].chars().next())
    })
}
