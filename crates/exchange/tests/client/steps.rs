//! What a test of the connection tells of answers that only a proxy or a broken server gives.

use mailyard_exchange::{Step, StepName, StepOutcome, Subject, test_connection};
use mailyard_policy::Reason;

use crate::scripted::{Act, Server, folder_answer, http, ok, soap};

const BASIC: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";

/// The steps of a test whose server answers so.
async fn steps(answers: impl IntoIterator<Item = Vec<u8>>, mailbox: Option<&str>) -> (Server, Vec<Step>) {
    let server = Server::start(answers.into_iter().map(Act::Answer)).await;
    let mut steps = Vec::new();
    let subject = Subject { mailbox, user: "svc@example.org", impersonates: true };
    test_connection(&server.client(), subject, |step| steps.push(step)).await;
    (server, steps)
}

fn step(steps: &[Step], name: StepName) -> &Step {
    steps.iter().find(|step| step.name == name).expect("all are told")
}

#[tokio::test]
async fn a_page_that_shows_the_request_is_shown_without_what_proved_who_asks() {
    let page = "<p>Authorization: Basic RVhBTVBMRVxzdmM6Z2VoZWlt, that is geheim</p>";
    let page = http("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", page.as_bytes());
    let (server, steps) = steps([http(BASIC, b""), page], Some("anna@example.org")).await;
    assert!(server.requests()[1].contains("Basic RVhBTVBMRVxzdmM6Z2VoZWlt"));
    let step = step(&steps, StepName::Authenticate);
    assert_eq!((step.outcome, step.reason), (StepOutcome::Failure, Some(Reason::ProfileAnswerNotEws)));
    assert_eq!(step.response, "HTTP 200\n<p>Authorization: Basic …, that is …</p>");
}

#[tokio::test]
async fn who_may_act_for_a_mailbox_is_told_by_exchange_and_nobody_else() {
    use StepOutcome::{Failure, Skipped, Success, Warning};
    let code = |code: &str| ok(soap("GetFolder", &[Err(code)]));
    let status = |line: &str| http(&format!("HTTP/1.1 {line}\r\n"), b"");
    let anna = Some("anna@example.org");
    for (mailbox, answer, outcome, reason) in [
        (anna, ok(folder_answer()), Success, None),
        (anna, code("ErrorMailboxStoreUnavailable"), Success, None),
        (anna, code("ErrorInternalServerError"), Success, None),
        (anna, code("ErrorFolderNotFound"), Success, None),
        (anna, code("ErrorServerBusy"), Skipped, None),
        (anna, code("ErrorImpersonateUserDenied"), Failure, Some(Reason::ImpersonationDenied)),
        (anna, code("ErrorAccessDenied"), Failure, Some(Reason::MailboxAccessDenied)),
        (anna, code("ErrorSchemaValidation"), Failure, Some(Reason::EwsRequestRejected)),
        (anna, code("ErrorPasswordExpired"), Failure, Some(Reason::ProfilePasswordExpired)),
        (anna, code("ErrorADUnavailable"), Failure, Some(Reason::ExchangeUnavailable)),
        (anna, code("ErrorInvalidServerVersion"), Failure, Some(Reason::ExchangeVersionUnsupported)),
        (anna, code("ErrorNobodyKnows"), Failure, Some(Reason::MailboxTransientError)),
        (anna, http(BASIC, b""), Failure, Some(Reason::ProfileAuthRejected)),
        (anna, status("403 No"), Failure, Some(Reason::ProfileForbidden)),
        (anna, status("404 No"), Failure, Some(Reason::ProfileUrlWrong)),
        (anna, status("302 Found\r\nLocation: /owa/"), Failure, Some(Reason::ProfileUrlWrong)),
        (anna, status("500 Oops"), Failure, Some(Reason::Exchange5xx)),
        (anna, status("503 Busy"), Failure, Some(Reason::ExchangeUnavailable)),
        (None, code("ErrorNonExistentMailbox"), Warning, Some(Reason::MailboxNotFoundOnServer)),
        (None, code("ErrorImpersonateUserDenied"), Warning, Some(Reason::ImpersonationDenied)),
        (None, code("ErrorMailboxStoreUnavailable"), Success, None),
        (None, code("ErrorSchemaValidation"), Failure, Some(Reason::EwsRequestRejected)),
        (None, status("404 No"), Failure, Some(Reason::ProfileUrlWrong)),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let answers = [http(BASIC, b""), ok(folder_answer()), answer, ok(folder_answer())];
        let (_server, steps) = steps(answers, mailbox).await;
        let step = step(&steps, StepName::Impersonate);
        assert_eq!((step.outcome, step.reason), (outcome, reason), "{mailbox:?} {shown}");
    }
}
