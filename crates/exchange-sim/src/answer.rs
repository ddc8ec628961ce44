//! What goes out: answers of HTTP, refusals, and the envelopes around both.

use std::borrow::Cow;

use http::StatusCode;

use crate::{schema, stream::Stream, throttle::Ticket, world::World, xml};

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
    /// What follows instead of a body.
    pub stream: Option<Box<Stream>>,
}

/// An error of Exchange: the response code, and the text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: Cow<'static, str>,
    pub text: Cow<'static, str>,
    /// `MessageXml` values.
    pub values: Vec<(&'static str, String)>,
}

impl Refusal {
    pub const fn new(code: &'static str, text: &'static str) -> Self {
        Self { code: Cow::Borrowed(code), text: Cow::Borrowed(text), values: Vec::new() }
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
            stream: None,
        }
    }

    /// A document.
    pub fn of(kind: &str, status: StatusCode, body: String) -> Self {
        Self { body, headers: vec![("content-type", kind.to_owned())], ..Self::plain(status) }
    }

    /// A document of XML.
    pub fn xml(status: StatusCode, body: String) -> Self {
        Self::of("text/xml; charset=utf-8", status, body)
    }

    /// Another place to ask.
    pub fn redirect(target: String) -> Self {
        Self { headers: vec![("location", target)], ..Self::plain(StatusCode::FOUND) }
    }

    /// The end of the connection.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::plain(StatusCode::OK) }
    }
}

pub(crate) const BUSY: &str = "The server cannot service this request right now. Try again later.";

/// Envelope and header, up to the body's beginning.
pub(crate) fn open_envelope(world: &World, out: &mut String) {
    out.push_str(&format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Header><h:ServerVersionInfo {} xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>\
         <s:Body xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">",
        version_attributes(world)
    ));
}

/// The server's version as its header tells it.
pub(crate) fn version_attributes(world: &World) -> String {
    let (major, minor, build) = world.options.version;
    let version = if world.is_2013() { "V2_23" } else { "V2017_07_11" };
    format!(
        "MajorVersion=\"{major}\" MinorVersion=\"{minor}\" MajorBuildNumber=\"{build}\" MinorBuildNumber=\"6\" \
         Version=\"{version}\""
    )
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
    Response::xml(StatusCode::INTERNAL_SERVER_ERROR, out)
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

pub(crate) fn schema_violation(document: &str, violation: &schema::Violation) -> Refusal {
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

pub(crate) fn not_xml(world: &World, document: &str, error: &xml::NotXml) -> Response {
    let violation = schema::Violation { offset: error.offset, what: error.what.clone() };
    fault(world, &schema_violation(document, &violation))
}
