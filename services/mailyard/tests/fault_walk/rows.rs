//! What the simulator can do wrong, and what is to be told of it: at least one row per kind.

use std::time::Duration;

use mailyard_exchange_sim::FaultKind as Kind;

use self::{Kind as K, On::*, Told::*};

/// Where a row happens. Each has a profile and a mailbox of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The simulator that most share; mail comes in.
    Mail,
    /// The same, with more mail than a page of changes holds.
    Pages,
    /// The same; mail goes out.
    Sending,
    /// The same, and the profile gives up requests early.
    Hasty,
    /// The same, and the profile is told of new mail.
    Streaming,
    /// The same, and the mailbox is found by Autodiscover.
    Found,
    /// A simulator of its own that knows NTLM only.
    Ntlm,
    /// A simulator that accepts tokens only.
    Tokens,
    /// A simulator of its own.
    Alone,
}

impl On {
    /// When its profile gives up a request, if sooner than others.
    pub fn deadline(self) -> Option<Duration> {
        match self {
            Hasty => Some(Duration::from_millis(400)),
            // What is in doubt is looked for once nobody can be sending it any more.
            Sending => Some(Duration::from_secs(2)),
            Mail | Pages | Streaming | Found | Ntlm | Tokens | Alone => None,
        }
    }
}

