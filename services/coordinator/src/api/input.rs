//! Checks of what callers send: everything that is wrong with a request is said at once.

use std::time::Duration;

use mailyard_policy::{Reason, Timestamp, id::Revision};
use mailyard_wire::{
    FieldMask,
    status::{Violation, refusal, refusals},
};
use secrecy::SecretString;
use tonic::Status;

use crate::{filter::shown, import::is_address};

/// A name or other short text; characters.
pub(super) const SHORT: usize = 256;
/// A description; characters.
pub(super) const LONG: usize = 4096;
/// A password; bytes.
const LONGEST_PASSWORD: usize = 1024;
/// Changes without an etag are tried so often when somebody else was quicker.
const ATTEMPTS: usize = 5;
/// The first moment of the year 10000: later ones cannot be written as RFC 3339.
const LAST_MOMENT: i64 = 253_402_300_800_000;

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub(super) struct Input {
    reason: Option<Reason>,
    violations: Vec<Violation>,
}

impl Input {
    /// A field is wrong for a reason of its own. The first reason is that of the call.
    pub(super) fn refuse(&mut self, reason: Reason, field: &str, detail: impl Into<String>) {
        self.reason.get_or_insert(reason);
        self.violations.push(Violation { field: field.to_owned(), description: detail.into() });
    }

    /// A field is not valid.
    pub(super) fn wrong(&mut self, field: &str, detail: impl Into<String>) {
        self.refuse(Reason::FieldInvalid, field, detail);
    }

    /// A text of one line, without blanks around it; it may be empty.
    pub(super) fn line(&mut self, field: &str, text: &str, longest: usize) -> String {
        if text.chars().any(char::is_control) {
            self.wrong(field, format!("{} holds a line break or another control character", shown(text)));
        } else if text.chars().count() > longest {
            self.wrong(field, format!("it is longer than {longest} characters"));
        }
        text.trim().to_owned()
    }

    /// The same, not empty.
    pub(super) fn name(&mut self, field: &str, text: &str, longest: usize) -> String {
        let line = self.line(field, text, longest);
        if line.is_empty() {
            self.wrong(field, "it is empty");
        }
        line
    }

    /// A text of any lines; of the control characters only tab and line ends.
    pub(super) fn prose(&mut self, field: &str, text: &str, longest: usize) {
        if text.len() > longest {
            self.wrong(field, format!("it is larger than {longest} bytes"));
        } else if text.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
            self.wrong(field, "it holds a control character");
        }
    }

    /// An address that mail can be sent to.
    pub(super) fn address(&mut self, field: &str, text: &str) -> String {
        if text.is_empty() {
            self.wrong(field, "it is empty; an address is required");
        } else if !is_address(text) {
            let detail = format!("{} is no email address such as anna@example.com", shown(text));
            self.wrong(field, detail);
        }
        text.to_owned()
    }

    /// A moment between 1970 and 9999.
    pub(super) fn moment(&mut self, field: &str, at: Timestamp) -> Timestamp {
        if !(0..LAST_MOMENT).contains(&at.as_millis()) {
            self.wrong(field, "it is no moment between the years 1970 and 9999");
        }
        at
    }

    /// A duration up to `longest`; `span` is `None` if it is negative.
    pub(super) fn span(&mut self, field: &str, span: Option<Duration>, longest: Duration) -> Duration {
        let wrong = match span {
            Some(span) if span <= longest => return span,
            Some(_) => format!("up to {} s are allowed", longest.as_secs()),
            None => "it is negative".to_owned(),
        };
        self.wrong(field, wrong);
        Duration::ZERO
    }

    /// A password.
    pub(super) fn password(&mut self, field: &str, password: &str) -> SecretString {
        if password.len() > LONGEST_PASSWORD {
            self.wrong(field, format!("it is longer than {LONGEST_PASSWORD} bytes"));
        } else if password.contains(char::is_control) {
            self.wrong(field, "it holds a line break or another control character");
        }
        SecretString::from(password)
    }

    /// The refusal, if anything is wrong.
    pub(super) fn done(self) -> Result<(), Status> {
        let Some(reason) = self.reason else { return Ok(()) };
        let line = |violation: &Violation| match violation.field.as_str() {
            "" => violation.description.clone(),
            field => format!("{field}: {}", violation.description),
        };
        let detail: Vec<String> = self.violations.iter().map(line).collect();
        Err(refusals(reason, &detail.join("; "), &self.violations))
    }
}

