//! Faults by rule: what the server does wrong, to whom, how often, until when.

mod standing;

use serde::{Deserialize, Serialize};

pub(crate) use self::standing::{Faults, Strike};

use crate::autodiscover;

macro_rules! kinds {
    ($($(#[$about:meta])+ $kind:ident,)+) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($(#[$about])+ $kind,)+ }

        impl Kind {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];
        }
    };
}

kinds! {
    /// `ErrorMailboxStoreUnavailable` in each response message.
    MailboxUnavailable,
    /// `ErrorServerBusy` as a fault without a hint.
    ServerBusy,
    /// `ErrorServerBusy` with `BackOffMilliseconds`.
    ServerBusyHint,
    /// HTTP 503, with `Retry-After` if there is a hint.
    #[serde(rename = "http_503")]
    Http503,
    /// HTTP 404, as if the service were not there.
    #[serde(rename = "http_404")]
    Http404,
    /// HTTP 302 to `target`.
    HttpRedirect,
    /// HTTP 401 whatever the credential.
    Unauthorized,
    /// The connection ends instead of the answer to the last leg of an NTLM handshake.
    NtlmReset,
    /// HTTP 401 for a good token, with `claims` until one comes that was asked for with claims.
    TokenRefused,
    /// A proxy's page with status 200.
    #[serde(rename = "html_200")]
    Html200,
    /// More than `limit` requests of a credential at once: `ErrorExceededConnectionCount`; with a hint `ErrorServerBusy`.
    Concurrency,
    /// `ErrorImpersonateUserDenied`.
    ImpersonationDenied,
    /// `ErrorNonExistentMailbox`.
    NoSuchMailbox,
    /// The request is executed and the connection is cut before the answer.
    LostResponse,
    /// The request is executed at once and answered late.
    SlowBody,
    /// The connection is cut and nothing is executed.
    CutConnection,
    /// `ErrorInvalidSyncStateData`.
    BadSyncState,
    /// Some items cannot be read.
    Poison,
    /// Changes of a page are told again on the next one.
    RepeatedChanges,
    /// Of a batch some items fail and the rest is not attempted.
    PartialBatch,
    /// Each part of a batch is refused with `code`, with a hint and with `inner` as the code that hides behind it.
    ResponseCode,
    /// Of a batch nothing is attempted.
    StoppedBatch,
    /// A streaming connection is broken off; with `code`, it ends with that.
    CutStream,
    /// A streaming connection says nothing more, and stays open.
    SilentStream,
    /// Events of a mailbox get lost on their way to a streaming connection.
    LostEvents,
    /// Autodiscover names another URL to ask: `target`.
    RedirectUrl,
    /// Autodiscover names another address to ask for: `target`.
    RedirectAddress,
    /// Autodiscover answers with an error: `code`, as its SOAP form spells it.
    AutodiscoverError,
    /// The server's clock is wrong.
    ClockSkew,
    /// Nobody answers.
    Down,
}

impl Kind {
    /// True for what happens before a request is understood.
    fn looks_at_hosts(self) -> bool {
        use Kind::{
            AutodiscoverError, CutConnection, Html200, Http404, Http503, HttpRedirect, RedirectAddress,
            RedirectUrl, Unauthorized,
        };
        matches!(
            self,
            CutConnection
                | Http503
                | Http404
                | HttpRedirect
                | Html200
                | Unauthorized
                | RedirectUrl
                | RedirectAddress
                | AutodiscoverError
        )
    }
}

/// A rule. Absent fields mean any; it stands until it is deleted, `for_seconds` are over or it has struck `count` times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub kind: Kind,
    /// Only for this operation, such as `GetItem`.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only for this mailbox, by its address.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// Only for who asks the server by this name.
    #[serde(default)]
    pub host: Option<String>,
    /// How large a share of requests is struck, 0 to 1.
    #[serde(default = "all")]
    pub rate: f64,
    /// How long it stands.
    #[serde(default)]
    pub for_seconds: Option<f64>,
    /// How often it strikes.
    #[serde(default)]
    pub count: Option<u64>,
    /// The hint of throttling.
    #[serde(default)]
    pub hint_ms: Option<u64>,
    /// How late a slow answer comes.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// How wrong the clock is; negative: it is behind.
    #[serde(default)]
    pub skew_ms: Option<i64>,
    /// How many requests of a credential may be under way.
    #[serde(default)]
    pub limit: Option<u32>,
    /// The challenge asks for claims.
    #[serde(default)]
    pub claims: bool,
    /// Where a redirection leads.
    #[serde(default)]
    pub target: Option<String>,
    /// The code of an error.
    #[serde(default)]
    pub code: Option<String>,
    /// The code that hides behind it.
    #[serde(default)]
    pub inner: Option<String>,
}

