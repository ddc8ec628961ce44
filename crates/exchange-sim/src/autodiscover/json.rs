//! The second version: a path or a query, JSON, nobody signs in. Exchange 2013 does not know it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Form, Found, attend, find, told};
use crate::{answer::Response, control::percent_decoded, service::Request, world::World};

const PROTOCOLS: [&str; 2] = ["Ews", "AutodiscoverV1"];

pub(super) fn answer(world: &World, request: &Request<'_>) -> Response {
    let (address, protocol) = (address(request), parameter(request, "Protocol"));
    attend(world, Form::Json, request, address.as_deref().unwrap_or_default(), || {
        if world.is_2013() || request.method != Method::GET {
            return Response::plain(StatusCode::NOT_FOUND);
        }
        match (address.as_deref(), protocol.as_deref()) {
            (None, _) => missing("Email"),
            (_, None) => missing("Protocol"),
            (Some(address), Some(protocol)) => tell(world, request.host(), address, protocol),
        }
    })
}

fn tell(world: &World, host: &str, address: &str, protocol: &str) -> Response {
    let Some(protocol) = PROTOCOLS.into_iter().find(|known| known.eq_ignore_ascii_case(protocol)) else {
        let text = format!(
            "The given protocol value '{protocol}' is invalid. Supported values are '{}'",
            PROTOCOLS.join(",")
        );
        return refused(StatusCode::BAD_REQUEST, "ProtocolNotSupported", &text);
    };
    let again = |address: &str| {
        format!("{}/autodiscover/autodiscover.json?Email={address}&Protocol={protocol}", world.origin)
    };
    match find(world, Form::Json, host, address) {
        Found::Mailbox(_) if protocol == "Ews" => {
            said(StatusCode::OK, &place(protocol, &told::ews_url(world)))
        }
        Found::Mailbox(_) => {
            let url = format!("{}/autodiscover/{}", world.origin, Form::Pox.name());
            said(StatusCode::OK, &place(protocol, &url))
        }
        Found::RedirectUrl(url) => Response::redirect(url),
        Found::RedirectAddress(address) => Response::redirect(again(&address)),
        Found::Trouble("InvalidUser" | "InvalidDomain") => {
            refused(StatusCode::NOT_FOUND, "UserNotFound", "The given user is not found")
        }
        Found::Trouble("InvalidSetting" | "SettingIsNotAvailable" | "NotFederated") => {
            let text = format!("The protocol '{protocol}' is not available for this user");
            refused(StatusCode::BAD_REQUEST, "ProtocolNotSupported", &text)
        }
        Found::Trouble(code) => {
            let text = "The server cannot answer this request at the moment";
            let status = if code == "InvalidRequest" { 400 } else { 500 };
            refused(StatusCode::from_u16(status).unwrap_or_default(), code, text)
        }
    }
}

fn place(protocol: &str, url: &str) -> Value {
    json!({ "Protocol": protocol, "Url": url })
}

fn missing(name: &str) -> Response {
    let text = format!("A valid value must be provided for the query parameter '{name}'");
    refused(StatusCode::BAD_REQUEST, "MandatoryParameterMissing", &text)
}

fn refused(status: StatusCode, code: &str, text: &str) -> Response {
    said(status, &json!({ "ErrorCode": code, "ErrorMessage": text }))
}

fn said(status: StatusCode, value: &Value) -> Response {
    Response::of("application/json; charset=utf-8", status, value.to_string())
}

/// The address that is asked for: in the path behind the version, or in the query.
fn address(request: &Request<'_>) -> Option<String> {
    let steps: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match steps[..] {
        [_, _, version, address] if version.eq_ignore_ascii_case("v1.0") => Some(percent_decoded(address)),
        [_, _] | [_, _, _] => parameter(request, "Email"),
        _ => None,
    }
}

/// A parameter of the query that says something, whatever case its name is written in.
fn parameter(request: &Request<'_>, name: &str) -> Option<String> {
    let pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.next().map(percent_decoded).filter(|value| !value.is_empty())
}
