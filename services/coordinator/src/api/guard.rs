//! What every call passes: who is it, may he, a span, and a reason for whatever goes wrong.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use mailyard_host::telemetry;
use mailyard_policy::Reason;
use mailyard_wire::{LARGEST_MESSAGE, privilege, status::refusal};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;
use tracing::{Instrument as _, Span, field};

use super::Access;

const STATUS: &str = "grpc-status";
const DETAILS: &str = "grpc-status-details-bin";

/// The services behind their guard: nothing of a request's message is read before its caller is known.
#[derive(Clone)]
pub(super) struct Guarded {
    access: Arc<Access>,
    routes: Routes,
}

impl Guarded {
    pub(super) fn new(access: Access, routes: Routes) -> Self {
        Self { access: Arc::new(access), routes }
    }
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (headers, path) = (request.headers(), request.uri().path());
        // What anybody may write into a path belongs into no log.
        let known = privilege::PRIVILEGES.iter().find(|(known, _)| *known == path).map(|(known, _)| *known);
        let span = tracing::info_span!("rpc", path = known.unwrap_or("other"), code = field::Empty);
        let authorization = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        if let Err(status) = self.access.check(path, authorization) {
            note(&span, status.code());
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        if let Some(parent) = headers.get("traceparent").and_then(|parent| parent.to_str().ok()) {
            telemetry::adopt(&span, parent);
        }
        let answer = self.routes.call(request);
        let (own, ours) = (span.clone(), known.is_some());
        let answered = async move { Ok(told(answer.await?, &own, ours)) };
        Box::pin(answered.instrument(span))
    }
}

/// Notes the code of the answer, now or when its stream ends. What tonic itself refuses of our methods gets its reason.
fn told(answer: Response<Body>, span: &Span, ours: bool) -> Response<Body> {
    if let Some(code) = code(answer.headers()) {
        note(span, code);
        let bare = ours && code != Code::Ok && !answer.headers().contains_key(DETAILS);
        return if bare { unreadable(code).into_http() } else { answer };
    }
    let span = span.clone();
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(code) = frame.trailers_ref().and_then(code) {
                note(&span, code);
            }
            frame
        }))
    })
}

/// Of our own refusals each has its details: this one is of a message that could not be read.
fn unreadable(code: Code) -> Status {
    let detail = match code {
        Code::OutOfRange => format!("the message is larger than {} MiB", LARGEST_MESSAGE >> 20),
        _ => "the message cannot be read".to_owned(),
    };
    refusal(Reason::FieldInvalid, "", &detail)
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

fn note(span: &Span, code: Code) {
    span.record("code", field::debug(code));
}
