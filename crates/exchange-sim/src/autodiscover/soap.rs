//! The form of Exchange 2010 and later: GetUserSettings for up to 100 users, and GetDomainSettings.

use http::{Method, StatusCode};

use super::{Form, Found, attend, find, is_busy, told};
use crate::{
    answer::Response,
    service::Request,
    world::World,
    xml::{self, Element, Space},
};

/// No request asks for more.
const MOST: usize = 100;
const ACTION: &str = "http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/";

/// What differs between the two operations.
struct Words {
    operation: &'static str,
    /// Around all that are asked for, around one, and around its name.
    asked: [&'static str; 3],
    /// The beginning of the names in the answer.
    answer: &'static str,
}

const OPERATIONS: [Words; 2] = [
    Words { operation: "GetUserSettings", asked: ["Users", "User", "Mailbox"], answer: "User" },
    Words { operation: "GetDomainSettings", asked: ["Domains", "Domain", ""], answer: "Domain" },
];

/// A request that could be read.
struct Asked {
    words: &'static Words,
    names: Vec<String>,
    settings: Vec<String>,
}

pub(super) fn answer(world: &World, request: &Request<'_>) -> Response {
    if request.method != Method::POST {
        // Whoever looks here finds a page that describes the service.
        let page = "<html><head><title>Autodiscover Service</title></head><body/></html>".to_owned();
        return Response::of("text/html; charset=utf-8", StatusCode::OK, page);
    }
    let Some(root) = std::str::from_utf8(request.body).ok().and_then(|text| xml::parse(text).ok()) else {
        return Response::plain(StatusCode::BAD_REQUEST);
    };
    let asked = match read(&root) {
        Ok(asked) => asked,
        Err(text) => {
            world.counters.request(Form::Soap.name(), None);
            return fault(world, &text);
        }
    };
    let first = asked.names.first().map(String::as_str).unwrap_or_default();
    attend(world, Form::Soap, request, first, || tell(world, request.host(), &asked, is_versioned(&root)))
}

/// True if the request says which version it is written for.
fn is_versioned(root: &Element) -> bool {
    root.at(&["Header", "RequestedServerVersion"])
        .is_some_and(|version| version.space == Space::Autodiscover && !version.text.trim().is_empty())
}

fn read(root: &Element) -> Result<Asked, String> {
    if (root.space, root.name.as_str()) != (Space::Soap, "Envelope") {
        return Err("The message is not a SOAP envelope.".to_owned());
    }
    let action = root.at(&["Header", "Action"]).filter(|action| action.space == Space::Addressing);
    let action = action.map(|action| action.text.trim()).unwrap_or_default();
    let operation = action.strip_prefix(ACTION).unwrap_or_default();
    let words = OPERATIONS.iter().find(|words| words.operation == operation);
    let mismatch = || {
        format!(
            "The message with Action '{action}' cannot be processed at the receiver, due to a ContractFilter mismatch."
        )
    };
    let words = words.ok_or_else(mismatch)?;
    let message = root.at(&["Body", &format!("{operation}RequestMessage")]);
    let message = message.filter(|message| message.space == Space::Autodiscover).ok_or_else(mismatch)?;
    let request = message.child("Request");
    let inside =
        |name: &str| request.and_then(|request| request.child(name)).map_or(&[][..], |all| &all.children);
    let [all, _, name] = words.asked;
    let named = |one: &Element| {
        let text = if name.is_empty() { Some(one.text.trim()) } else { one.text_of(name) };
        text.unwrap_or_default().to_owned()
    };
    Ok(Asked {
        words,
        names: inside(all).iter().map(named).collect(),
        settings: inside("RequestedSettings").iter().map(|setting| setting.text.trim().to_owned()).collect(),
    })
}

fn tell(world: &World, host: &str, asked: &Asked, is_versioned: bool) -> Response {
    let first = asked.names.first().map(String::as_str).unwrap_or_default();
    let refusal = if !is_versioned {
        Some(("InvalidRequest", "The header 'RequestedServerVersion' is missing or empty."))
    } else if asked.names.is_empty() {
        Some(("InvalidRequest", "At least one user or domain must be named."))
    } else if asked.names.len() > MOST {
        Some(("InvalidRequest", "More than 100 users or domains are named."))
    } else if asked.settings.is_empty() {
        Some(("InvalidRequest", "At least one setting must be requested."))
    } else if is_busy(world, Form::Soap, first) {
        Some(("ServerBusy", "The server is too busy to answer this request. Try again later."))
    } else {
        None
    };
    let (code, text) = refusal.unwrap_or(("NoError", ""));
    let words = asked.words;
    let mut out = envelope(world, &format!("{ACTION}{}Response", words.operation));
    out.push_str(&format!(
        "<{}ResponseMessage xmlns=\"http://schemas.microsoft.com/exchange/2010/Autodiscover\">\
         <Response xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">",
        words.operation
    ));
    xml::element("ErrorCode", code, &mut out);
    xml::element("ErrorMessage", text, &mut out);
    out.push_str(&format!("<{}Responses>", words.answer));
    if refusal.is_none() {
        asked.names.iter().for_each(|name| one(world, host, asked, name, &mut out));
    }
    out.push_str(&format!("</{}Responses></Response></{}ResponseMessage>", words.answer, words.operation));
    out.push_str("</s:Body></s:Envelope>");
    Response::xml(StatusCode::OK, out)
}

/// What is said of one user or domain.
fn one(world: &World, host: &str, asked: &Asked, name: &str, out: &mut String) {
    let kind = asked.words.answer;
    let (code, target, mailbox) = if kind == "Domain" {
        let known = name.eq_ignore_ascii_case(&world.options.domain);
        (if known { "NoError" } else { "InvalidDomain" }, None, None)
    } else {
        match find(world, Form::Soap, host, name) {
            Found::Mailbox(mailbox) => ("NoError", None, Some(mailbox)),
            Found::RedirectUrl(url) => ("RedirectUrl", Some(url), None),
            Found::RedirectAddress(address) => ("RedirectAddress", Some(address), None),
            Found::Trouble(code) => (code, None, None),
        }
    };
    // A user without any of the settings is no error of the user's own.
    let lacking = matches!(code, "InvalidSetting" | "SettingIsNotAvailable").then_some(code);
    let code = if lacking.is_some() { "NoError" } else { code };
    let value = |setting: &str| match (kind, mailbox) {
        _ if lacking.is_some() => None,
        ("Domain", _) => told::domain_setting(world, setting),
        (_, Some(mailbox)) => told::user_setting(world, mailbox, setting),
        _ => None,
    };
    out.push_str(&format!("<{kind}Response>"));
    xml::element("ErrorCode", code, out);
    xml::element("ErrorMessage", message(code), out);
    match target {
        Some(target) => xml::element("RedirectTarget", &target, out),
        None => out.push_str("<RedirectTarget i:nil=\"true\"/>"),
    }
    let settings: &[String] = if code == "NoError" { &asked.settings } else { &[] };
    write_settings(kind, settings, lacking.unwrap_or("SettingIsNotAvailable"), value, out);
    out.push_str(&format!("</{kind}Response>"));
}

fn write_settings(
    kind: &str,
    settings: &[String],
    missing: &str,
    value: impl Fn(&str) -> Option<String>,
    out: &mut String,
) {
    let known: Vec<(&String, Option<String>)> = settings.iter().map(|name| (name, value(name))).collect();
    out.push_str(&format!("<{kind}SettingErrors>"));
    for (name, _) in known.iter().filter(|(_, value)| value.is_none()) {
        out.push_str(&format!("<{kind}SettingError>"));
        xml::element("ErrorCode", missing, out);
        xml::element("ErrorMessage", &format!("The setting '{name}' is not available."), out);
        xml::element("SettingName", name, out);
        out.push_str(&format!("</{kind}SettingError>"));
    }
    out.push_str(&format!("</{kind}SettingErrors><{kind}Settings>"));
    for (name, value) in &known {
        let Some(value) = value else { continue };
        out.push_str(&format!(
            "<{kind}Setting i:type=\"{}StringSetting\">",
            if kind == "User" { "" } else { kind }
        ));
        xml::element("Name", name, out);
        xml::element("Value", value, out);
        out.push_str(&format!("</{kind}Setting>"));
    }
    out.push_str(&format!("</{kind}Settings>"));
}

fn message(code: &str) -> &'static str {
    match code {
        "NoError" => "No error.",
        "RedirectUrl" => "The request must be sent to another URL.",
        "RedirectAddress" => "The settings are those of another address.",
        "InvalidUser" => "Invalid user.",
        "InvalidDomain" => "The domain is not known here.",
        "ServerBusy" => "The server is too busy to answer this request. Try again later.",
        _ => "The request could not be answered.",
    }
}

