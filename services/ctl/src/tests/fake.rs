//! A server that hears every call and answers what it was told to.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
};

use mailyard_wire::{
    admin::{
        Alert, CancelOperationRequest, CreateProfileRequest, DecideApprovalRequest, DecideApprovalResponse,
        ExplainMailboxRequest, ExplainMailboxResponse, GetAlertRequest, GetMailboxRequest,
        GetOperationRequest, GetProfileRequest, GetSettingsRequest, GetStatusRequest, ImportMailboxesRequest,
        ImportMailboxesResponse, ListAlertsRequest, ListAlertsResponse, ListMailboxesRequest,
        ListMailboxesResponse, ListOperationsRequest, ListOperationsResponse, ListProfilesRequest,
        ListProfilesResponse, LongState, Mailbox, Operation, PollMailboxesRequest, PollMailboxesResponse,
        Profile, RefusedMailbox, Settings, Status as Whole, TestAndEnableRequest, TestConnectionRequest,
        TestConnectionResponse, UpdateMailboxRequest, UpdateProfileRequest, UpdateSettingsRequest,
        WatchOperationRequest, WatchOperationResponse, alert_service_server::AlertService,
        mailbox_service_server::MailboxService, operation_service_server::OperationService,
        profile_service_server::ProfileService, settings_service_server::SettingsService,
        status_service_server::StatusService,
    },
    reason::Reason,
    records::{
        CancelEmailRequest, Email, EmailState, EnqueueEmailRequest, EnqueueEmailResponse,
        GetEmailContentRequest, GetEmailContentResponse, GetEmailRequest, ListEmailsRequest,
        ListEmailsResponse, ListQuarantinedItemsRequest, ListQuarantinedItemsResponse, ReplayItemsRequest,
        ReplayItemsResponse, ResolveEmailRequest, email_service_server::EmailService,
    },
    status,
};
use tokio::sync::Notify;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, codegen::BoxStream};

use super::canned;

/// What the server heard, and what it was told to answer.
#[derive(Default)]
pub struct State {
    pub token: String,
    /// Method and message of each call.
    pub heard: Vec<String>,
    /// Failures to come, by method.
    pub failures: HashMap<&'static str, VecDeque<Status>>,
    /// Watches to come; each ends where it ends, or stays open.
    pub watches: VecDeque<(Vec<WatchOperationResponse>, Close)>,
    /// States of an email, look by look.
    pub states: VecDeque<EmailState>,
    /// Polls that are pending, look by look.
    pub pending: VecDeque<u64>,
    /// So many mailboxes are polled; 0: two of five.
    pub many: usize,
    /// The key of the last email was used before.
    pub known_key: bool,
}

/// How a watch closes.
#[derive(Clone)]
pub enum Close {
    Ends,
    Fails(Status),
    StaysOpen,
}

#[derive(Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    /// Somebody watches.
    pub watched: Arc<Notify>,
}

impl Fake {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test fails while it holds it")
    }

    pub fn fail(&self, method: &'static str, status: Status) {
        self.state().failures.entry(method).or_default().push_back(status);
    }

    fn hear<T: Debug>(&self, method: &'static str, request: &Request<T>) -> Result<(), Status> {
        let mut state = self.state();
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if shown != Some(&format!("Bearer {}", state.token)) {
            return Err(status::refusal(Reason::TokenInvalid, "", "the call carries no valid token"));
        }
        state.heard.push(format!("{method} {:?}", request.get_ref()));
        let failure = state.failures.get_mut(method).and_then(VecDeque::pop_front);
        failure.map_or(Ok(()), Err)
    }

    fn hear_account(&self, mailbox: Option<Mailbox>) -> Mailbox {
        let account = mailbox.and_then(|mailbox| mailbox.credentials).unwrap_or_default();
        if !account.password.is_empty() {
            self.state().heard.push(format!("its_secret {:?}", account.password));
        }
        canned::mailbox(0)
    }

    /// The secrets of a profile, which the text of a message does not tell.
    fn hear_secrets(&self, profile: Option<Profile>) -> Profile {
        let profile = profile.unwrap_or_default();
        let both = [profile.credentials, profile.outgoing_credentials].into_iter().flatten();
        let all = both.flat_map(|own| [own.password, own.oauth.unwrap_or_default().certificate_pem]);
        for secret in all.filter(|secret| !secret.is_empty()) {
            self.state().heard.push(format!("its_secret {secret:?}"));
        }
        canned::profile()
    }
}

