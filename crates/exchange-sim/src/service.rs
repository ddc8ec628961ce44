//! One request: who asks, as whom, for what; and the answer around whatever an operation says.

use std::sync::atomic::Ordering;

use http::{HeaderMap, Method, StatusCode};

use crate::{
    access::{Caller, IMPERSONATION_DENIED, NO_SUCH_MAILBOX, check_header, impersonated, stated_version},
    affinity,
    answer::{Refusal, Response, fault, not_xml, open_envelope, schema_violation},
    auth::{Connection, token_refused, unauthorized},
    fault::{Kind, Rule},
    oauth::TokenError,
    operation::{self, Call, Operation, Run},
    schema,
    throttle::{busy, too_many},
    world::{Mailbox, World},
    xml::{self, Element, Space},
};

/// What came in by HTTP.
pub(crate) struct Request<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Request<'_> {
    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The name of the server that is asked, without its port.
    pub fn host(&self) -> &str {
        let host = self.header("host").unwrap_or_default();
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    }
}

/// A page of something that stands before the server.
const PROXY_PAGE: &str = "<!DOCTYPE html>\r\n<html><head><title>Sign in</title></head>\r\n<body><h1>Network access</h1>\
                          <p>Please sign in to continue.</p></body></html>\r\n";

/// Answers one request on a connection.
pub(crate) fn answer(world: &World, connection: &mut Connection, request: &Request<'_>) -> Response {
    let authorization = request.header("authorization");
    // Whatever stands before the server does not wait until somebody says who asks.
    if authorization.is_none()
        && let Some(struck) = instead(world, "", "", request.host())
    {
        return struck;
    }
    let signed_in = match connection.sign_in(world, authorization) {
        Ok(signed_in) => signed_in,
        Err(response) => {
            world.counters.request("(unauthorized)", None);
            return response;
        }
    };
    if request.method != Method::POST {
        return Response::plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut response = execute(world, &signed_in.caller, request);
    response.headers.extend(signed_in.token.map(|token| ("www-authenticate", token)));
    response
}

fn execute(world: &World, caller: &Caller, request: &Request<'_>) -> Response {
    let Ok(document) = std::str::from_utf8(request.body) else {
        return Response::plain(StatusCode::BAD_REQUEST);
    };
    let envelope = match xml::parse(document) {
        Ok(envelope) => envelope,
        Err(error) => return not_xml(world, document, &error),
    };
    match dispatch(world, caller, request, document, &envelope) {
        Ok(response) => response,
        Err(refusal) => fault(world, &refusal),
    }
}

/// The operation that an envelope asks for, once everything in it may stand there.
fn understand<'e>(
    world: &World,
    document: &str,
    envelope: &'e Element,
) -> Result<(&'static Operation, &'e Element), Refusal> {
    let invalid = Refusal::new("ErrorInvalidRequest", "The request is invalid.");
    if (envelope.space, envelope.name.as_str()) != (Space::Soap, "Envelope") {
        return Err(invalid);
    }
    let body = envelope.child("Body").filter(|body| body.children.len() == 1).ok_or(invalid.clone())?;
    let element = &body.children[0];
    let operation =
        operation::named(&element.name).filter(|_| element.space == Space::Messages).ok_or(invalid)?;
    let header = envelope.child("Header");
    check_header(world, header)?;
    schema::validate_request(header, element).map_err(|violation| schema_violation(document, &violation))?;
    check_version(world, stated_version(header), element, document)?;
    Ok((operation, element))
}

fn dispatch(
    world: &World,
    caller: &Caller,
    request: &Request<'_>,
    document: &str,
    envelope: &Element,
) -> Result<Response, Refusal> {
    let header = envelope.child("Header");
    let (operation, element) = understand(world, document, envelope)?;
    let acting = impersonated(world, caller, header)?;
    let placed = acting.as_deref().map(|acting| operation::place(world, acting, element));
    let mailbox = placed.map(|(mailbox, _)| mailbox);
    let number = mailbox.map(|mailbox| mailbox.number);
    world.counters.request(operation.name, number);
    let address = mailbox.map(|mailbox| mailbox.address.as_str()).unwrap_or_default();
    let wanted =
        acting.as_deref().map(|acting| operation::mentioned(world, acting, element).unwrap_or(acting));
    count_routing(world, request, operation, wanted);
    let ticket = world.load.begin(caller.payer(), caller.payer_for(header, acting.as_deref()));
    let asked = Asked {
        operation: operation.name,
        address,
        host: request.host(),
        caller,
        under_way: ticket.under_way[0],
    };
    if let Some(struck) = before(world, &asked)? {
        return Ok(struck);
    }
    let held_back = ticket.pay(&world.settings())?;
    let (acting, (mailbox, access)) = acting.as_deref().zip(placed).ok_or(Refusal::new(
        "ErrorMissingEmailAddress",
        "When making a request as an account that does not have a mailbox, you must specify the mailbox primary SMTP address.",
    ))?;
    let backend = affinity::backend(world, request, mailbox);
    let payer = caller.payer_for(header, Some(acting));
    let call = Call { world, mailbox, access, acting, name: operation.name, caller, payer, backend };
    let mut response = Response { delay: held_back, ticket: Some(ticket), ..run(operation, &call, element)? };
    if operation.needs_affinity() && affinity::is_preferred(request) {
        response.headers.push(("set-cookie", affinity::cookie(world, backend)));
    }
    after(world, operation.name, address, &mut response);
    Ok(response)
}

