//! The JSON form of Autodiscover, version 2.

use mailyard_policy::{Reason, outbox::Execution};
use serde_json::Value;

use super::answer::{Answer, Found, word};
use crate::Failure;

/// The path and the query that ask for the EWS URL of an address.
pub fn path(base: &str, address: &str) -> String {
    // A URL that a server named holds the address already.
    if base.contains('?') {
        return base.to_owned();
    }
    let address: String = address
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{base}/v1.0/{address}?Protocol=Ews")
}

/// Reads an answer.
pub fn read(document: &[u8]) -> Result<Answer, Failure> {
    let wrong = |detail: &str| Failure::new(Reason::EwsProtocolError, Execution::Not, detail);
    let value: Value = serde_json::from_slice(document).map_err(|_| wrong("the answer is no JSON"))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if let Some(code) = text("ErrorCode") {
        let detail = "the server does not tell the EWS URL";
        let failure = Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail);
        return Err(Failure { code: Some(word(code)), ..failure });
    }
    match (text("Protocol"), text("Url")) {
        (Some(protocol), Some(url)) if protocol.eq_ignore_ascii_case("ews") => {
            Ok(Answer::Found(Found { urls: vec![url.to_owned()], ..Found::default() }))
        }
        _ => Err(wrong("the answer names no EWS URL")),
    }
}
