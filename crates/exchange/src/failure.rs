//! Why a call to Exchange failed: one reason of the catalogue for everything that a network, a proxy or a server may do.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use mailyard_policy::{Nature, Reason, outbox::Execution, profile::CredentialSource, reason::Scope};

use crate::{
    codec::{Malformed, Refusal},
    http1::Head,
};

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Failure {
    /// The reason of the catalogue.
    pub reason: Reason,
    /// What the server did with a request that changes something.
    pub execution: Execution,
    /// How long the server asked to be left alone; `None`: it did not say.
    pub back_off: Option<Duration>,
    /// The EWS response code or HTTP status, as it was written.
    pub code: Option<Box<str>>,
    /// What happened, without secrets and addresses.
    pub detail: Box<str>,
}

/// What the catalogue of response codes says of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    reason: Reason,
    execution: Execution,
}

/// Codes that this table does not know: newer servers invent some.
const UNKNOWN: Meaning = Meaning { reason: Reason::MailboxTransientError, execution: Execution::Maybe };

static CODES: LazyLock<BTreeMap<&'static str, Meaning>> = LazyLock::new(|| {
    include_str!("../codes.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let code = columns.next()?;
            let reason = columns.next()?.parse().ok()?;
            let execution = if columns.next()? == "not" { Execution::Not } else { Execution::Maybe };
            Some((code, Meaning { reason, execution }))
        })
        .collect()
});

impl Failure {
    /// What people are shown of it beside its reason: the detail, and the server's own code.
    pub fn evidence(&self) -> String {
        let code = self.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        format!("{}{code}", self.detail)
    }

    /// True if it has a response code of Exchange Web Services, and one that means something here.
    pub(crate) fn has_known_code(&self) -> bool {
        self.code.as_deref().is_some_and(|code| CODES.contains_key(code))
    }

    /// What it means where these credentials were used.
    #[must_use]
    pub(crate) fn with_credentials_of(self, source: CredentialSource) -> Self {
        Self { reason: self.reason.with_credentials_of(source), ..self }
    }

    /// A failure of the road to the server.
    pub fn new(reason: Reason, execution: Execution, detail: impl Into<Box<str>>) -> Self {
        Self { reason, execution, back_off: None, code: None, detail: detail.into() }
    }

    /// What it means of an item while the mailbox is well: servers say of an item that they cannot read what they say of
    /// a mailbox that they cannot read just now (`ErrorInternalServerError`).
    #[must_use]
    pub(crate) fn of_lone_item(self) -> Self {
        self.instead(Reason::MailboxTransientError, Reason::ItemTransientError)
    }

    /// What it means where no item was asked for.
    #[must_use]
    pub(crate) fn of_folder(self) -> Self {
        self.instead(Reason::ItemNotAttempted, Reason::MailboxTransientError)
    }

    fn instead(self, found: Reason, meant: Reason) -> Self {
        let reason = if self.reason == found { meant } else { self.reason };
        Self { reason, ..self }
    }

    /// True if other items of the same answer may be well.
    pub fn is_of_item(&self) -> bool {
        self.reason.scope() == Scope::Item
    }

