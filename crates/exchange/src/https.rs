//! Small questions to other servers than Exchange: one request on a connection of its own, over verified TLS.

use std::{sync::Arc, time::Duration};

use mailyard_policy::{Reason, Timestamp, outbox::Execution};
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::{
    Endpoint, Failure, Resolver,
    connection::{Connection, Deadlines, Taker},
    http1::Head,
};

/// No answer of such a server is larger.
const LARGEST_ANSWER: usize = 64 << 10;

/// What is asked.
pub(crate) enum Question<'a> {
    Get,
    /// A POST with this body.
    Form(&'a str),
    /// A POST without a body, as somebody who wants to prove who it is by this scheme and has nothing to show.
    Challenge(&'a str),
}

/// Asks a server within this time. The answer is its head and its body.
pub(crate) async fn ask(
    endpoint: &Endpoint,
    trust: &Arc<ClientConfig>,
    resolver: &Resolver,
    question: Question<'_>,
    within: Duration,
    now: Timestamp,
) -> Result<(Head, Vec<u8>), Failure> {
    let until = Instant::now() + within;
    let mut connection = Connection::open(endpoint, trust, resolver, within, |_| {}).await?;
    let request = request(endpoint, &question);
    let mut taken = Gathered(Vec::new());
    let deadlines = Deadlines { head: until, body: until };
    let answered = connection.exchange(request.as_bytes(), deadlines, now, &mut taken).await;
    let (head, _) = answered.map_err(|broken| Failure { execution: Execution::Not, ..broken.failure })?;
    Ok((head, taken.0))
}

fn request(endpoint: &Endpoint, question: &Question<'_>) -> String {
    let (method, more, body) = match question {
        Question::Get => ("GET", String::new(), ""),
        Question::Form(form) => {
            let length = form.len();
            let head =
                format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n");
            ("POST", head, *form)
        }
        Question::Challenge(scheme) => {
            ("POST", format!("Authorization: {scheme}\r\nContent-Length: 0\r\n"), "")
        }
    };
    format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nUser-Agent: Mailyard/{}\r\n\
         Connection: close\r\n{more}\r\n{body}",
        endpoint.path,
        endpoint.authority(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Fields as a form (application/x-www-form-urlencoded).
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    form.push(char::from(byte));
                }
                other => form.push_str(&format!("%{other:02X}")),
            }
        }
    }
    form
}

struct Gathered(Vec<u8>);

impl Taker for Gathered {
    fn head(&mut self, _head: &Head) -> Result<(), Failure> {
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.0.len() + piece.len() > LARGEST_ANSWER {
            let detail = "the answer is larger than any answer may be";
            return Err(Failure::new(Reason::EwsAnswerTooLarge, Execution::Not, detail));
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_written_as_they_are_meant() {
        let endpoint = Endpoint::parse("https://login.example:8443/a/token?x=y", false).expect("a URL");
        let lines = |question| {
            let request = request(&endpoint, &question);
            let (head, body) = request.split_once("\r\n\r\n").expect("a head");
            let lines: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with("User-Agent: ")).collect();
            assert_eq!(
                lines[1..4],
                ["Host: login.example:8443", "Accept: application/json", "Connection: close"]
            );
            format!("{} | {} | {body}", lines[0], lines[4..].join(" | "))
        };
        assert_eq!(lines(Question::Get), "GET /a/token?x=y HTTP/1.1 |  | ");
        assert_eq!(
            lines(Question::Form("a=b")),
            "POST /a/token?x=y HTTP/1.1 | Content-Type: application/x-www-form-urlencoded | Content-Length: 3 | a=b"
        );
        let challenge = "POST /a/token?x=y HTTP/1.1 | Authorization: Bearer | Content-Length: 0 | ";
        assert_eq!(lines(Question::Challenge("Bearer")), challenge);
    }

    #[test]
    fn forms_carry_everything() {
        let fields = [("scope", "https://a.example/.default"), ("b", "ü &=+%~"), ("c", "")];
        assert_eq!(form(&fields), "scope=https%3A%2F%2Fa.example%2F.default&b=%C3%BC%20%26%3D%2B%25~&c=");
    }
}
