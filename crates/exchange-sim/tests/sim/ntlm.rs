//! Signing in by NTLM: three legs on one connection, which then belongs to a user.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, header};
use mailyard_exchange_sim::{ExtendedProtection, Scheme, Settings};

use crate::{
    ntlm_client::{Client, bindings, negotiate},
    stage::{Answer, Line, Stage, codes, soap},
};

const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

async fn stage() -> Stage {
    Stage::new(2, |options| options.auth = vec![Scheme::Basic, Scheme::Ntlm, Scheme::Negotiate]).await
}

fn client(stage: &Stage, user: &'static str, domain: &'static str) -> Client {
    let password = stage.simulator.ready().password.clone();
    Client { user, domain, password, bindings: None, mic: Some(0), old: false }
}

fn header(scheme: &str, message: &[u8]) -> String {
    format!("{scheme} {}", STANDARD.encode(message))
}

/// The token of the challenge that begins with a scheme.
fn token(answer: &Answer, scheme: &str) -> Option<Vec<u8>> {
    let mut challenges = answer.challenges().into_iter();
    let blob = challenges.find_map(|challenge| challenge.strip_prefix(scheme)?.strip_prefix(' '))?;
    Some(STANDARD.decode(blob).expect("base64"))
}

/// The first two legs.
async fn challenge(line: &mut Line, scheme: &str) -> Vec<u8> {
    let answer = line.post(Some(&header(scheme, &negotiate())), ONE, "").await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    assert_eq!(answer.headers["content-length"], "0");
    assert!(!answer.headers.contains_key("connection"), "it stays open");
    let other = if scheme == "NTLM" { "Negotiate" } else { "NTLM" };
    assert_eq!(answer.challenges()[1..], [other], "the other one may still be turned to");
    token(&answer, scheme).expect("a challenge")
}

/// All three, with a request that reads a mailbox by impersonation.
async fn sign_in(line: &mut Line, client: &Client) -> Answer {
    let challenge = challenge(line, "NTLM").await;
    let last = header("NTLM", &client.authenticate(&challenge));
    line.post(Some(&last), ONE, &soap(Some(ONE), GET)).await.expect("an answer")
}

/// What a connection is worth without credentials: a status, and the first code.
async fn bare(line: &mut Line) -> (u16, String) {
    let answer = line.post(None, ONE, &soap(Some(ONE), GET)).await.expect("an answer");
    (answer.status, codes(&answer.body).first().map(|code| (*code).to_owned()).unwrap_or_default())
}

fn outcome(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn schemes_are_offered_in_the_order_of_iis() {
    use Scheme::{Basic, Negotiate, Ntlm};
    let cases: [(&[Scheme], &[&str]); 4] = [
        (&[Basic], &["Basic realm=\"exchange\""]),
        (&[Basic, Ntlm, Negotiate], &["Negotiate", "NTLM", "Basic realm=\"exchange\""]),
        (&[Ntlm], &["NTLM"]),
        (&[Negotiate], &["Negotiate"]),
    ];
    for (auth, offered) in cases {
        let stage = Stage::new(1, |options| options.auth = auth.to_vec()).await;
        let mut line = stage.line().await;
        let answer = line.post(None, ONE, "").await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str(), answer.challenges()), (401, "", offered.to_vec()));
        let request = Request::get("/EWS/Exchange.asmx");
        assert_eq!(line.send(request, "").await.map(|answer| answer.status), Some(401));
        let basic = stage.post(SERVICE, ONE, &soap(Some(ONE), GET)).await.expect("an answer");
        assert_eq!(basic.status, if auth.contains(&Basic) { 200 } else { 401 }, "{auth:?}");
        let ntlm = header("NTLM", &negotiate());
        let answer = line.post(Some(&ntlm), ONE, "").await.expect("an answer");
        assert_eq!(token(&answer, "NTLM").is_some(), auth.contains(&Ntlm), "{auth:?}");
    }
}