/// Envelope and header, up to the body's beginning.
fn envelope(world: &World, action: &str) -> String {
    let (major, minor, build) = world.options.version;
    let version = if world.is_2013() { "Exchange2013_SP1" } else { "Exchange2016" };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:a=\"http://www.w3.org/2005/08/addressing\"><s:Header><a:Action s:mustUnderstand=\"1\">{action}</a:Action>\
         <h:ServerVersionInfo xmlns:h=\"http://schemas.microsoft.com/exchange/2010/Autodiscover\"><h:MajorVersion>{major}\
         </h:MajorVersion><h:MinorVersion>{minor}</h:MinorVersion><h:MajorBuildNumber>{build}</h:MajorBuildNumber>\
         <h:MinorBuildNumber>6</h:MinorBuildNumber><h:Version>{version}</h:Version></h:ServerVersionInfo></s:Header><s:Body>"
    )
}

/// What the service below says of messages that are none of its operations.
fn fault(world: &World, text: &str) -> Response {
    let mut out = envelope(world, "http://www.w3.org/2005/08/addressing/soap/fault");
    out.push_str("<s:Fault><faultcode>a:ActionNotSupported</faultcode><faultstring xml:lang=\"en-US\">");
    xml::escape(text, &mut out);
    out.push_str("</faultstring></s:Fault></s:Body></s:Envelope>");
    Response::xml(StatusCode::INTERNAL_SERVER_ERROR, out)
}
