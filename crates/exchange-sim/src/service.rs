//! One request: who asks, as whom, for what; and the answer around whatever an operation says.

use std::borrow::Cow;

use http::StatusCode;

use crate::{
    access::{Caller, IMPERSONATION_DENIED, NO_SUCH_MAILBOX, check_header, impersonated, stated_version},
    auth::{Connection, token_refused, unauthorized},
    fault::{Kind, Rule},
    oauth::TokenError,
    operation, schema,
    throttle::{Ticket, busy, too_many},
    world::World,
    xml::{self, Element, Space},
};

/// What came in by HTTP.
pub(crate) struct Request<'a> {
    pub is_post: bool,
    pub authorization: Option<&'a str>,
    pub anchor: Option<&'a str>,
    pub body: &'a [u8],
}

/// What goes out by HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Answer only after this.
    pub delay: std::time::Duration,
    /// Do not answer at all.
    pub cut: bool,
    /// Until the answer is given, the request is under way.
    pub ticket: Option<Ticket>,
}

/// An error of Exchange: the response code, and the text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: &'static str,
    pub text: Cow<'static, str>,
    /// `MessageXml` values.
    pub values: Vec<(&'static str, String)>,
}

impl Refusal {
    pub const fn new(code: &'static str, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text), values: Vec::new() }
    }
}

impl Response {
    /// A status and nothing else.
    pub fn plain(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            delay: std::time::Duration::ZERO,
            cut: false,
            ticket: None,
        }
    }

    fn soap(status: StatusCode, body: String) -> Self {
        Self {
            body,
            headers: vec![("content-type", "text/xml; charset=utf-8".to_owned())],
            ..Self::plain(status)
        }
    }

    /// The end of the connection.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::plain(StatusCode::OK) }
    }
}

pub(crate) const BUSY: &str = "The server cannot service this request right now. Try again later.";

/// A page of something that stands before the server.
const PROXY_PAGE: &str = "<!DOCTYPE html>\r\n<html><head><title>Sign in</title></head>\r\n<body><h1>Network access</h1>\
                          <p>Please sign in to continue.</p></body></html>\r\n";