/// What is told, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The mailbox fails.
    Mailbox(&'static str),
    /// The server fails: the profile is held back, and it costs the mailbox nothing.
    Server(&'static str),
    /// The server asks to wait: nobody fails, and nobody is alarmed.
    Slowed(&'static str),
    /// One item is put aside, and the mailbox is none the worse.
    Item(&'static str),
    /// One email is not sent for good, and the mailbox is none the worse.
    Email(&'static str),
    /// One email waits.
    Waits(&'static str),
    /// A test of the connection warns of it; mail flows all the same.
    Warned(&'static str),
    /// Nothing: it is survived, and every mail is tracked or sent once.
    Nothing,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What goes wrong.
    pub kind: Kind,
    /// The rest of its rule, as JSON without braces; the mailbox is added.
    pub rest: &'static str,
    /// Where.
    pub on: On,
    /// What is told.
    pub told: Told,
}

const fn row(kind: Kind, rest: &'static str, on: On, told: Told) -> Row {
    Row { kind, rest, on, told }
}

/// A response code of an operation.
macro_rules! code {
    ($operation:literal, $code:literal) => {
        concat!(r#""operation":""#, $operation, r#"","code":""#, $code, r#"""#)
    };
}

pub const ROWS: &[Row] = &[
    // The mailbox.
    row(K::MailboxUnavailable, "", Mail, Mailbox("MAILBOX_UNAVAILABLE")),
    row(K::ImpersonationDenied, "", Mail, Mailbox("IMPERSONATION_DENIED")),
    row(K::NoSuchMailbox, "", Mail, Mailbox("MAILBOX_NOT_FOUND_ON_SERVER")),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorQuotaExceeded"),
        Mail,
        Mailbox("MAILBOX_QUOTA_EXCEEDED"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorAccessDenied"),
        Mail,
        Mailbox("MAILBOX_ACCESS_DENIED"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorMailboxMoveInProgress"),
        Mail,
        Mailbox("MAILBOX_MOVING"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorSyncFolderNotFound"),
        Mail,
        Mailbox("MAILBOX_FOLDER_MISSING"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorNonPrimarySmtpAddress"),
        Mail,
        Mailbox("MAILBOX_ADDRESS_NOT_PRIMARY"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorAccountDisabled"),
        Mail,
        Mailbox("MAILBOX_ACCOUNT_DISABLED"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorConnectionFailed"),
        Mail,
        Mailbox("MAILBOX_TRANSIENT_ERROR"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorInvalidSyncStateData"),
        Mail,
        Mailbox("MAILBOX_SYNC_STATE_INVALID"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorInvalidRequest"),
        Mail,
        Mailbox("EWS_REQUEST_REJECTED"),
    ),
    // Where it is.
    row(K::AutodiscoverError, r#""code":"InvalidUser""#, Found, Mailbox("MAILBOX_NOT_FOUND_ON_SERVER")),
    row(K::AutodiscoverError, r#""code":"NotFederated""#, Found, Mailbox("MAILBOX_LOCATION_UNKNOWN")),
    row(
        K::RedirectUrl,
        r#""target":"https://mail.other.example/autodiscover/autodiscover.xml""#,
        Found,
        Mailbox("AUTODISCOVER_REDIRECT_FOREIGN"),
    ),
    row(
        K::RedirectUrl,
        r#""target":"http://autodiscover.exchange.test/autodiscover/autodiscover.xml""#,
        Found,
        Mailbox("AUTODISCOVER_REDIRECT_INSECURE"),
    ),
    row(
        K::RedirectUrl,
        r#""target":"https://autodiscover.exchange.test/autodiscover/autodiscover.xml""#,
        Found,
        Mailbox("AUTODISCOVER_REDIRECT_LOOP"),
    ),
    row(K::RedirectAddress, r#""target":"svc-mailyard@exchange.test""#, Found, Nothing),
    // The server, or whoever stands before it.
    row(K::Down, "", Alone, Server("PROFILE_CONNECTION_LOST")),
    row(K::CutConnection, "", Mail, Server("PROFILE_CONNECTION_LOST")),
    row(K::SlowBody, r#""delay_ms":60000"#, Hasty, Server("PROFILE_DEADLINE_EXCEEDED")),
    row(K::Http503, "", Mail, Server("EXCHANGE_UNAVAILABLE")),
    row(K::Http404, "", Mail, Server("PROFILE_URL_WRONG")),
    row(K::HttpRedirect, r#""target":"https://exchange.test/owa/""#, Mail, Server("PROFILE_URL_WRONG")),
    row(K::HttpRedirect, r#""target":"/ews/genericErrorPage.htm""#, Mail, Server("EXCHANGE_UNAVAILABLE")),
    row(K::Html200, "", Mail, Server("PROFILE_ANSWER_NOT_EWS")),
    row(K::Unauthorized, "", Mail, Server("PROFILE_AUTH_REJECTED")),
    row(K::NtlmReset, "", Ntlm, Server("PROFILE_AUTH_CONNECTION_NOT_KEPT")),
    row(K::TokenRefused, "", Tokens, Server("PROFILE_TOKEN_NOT_ACCEPTED")),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorPasswordExpired"),
        Mail,
        Server("PROFILE_PASSWORD_EXPIRED"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorUserNotAllowedByPolicy"),
        Mail,
        Server("PROFILE_FORBIDDEN"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorImpersonationDenied"),
        Mail,
        Server("SERVICE_ACCOUNT_IMPERSONATION_DENIED"),
    ),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorInvalidServerVersion"),
        Mail,
        Server("EXCHANGE_VERSION_UNSUPPORTED"),
    ),
    row(K::ClockSkew, r#""skew_ms":600000"#, Alone, Warned("PROFILE_CLOCK_SKEW")),
    // It asks to wait.
    row(K::ServerBusy, "", Mail, Slowed("EXCHANGE_SERVER_BUSY")),
    row(K::ServerBusyHint, r#""hint_ms":1000"#, Mail, Slowed("EXCHANGE_SERVER_BUSY")),
    row(K::Http503, r#""hint_ms":1000"#, Mail, Slowed("EXCHANGE_SERVER_BUSY")),
    row(K::Concurrency, r#""limit":0"#, Mail, Slowed("EXCHANGE_CONNECTION_LIMIT")),
    row(
        K::ResponseCode,
        code!("SyncFolderItems", "ErrorExceededFindCountLimit"),
        Mail,
        Slowed("EXCHANGE_THROTTLED"),
    ),
    // One item.
    row(K::Poison, "", Mail, Item("ITEM_CORRUPT")),
    row(
        K::ResponseCode,
        code!("GetItem", "ErrorMimeContentConversionFailed"),
        Mail,
        Item("ITEM_CONTENT_UNREADABLE"),
    ),
    row(K::ResponseCode, code!("GetItem", "ErrorMessageSizeExceeded"), Mail, Item("ITEM_TOO_LARGE")),
    row(K::ResponseCode, code!("GetItem", "ErrorVirusDetected"), Mail, Item("ITEM_VIRUS")),
    row(K::ResponseCode, code!("GetItem", "ErrorItemSave"), Mail, Item("ITEM_TRANSIENT_ERROR")),
    row(K::ResponseCode, code!("GetItem", "ErrorCannotDeleteObject"), Mail, Item("ITEM_REJECTED")),
    // One email.
    row(
        K::ResponseCode,
        code!("SendItem", "ErrorInvalidRecipients"),
        Sending,
        Email("EMAIL_RECIPIENT_INVALID"),
    ),
    row(K::ResponseCode, code!("SendItem", "ErrorSendAsDenied"), Sending, Email("EMAIL_SEND_AS_DENIED")),
    row(
        K::ResponseCode,
        code!("CreateItem", "ErrorAttachmentSizeLimitExceeded"),
        Sending,
        Email("ATTACHMENT_TOO_LARGE"),
    ),
    row(
        K::ResponseCode,
        code!("SendItem", "ErrorSubmissionQuotaExceeded"),
        Sending,
        Waits("EMAIL_SUBMISSION_QUOTA"),
    ),
    // What is survived.
    row(K::SlowBody, r#""delay_ms":100"#, Mail, Nothing),
    row(K::LostResponse, r#""operation":"GetItem","count":1"#, Mail, Nothing),
    row(K::LostResponse, r#""operation":"SendItem","count":1"#, Sending, Nothing),
    row(K::BadSyncState, "", Mail, Nothing),
    row(K::RepeatedChanges, "", Pages, Nothing),
    row(K::PartialBatch, r#""operation":"GetItem","count":1"#, Mail, Nothing),
    row(K::StoppedBatch, r#""operation":"GetItem","count":1"#, Mail, Nothing),
    row(K::TokenRefused, r#""claims":true"#, Tokens, Nothing),
    row(K::CutStream, r#""count":2"#, Streaming, Nothing),
    row(K::SilentStream, r#""count":1"#, Streaming, Nothing),
    row(K::LostEvents, "", Streaming, Nothing),
];

impl Told {
    /// The reason; `None`: there is none.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::Mailbox(code)
            | Self::Server(code)
            | Self::Slowed(code)
            | Self::Item(code)
            | Self::Email(code)
            | Self::Waits(code)
            | Self::Warned(code) => Some(code),
            Self::Nothing => None,
        }
    }
}

impl Row {
    /// How many messages it begins with.
    pub fn mails(&self) -> u32 {
        match self.on {
            Pages => 520,
            Sending => 0,
            Mail | Hasty | Streaming | Found | Ntlm | Tokens | Alone => 3,
        }
    }

    /// Its rule. Kinds that concern everybody are alone on their simulator.
    pub fn rule(&self, mailbox: &str) -> serde_json::Value {
        let everybody = matches!(self.kind, Kind::Down | Kind::ClockSkew | Kind::NtlmReset);
        let fields = format!("{{{}}}", self.rest);
        let mut rule: serde_json::Value = serde_json::from_str(&fields).unwrap_or_default();
        rule["kind"] = serde_json::to_value(self.kind).unwrap_or_default();
        if !everybody {
            rule["mailbox"] = mailbox.into();
        }
        rule
    }
}
