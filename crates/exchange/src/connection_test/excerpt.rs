//! What goes over the wire in a test, cut to what people read.

use std::fmt::Write as _;

use mailyard_policy::connection_test::Step;

use crate::{ContentSink, Failure, http1::Head};

/// No excerpt is longer, in bytes.
const LONGEST: usize = 2 << 10;

/// The beginning of an answer.
#[derive(Default)]
pub(super) struct Excerpt {
    head: String,
    body: Vec<u8>,
}

impl ContentSink for Excerpt {
    async fn take(&mut self, _piece: Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }

    fn wants(&self) -> bool {
        false
    }

    fn hear(&mut self, piece: &[u8]) {
        let room = LONGEST.saturating_sub(self.body.len()).min(piece.len());
        self.body.extend_from_slice(piece.get(..room).unwrap_or_default());
    }

    fn hear_head(&mut self, status: u16) {
        // A second attempt begins anew.
        *self = Self { head: format!("HTTP {status}"), body: Vec::new() };
    }
}

impl Excerpt {
    /// The step with what was asked and answered.
    pub fn of(self, step: Step, request: &str) -> Step {
        let Self { head, body } = self;
        let body = String::from_utf8_lossy(&body);
        let response = [head.as_str(), cut(&body)].join("\n").trim().to_owned();
        Step { request: cut(request).to_owned(), response, ..step }
    }
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
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
