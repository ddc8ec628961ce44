//! What the fake server answers unless a test says otherwise.

use mailyard_wire::{
    Duration, Timestamp,
    admin::{
        Access, Alert, AlertCount, AlertLevel, AlertScope, AlertState, Approval, Authentication,
        Capabilities, ConnectionStep, ConnectionTest, CredentialSource, Credentials, Cycle, CycleOutcome,
        Location, LongState, Mailbox, MailboxCredentials, MailboxKind, MailboxOperation, MailboxOperations,
        MailboxState, MailboxTestResult, Method, OAuth, Operation, OperationCount, OperationKind,
        OperationState, Profile, ProfileStatus, Settings, Status, StepOutcome, TestResult, TestStatus,
        WatchOperationResponse, Why, WorkerStatus,
    },
    records::{Direction, Email, EmailState},
};

pub const ID: &str = "01jd0000000000000000000001";

pub fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_772_366_400 + seconds, nanos: 250_000_000 })
}

fn span(seconds: i64, millis: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos: millis * 1_000_000 })
}

fn named(collection: &str) -> String {
    format!("organizations/default/{collection}/{ID}")
}

pub fn profile() -> Profile {
    Profile {
        name: named("emailServerProfiles"),
        uid: ID.into(),
        display_name: "Head office".into(),
        incoming_url: "https://mail.contoso.test/EWS/Exchange.asmx".into(),
        outgoing_url: "https://mail.contoso.test/EWS/Exchange.asmx".into(),
        credential_source: CredentialSource::Profile.into(),
        credentials: Some(Credentials {
            authentication: Authentication::Basic.into(),
            access: Access::Impersonation.into(),
            user: r"CONTOSO\sync".into(),
            password_set: true,
            ..Credentials::default()
        }),
        outgoing_credentials: Some(Credentials {
            authentication: Authentication::Oauth.into(),
            access: Access::Impersonation.into(),
            oauth: Some(OAuth {
                tenant: "contoso.test".into(),
                client: "6f3c9a52".into(),
                certificate_pem: "-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----\n".into(),
                resource: "https://mail.contoso.test".into(),
                key_set: true,
                certificate_subject: "CN=Mailyard".into(),
                certificate_expire_time: at(0),
                ..OAuth::default()
            }),
            ..Credentials::default()
        }),
        ca_pem: Some("-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----\n".into()),
        process_email_from: at(0),
        min_poll_interval: span(60, 0),
        max_connections: 10,
        idle_max: span(3600, 0),
        alert_owner: Some(true),
        owner_email: Some("boss@contoso.test".into()),
        is_default: true,
        capabilities: Some(Capabilities { consumes_draft: Some(true), ..Default::default() }),
        create_time: at(0),
        etag: "\"3\"".into(),
        last_test: Some(ConnectionTest {
            time: at(60),
            address: "ada@contoso.test".into(),
            outcome: StepOutcome::Failure.into(),
            steps: steps(),
        }),
        ..Default::default()
    }
}

fn operation_of_mailbox(state: OperationState, reason: &str) -> Option<MailboxOperation> {
    let runs = matches!(state, OperationState::Enabled | OperationState::Retrying);
    let method = if state == OperationState::Off { Method::None } else { Method::Sss };
    let status = if runs { TestStatus::Success } else { TestStatus::NotRun };
    Some(MailboxOperation {
        method: method.into(),
        state: state.into(),
        status: status.into(),
        enabled: runs,
        failures: u32::from(state == OperationState::Retrying),
        next_run: at(300).filter(|_| runs),
        why: if runs { Why::Phase } else { Why::Unspecified }.into(),
        reason: reason.into(),
    })
}

