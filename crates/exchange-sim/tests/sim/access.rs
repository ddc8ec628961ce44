//! Who may do what as whom, and which headers are refused.

use crate::stage::{Stage, all, attribute, codes, envelope, first};

const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";
const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";

/// An identity to impersonate.
fn as_whom(kind: &str, identity: &str) -> String {
    format!(
        "<t:ExchangeImpersonation><t:ConnectingSID><t:{kind}>{identity}</t:{kind}></t:ConnectingSID></t:ExchangeImpersonation>"
    )
}

/// The status and the code of the answer to a user with these headers.
async fn outcome(stage: &Stage, user: &str, header: &str) -> (u16, String) {
    let answer = stage.post(user, ONE, &envelope(header, GET)).await.expect("an answer");
    (answer.status, codes(&answer.body).first().map(|code| (*code).to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn who_may_act_as_whom() {
    let stage = Stage::new(2, |_| {}).await;
    let windows = "EXCHANGE\\svc-mailyard";
    let cases = [
        (SERVICE, as_whom("PrimarySmtpAddress", ONE), 200, "NoError"),
        (windows, as_whom("PrimarySmtpAddress", ONE), 200, "NoError"),
        (SERVICE, as_whom("PrimarySmtpAddress", &ONE.to_uppercase()), 200, "NoError"),
        (SERVICE, as_whom("SmtpAddress", "alias00001@exchange.test"), 200, "NoError"),
        (SERVICE, as_whom("PrincipalName", ONE), 200, "NoError"),
        (SERVICE, as_whom("SID", "S-1-5-21-1-2-3-1"), 200, "NoError"),
        (SERVICE, String::new(), 200, "NoError"),
        (
            SERVICE,
            as_whom("PrimarySmtpAddress", "alias00001@exchange.test"),
            500,
            "ErrorNonPrimarySmtpAddress",
        ),
        (SERVICE, as_whom("PrimarySmtpAddress", "nobody@exchange.test"), 500, "ErrorNonExistentMailbox"),
        (SERVICE, as_whom("PrincipalName", "alias00001@exchange.test"), 500, "ErrorInvalidUserPrincipalName"),
        (SERVICE, as_whom("SID", "S-1-5-21-1-2-3-9"), 500, "ErrorInvalidUserSid"),
        (ONE, String::new(), 200, "NoError"),
        (ONE, as_whom("PrimarySmtpAddress", ONE), 200, "NoError"),
        (ONE, as_whom("PrimarySmtpAddress", TWO), 500, "ErrorImpersonateUserDenied"),
        (ONE, as_whom("PrimarySmtpAddress", SERVICE), 500, "ErrorImpersonateUserDenied"),
        ("EXCHANGE\\mailbox00001", String::new(), 200, "NoError"),
        ("EXCHANGE\\mailbox00001", as_whom("PrimarySmtpAddress", TWO), 500, "ErrorImpersonateUserDenied"),
        ("alias00001@exchange.test", String::new(), 401, ""),
        ("OTHER\\svc-mailyard", String::new(), 401, ""),
        ("nobody", String::new(), 401, ""),
    ];
    for (user, header, status, code) in cases {
        assert_eq!(outcome(&stage, user, &header).await, (status, code.to_owned()), "{user} {header}");
    }
    assert_eq!(stage.simulator.stats()["requests"]["(unauthorized)"], 3);
}

#[tokio::test]
async fn another_address_is_refused_with_the_right_one() {
    let stage = Stage::new(1, |_| {}).await;
    let header = as_whom("PrimarySmtpAddress", "ALIAS00001@exchange.test");
    let answer = stage.post(SERVICE, ONE, &envelope(&header, GET)).await.expect("an answer");
    assert!(answer.body.contains(&format!("<t:Value Name=\"Primary\">{ONE}</t:Value>")), "{}", answer.body);
    let made =
        mailyard_exchange_sim::Made { to: vec!["alias00001@exchange.test".to_owned()], ..Default::default() };
    assert_eq!(stage.simulator.deliver(&made), 1);
    assert_eq!(stage.simulator.list(ONE, "inbox").map(|listed| listed.len()), Some(1));
}

#[tokio::test]
async fn headers_are_checked_before_anything_else() {
    let old = Stage::new(1, |options| options.version = (15, 0, 847)).await;
    let new = Stage::new(1, |_| {}).await;
    let version = |version: &str| format!("<t:RequestServerVersion Version=\"{version}\"/>");
    let twice = version("Exchange2013_SP1").repeat(2);
    let two = "<t:ExchangeImpersonation><t:ConnectingSID><t:SID>a</t:SID><t:SID>b</t:SID></t:ConnectingSID></t:ExchangeImpersonation>";
    let cases = [
        (&new, version("Exchange2007_SP1"), "NoError"),
        (&new, version("Exchange2016"), "NoError"),
        (&new, version("V2017_07_11"), "NoError"),
        (&new, version("Exchange2015_SP1"), "ErrorInvalidServerVersion"),
        (&new, version(""), "ErrorInvalidServerVersion"),
        (&new, twice, "ErrorDuplicateSOAPHeader"),
        (&new, two.to_owned(), "ErrorSchemaValidation"),
        (&new, "<t:RequestServerVersion/>".to_owned(), "ErrorSchemaValidation"),
        (&new, "<t:Unheard/><x:Of xmlns:x=\"urn:x\"/>".to_owned(), "NoError"),
        (&old, version("Exchange2013_SP1"), "NoError"),
        (&old, version("Exchange2016"), "ErrorInvalidServerVersion"),
        (&old, version("V2015_10_05"), "ErrorInvalidServerVersion"),
    ];
    for (stage, header, code) in cases {
        let (status, told) = outcome(stage, SERVICE, &header).await;
        assert_eq!((status, told.as_str()), (if code == "NoError" { 200 } else { 500 }, code), "{header}");
    }
    let answer = old.answer(ONE, GET).await;
    assert_eq!(codes(&answer), ["ErrorInvalidServerVersion"], "Exchange2016 is asked for");
    let version = first(&answer, "ServerVersionInfo").expect("a version");
    assert_eq!(attribute(version, "Version"), Some("V2_23"), "faults tell the version too");
}

#[tokio::test]
async fn documents_that_are_no_requests_are_refused() {
    let stage = Stage::new(1, |_| {}).await;
    let empty = envelope("", "");
    let unknown = envelope("", "<m:GetServerTimeZones/>");
    let misplaced = envelope("", "<t:GetFolder/>");
    let cases = [
        ("", "ErrorSchemaValidation"),
        ("<s:Envelope>", "ErrorSchemaValidation"),
        ("<Envelope/>", "ErrorInvalidRequest"),
        (empty.as_str(), "ErrorInvalidRequest"),
        (unknown.as_str(), "ErrorInvalidRequest"),
        (misplaced.as_str(), "ErrorInvalidRequest"),
    ];
    for (document, code) in cases {
        let answer = stage.post(SERVICE, ONE, document).await.expect("an answer");
        assert_eq!((answer.status, codes(&answer.body)), (500, vec![code]), "{document}");
        assert!(all(&answer.body, "ServerVersionInfo").next().is_some(), "faults tell the version");
    }
}

#[tokio::test]
async fn a_wrong_anchor_is_counted_and_answers_are_correlated() {
    let stage = Stage::new(2, |_| {}).await;
    let answer = stage
        .post(SERVICE, TWO, &envelope(&as_whom("PrimarySmtpAddress", ONE), GET))
        .await
        .expect("an answer");
    assert_eq!(stage.simulator.stats()["wrong_anchor_mailbox"], 1);
    assert!(answer.headers.contains_key("date") && answer.headers.contains_key("request-id"));
    let refused = stage.post("nobody", TWO, "").await.expect("an answer");
    assert_eq!(refused.headers["www-authenticate"], "Basic realm=\"exchange\"");
}

#[tokio::test]
async fn a_request_may_use_what_its_version_and_the_server_know() {
    let field = |field: &str| {
        format!(
            "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
             <t:FieldURI FieldURI=\"item:{field}\"/></t:AdditionalProperties></m:ItemShape><m:ParentFolderIds>\
             <t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderIds></m:FindItem>"
        )
    };
    let receipts = "<m:DeleteItem DeleteType=\"HardDelete\" SuppressReadReceipts=\"true\"><m:ItemIds><t:ItemId Id=\"x\"/></m:ItemIds></m:DeleteItem>";
    let (well, older) = ("NoError", "ErrorIncorrectSchemaVersion");
    let cases = [
        (15, "Exchange2013_SP1", field("Preview"), well),
        (15, "Exchange2010_SP2", field("Preview"), older),
        (15, "Exchange2010_SP2", field("Subject"), well),
        (15, "Exchange2013", receipts.to_owned(), older),
        (15, "Exchange2013_SP1", receipts.to_owned(), "ErrorInvalidIdMalformed"),
        (15, "Exchange2013_SP1", field("MentionedMe"), "ErrorSchemaValidation"),
        (16, "Exchange2013_SP1", field("MentionedMe"), older),
        (16, "Exchange2016", field("MentionedMe"), well),
        (16, "V2017_07_11", field("MentionedMe"), well),
    ];
    let old = Stage::new(1, |options| options.version = (15, 0, 847)).await;
    let new = Stage::new(1, |options| options.version = (15, 1, 2507)).await;
    for (server, version, operation, code) in cases {
        let stage = if server == 15 { &old } else { &new };
        let header = format!("<t:RequestServerVersion Version=\"{version}\"/>");
        let answer = stage.post(SERVICE, SERVICE, &envelope(&header, &operation)).await.expect("an answer");
        assert_eq!(codes(&answer.body), [code], "{server} {version} {operation}");
        let told = first(&answer.body, "ServerVersionInfo").and_then(|told| attribute(told, "MinorVersion"));
        assert_eq!(told, Some(if server == 15 { "0" } else { "1" }));
    }
}