/// Two rows a page, whatever is asked for.
fn page<T: Clone>(all: &[T], token: &str) -> (Vec<T>, String) {
    let from: usize = token.parse().unwrap_or_default();
    let rows = all.iter().skip(from).take(2).cloned().collect();
    let next = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
    (rows, next)
}

macro_rules! service {
    ($service:ident { $($method:ident: $request:ty => $response:ty = $answer:expr;)+ } $($rest:tt)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.hear(stringify!($method), &request)?;
                let answer: fn(&Fake, $request) -> $response = $answer;
                Ok(Response::new(answer(self, request.into_inner())))
            })+
            $($rest)*
        }
    };
}

service! { ProfileService {
    create_profile: CreateProfileRequest => Profile = |fake, request| fake.hear_secrets(request.profile);
    update_profile: UpdateProfileRequest => Profile = |fake, request| fake.hear_secrets(request.profile);
    get_profile: GetProfileRequest => Profile = |_, _| canned::profile();
    list_profiles: ListProfilesRequest => ListProfilesResponse = |_, request| {
        let (profiles, next_page_token) = page(&[canned::profile()], &request.page_token);
        ListProfilesResponse { profiles, next_page_token, total_size: 1 }
    };
}
    type TestConnectionStream = BoxStream<TestConnectionResponse>;

    async fn test_connection(
        &self,
        request: Request<TestConnectionRequest>,
    ) -> Result<Response<Self::TestConnectionStream>, Status> {
        self.hear("test_connection", &request)?;
        Ok(Response::new(Box::pin(tokio_stream::iter(canned::steps().into_iter().map(|step| Ok(TestConnectionResponse { step: Some(step) }))))))
    }
}

service! { MailboxService {
    import_mailboxes: ImportMailboxesRequest => ImportMailboxesResponse =
        |_, _| ImportMailboxesResponse { imported: 3 };
    get_mailbox: GetMailboxRequest => Mailbox = |fake, request| {
        let number = (0..5).find(|number| request.name.ends_with(&canned::mailbox(*number).uid));
        let polls_pending = fake.state().pending.pop_front().unwrap_or_default();
        Mailbox { polls_pending, ..canned::mailbox(number.unwrap_or_default()) }
    };
    list_mailboxes: ListMailboxesRequest => ListMailboxesResponse = |fake, request| {
        let all: Vec<Mailbox> = (0..fake.state().many.max(5)).map(canned::mailbox).collect();
        let (mailboxes, next_page_token) = page(&all, &request.page_token);
        ListMailboxesResponse { mailboxes, next_page_token, total_size: 5 }
    };
    update_mailbox: UpdateMailboxRequest => Mailbox = |fake, request| fake.hear_account(request.mailbox);
    decide_approval: DecideApprovalRequest => DecideApprovalResponse =
        |_, request| DecideApprovalResponse {
            changed: request.selection.map_or(0, |selection| selection.addresses.len().max(1) as u64),
        };
    test_and_enable: TestAndEnableRequest => Operation = |_, _| canned::operation(LongState::Running, 0, 0, 0);
    poll_mailboxes: PollMailboxesRequest => PollMailboxesResponse = |fake, request| PollMailboxesResponse {
        mailboxes: (0..fake.state().many.max(2)).map(|number| canned::mailbox(number).name).collect(),
        refused: request
            .selection
            .into_iter()
            .flat_map(|selection| selection.addresses)
            .filter(|address| address.starts_with("bare"))
            .map(|address| RefusedMailbox { reason: "PROFILE_NOT_SET".into(), address, ..Default::default() })
            .collect(),
    };
    explain_mailbox: ExplainMailboxRequest => ExplainMailboxResponse = |_, _| ExplainMailboxResponse {
        mailbox: Some(canned::mailbox(1)),
        cycles: vec![canned::cycle()],
        from_holder: true,
        work: "polls".into(),
        location: Some(canned::location()),
    };
} }

