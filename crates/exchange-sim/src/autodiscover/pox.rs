//! The first version: plain XML, as Outlook asks for it.

use http::{Method, StatusCode};

use super::{CODES, Form, Found, attend, find, is_busy, told};
use crate::{
    answer::Response,
    service::Request,
    world::{Mailbox, World},
    xml::{self, Element, Space},
};

const RESPONSE: &str = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006";
const OUTLOOK: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";

pub(super) fn answer(world: &World, request: &Request<'_>) -> Response {
    let document = std::str::from_utf8(request.body).ok().and_then(|text| xml::parse(text).ok());
    let asked = document.filter(|_| request.method == Method::POST).and_then(|root| read(&root));
    let address = asked.as_ref().map(|(address, _)| address.clone()).unwrap_or_default();
    attend(world, Form::Pox, request, &address, || match asked {
        None => error(world, 600, "Invalid Request"),
        Some((_, schema)) if schema != OUTLOOK => error(world, 601, "Provider is not available"),
        Some(_) if is_busy(world, Form::Pox, &address) => error(world, 502, "The server is busy"),
        Some(_) => match find(world, Form::Pox, request.host(), &address) {
            Found::Mailbox(mailbox) => account(&settings(world, mailbox)),
            Found::RedirectUrl(url) => account(&redirection("redirectUrl", "RedirectUrl", &url)),
            Found::RedirectAddress(address) => {
                account(&redirection("redirectAddr", "RedirectAddr", &address))
            }
            Found::Trouble("InvalidUser" | "InvalidDomain") => {
                error(world, 500, "The email address can't be found.")
            }
            Found::Trouble(code) => {
                let number =
                    CODES.iter().find(|(known, _)| *known == code).map_or(501, |(_, number)| *number);
                error(world, number, code)
            }
        },
    })
}

/// The address and the schema that are asked for.
fn read(root: &Element) -> Option<(String, String)> {
    if (root.space, root.name.as_str()) != (Space::Outlook, "Autodiscover") {
        return None;
    }
    let request = root.child("Request")?;
    let text = |name: &str| request.text_of(name).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    Some((text("EMailAddress")?, text("AcceptableResponseSchema")?))
}

/// An answer for the schema that was asked for.
fn account(inner: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"{RESPONSE}\"><Response xmlns=\"{OUTLOOK}\">{inner}\
         </Response></Autodiscover>"
    );
    Response::xml(StatusCode::OK, body)
}

fn redirection(action: &str, element: &str, target: &str) -> String {
    let mut out = format!("<Account><Action>{action}</Action>");
    xml::element(element, target, &mut out);
    out.push_str("</Account>");
    out
}

/// User, account and the protocols: inside, outside, and one that has others inside it.
fn settings(world: &World, mailbox: &Mailbox) -> String {
    let mut out = "<User>".to_owned();
    xml::element("DisplayName", told::display_name(mailbox), &mut out);
    xml::element("LegacyDN", &told::legacy_dn(world, mailbox), &mut out);
    xml::element("AutoDiscoverSMTPAddress", &mailbox.address, &mut out);
    out.push_str(
        "</User><Account><AccountType>email</AccountType><Action>settings</Action>\
                  <MicrosoftOnline>False</MicrosoftOnline>",
    );
    let ews = told::ews_url(world);
    for kind in ["EXCH", "EXPR", "EXHTTP"] {
        out.push_str("<Protocol>");
        xml::element("Type", kind, &mut out);
        xml::element("Server", &told::server(world), &mut out);
        if kind == "EXCH" {
            xml::element("ServerVersion", &told::packed_version(world), &mut out);
        }
        for name in ["ASUrl", "EwsUrl"] {
            xml::element(name, &ews, &mut out);
        }
        out.push_str("</Protocol>");
    }
    out.push_str("<Protocol><Type>WEB</Type>");
    for (side, kind) in [("Internal", "EXCH"), ("External", "EXPR")] {
        out.push_str(&format!("<{side}><Protocol><Type>{kind}</Type>"));
        xml::element("ASUrl", &ews, &mut out);
        out.push_str(&format!("</Protocol></{side}>"));
    }
    out.push_str("</Protocol></Account>");
    out
}

/// Errors come with status 200, and in the schema that every provider shares.
fn error(world: &World, code: u16, message: &str) -> Response {
    let moment = jiff::Timestamp::from_millisecond(world.now()).unwrap_or_default();
    let time = moment.strftime("%H:%M:%S%.7f");
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"{RESPONSE}\"><Response>\
         <Error Time=\"{time}\" Id=\"{}\"><ErrorCode>{code}</ErrorCode>",
        world.next()
    );
    xml::element("Message", message, &mut body);
    body.push_str("<DebugData/></Error></Response></Autodiscover>");
    Response::xml(StatusCode::OK, body)
}
