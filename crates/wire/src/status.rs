//! How a failure is told over gRPC: the code and the reason of the catalogue, the field, and what to do.

use std::collections::HashMap;

use mailyard_policy::Reason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every reason.
pub const DOMAIN: &str = "mailyard";

/// A failure travels in HTTP headers, of which clients take 16 KiB: bytes of its message,
const LONGEST_MESSAGE: usize = 1000;
/// and bytes of what is wrong, all fields together. What does not fit is counted.
const LONGEST_VIOLATIONS: usize = 4096;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field; empty: the request as a whole.
    pub field: String,
    /// What is wrong and what is allowed.
    pub description: String,
}

/// A refusal for one reason; `field` is empty if it is the call as a whole.
pub fn refusal(reason: Reason, field: &str, detail: &str) -> Status {
    let violation = Violation { field: field.to_owned(), description: detail.to_owned() };
    refusals(reason, detail, std::slice::from_ref(&violation))
}

/// A refusal that lists what is wrong, as much of it as clients can take; `detail` says it in one text.
pub fn refusals(reason: Reason, detail: &str, violations: &[Violation]) -> Status {
    let entry = reason.entry();
    let metadata = HashMap::from([("remedy".to_owned(), entry.remedy.to_owned())]);
    let mut details = ErrorDetails::with_error_info(reason.code(), DOMAIN, metadata);
    let listed: Vec<&Violation> = violations.iter().filter(|violation| !violation.field.is_empty()).collect();
    let mut left = LONGEST_VIOLATIONS;
    for (at, violation) in listed.iter().enumerate() {
        let description = cut(&violation.description, LONGEST_MESSAGE);
        let size = violation.field.len() + description.len();
        if size > left {
            let more = format!("and {} more", listed.len() - at);
            details.add_bad_request_violation("", more);
            break;
        }
        left -= size;
        details.add_bad_request_violation(&violation.field, description);
    }
    Status::with_error_details(code(entry.grpc), cut(detail, LONGEST_MESSAGE), details)
}

/// A text, or its beginning if it is longer than so many bytes.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(longest)])
}

/// What a client reads out of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The reason's code; `None`: it is none of ours, such as a lost connection.
    pub reason: Option<String>,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
    /// What is wrong, field by field.
    pub violations: Vec<Violation>,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()),
            message: status.message().to_owned(),
            remedy: info.and_then(|info| info.metadata.get("remedy").cloned()),
            violations: violations
                .into_iter()
                .map(|violation| Violation { field: violation.field, description: violation.description })
                .collect(),
        }
    }
}

fn code(name: &str) -> Code {
    match name {
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        "FAILED_PRECONDITION" => Code::FailedPrecondition,
        "ABORTED" => Code::Aborted,
        "OUT_OF_RANGE" => Code::OutOfRange,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "UNAVAILABLE" => Code::Unavailable,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "UNIMPLEMENTED" => Code::Unimplemented,
        "DATA_LOSS" => Code::DataLoss,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_arrives_as_it_was_sent() {
        let status = refusal(Reason::FieldInvalid, "profile.user", "it is empty");
        let violation = Violation { field: "profile.user".to_owned(), description: "it is empty".to_owned() };
        assert_eq!(
            Refusal::from(&status),
            Refusal {
                code: Code::InvalidArgument,
                reason: Some("FIELD_INVALID".to_owned()),
                message: "it is empty".to_owned(),
                remedy: Some(Reason::FieldInvalid.entry().remedy.to_owned()),
                violations: vec![violation],
            }
        );
        let foreign = Refusal::from(&Status::unavailable("connection refused"));
        assert_eq!((foreign.code, foreign.reason), (Code::Unavailable, None));
    }

    #[test]
    fn however_much_is_wrong_a_client_can_take_it() {
        let wrong = |at| Violation { field: format!("rows[{at}].kind"), description: "й".repeat(100) };
        let violations: Vec<Violation> = (0..1000).map(wrong).collect();
        let status = refusals(Reason::FieldInvalid, &"й".repeat(10_000), &violations);
        assert!(status.details().len() + status.message().len() < 8 << 10, "{}", status.details().len());
        let refusal = Refusal::from(&status);
        assert!(refusal.message.ends_with("й…"), "{}", refusal.message);
        let (listed, last) = (refusal.violations.len(), &refusal.violations[refusal.violations.len() - 1]);
        assert_eq!(&refusal.violations[0], &violations[0]);
        assert_eq!(
            (last.field.as_str(), last.description.clone()),
            ("", format!("and {} more", 1001 - listed))
        );
    }

    #[test]
    fn every_reason_has_a_code_of_grpc() {
        for entry in Reason::catalogue() {
            // OK: what is told by an alert and never refuses a call.
            let known = code(entry.grpc) != Code::Internal || matches!(entry.grpc, "INTERNAL" | "OK");
            assert!(known, "{}: {}", entry.code, entry.grpc);
        }
    }
}
