//! One request: who asks, as whom, for what; and the answer around whatever an operation says.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;

use crate::{
    fault::Kind,
    operation, schema,
    world::{Mailbox, World},
    xml::{self, Element, Space},
};

/// What came in by HTTP.
pub(crate) struct Request<'a> {
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

/// Who asked.
enum Caller {
    Service,
    Owner(Arc<Mailbox>),
}

impl Response {
    fn plain(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            delay: std::time::Duration::ZERO,
            cut: false,
        }
    }

    fn soap(status: StatusCode, body: String) -> Self {
        Self {
            body,
            headers: vec![("content-type", "text/xml; charset=utf-8".to_owned())],
            ..Self::plain(status)
        }
    }

    fn cut() -> Self {
        Self { cut: true, ..Self::plain(StatusCode::OK) }
    }
}

const BUSY: &str = "The server cannot service this request right now. Try again later.";

/// Answers one request.
pub(crate) fn answer(world: &World, request: &Request<'_>) -> Response {
    let Some(caller) = authenticate(world, request.authorization) else {
        world.counters.request("(unauthorized)", None);
        return unauthorized();
    };
    let Ok(document) = std::str::from_utf8(request.body) else {
        return Response::plain(StatusCode::BAD_REQUEST);
    };
    let envelope = match xml::parse(document) {
        Ok(envelope) => envelope,
        Err(error) => return not_xml(world, document, &error),
    };
    match dispatch(world, &caller, request, document, &envelope) {
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
    let mailbox = impersonated(world, caller, header)?;
    let number = mailbox.as_ref().map(|mailbox| mailbox.number);
    world.counters.request(operation.name, number);
    let address = mailbox.as_ref().map(|mailbox| mailbox.address.as_str()).unwrap_or_default();
    if request.anchor.is_some_and(|anchor| !anchor.eq_ignore_ascii_case(address)) {
        world.counters.wrong_anchor.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    if let Some(struck) = before(world, operation.name, address)? {
        return Ok(struck);
    }
    let mailbox = mailbox.as_deref().ok_or(Refusal::new(
        "ErrorMissingEmailAddress",
        "When making a request as an account that does not have a mailbox, you must specify the mailbox primary SMTP address.",
    ))?;
    let mut out = String::with_capacity(4096);
    open_envelope(world, &mut out);
    (operation.run)(&operation::Call { world, mailbox, name: operation.name }, element, &mut out)?;
    out.push_str("</s:Body></s:Envelope>");
    let mut response = Response::soap(StatusCode::OK, out);
    after(world, operation.name, address, &mut response);
    Ok(response)
}

/// Faults that keep a request from being executed.
fn before(world: &World, operation: &str, address: &str) -> Result<Option<Response>, Refusal> {
    let Some(mut faults) = world.asks_faults() else { return Ok(None) };
    if faults.strikes(Kind::CutConnection, operation, address).is_some() {
        return Ok(Some(Response::cut()));
    }
    if let Some(strike) = faults.strikes(Kind::Http503, operation, address) {
        let mut response = Response::plain(StatusCode::SERVICE_UNAVAILABLE);
        if let Some(hint) = strike.hint {
            response.headers.push(("retry-after", hint.as_millis().div_ceil(1000).to_string()));
        }
        return Ok(Some(response));
    }
    if faults.strikes(Kind::Unauthorized, operation, address).is_some() {
        return Ok(Some(unauthorized()));
    }
    if faults.strikes(Kind::ServerBusy, operation, address).is_some() {
        return Err(Refusal::new("ErrorServerBusy", BUSY));
    }
    if let Some(strike) = faults.strikes(Kind::ServerBusyHint, operation, address) {
        let hint = strike.hint.unwrap_or(std::time::Duration::from_secs(5)).as_millis().to_string();
        return Err(Refusal {
            values: vec![("BackOffMilliseconds", hint)],
            ..Refusal::new("ErrorServerBusy", BUSY)
        });
    }
    if faults.strikes(Kind::ImpersonationDenied, operation, address).is_some() {
        return Err(IMPERSONATION_DENIED);
    }
    if faults.strikes(Kind::NoSuchMailbox, operation, address).is_some() {
        return Err(NO_SUCH_MAILBOX);
    }
    Ok(None)
}

/// Faults that strike the answer of what was executed.
fn after(world: &World, operation: &str, address: &str, response: &mut Response) {
    let Some(mut faults) = world.asks_faults() else { return };
    if let Some(strike) = faults.strikes(Kind::SlowBody, operation, address) {
        response.delay = strike.delay;
    }
    if faults.strikes(Kind::LostResponse, operation, address).is_some() {
        response.cut = true;
    }
}

const IMPERSONATION_DENIED: Refusal = Refusal::new(
    "ErrorImpersonateUserDenied",
    "The account does not have permission to impersonate the requested user.",
);
const NO_SUCH_MAILBOX: Refusal =
    Refusal::new("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.");

fn unauthorized() -> Response {
    let challenge = ("www-authenticate", "Basic realm=\"exchange\"".to_owned());
    Response { headers: vec![challenge], ..Response::plain(StatusCode::UNAUTHORIZED) }
}

fn authenticate(world: &World, authorization: Option<&str>) -> Option<Caller> {
    let (scheme, credential) = authorization?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credential = String::from_utf8(STANDARD.decode(credential.trim()).ok()?).ok()?;
    let (user, password) = credential.split_once(':')?;
    if password != world.password {
        return None;
    }
    let service = world.service()?;
    let short = format!("{}\\{}", world.options.nt_domain, world.options.service_user);
    if user.eq_ignore_ascii_case(&service.address) || user.eq_ignore_ascii_case(&short) {
        return Some(Caller::Service);
    }
    // One signs in by the primary address: it is the UPN too.
    let mailbox = world.mailbox_at(user).filter(|mailbox| mailbox.address.eq_ignore_ascii_case(user));
    mailbox.map(|mailbox| Caller::Owner(mailbox.clone()))
}

/// Headers that no version knows twice, and the version that the request is written for.
fn check_header(world: &World, header: Option<&Element>) -> Result<(), Refusal> {
    let children = header.map_or(&[][..], |header| &header.children);
    for (number, child) in children.iter().enumerate() {
        if children[..number].iter().any(|before| before.name == child.name) {
            return Err(Refusal::new("ErrorDuplicateSOAPHeader", "A SOAP header appears more than once."));
        }
    }
    let version = header.and_then(|header| header.child("RequestServerVersion"));
    let Some(version) = version.and_then(|version| version.attribute("Version")) else { return Ok(()) };
    let (_, minor, _) = world.options.version;
    // Dated versions, and those of 2015 and later, came after Exchange 2013.
    let newer = minor == 0 && version > "Exchange2013_SP1";
    if newer || !schema::is_version(version) {
        return Err(Refusal::new("ErrorInvalidServerVersion", "The specified server version is invalid."));
    }
    Ok(())
}

/// The mailbox as which the request is executed.
fn impersonated(
    world: &World,
    caller: &Caller,
    header: Option<&Element>,
) -> Result<Option<Arc<Mailbox>>, Refusal> {
    let own = match caller {
        Caller::Service => world.service().cloned(),
        Caller::Owner(mailbox) => Some(mailbox.clone()),
    };
    let Some(header) = header.and_then(|header| header.child("ExchangeImpersonation")) else {
        return Ok(own);
    };
    let invalid = Refusal::new(
        "ErrorInvalidExchangeImpersonationHeaderData",
        "The ExchangeImpersonation header must name exactly one identity.",
    );
    let sid = header.child("ConnectingSID").filter(|sid| sid.children.len() == 1).ok_or(invalid.clone())?;
    let identity = &sid.children[0];
    let name = identity.text.trim();
    let wanted = match identity.name.as_str() {
        "PrimarySmtpAddress" => primary(world, name)?,
        "SmtpAddress" => world.mailbox_at(name),
        "PrincipalName" => {
            world.mailbox_at(name).filter(|mailbox| mailbox.address.eq_ignore_ascii_case(name))
        }
        "SID" => name
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok())
            .and_then(|number| world.mailbox(number)),
        _ => return Err(invalid),
    };
    let unknown = match identity.name.as_str() {
        "PrincipalName" => Refusal::new("ErrorInvalidUserPrincipalName", "The UPN is not that of a mailbox."),
        "SID" => Refusal::new("ErrorInvalidUserSid", "The SID is not that of a mailbox."),
        _ => NO_SUCH_MAILBOX,
    };
    let wanted = wanted.ok_or(unknown)?.clone();
    match caller {
        Caller::Service => Ok(Some(wanted)),
        Caller::Owner(mailbox) if mailbox.number == wanted.number => Ok(Some(wanted)),
        Caller::Owner(_) => Err(IMPERSONATION_DENIED),
    }
}

/// The mailbox of a primary address. Another address of it is refused with the right one.
fn primary<'a>(world: &'a World, address: &str) -> Result<Option<&'a Arc<Mailbox>>, Refusal> {
    match world.mailbox_at(address) {
        Some(mailbox) if !mailbox.address.eq_ignore_ascii_case(address) => Err(Refusal {
            values: vec![("Primary", mailbox.address.clone())],
            ..Refusal::new("ErrorNonPrimarySmtpAddress", "The primary SMTP address must be specified.")
        }),
        found => Ok(found),
    }
}

/// Envelope and header, up to the body's beginning.
fn open_envelope(world: &World, out: &mut String) {
    let (major, minor, build) = world.options.version;
    let version = if minor == 0 { "V2_23" } else { "V2017_07_11" };
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