/// Answers one request on a connection.
pub(crate) fn answer(world: &World, connection: &mut Connection, request: &Request<'_>) -> Response {
    let signed_in = match connection.sign_in(world, request.authorization) {
        Ok(signed_in) => signed_in,
        Err(response) => {
            world.counters.request("(unauthorized)", None);
            return response;
        }
    };
    if !request.is_post {
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

fn dispatch(
    world: &World,
    caller: &Caller,
    request: &Request<'_>,
    document: &str,
    envelope: &Element,
) -> Result<Response, Refusal> {
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
    let mailbox = impersonated(world, caller, header)?;
    let number = mailbox.as_ref().map(|mailbox| mailbox.number);
    world.counters.request(operation.name, number);
    let address = mailbox.as_ref().map(|mailbox| mailbox.address.as_str()).unwrap_or_default();
    if request.anchor.is_some_and(|anchor| !anchor.eq_ignore_ascii_case(address)) {
        world.counters.wrong_anchor.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    let ticket = world.load.begin(caller.payer(), caller.payer_for(header, mailbox.as_deref()));
    let asked = Asked { operation: operation.name, address, caller, under_way: ticket.under_way[0] };
    if let Some(struck) = before(world, &asked)? {
        return Ok(struck);
    }
    let held_back = ticket.pay(&world.settings())?;
    let mailbox = mailbox.as_deref().ok_or(Refusal::new(
        "ErrorMissingEmailAddress",
        "When making a request as an account that does not have a mailbox, you must specify the mailbox primary SMTP address.",
    ))?;
    let mut out = String::with_capacity(4096);
    open_envelope(world, &mut out);
    (operation.run)(&operation::Call { world, mailbox, name: operation.name }, element, &mut out)?;
    out.push_str("</s:Body></s:Envelope>");
    let mut response =
        Response { delay: held_back, ticket: Some(ticket), ..Response::soap(StatusCode::OK, out) };
    after(world, operation.name, address, &mut response);
    Ok(response)
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
    caller: &'a Caller,
    /// Requests of this credential, this one among them.
    under_way: u32,
}

/// Faults that keep a request from being executed.
fn before(world: &World, asked: &Asked<'_>) -> Result<Option<Response>, Refusal> {
    let Some(mut faults) = world.asks_faults() else { return Ok(None) };
    let mut strikes = |kind| faults.strikes(kind, asked.operation, asked.address);
    if strikes(Kind::CutConnection).is_some() {
        return Ok(Some(Response::cut()));
    }
    if let Some(strike) = strikes(Kind::Http503) {
        let mut response = Response::plain(StatusCode::SERVICE_UNAVAILABLE);
        if let Some(hint) = strike.hint {
            response.headers.push(("retry-after", hint.as_millis().div_ceil(1000).to_string()));
        }
        return Ok(Some(response));
    }
    if strikes(Kind::Html200).is_some() {
        let headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
        return Ok(Some(Response {
            headers,
            body: PROXY_PAGE.to_owned(),
            ..Response::plain(StatusCode::OK)
        }));
    }
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
    if strikes(Kind::Unauthorized).is_some() {
        // The answer looks at the clock, and so at the rules.
        drop(faults);
        return Ok(Some(unauthorized(world)));
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
fn after(world: &World, operation: &str, address: &str, response: &mut Response) {
    let Some(mut faults) = world.asks_faults() else { return };
    if let Some(strike) = faults.strikes(Kind::SlowBody, operation, address) {
        response.delay += strike.delay;
    }
    if faults.strikes(Kind::LostResponse, operation, address).is_some() {
        response.cut = true;
    }
}

/// Envelope and header, up to the body's beginning.
fn open_envelope(world: &World, out: &mut String) {
    let (major, minor, build) = world.options.version;
    let version = if world.is_2013() { "V2_23" } else { "V2017_07_11" };
    out.push_str(&format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Header><h:ServerVersionInfo MajorVersion=\"{major}\" MinorVersion=\"{minor}\" MajorBuildNumber=\"{build}\" \
         MinorBuildNumber=\"6\" Version=\"{version}\" xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>\
         <s:Body xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">"
    ));
}

/// A SOAP fault with HTTP status 500.
pub(crate) fn fault(world: &World, refusal: &Refusal) -> Response {
    let mut out = String::with_capacity(1024);
    open_envelope(world, &mut out);
    out.push_str(&format!(
        "<s:Fault><faultcode xmlns:a=\"http://schemas.microsoft.com/exchange/services/2006/types\">a:{}</faultcode>\
         <faultstring xml:lang=\"en-US\">",
        refusal.code
    ));
    xml::escape(&refusal.text, &mut out);
    out.push_str(&format!(
        "</faultstring><detail><e:ResponseCode xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">{}\
         </e:ResponseCode><e:Message xmlns:e=\"http://schemas.microsoft.com/exchange/services/2006/errors\">",
        refusal.code
    ));
    xml::escape(&refusal.text, &mut out);
    out.push_str("</e:Message>");
    write_values("t:MessageXml", &refusal.values, &mut out);
    out.push_str("</detail></s:Fault></s:Body></s:Envelope>");
    Response::soap(StatusCode::INTERNAL_SERVER_ERROR, out)
}

/// Adds the values of a refusal, if it has any.
pub(crate) fn write_values(name: &str, values: &[(&'static str, String)], out: &mut String) {
    if values.is_empty() {
        return;
    }
    out.push_str(&format!("<{name} xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">"));
    for (key, value) in values {
        out.push_str(&format!("<t:Value Name=\"{key}\">"));
        xml::escape(value, out);
        out.push_str("</t:Value>");
    }
    out.push_str(&format!("</{name}>"));
}

/// Line and column, counted from 1, of the name behind the bracket at this offset.
fn place(document: &str, offset: usize) -> (usize, usize) {
    let before = document.get(..offset).unwrap_or(document).trim_start_matches('\u{feff}');
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 2;
    (line, column)
}

fn schema_violation(document: &str, violation: &schema::Violation) -> Refusal {
    let (line, column) = place(document, violation.offset);
    Refusal {
        values: vec![
            ("LineNumber", line.to_string()),
            ("LinePosition", column.to_string()),
            ("Violation", violation.what.clone()),
        ],
        text: format!("The request failed schema validation: {}.", violation.what).into(),
        ..Refusal::new("ErrorSchemaValidation", "")
    }
}

fn not_xml(world: &World, document: &str, error: &xml::NotXml) -> Response {
    let violation = schema::Violation { offset: error.offset, what: error.what.clone() };
    fault(world, &schema_violation(document, &violation))
}
