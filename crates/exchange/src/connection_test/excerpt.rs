//! What goes over the wire in a test, cut to what people read, and without what proves who asks.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailyard_policy::connection_test::Step;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{ContentSink, Failure, answer::is_soap, http1::Head};

/// No excerpt is longer, in bytes.
const LONGEST: usize = 2 << 10;
/// A shorter word is no token, in bytes.
const SHORTEST_TOKEN: usize = 24;
/// A shorter password is not looked for: what is missing in a text would tell it.
const SHORTEST_PASSWORD: usize = 4;
/// Stands where something was left out.
const LEFT_OUT: &str = "…";

/// The beginning of an answer.
#[derive(Default)]
pub(super) struct Excerpt {
    head: String,
    body: Vec<u8>,
    /// What was sent as a proof: pages for people may show the request.
    secrets: Vec<SecretString>,
}

impl ContentSink for Excerpt {
    async fn take(&mut self, _piece: Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }

    fn wants(&self) -> bool {
        false
    }

    fn hear(&mut self, piece: &[u8]) {
        let room = (LONGEST + self.margin()).saturating_sub(self.body.len()).min(piece.len());
        self.body.extend_from_slice(piece.get(..room).unwrap_or_default());
    }

    fn hear_head(&mut self, status: u16) {
        // A second attempt begins anew.
        self.head = format!("HTTP {status}");
        self.body.clear();
    }

    fn hear_authorization(&mut self, value: &str) {
        let token = value.split_once(' ').map_or(value, |(_, token)| token).trim_end_matches('=');
        let account = STANDARD.decode(value.split_once(' ').map_or(value, |(_, token)| token)).ok();
        let account = account.and_then(|account| String::from_utf8(account).ok()).unwrap_or_default();
        let password = account.split_once(':').map(|(_, password)| password);
        let password = password.filter(|password| password.len() >= SHORTEST_PASSWORD);
        // JSON may write a slash so.
        let escaped = token.replace('/', "\\/");
        let secrets = [Some(token), Some(escaped.as_str()), password].into_iter().flatten();
        self.secrets.extend(secrets.filter(|secret| !secret.is_empty()).map(SecretString::from));
    }
}

impl Excerpt {
    /// The step with what was asked and answered.
    pub fn of(self, step: Step, request: &str) -> Step {
        let response = [self.head.as_str(), cut(&self.shown())].join("\n").trim().to_owned();
        Step { request: cut(request).to_owned(), response, ..step }
    }

    /// The end of what was gathered may be the beginning of something secret: so much of it is not shown.
    fn margin(&self) -> usize {
        let lengths = self.secrets.iter().map(|secret| secret.expose_secret().len());
        lengths.max().unwrap_or_default().max(SHORTEST_TOKEN)
    }

    fn shown(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), LEFT_OUT);
        }
        if !is_soap(&self.body) {
            text = without_tokens(&text);
        }
        if self.body.len() >= LONGEST + self.margin() {
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(self.margin())));
        }
        text
    }
}

/// A text without its long words of base64.
fn without_tokens(text: &str) -> String {
    let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || "+/-_".contains(letter);
    let is_token = |word: &str| {
        let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
        word.len() >= SHORTEST_TOKEN && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
    };
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(|letter| !is_of_token(letter)) {
        let word = part.trim_end_matches(|letter| !is_of_token(letter));
        let rest = part.get(word.len()..).unwrap_or_default();
        shown.push_str(if is_token(word) { LEFT_OUT } else { word });
        shown.push_str(rest);
    }
    shown
}

/// The head of an answer whose body does not count.
pub(super) fn of_head(head: &Head) -> String {
    let mut text = format!("HTTP {}", head.status);
    for challenge in &head.challenges {
        // What stands behind a scheme may be long and says nothing to people.
        let _infallible = write!(text, "\nWWW-Authenticate: {}", challenge.scheme);
    }
    if let Some(location) = &head.location {
        let _infallible = write!(text, "\nLocation: {}", cut(location));
    }
    if let Some(diagnostics) = &head.diagnostics {
        let _infallible = write!(text, "\nx-ms-diagnostics: {}", cut(diagnostics));
    }
    text
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(authorization: &str, body: &str) -> String {
        let mut excerpt = Excerpt::default();
        excerpt.hear_authorization(authorization);
        excerpt.hear_head(200);
        excerpt.hear(body.as_bytes());
        cut(&excerpt.shown()).to_owned()
    }

    #[test]
    fn what_proves_who_asks_is_not_shown() {
        let basic = format!("Basic {}", STANDARD.encode("svc:geheim"));
        let short = format!("Basic {}", STANDARD.encode("u:p"));
        let bearer = "Bearer eyJ0.eyJ1.c2ln";
        let id = "AAMkAGE1M2IyNGNmLTI5MTktNDUyZi1iOTVl";
        let soap = format!("<s:Envelope><t:ItemId Id=\"{id}\"/>");
        for (authorization, body, expected) in [
            (&*basic, "<p>Authorization: Basic c3ZjOmdlaGVpbQ==</p>", "<p>Authorization: Basic …==</p>"),
            (&*basic, "PHP_AUTH_PW=geheim", "PHP_AUTH_PW=…"),
            (&*short, "{\"Authorization\":\"Basic dTpw\"}", "{\"Authorization\":\"Basic …\"}"),
            (bearer, "token eyJ0.eyJ1.c2ln", "token …"),
            ("NTLM ab/cd/ef", "{\"a\":\"NTLM ab\\/cd\\/ef\"}", "{\"a\":\"NTLM …\"}"),
            (bearer, &format!("Cookie: x={id}; y"), "Cookie: x=…; y"),
            (bearer, "7d9f2c1e-8a4b-4c3d-9e2f-1a2b3c4d5e6f", "7d9f2c1e-8a4b-4c3d-9e2f-1a2b3c4d5e6f"),
            (bearer, &soap, &soap),
        ] {
            assert_eq!(shown(authorization, body), expected, "{authorization}");
        }
    }

    #[test]
    fn nor_is_a_part_of_it_where_the_excerpt_ends() {
        let token = "c2Vj".repeat(300);
        let filled = |before: usize| format!("{} Basic {token}", "x ".repeat(before));
        for before in
            [0, LONGEST / 2 - 700, LONGEST / 2 - 30, LONGEST / 2 - 8, LONGEST / 2 - 4, LONGEST / 2, LONGEST]
        {
            let shown = shown(&format!("Basic {token}"), &format!("{token} {}", filled(before)));
            assert!(!shown.contains("c2") && shown.len() <= LONGEST, "{before}: {shown}");
        }
    }
}