pub fn mailbox(number: usize) -> Mailbox {
    let people = ["ada", "bob", "cleo", "dora", "eve"];
    let person = people.get(number).map_or_else(|| format!("person{number}"), ToString::to_string);
    let (state, incoming, reason) = match number {
        1 => (MailboxState::Failing, OperationState::Retrying, "EXCHANGE_SERVER_BUSY"),
        2 => (MailboxState::NotEligible, OperationState::Untested, ""),
        _ => (MailboxState::Ok, OperationState::Enabled, ""),
    };
    let approval = if number == 2 { Approval::Pending } else { Approval::Approved };
    Mailbox {
        name: format!("organizations/default/mailboxes/{person}"),
        uid: person.clone(),
        address: format!("{person}@contoso.test"),
        display_name: person.to_uppercase(),
        kind: MailboxKind::User.into(),
        profile: named("emailServerProfiles"),
        profile_display_name: "Head office".into(),
        approval: approval.into(),
        state: state.into(),
        worker: if number == 2 { String::new() } else { "worker-1".into() },
        operations: Some(MailboxOperations {
            incoming: operation_of_mailbox(incoming, reason),
            outgoing: operation_of_mailbox(OperationState::Enabled, ""),
            act: operation_of_mailbox(OperationState::Off, ""),
        }),
        create_time: at(0),
        etag: "\"1\"".into(),
        credentials: (number == 1).then(|| MailboxCredentials {
            user: "CONTOSO\\bob".into(),
            password_set: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn cycle() -> Cycle {
    Cycle {
        operation: OperationKind::Incoming.into(),
        start: at(0),
        duration: span(1, 234),
        items: 3,
        outcome: CycleOutcome::Throttled.into(),
        reason: "EXCHANGE_SERVER_BUSY".into(),
    }
}

pub fn location() -> Location {
    Location {
        ews_url: "https://mail.contoso.test/EWS/Exchange.asmx".into(),
        find_time: at(0),
        doubted: true,
        reason: "PROFILE_DNS_FAILED".into(),
        attempts: vec!["srv _autodiscover._tcp.contoso.test failed PROFILE_DNS_FAILED in 3 ms".into()],
    }
}

pub fn email(state: EmailState) -> Email {
    let incoming = state == EmailState::Received;
    Email {
        name: named("emails"),
        uid: ID.into(),
        direction: if incoming { Direction::Incoming } else { Direction::Outgoing }.into(),
        state: state.into(),
        mailbox: "ada@contoso.test".into(),
        mailboxes: vec!["ada@contoso.test".into(), "bob@contoso.test".into()],
        internet_message_id: "<1@contoso.test>".into(),
        subject: "Größe \u{1b}[31m 東京".into(),
        from: "kim@fabrikam.test".into(),
        to: vec!["ada@contoso.test".into()],
        received_time: at(0).filter(|_| incoming),
        size: 1234,
        create_time: at(1),
        ..Default::default()
    }
}

pub fn alert() -> Alert {
    Alert {
        name: named("alerts"),
        uid: ID.into(),
        reason: "PROFILE_FAILURE_RATIO_HIGH".into(),
        level: AlertLevel::Error.into(),
        scope: AlertScope::Profile.into(),
        regarding: "Head office".into(),
        profile: "Head office".into(),
        count: 2,
        state: AlertState::Open.into(),
        summary: "54 % of 1204 mailboxes fail".into(),
        remedy: "Look at what most of them have in common.".into(),
        first_time: at(0),
        last_time: at(60),
        notice: "sent".into(),
        ..Default::default()
    }
}

/// An operation of four mailboxes with this many that went well, failed and were skipped.
pub fn operation(state: LongState, succeeded: u64, failed: u64, skipped: u64) -> Operation {
    let ended = matches!(state, LongState::Done | LongState::Canceled);
    Operation {
        name: named("operations"),
        uid: ID.into(),
        selection: "all".into(),
        state: state.into(),
        reason: if state == LongState::Paused { "PROFILE_TEST_HALTED".into() } else { String::new() },
        create_time: at(0),
        end_time: at(9).filter(|_| ended),
        total: 4,
        running: if ended { 0 } else { 4 - succeeded - failed - skipped },
        succeeded,
        failed,
        skipped,
    }
}

fn result(number: usize, result: TestResult, reason: &str) -> MailboxTestResult {
    MailboxTestResult {
        mailbox: mailbox(number).name,
        address: mailbox(number).address,
        result: result.into(),
        incoming_reason: reason.into(),
        outgoing_reason: String::new(),
        act_reason: String::new(),
        time: at(3),
    }
}

/// A watch of an operation in which one fails and one is skipped.
pub fn watched() -> Vec<WatchOperationResponse> {
    let message = |operation, results| WatchOperationResponse { operation: Some(operation), results };
    let failed = result(1, TestResult::Failure, "IMPERSONATION_DENIED");
    let skipped = result(2, TestResult::Skipped, "MAILBOX_NOT_APPROVED");
    vec![
        message(operation(LongState::Running, 0, 0, 0), vec![]),
        message(operation(LongState::Running, 1, 1, 0), vec![result(0, TestResult::Success, ""), failed]),
        message(operation(LongState::Paused, 1, 1, 0), vec![]),
        message(operation(LongState::Running, 1, 1, 1), vec![skipped]),
        message(operation(LongState::Done, 2, 1, 1), vec![result(3, TestResult::Success, "")]),
    ]
}

pub fn steps() -> Vec<ConnectionStep> {
    let step = |name: &str, outcome: StepOutcome, evidence: &str| ConnectionStep {
        name: name.to_owned(),
        outcome: outcome.into(),
        duration: span(0, 12).filter(|_| outcome != StepOutcome::Skipped),
        evidence: evidence.to_owned(),
        ..Default::default()
    };
    vec![
        step("connect", StepOutcome::Success, "192.0.2.7:443"),
        step("tls", StepOutcome::Warning, "TLS 1.2"),
        ConnectionStep {
            reason: "PROFILE_AUTH_REJECTED".into(),
            remedy: "Check user and password.".into(),
            guide: "docs/prepare-exchange.md#authentication".into(),
            request: "<s:Envelope/>".into(),
            ..step("authenticate", StepOutcome::Failure, "401, offers Basic")
        },
        step("inbox", StepOutcome::Skipped, ""),
    ]
}

pub fn settings() -> Settings {
    Settings {
        name: "organizations/default/emailSettings".into(),
        default_profile: named("emailServerProfiles"),
        default_incoming: Method::Sss.into(),
        default_outgoing: Method::Sss.into(),
        default_act: Method::None.into(),
        approve_users: true,
        approve_queues: false,
        etag: "\"2\"".into(),
    }
}

pub fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        time: at(0),
        has_leader: true,
        term: 4,
        workers: vec![WorkerStatus {
            id: "worker-1".into(),
            incarnation: "7".into(),
            state: "live".into(),
            build: "0.1.0".into(),
            lease_until: at(10),
            shards: 32,
            mailboxes: 5,
            oldest_due_millis: 40,
        }],
        orphaned_shards: 0,
        profiles: vec![ProfileStatus {
            display_name: "Head office".into(),
            not_eligible: 1,
            ok: 3,
            failing: 1,
            held_back_reason: String::new(),
            held_back: Vec::new(),
        }],
        operations: vec![OperationCount {
            operation: OperationKind::Incoming.into(),
            state: OperationState::Retrying.into(),
            reason: "EXCHANGE_SERVER_BUSY".into(),
            count: 1,
        }],
        open_alerts: vec![AlertCount { level: AlertLevel::Warning.into(), count: 2 }],
    }
}