service! { OperationService {
    get_operation: GetOperationRequest => Operation = |_, _| canned::operation(LongState::Paused, 1, 1, 0);
    list_operations: ListOperationsRequest => ListOperationsResponse = |_, request| {
        let all = [LongState::Running, LongState::Paused, LongState::Done];
        let all = all.map(|state| canned::operation(state, 1, 1, 0));
        let (operations, next_page_token) = page(&all, &request.page_token);
        ListOperationsResponse { operations, next_page_token }
    };
    cancel_operation: CancelOperationRequest => Operation =
        |_, _| canned::operation(LongState::Canceled, 1, 1, 0);
}
    type WatchOperationStream = BoxStream<WatchOperationResponse>;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        self.hear("watch_operation", &request)?;
        let script = self.state().watches.pop_front();
        let (messages, close) = script.unwrap_or_else(|| (canned::watched(), Close::StaysOpen));
        self.watched.notify_one();
        let messages = tokio_stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(match close {
            Close::Ends => Box::pin(messages),
            Close::Fails(status) => Box::pin(messages.chain(tokio_stream::once(Err(status)))),
            Close::StaysOpen => Box::pin(messages.chain(tokio_stream::pending())),
        }))
    }
}

service! { AlertService {
    get_alert: GetAlertRequest => Alert = |_, _| canned::alert();
    list_alerts: ListAlertsRequest => ListAlertsResponse = |_, request| {
        let (alerts, next_page_token) = page(&[canned::alert()], &request.page_token);
        ListAlertsResponse { alerts, next_page_token }
    };
} }

service! { SettingsService {
    get_settings: GetSettingsRequest => Settings = |_, _| canned::settings();
    update_settings: UpdateSettingsRequest => Settings = |_, _| canned::settings();
} }

service! { StatusService { get_status: GetStatusRequest => Whole = |_, _| canned::status(); } }

service! { EmailService {
    list_emails: ListEmailsRequest => ListEmailsResponse = |_, request| {
        let states = [EmailState::Received, EmailState::Sent, EmailState::NeedsPerson];
        let (emails, next_page_token) = page(&states.map(canned::email), &request.page_token);
        ListEmailsResponse { emails, next_page_token }
    };
    get_email: GetEmailRequest => Email = |fake, _| {
        canned::email(fake.state().states.pop_front().unwrap_or(EmailState::Sent))
    };
    enqueue_email: EnqueueEmailRequest => EnqueueEmailResponse = |fake, _| EnqueueEmailResponse {
        email: Some(canned::email(EmailState::PendingSend)),
        created: !fake.state().known_key,
    };
    cancel_email: CancelEmailRequest => Email = |_, _| canned::email(EmailState::Canceled);
    resolve_email: ResolveEmailRequest => Email = |_, _| canned::email(EmailState::Sent);
    list_quarantined_items: ListQuarantinedItemsRequest => ListQuarantinedItemsResponse =
        |_, _| ListQuarantinedItemsResponse::default();
    replay_items: ReplayItemsRequest => ReplayItemsResponse = |_, _| ReplayItemsResponse::default();
}
    type GetEmailContentStream = BoxStream<GetEmailContentResponse>;

    async fn get_email_content(
        &self,
        request: Request<GetEmailContentRequest>,
    ) -> Result<Response<Self::GetEmailContentStream>, Status> {
        self.hear("get_email_content", &request)?;
        let pieces = [b"Subject: x\r\n".to_vec(), b"\r\nHello\r\n".to_vec()];
        let pieces = pieces.map(|piece| Ok(GetEmailContentResponse { piece }));
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }
}