#[tokio::test]
async fn the_connection_belongs_to_who_signed_in_and_no_other_does() {
    let stage = stage().await;
    let client = client(&stage, SERVICE, "");
    let mut line = stage.line().await;
    assert_eq!(bare(&mut line).await, outcome(401, ""));
    let answer = sign_in(&mut line, &client).await;
    assert_eq!((answer.status, answer.challenges().len()), (200, 0));
    for _ in 0..3 {
        assert_eq!(bare(&mut line).await, outcome(200, "NoError"));
    }
    let mut other = stage.line().await;
    assert_eq!(bare(&mut other).await, outcome(401, ""));
    // A last message answers the challenge of its own connection only.
    let theirs = challenge(&mut line, "NTLM").await;
    let last = header("NTLM", &client.authenticate(&theirs));
    for (line, status) in [(&mut other, 401), (&mut line, 200)] {
        let answer = line.post(Some(&last), ONE, &soap(Some(ONE), GET)).await.expect("an answer");
        assert_eq!(answer.status, status);
    }
    let stats = stage.simulator.stats();
    assert_eq!((&stats["handshakes"], &stats["connections"]), (&2.into(), &2.into()));
}

#[tokio::test]
async fn accounts_have_the_names_of_windows() {
    let stage = stage().await;
    let (well, denied) = (outcome(200, "NoError"), outcome(500, "ErrorImpersonateUserDenied"));
    let nobody = outcome(401, "");
    let cases = [
        (SERVICE, "", &well),
        ("SVC-Mailyard@Exchange.Test", "", &well),
        ("svc-mailyard", "EXCHANGE", &well),
        ("Svc-Mailyard", "exchange", &well),
        ("svc-mailyard", "exchange.test", &well),
        (ONE, "", &well),
        ("mailbox00002", "EXCHANGE", &denied),
        (TWO, "", &denied),
        ("svc-mailyard", "", &nobody),
        ("svc-mailyard", "OTHER", &nobody),
        (SERVICE, "EXCHANGE", &nobody),
        ("alias00001@exchange.test", "", &nobody),
        ("", "", &nobody),
    ];
    for (user, domain, expected) in cases {
        let mut line = stage.line().await;
        let answer = sign_in(&mut line, &client(&stage, user, domain)).await;
        let code = codes(&answer.body).first().map(|code| (*code).to_owned()).unwrap_or_default();
        assert_eq!(&(answer.status, code), expected, "{domain}\\{user}");
    }
    assert_eq!(stage.simulator.stats()["refused_sign_ins"]["unknown_user"], 5);
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_refused() {
    let stage = stage().await;
    let good = client(&stage, SERVICE, "");
    let right = bindings(&stage.line().await.certificate);
    let (none, allow, require) =
        (ExtendedProtection::None, ExtendedProtection::Allow, ExtendedProtection::Require);
    let bound = |bindings| Client { bindings: Some(bindings), ..good.clone() };
    let cases = [
        (allow, good.clone(), ""),
        (allow, Client { mic: None, ..good.clone() }, ""),
        (allow, Client { password: "wrong".to_owned(), ..good.clone() }, "wrong_password"),
        (allow, Client { mic: Some(1), ..good.clone() }, "wrong_mic"),
        (allow, Client { old: true, ..good.clone() }, "old_version"),
        (allow, bound(right), ""),
        (allow, bound([7; 16]), "wrong_bindings"),
        (none, bound([7; 16]), ""),
        (require, bound(right), ""),
        (require, bound([7; 16]), "wrong_bindings"),
        (require, bound([0; 16]), "no_bindings"),
        (require, good.clone(), "no_bindings"),
    ];
    for (number, (extended_protection, client, why)) in cases.into_iter().enumerate() {
        stage.simulator.set(Settings { extended_protection, ..Settings::default() });
        let counted = || stage.simulator.stats()["refused_sign_ins"][why].as_u64().unwrap_or_default();
        let before = counted();
        let mut line = stage.line().await;
        let answer = sign_in(&mut line, &client).await;
        assert_eq!(answer.status, if why.is_empty() { 200 } else { 401 }, "{number} {why}");
        if !why.is_empty() {
            assert_eq!(counted(), before + 1, "{number} {why}");
            let offered = ["Negotiate", "NTLM", "Basic realm=\"exchange\""];
            assert_eq!(answer.challenges(), offered, "all schemes, without a challenge");
            assert_eq!(bare(&mut line).await, outcome(401, ""), "the connection is nobody's");
            assert_eq!(sign_in(&mut line, &bound(right)).await.status, 200, "it may begin anew");
        }
    }
}

#[tokio::test]
async fn a_connection_moves_to_another_user_by_a_new_handshake_only() {
    let stage = stage().await;
    let mut line = stage.line().await;
    assert_eq!(sign_in(&mut line, &client(&stage, SERVICE, "")).await.status, 200);
    let challenge = challenge(&mut line, "NTLM").await;
    assert_eq!(bare(&mut line).await, outcome(401, ""), "between the legs it is nobody's");
    let last = header("NTLM", &client(&stage, TWO, "").authenticate(&challenge));
    let answer = line.post(Some(&last), ONE, "").await.expect("an answer");
    assert_eq!(answer.status, 401, "and the challenge is over");
    sign_in(&mut line, &client(&stage, TWO, "")).await;
    assert_eq!(bare(&mut line).await, outcome(500, "ErrorImpersonateUserDenied"), "it is that of the other");
    let basic = STANDARD.encode(format!("{TWO}:{}", stage.simulator.ready().password));
    let basic = format!("Basic {basic}");
    for (credential, status) in
        [("Basic bm9ib2R5Og==", 401), ("NTLM !", 401), ("Digest x", 401), (&basic, 500)]
    {
        sign_in(&mut line, &client(&stage, SERVICE, "")).await;
        let answer = line.post(Some(credential), ONE, &soap(Some(ONE), GET)).await.expect("an answer");
        assert_eq!(answer.status, status, "{credential}");
        assert_eq!(bare(&mut line).await, outcome(401, ""), "{credential}");
    }
}

#[tokio::test]
async fn the_end_of_a_connection_ends_what_it_knew() {
    let stage = stage().await;
    let mut line = stage.line().await;
    sign_in(&mut line, &client(&stage, SERVICE, "")).await;
    let request = Request::post("/EWS/Exchange.asmx").header(header::CONNECTION, "close");
    let answer = line.send(request, &soap(Some(ONE), GET)).await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(line.is_over().await);
    assert_eq!(bare(&mut stage.line().await).await, outcome(401, ""));
}

#[tokio::test]
async fn a_server_may_ask_anew_each_time() {
    let stage = stage().await;
    stage.simulator.set(Settings { auth_persist_single_request: true, ..Settings::default() });
    let mut line = stage.line().await;
    for _ in 0..2 {
        assert_eq!(sign_in(&mut line, &client(&stage, SERVICE, "")).await.status, 200);
        assert_eq!(bare(&mut line).await, outcome(401, ""));
    }
}

#[tokio::test]
async fn a_handshake_may_be_cut_between_its_legs() {
    let stage = stage().await;
    stage.fault(r#"{"kind":"ntlm_reset","count":1}"#);
    let client = client(&stage, SERVICE, "");
    let mut line = stage.line().await;
    let challenge = challenge(&mut line, "NTLM").await;
    let last = header("NTLM", &client.authenticate(&challenge));
    assert!(line.post(Some(&last), ONE, &soap(Some(ONE), GET)).await.is_none());
    assert!(line.is_over().await);
    assert_eq!(sign_in(&mut stage.line().await, &client).await.status, 200);
    assert_eq!(stage.simulator.stats()["faults"]["ntlm_reset"], 1);
    assert_eq!(stage.simulator.stats()["requests"]["GetFolder"], 1, "what came with it was not executed");
}

#[tokio::test]
async fn negotiate_takes_ntlm_as_it_is() {
    let stage = stage().await;
    let mut line = stage.line().await;
    let challenge = challenge(&mut line, "Negotiate").await;
    let message = client(&stage, SERVICE, "").authenticate(&challenge);
    let answer = line.post(Some(&header("NTLM", &message)), ONE, "").await.expect("an answer");
    assert_eq!(answer.status, 401, "the scheme does not change in between");
    let challenge = self::challenge(&mut line, "Negotiate").await;
    let message = client(&stage, SERVICE, "").authenticate(&challenge);
    let last = header("Negotiate", &message);
    let answer = line.post(Some(&last), ONE, &soap(Some(ONE), GET)).await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(bare(&mut line).await, outcome(200, "NoError"));
}