fn all() -> f64 {
    1.0
}

impl Rule {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.rate) {
            return Err("rate: must be between 0 and 1".to_owned());
        }
        if self.for_seconds.is_some_and(|seconds| !(0.0..1e9).contains(&seconds)) {
            return Err("for_seconds: must be between 0 and 1000000000".to_owned());
        }
        self.check_whom()?;
        self.check_what()
    }

    fn check_whom(&self) -> Result<(), String> {
        let everybody = matches!(self.kind, Kind::Down | Kind::ClockSkew | Kind::NtlmReset);
        if everybody && self.operation.is_some() {
            return Err("operation: this kind concerns every operation".to_owned());
        }
        if everybody && self.mailbox.is_some() {
            return Err("mailbox: this kind concerns every mailbox".to_owned());
        }
        if self.host.is_some() && !self.kind.looks_at_hosts() {
            return Err("host: this kind does not look at it".to_owned());
        }
        Ok(())
    }

    fn check_what(&self) -> Result<(), String> {
        match self.kind {
            Kind::HttpRedirect | Kind::RedirectUrl | Kind::RedirectAddress if self.target.is_none() => {
                Err("target: this kind needs it".to_owned())
            }
            Kind::AutodiscoverError => autodiscover::check_code(self.code.as_deref()),
            Kind::ResponseCode if self.code.is_none() => Err("code: response_code needs it".to_owned()),
            Kind::ResponseCode | Kind::CutStream => {
                check_response_code("code", self.code.as_deref())?;
                check_response_code("inner", self.inner.as_deref())
            }
            Kind::ClockSkew if self.count.is_some() => {
                Err("count: a clock is wrong until it is right again".to_owned())
            }
            Kind::ClockSkew if self.rate < 1.0 => Err("rate: a clock is wrong for every request".to_owned()),
            Kind::SlowBody if self.delay_ms.is_none() => Err("delay_ms: slow_body needs it".to_owned()),
            Kind::Concurrency if self.limit.is_none() => Err("limit: concurrency needs it".to_owned()),
            Kind::ClockSkew if self.skew_ms.is_none() => Err("skew_ms: clock_skew needs it".to_owned()),
            _ => Ok(()),
        }
    }
}

fn check_response_code(field: &str, code: Option<&str>) -> Result<(), String> {
    let is_code =
        |code: &str| code.starts_with("Error") && code.chars().all(|letter| letter.is_ascii_alphanumeric());
    if code.is_none_or(is_code) { Ok(()) } else { Err(format!("{field}: a code of EWS begins with Error")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn bad_rules_are_refused_by_field() {
        for (json, field) in [
            (r#"{"kind":"down","rate":2}"#, "rate"),
            (r#"{"kind":"slow_body"}"#, "delay_ms"),
            (r#"{"kind":"clock_skew"}"#, "skew_ms"),
            (r#"{"kind":"concurrency"}"#, "limit"),
            (r#"{"kind":"ntlm_reset","operation":"GetItem"}"#, "operation"),
            (r#"{"kind":"down","for_seconds":-1}"#, "for_seconds"),
            (r#"{"kind":"down","mailbox":"a@x"}"#, "mailbox"),
            (r#"{"kind":"down","operation":"GetItem"}"#, "operation"),
            (r#"{"kind":"clock_skew","skew_ms":1,"rate":0.5}"#, "rate"),
            (r#"{"kind":"clock_skew","skew_ms":1,"count":1}"#, "count"),
            (r#"{"kind":"clock_skew","skew_ms":1,"host":"mail.x"}"#, "host"),
            (r#"{"kind":"response_code"}"#, "code"),
            (r#"{"kind":"response_code","code":"NoError"}"#, "code"),
            (r#"{"kind":"response_code","code":"ErrorX","inner":"<x/>"}"#, "inner"),
            (r#"{"kind":"cut_stream","code":"Over"}"#, "code"),
            (r#"{"kind":"redirect_url"}"#, "target"),
            (r#"{"kind":"http_redirect","code":"InvalidUser"}"#, "target"),
            (r#"{"kind":"autodiscover_error"}"#, "code"),
            (r#"{"kind":"autodiscover_error","code":"ErrorServerBusy"}"#, "code"),
        ] {
            assert!(rule(json).check().is_err_and(|error| error.starts_with(field)), "{json}");
        }
        for json in [r#"{"kind":"nonsense"}"#, r#"{"kind":"down","colour":1}"#, "{}"] {
            assert!(serde_json::from_str::<Rule>(json).is_err(), "{json}");
        }
    }
}