/// The etag of an object that was changed so often.
pub(super) fn etag(revision: Revision) -> String {
    format!("\"{revision}\"")
}

/// Refuses a change of an object that is not any more what the caller has read. An empty etag is any.
pub(super) fn check_etag(field: &str, given: &str, revision: Revision) -> Result<(), Status> {
    let current = etag(revision);
    if given.is_empty() || given == current {
        return Ok(());
    }
    let given: String = given.chars().take(SHORT).collect();
    let detail = format!("the object has the etag {current} by now, the request has {given}");
    Err(refusal(Reason::EtagMismatch, field, &detail))
}

/// True if a change is tried anew: somebody else was quicker, and the caller has not said what he has read.
pub(super) fn goes_again(given: &str, attempt: usize, error: &mailyard_store::Error) -> bool {
    let race = matches!(error, mailyard_store::Error::Refused { reason: Reason::EtagMismatch, .. });
    given.is_empty() && attempt < ATTEMPTS && race
}

/// The fields to change: those of the mask, `*` for all, and with a field those inside it; without a mask those that
/// `is_set`.
pub(super) fn fields(
    mask: Option<&FieldMask>,
    known: &'static [&'static str],
    is_set: impl Fn(&str) -> bool,
) -> Result<Vec<&'static str>, Status> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        return Ok(known.iter().copied().filter(|field| is_set(field)).collect());
    };
    let names = |path: &str, field: &str| {
        let rest = field.strip_prefix(path);
        path == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut input = Input::default();
    for path in mask.paths.iter().filter(|path| !known.iter().any(|field| names(path, field))) {
        let fields = known.join(", ");
        input.wrong("update_mask", format!("{} is none of the fields {fields}", shown(path)));
    }
    input.done()?;
    let named = |field: &str| mask.paths.iter().any(|path| names(path, field));
    Ok(known.iter().copied().filter(|field| named(field)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["name", "size", "kind", "house.roof", "house.door"];

    #[test]
    fn a_mask_names_fields_and_without_one_it_is_what_is_set() {
        let mask = |paths: &[&str]| FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        let of = |mask: Option<FieldMask>| fields(mask.as_ref(), KNOWN, |field| field == "size").ok();
        assert_eq!(of(None), Some(vec!["size"]));
        assert_eq!(of(Some(mask(&[]))), Some(vec!["size"]));
        assert_eq!(of(Some(mask(&["kind", "name", "kind"]))), Some(vec!["name", "kind"]));
        assert_eq!(of(Some(mask(&["*"]))), Some(KNOWN.to_vec()));
        assert_eq!(of(Some(mask(&["house", "size"]))), Some(vec!["size", "house.roof", "house.door"]));
        assert_eq!(of(Some(mask(&["house.door"]))), Some(vec!["house.door"]));
        assert_eq!(of(Some(mask(&["hou"]))), None);
        let refused = fields(Some(&mask(&["name", "colour"])), KNOWN, |_| true).expect_err("unknown");
        assert!(refused.message().contains("\"colour\" is none of the fields name, size, kind"), "{refused}");
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let mut input = Input::default();
        assert_eq!(input.name("a", " fine ", SHORT), "fine");
        input.name("b", " ", SHORT);
        input.line("c", "x\ny", SHORT);
        input.line("d", "xxx", 2);
        input.prose("e", "a\tb\r\nc", 100);
        input.prose("f", "a\u{7}", 100);
        input.address("g", "nobody");
        input.span("h", None, Duration::from_secs(5));
        input.span("i", Some(Duration::from_secs(6)), Duration::from_secs(5));
        input.moment("j", Timestamp::from_millis(-1));
        let refused = input.done().expect_err("much is wrong");
        let wrong: Vec<&str> = refused.message().split("; ").map(|part| &part[..1]).collect();
        assert_eq!(wrong, ["b", "c", "d", "f", "g", "h", "i", "j"]);
        assert!(Input::default().done().is_ok());
    }
}
