//! Autodiscover: where the EWS of a mailbox is, told by SOAP, by plain XML ("POX") and by JSON.

mod json;
mod pox;
mod soap;
mod told;

use http::{Method, StatusCode};

use crate::{
    answer::Response,
    auth::Connection,
    fault::Kind,
    service::{Request, after, instead},
    world::{Mailbox, World},
};

/// A form of Autodiscover, by its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Soap,
    Pox,
    Json,
    /// What a server without TLS has to say: where to go instead.
    Plain,
}

const FORMS: [(Form, &str); 4] = [
    (Form::Soap, "autodiscover.svc"),
    (Form::Pox, "autodiscover.xml"),
    (Form::Json, "autodiscover.json"),
    (Form::Plain, "autodiscover.http"),
];

/// The codes of SOAP, and those of POX for the same.
const CODES: [(&str, u16); 8] = [
    ("InvalidUser", 500),
    ("InvalidDomain", 500),
    ("InternalServerError", 501),
    ("ServerBusy", 502),
    ("InvalidRequest", 600),
    ("NotFederated", 601),
    ("InvalidSetting", 601),
    ("SettingIsNotAvailable", 601),
];

/// Checks the code of a rule.
///
/// # Errors
/// The field and what is wrong with it.
pub(crate) fn check_code(code: Option<&str>) -> Result<(), String> {
    if CODES.iter().any(|(known, _)| Some(*known) == code) {
        return Ok(());
    }
    let known: Vec<&str> = CODES.iter().map(|(known, _)| *known).collect();
    Err(format!("code: autodiscover_error needs one of {}", known.join(", ")))
}

/// True if rules may name this in place of an operation.
pub(crate) fn is_form(name: &str) -> bool {
    FORMS.iter().any(|(_, known)| *known == name)
}

impl Form {
    /// The form that is asked for by a path on a server with TLS.
    pub fn at(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let document = path.strip_prefix("/autodiscover/")?.split('/').next()?;
        let found = FORMS.iter().find(|(_, name)| *name == document)?.0;
        let whole = path.len() == "/autodiscover/".len() + document.len();
        (found == Self::Json || found != Self::Plain && whole).then_some(found)
    }

    pub fn name(self) -> &'static str {
        FORMS.iter().find(|(form, _)| *form == self).map_or("", |(_, name)| name)
    }
}

/// What is to be said of an address.
#[derive(Debug)]
enum Found<'a> {
    Mailbox(&'a Mailbox),
    RedirectUrl(String),
    RedirectAddress(String),
    /// A code of SOAP.
    Trouble(&'static str),
}

/// What is to be said of an address to whom asks a server by this name.
fn find<'a>(world: &'a World, form: Form, host: &str, address: &str) -> Found<'a> {
    let mailbox = world.mailbox_at(address);
    let primary = mailbox.map_or(address, |mailbox| &mailbox.address);
    if let Some(mut faults) = world.asks_faults() {
        let mut strikes = |kind| faults.strikes_at(kind, form.name(), primary, host);
        if let Some(strike) = strikes(Kind::RedirectUrl) {
            return Found::RedirectUrl(strike.target);
        }
        if let Some(strike) = strikes(Kind::RedirectAddress) {
            return Found::RedirectAddress(strike.target);
        }
        if let Some(strike) = strikes(Kind::AutodiscoverError) {
            let known = CODES.iter().find(|(code, _)| *code == strike.code);
            return Found::Trouble(known.map_or("InternalServerError", |(code, _)| code));
        }
    }
    mailbox.map_or(Found::Trouble("InvalidUser"), |mailbox| Found::Mailbox(mailbox))
}

/// Answers one request on a connection.
pub(crate) fn answer(
    world: &World,
    connection: &mut Connection,
    form: Form,
    request: &Request<'_>,
) -> Response {
    let mut response = match form {
        Form::Json => json::answer(world, request),
        Form::Soap => signed_in(world, connection, request, soap::answer),
        Form::Pox => signed_in(world, connection, request, pox::answer),
        Form::Plain => plain(world, request),
    };
    if form == Form::Pox && request.method == Method::GET {
        // By these a client chooses between the forms before it signs in.
        for name in ["x-soap-enabled", "x-wssecurity-enabled", "x-oauth-enabled"] {
            response.headers.push((name, "True".to_owned()));
        }
    }
    response
}

fn signed_in(
    world: &World,
    connection: &mut Connection,
    request: &Request<'_>,
    answer: fn(&World, &Request<'_>) -> Response,
) -> Response {
    match connection.sign_in(world, request.header("authorization")) {
        Err(response) => {
            world.counters.request("(unauthorized)", None);
            response
        }
        Ok(signed_in) => {
            let mut response = answer(world, request);
            response.headers.extend(signed_in.token.map(|token| ("www-authenticate", token)));
            response
        }
    }
}

/// Counts a request that asks for this address, and answers it unless something stands in the way.
fn attend(
    world: &World,
    form: Form,
    request: &Request<'_>,
    address: &str,
    answer: impl FnOnce() -> Response,
) -> Response {
    let mailbox = world.mailbox_at(address);
    world.counters.request(form.name(), mailbox.map(|mailbox| mailbox.number));
    let primary = mailbox.map_or(address, |mailbox| &mailbox.address);
    instead(world, form.name(), primary, request.host()).unwrap_or_else(|| {
        let mut response = answer();
        after(world, form.name(), primary, &mut response);
        response
    })
}

/// Without TLS nobody is told anything but where to ask with it.
fn plain(world: &World, request: &Request<'_>) -> Response {
    attend(world, Form::Plain, request, "", || match (request.method.as_str(), Form::at(request.path)) {
        ("GET" | "HEAD", Some(form @ (Form::Soap | Form::Pox))) => {
            Response::redirect(format!("{}/autodiscover/{}", world.origin, form.name()))
        }
        _ => Response::plain(StatusCode::FORBIDDEN),
    })
}

/// Whether a rule of "busy" strikes a request for this address.
fn is_busy(world: &World, form: Form, address: &str) -> bool {
    let primary = world.mailbox_at(address).map_or(address, |mailbox| &mailbox.address);
    let Some(mut faults) = world.asks_faults() else { return false };
    [Kind::ServerBusy, Kind::ServerBusyHint]
        .into_iter()
        .any(|kind| faults.strikes(kind, form.name(), primary).is_some())
}