fn run(operation: &Operation, call: &Call<'_>, element: &Element) -> Result<Response, Refusal> {
    let mut out = String::with_capacity(4096);
    let mut stream = None;
    match operation.run {
        Run::Answer(run) => {
            open_envelope(call.world, &mut out);
            run(call, element, &mut out)?;
            out.push_str("</s:Body></s:Envelope>");
        }
        Run::Stream(run) => stream = Some(Box::new(run(call, element)?)),
    }
    Ok(Response { stream, ..Response::xml(StatusCode::OK, out) })
}

/// Counts what leads a request to the wrong server, or to the right one at a cost that nobody asked for.
fn count_routing(world: &World, request: &Request<'_>, operation: &Operation, wanted: Option<&Mailbox>) {
    let counters = &world.counters;
    // The anchor of subscriptions is that of their group.
    let anchor = request.header("x-anchormailbox").filter(|_| !operation.needs_affinity());
    let wanted = wanted.map(|wanted| wanted.address.as_str()).unwrap_or_default();
    if anchor.is_some_and(|anchor| !anchor.eq_ignore_ascii_case(wanted)) {
        counters.wrong_anchor.fetch_add(1, Ordering::Relaxed);
    }
    if !operation.needs_affinity() && affinity::is_preferred(request) {
        counters.wrong_affinity.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the server does not know at all breaks its schema; what came after the stated version is no part of it.
fn check_version(
    world: &World,
    stated: Option<&str>,
    operation: &Element,
    document: &str,
) -> Result<(), Refusal> {
    if let Some(unknown) = schema::newer_than(schema::VERSION_2013, operation).filter(|_| world.is_2013()) {
        return Err(schema_violation(document, &unknown));
    }
    match stated.and_then(|stated| schema::newer_than(stated, operation)) {
        Some(newer) => Err(Refusal {
            text: format!("The request is not valid for the version that it states: {}.", newer.what).into(),
            ..Refusal::new("ErrorIncorrectSchemaVersion", "")
        }),
        None => Ok(()),
    }
}

/// A request, as rules see it.
struct Asked<'a> {
    operation: &'static str,
    address: &'a str,
    host: &'a str,
    caller: &'a Caller,
    /// Requests of this credential, this one among them.
    under_way: u32,
}

/// What something before the service answers in its place: a proxy, a balancer, a server that is overwhelmed.
pub(crate) fn instead(world: &World, operation: &str, address: &str, host: &str) -> Option<Response> {
    let mut faults = world.asks_faults()?;
    let mut strikes = |kind| faults.strikes_at(kind, operation, address, host);
    if strikes(Kind::CutConnection).is_some() {
        return Some(Response::cut());
    }
    if let Some(strike) = strikes(Kind::Http503) {
        let after = strike.hint.map(|hint| ("retry-after", hint.as_millis().div_ceil(1000).to_string()));
        let headers = after.into_iter().collect();
        return Some(Response { headers, ..Response::plain(StatusCode::SERVICE_UNAVAILABLE) });
    }
    if strikes(Kind::Http404).is_some() {
        return Some(Response::plain(StatusCode::NOT_FOUND));
    }
    if let Some(strike) = strikes(Kind::HttpRedirect) {
        return Some(Response::redirect(strike.target));
    }
    if strikes(Kind::Html200).is_some() {
        return Some(Response::of("text/html; charset=utf-8", StatusCode::OK, PROXY_PAGE.to_owned()));
    }
    let unauthorized_now = strikes(Kind::Unauthorized).is_some();
    // The answer looks at the clock, and so at the rules.
    drop(faults);
    unauthorized_now.then(|| unauthorized(world))
}

/// Faults that keep a request from being executed.
fn before(world: &World, asked: &Asked<'_>) -> Result<Option<Response>, Refusal> {
    if let Some(struck) = instead(world, asked.operation, asked.address, asked.host) {
        return Ok(Some(struck));
    }
    let Some(mut faults) = world.asks_faults() else { return Ok(None) };
    let mut strikes = |kind| faults.strikes(kind, asked.operation, asked.address);
    if strikes(Kind::ServerBusy).is_some() {
        return Err(busy(None));
    }
    if let Some(strike) = strikes(Kind::ServerBusyHint) {
        return Err(busy(Some(strike.hint.unwrap_or(std::time::Duration::from_secs(5)))));
    }
    if strikes(Kind::ImpersonationDenied).is_some() {
        return Err(IMPERSONATION_DENIED);
    }
    if strikes(Kind::NoSuchMailbox).is_some() {
        return Err(NO_SUCH_MAILBOX);
    }
    let over = |rule: &Rule| rule.limit.is_some_and(|limit| asked.under_way > limit);
    if let Some(strike) = faults.strikes_if(Kind::Concurrency, asked.operation, asked.address, over) {
        return Err(too_many(&strike));
    }
    let Caller::Application(token) = asked.caller else { return Ok(None) };
    let unmet = |rule: &Rule| !(rule.claims && token.claims_met);
    let strike = faults.strikes_if(Kind::TokenRefused, asked.operation, asked.address, unmet);
    drop(faults);
    Ok(strike.map(|strike| {
        token_refused(world, if strike.claims { TokenError::Claims } else { TokenError::Token })
    }))
}

/// Faults that strike the answer of what was executed.
pub(crate) fn after(world: &World, operation: &str, address: &str, response: &mut Response) {
    let Some(mut faults) = world.asks_faults() else { return };
    if let Some(strike) = faults.strikes(Kind::SlowBody, operation, address) {
        response.delay += strike.delay;
    }
    if faults.strikes(Kind::LostResponse, operation, address).is_some() {
        response.cut = true;
    }
}