    /// True if the same attempt may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self.reason.nature(), Nature::Transient | Nature::Throttled)
    }

    /// What the server refused, by its response code. A hint to wait makes throttling of everything
    /// (`[MS-OXWSCDATA]` names `BackOffMilliseconds` for busy servers only).
    pub fn of_refusal(refusal: &Refusal) -> Self {
        let code: &str = match refusal.inner_code.as_deref() {
            // ErrorInternalServerError wraps the error that matters.
            Some(inner) if is_wrapper(&refusal.code) => inner,
            _ => &refusal.code,
        };
        let unknown = if refusal.fault && !code.starts_with("Error") { of_fault(code) } else { UNKNOWN };
        let mut meaning = CODES.get(code).copied().unwrap_or(unknown);
        if refusal.back_off.is_some() && meaning.reason.nature() != Nature::Throttled {
            meaning.reason = Reason::ExchangeServerBusy;
        }
        if refusal.text.contains("Too many concurrent connections") {
            meaning = Meaning { reason: Reason::ExchangeConnectionLimit, execution: Execution::Not };
        }
        let what =
            if refusal.fault { "the server refused the request" } else { "the server refused this part" };
        Self {
            reason: meaning.reason,
            execution: meaning.execution,
            back_off: refusal.back_off,
            code: (!code.is_empty()).then(|| code.into()),
            detail: format!("{what} with {}", if code.is_empty() { "no response code" } else { code }).into(),
        }
    }

    /// An answer that cannot be used: whether the request was executed is not known.
    pub fn of_malformed(malformed: Malformed) -> Self {
        let reason = match malformed {
            Malformed::DocumentTooLarge | Malformed::ContentTooLarge => Reason::EwsAnswerTooLarge,
            Malformed::Encoding
            | Malformed::Syntax
            | Malformed::Truncated
            | Malformed::DocumentType
            | Malformed::Entity
            | Malformed::Depth
            | Malformed::Unexpected(_) => Reason::EwsProtocolError,
        };
        Self::new(reason, Execution::Maybe, malformed.to_string())
    }

    /// An answer with HTTP status 200 that is no SOAP, such as a page of maintenance: one fact about the server.
    pub fn of_page() -> Self {
        let detail = "the server answered with something that is no SOAP, such as a page for people";
        Self::new(Reason::ProfileAnswerNotEws, Execution::Maybe, detail)
    }

    /// An HTTP status other than 200 whose body is no SOAP.
    pub fn of_status(status: u16, location: Option<&str>, retry_after: Option<Duration>) -> Self {
        let (reason, execution) = match (status, location) {
            (301..=308, Some(location)) if location.to_ascii_lowercase().contains("genericerrorpage") => {
                (Reason::ExchangeUnavailable, Execution::Not)
            }
            (301..=308 | 400 | 404 | 405 | 410 | 411 | 421 | 440 | 449, _) => {
                (Reason::ProfileUrlWrong, Execution::Not)
            }
            (401, _) => (Reason::ProfileAuthRejected, Execution::Not),
            (403, _) => (Reason::ProfileForbidden, Execution::Not),
            (408, _) => (Reason::ProfileConnectionLost, Execution::Not),
            (413, _) => (Reason::ItemTooLarge, Execution::Not),
            (429, _) => (Reason::ExchangeThrottled, Execution::Not),
            (456, _) => (Reason::ProfileAccountLocked, Execution::Not),
            (503, _) if retry_after.is_some() => (Reason::ExchangeServerBusy, Execution::Not),
            (503, _) => (Reason::ExchangeUnavailable, Execution::Not),
            (500..=599, _) => (Reason::Exchange5xx, Execution::Maybe),
            // Exchange says none of the others: something before it does, to every mailbox alike.
            _ => (Reason::ProfileAnswerNotEws, Execution::Maybe),
        };
        Self {
            back_off: retry_after,
            code: Some(format!("HTTP {status}").into()),
            ..Self::new(reason, execution, format!("the server answered with HTTP status {status}"))
        }
    }

    /// The same of a request without content, which cannot have been too large: whoever says so is not Exchange.
    pub(crate) fn of_status_of_nothing(head: &Head) -> Self {
        let failure = Self::of_status(head.status, head.location.as_deref(), head.retry_after);
        let failure = Self { execution: Execution::Not, ..failure };
        failure.instead(Reason::ItemTooLarge, Reason::ProfileAnswerNotEws)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::of_malformed(malformed)
    }
}

/// What a fault means whose code is none of Exchange Web Services: all of those begin with `Error`. Something before it
/// failed, or is another service that speaks SOAP.
fn of_fault(code: &str) -> Meaning {
    let reason = match code {
        "InternalServiceFault" | "Server" | "Receiver" => Reason::Exchange5xx,
        _ => Reason::ProfileAnswerNotEws,
    };
    Meaning { reason, execution: Execution::Maybe }
}

