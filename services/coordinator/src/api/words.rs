//! The store's words as the API's, and back.

use mailyard_policy::{
    Reason,
    operation::{Kind, Method},
    profile::{Access, Authentication, CredentialSource},
};
use mailyard_store::{
    people::{Approval, LongState, MailboxKind, TestResult},
    records::{Direction, EmailState},
};
use mailyard_wire::{admin, convert, records};

use super::input::Input;

/// The code of a reason; empty: there is none.
pub(super) fn code(reason: Option<Reason>) -> String {
    reason.map(|reason| reason.code().to_owned()).unwrap_or_default()
}

pub(super) fn authentication(authentication: Authentication) -> admin::Authentication {
    match authentication {
        Authentication::Auto => admin::Authentication::Auto,
        Authentication::Basic => admin::Authentication::Basic,
        Authentication::Ntlm => admin::Authentication::Ntlm,
        Authentication::Negotiate => admin::Authentication::Negotiate,
        Authentication::OAuth => admin::Authentication::Oauth,
    }
}

/// The scheme that a message names.
pub(super) fn wanted_authentication(wanted: i32) -> Option<Authentication> {
    match admin::Authentication::try_from(wanted).ok()? {
        admin::Authentication::Auto => Some(Authentication::Auto),
        admin::Authentication::Basic => Some(Authentication::Basic),
        admin::Authentication::Ntlm => Some(Authentication::Ntlm),
        admin::Authentication::Negotiate => Some(Authentication::Negotiate),
        admin::Authentication::Oauth => Some(Authentication::OAuth),
        admin::Authentication::Unspecified => None,
    }
}

pub(super) fn access(access: Access) -> admin::Access {
    match access {
        Access::Impersonation => admin::Access::Impersonation,
        Access::Delegation => admin::Access::Delegation,
    }
}

pub(super) fn credential_source(source: CredentialSource) -> admin::CredentialSource {
    match source {
        CredentialSource::Profile => admin::CredentialSource::Profile,
        CredentialSource::Mailbox => admin::CredentialSource::Mailbox,
    }
}

/// The source of credentials that a message names.
pub(super) fn wanted_credential_source(wanted: i32) -> Option<CredentialSource> {
    match admin::CredentialSource::try_from(wanted).ok()? {
        admin::CredentialSource::Profile => Some(CredentialSource::Profile),
        admin::CredentialSource::Mailbox => Some(CredentialSource::Mailbox),
        admin::CredentialSource::Unspecified => None,
    }
}

/// The access that a message names.
pub(super) fn wanted_access(wanted: i32) -> Option<Access> {
    match admin::Access::try_from(wanted).ok()? {
        admin::Access::Impersonation => Some(Access::Impersonation),
        admin::Access::Delegation => Some(Access::Delegation),
        admin::Access::Unspecified => None,
    }
}

pub(super) fn mailbox_kind(kind: MailboxKind) -> admin::MailboxKind {
    match kind {
        MailboxKind::User => admin::MailboxKind::User,
        MailboxKind::Queue => admin::MailboxKind::Queue,
        MailboxKind::Forward => admin::MailboxKind::Forward,
    }
}

pub(super) fn approval(approval: Approval) -> admin::Approval {
    match approval {
        Approval::Pending => admin::Approval::Pending,
        Approval::Approved => admin::Approval::Approved,
        Approval::Rejected => admin::Approval::Rejected,
    }
}

/// The approval that a message names; `None`: it names none.
pub(super) fn wanted_approval(wanted: admin::Approval) -> Option<Approval> {
    match wanted {
        admin::Approval::Unspecified => None,
        admin::Approval::Pending => Some(Approval::Pending),
        admin::Approval::Approved => Some(Approval::Approved),
        admin::Approval::Rejected => Some(Approval::Rejected),
    }
}

pub(super) fn long_state(state: LongState) -> admin::LongState {
    match state {
        LongState::Running => admin::LongState::Running,
        LongState::Paused => admin::LongState::Paused,
        LongState::Done => admin::LongState::Done,
        LongState::Canceled => admin::LongState::Canceled,
    }
}

pub(super) fn test_result(result: TestResult) -> admin::TestResult {
    match result {
        TestResult::Success => admin::TestResult::Success,
        TestResult::Failure => admin::TestResult::Failure,
        TestResult::Skipped => admin::TestResult::Skipped,
    }
}

pub(super) fn direction(direction: Direction) -> records::Direction {
    match direction {
        Direction::Incoming => records::Direction::Incoming,
        Direction::Outgoing => records::Direction::Outgoing,
    }
}

pub(super) fn email_state(state: EmailState) -> records::EmailState {
    match state {
        EmailState::Received => records::EmailState::Received,
        EmailState::Outgoing(state) => state.into(),
    }
}

/// The method that a message sets for an operation, if this version can do it.
pub(super) fn wanted_method(kind: Kind, field: &str, wanted: i32, input: &mut Input) -> Method {
    let allowed = if kind == Kind::Act { "none" } else { "none or sss" };
    match (admin::Method::try_from(wanted).ok().and_then(convert::method), kind) {
        (Some(Method::None), _) => return Method::None,
        (Some(Method::ServerSide), Kind::Incoming | Kind::Outgoing) => return Method::ServerSide,
        (None, _) => input.wrong(field, format!("it names no method; {allowed} is allowed")),
        (Some(_), _) => {
            let detail = format!("the method is not supported here; {allowed} is allowed");
            input.refuse(Reason::MethodNotSupported, field, detail);
        }
    }
    Method::None
}
