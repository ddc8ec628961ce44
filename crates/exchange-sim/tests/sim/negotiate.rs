//! Negotiate with SPNEGO around NTLM, and what becomes of Kerberos.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_exchange_sim::Scheme;

use crate::{
    ntlm_client::{Client, negotiate},
    stage::{Answer, Line, Stage, soap},
};

const ONE: &str = "mailbox00001@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

/// Tag and content in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    let head = if length < 128 {
        vec![tag, length as u8]
    } else {
        [vec![tag, 0x82], length.to_be_bytes().to_vec()].concat()
    };
    [head, content.to_vec()].concat()
}

fn ntlm() -> Vec<u8> {
    der(6, &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10])
}

fn kerberos() -> Vec<u8> {
    der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2])
}

/// The first token of a client: what it offers, and a token of the first.
fn init(mechanisms: &[Vec<u8>], token: Option<&[u8]>) -> Vec<u8> {
    let mut fields = der(0xa0, &der(0x30, &mechanisms.concat()));
    fields.extend(token.map(|token| der(0xa2, &der(4, token))).unwrap_or_default());
    let inner = der(0xa0, &der(0x30, &fields));
    der(0x60, &[der(6, &[0x2b, 6, 1, 5, 5, 2]), inner].concat())
}

/// A later one.
fn next(token: &[u8]) -> Vec<u8> {
    der(0xa1, &der(0x30, &der(0xa2, &der(4, token))))
}

async fn send(line: &mut Line, token: &[u8]) -> Answer {
    let header = format!("Negotiate {}", STANDARD.encode(token));
    line.post(Some(&header), ONE, &soap(Some(ONE), GET)).await.expect("an answer")
}

/// The server's token, if there is one.
fn answered(answer: &Answer) -> Option<Vec<u8>> {
    let blob = answer.challenges().into_iter().find_map(|challenge| challenge.strip_prefix("Negotiate "))?;
    Some(STANDARD.decode(blob).expect("base64"))
}

/// The message of NTLM inside a token.
fn inside(token: &[u8]) -> &[u8] {
    let at = token.windows(8).position(|window| window == b"NTLMSSP\0").expect("a message");
    &token[at..]
}

async fn stage() -> (Stage, Client) {
    let stage = Stage::new(1, |options| options.auth = vec![Scheme::Negotiate]).await;
    let password = stage.simulator.ready().password.clone();
    let user = "svc-mailyard";
    (stage, Client { user, domain: "EXCHANGE", password, bindings: None, mic: Some(0), old: false })
}

#[tokio::test]
async fn ntlm_is_agreed_on_and_carried() {
    let (stage, client) = stage().await;
    let offers = [
        init(&[ntlm()], Some(&negotiate())),
        // Kerberos is liked better, but no ticket came with it: NTLM it is.
        init(&[kerberos(), ntlm()], None),
    ];
    for offer in offers {
        let mut line = stage.line().await;
        let mut answer = send(&mut line, &offer).await;
        let mut token = answered(&answer).expect("a token");
        assert_eq!((answer.status, token[..2].contains(&0xa1)), (401, true));
        assert!(token.windows(12).any(|window| window == ntlm()), "NTLM is named");
        if !token.windows(8).any(|window| window == b"NTLMSSP\0") {
            answer = send(&mut line, &next(&negotiate())).await;
            token = answered(&answer).expect("a token");
        }
        let answer = send(&mut line, &next(&client.authenticate(inside(&token)))).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answered(&answer),
            Some(der(0xa1, &der(0x30, &der(0xa0, &der(10, &[0]))))),
            "it is complete"
        );
        let again = line.post(None, ONE, &soap(Some(ONE), GET)).await.expect("an answer");
        assert_eq!(again.status, 200);
    }
}

#[tokio::test]
async fn tickets_and_other_tokens_are_refused() {
    let (stage, _) = stage().await;
    let ticket = der(0x60, &[kerberos(), vec![1, 0, 0x6e, 0]].concat());
    let tokens = [
        ticket.clone(),
        init(&[kerberos()], Some(&ticket)),
        init(&[kerberos(), ntlm()], Some(&ticket)),
        init(&[ntlm()], Some(b"nonsense")),
        next(&negotiate()),
        next(b"NTLMSSP\0\x03\0\0\0"),
        vec![0x60, 0xff],
        vec![],
    ];
    for token in tokens {
        let answer = send(&mut stage.line().await, &token).await;
        assert_eq!(
            (answer.status, answer.challenges(), answer.body.as_str()),
            (401, vec!["Negotiate"], ""),
            "{token:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_signature_of_the_list_is_refused() {
    let (stage, client) = stage().await;
    let mut line = stage.line().await;
    let answer = send(&mut line, &init(&[ntlm()], Some(&negotiate()))).await;
    let token = answered(&answer).expect("a token");
    let mut fields = der(0xa2, &der(4, &client.authenticate(inside(&token))));
    fields.extend(der(0xa3, &der(4, &[1; 16])));
    let answer = send(&mut line, &der(0xa1, &der(0x30, &fields))).await;
    assert_eq!(answer.status, 401);
    assert_eq!(stage.simulator.stats()["refused_sign_ins"]["wrong_list_mic"], 1);
}