fn is_wrapper(code: &str) -> bool {
    matches!(
        code,
        "ErrorInternalServerError" | "ErrorInternalServerTransientError" | "ErrorBatchProcessingStopped"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_readable_and_names_a_reason() {
        let rows: Vec<&str> =
            include_str!("../codes.tsv").lines().filter(|line| !line.starts_with('#')).collect();
        assert!(rows.is_sorted() && rows.len() > 290, "{} rows", rows.len());
        for row in &rows {
            let columns: Vec<&str> = row.split('\t').collect();
            let [code, reason, execution] = columns[..] else { panic!("{row}") };
            assert!(reason.parse::<Reason>().is_ok(), "{row}");
            assert!(execution == "not" || execution == "maybe", "{row}");
            assert!(CODES.contains_key(code));
        }
        assert_eq!(CODES.len(), rows.len(), "no code stands twice");
    }

    fn refusal(code: &str, inner: Option<&str>, back_off: Option<u64>, text: &str) -> Refusal {
        Refusal {
            code: code.into(),
            text: text.into(),
            inner_code: inner.map(Into::into),
            back_off: back_off.map(Duration::from_millis),
            fault: false,
            subscriptions: Vec::new(),
        }
    }

    #[test]
    fn refusals_become_reasons() {
        let busy = Reason::ExchangeServerBusy;
        let cases = [
            (refusal("ErrorServerBusy", None, Some(5000), ""), busy, Some(5000)),
            (refusal("ErrorServerBusy", None, None, ""), busy, None),
            (refusal("ErrorInternalServerError", Some("ErrorServerBusy"), None, ""), busy, None),
            (refusal("ErrorInternalServerError", None, Some(10), ""), busy, Some(10)),
            (
                refusal("ErrorInternalServerError", None, None, "Too many concurrent connections opened."),
                Reason::ExchangeConnectionLimit,
                None,
            ),
            (refusal("ErrorExceededConnectionCount", None, None, ""), Reason::ExchangeConnectionLimit, None),
            (refusal("ErrorItemNotFound", None, None, ""), Reason::ItemNotFound, None),
            (refusal("ErrorImpersonateUserDenied", None, None, ""), Reason::ImpersonationDenied, None),
            (refusal("ErrorMailboxStoreUnavailable", None, None, ""), Reason::MailboxUnavailable, None),
            (refusal("ErrorInvalidSyncStateData", None, None, ""), Reason::MailboxSyncStateInvalid, None),
            (refusal("ErrorNobodyKnows", None, None, ""), Reason::MailboxTransientError, None),
            (refusal("", None, None, ""), Reason::MailboxTransientError, None),
        ];
        let fault = |code: &str| Refusal { fault: true, ..refusal(code, None, None, "") };
        let faults = [
            (fault("ErrorItemNotFound"), Reason::ItemNotFound, None),
            (fault("ErrorNobodyKnows"), Reason::MailboxTransientError, None),
            (fault("ActionNotSupported"), Reason::ProfileAnswerNotEws, None),
            (fault("Client"), Reason::ProfileAnswerNotEws, None),
            (fault(""), Reason::ProfileAnswerNotEws, None),
            (fault("InternalServiceFault"), Reason::Exchange5xx, None),
            (Refusal { back_off: Some(Duration::ZERO), ..fault("Server") }, busy, Some(0)),
        ];
        for (refusal, reason, back_off) in cases.into_iter().chain(faults) {
            let failure = Failure::of_refusal(&refusal);
            assert_eq!(failure.reason, reason, "{refusal:?}");
            assert_eq!(failure.back_off, back_off.map(Duration::from_millis), "{refusal:?}");
        }
    }

    #[test]
    fn statuses_become_reasons() {
        let cases = [
            (302, Some("/ews/genericErrorPage.htm"), None, Reason::ExchangeUnavailable),
            (302, Some("https://x.example/owa/auth/logon.aspx"), None, Reason::ProfileUrlWrong),
            (401, None, None, Reason::ProfileAuthRejected),
            (403, None, None, Reason::ProfileForbidden),
            (404, None, None, Reason::ProfileUrlWrong),
            (407, None, None, Reason::ProfileAnswerNotEws),
            (408, None, None, Reason::ProfileConnectionLost),
            (418, None, None, Reason::ProfileAnswerNotEws),
            (421, None, None, Reason::ProfileUrlWrong),
            (429, None, Some(1), Reason::ExchangeThrottled),
            (440, None, None, Reason::ProfileUrlWrong),
            (456, None, None, Reason::ProfileAccountLocked),
            (500, None, None, Reason::Exchange5xx),
            (502, None, None, Reason::Exchange5xx),
            (503, None, None, Reason::ExchangeUnavailable),
            (503, None, Some(7), Reason::ExchangeServerBusy),
            (204, None, None, Reason::ProfileAnswerNotEws),
            (299, None, None, Reason::ProfileAnswerNotEws),
        ];
        for (status, location, retry_after, reason) in cases {
            let failure = Failure::of_status(status, location, retry_after.map(Duration::from_secs));
            assert_eq!(failure.reason, reason, "{status} {location:?}");
        }
        for status in 100..=999 {
            let asked = Failure::of_status_of_nothing(&Head { status, ..Head::default() });
            assert_eq!(asked.reason.scope(), Scope::Profile, "{status}: {asked}");
            let reason = Failure::of_status(status, None, None).reason;
            assert!(
                reason.scope() == Scope::Profile || status == 413,
                "{status}: one mailbox pays by {reason}"
            );
        }
    }
}
