//! `GetUserSettings` of MS-OXWSADISC: Autodiscover over SOAP.

use mailyard_policy::{Reason, outbox::Execution};

use super::answer::{Answer, Found, of_malformed, word};
use crate::{
    Failure,
    codec::{Malformed, Reader, ServerVersion, Writer},
};

const NAMESPACES: &[&str] =
    &["http://schemas.xmlsoap.org/soap/envelope/", "http://schemas.microsoft.com/exchange/2010/Autodiscover"];

/// Asks for the settings of an address; `to` is the URL that is asked.
pub fn write(to: &str, address: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1536);
    let mut writer = Writer::new(&mut out);
    writer.raw(concat!(
        r#"<?xml version="1.0" encoding="utf-8"?>"#,
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/""#,
        r#" xmlns:w="http://www.w3.org/2005/08/addressing""#,
        r#" xmlns:a="http://schemas.microsoft.com/exchange/2010/Autodiscover"><s:Header>"#,
        "<a:RequestedServerVersion>Exchange2013</a:RequestedServerVersion>",
        "<w:Action>http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/GetUserSettings</w:Action>",
    ));
    writer.text("w:To", to);
    writer.raw("</s:Header><s:Body><a:GetUserSettingsRequestMessage><a:Request><a:Users><a:User>");
    writer.text("a:Mailbox", address);
    writer.raw(concat!(
        "</a:User></a:Users><a:RequestedSettings><a:Setting>ExternalEwsUrl</a:Setting>",
        "<a:Setting>InternalEwsUrl</a:Setting><a:Setting>GroupingInformation</a:Setting>",
        "<a:Setting>CasVersion</a:Setting></a:RequestedSettings>",
        "</a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>",
    ));
    out
}

#[derive(Default)]
struct Said {
    answered: bool,
    fault: Option<Box<str>>,
    /// Of the whole request.
    code: Box<str>,
    users: Vec<User>,
}

#[derive(Default)]
struct User {
    code: Box<str>,
    target: Box<str>,
    external: Option<Box<str>>,
    internal: Option<Box<str>>,
    grouping: Option<Box<str>>,
    version: Option<ServerVersion>,
}

/// Reads an answer.
pub fn read(document: &str) -> Result<Answer, Failure> {
    let said = parse(document).map_err(|malformed| of_malformed(malformed, document))?;
    if let Some(fault) = said.fault {
        return Err(refused(Reason::Exchange5xx, &fault));
    }
    let user = said.users.into_iter().next().unwrap_or_default();
    let is_good = |code: &str| code.is_empty() || code == "NoError";
    let code = if is_good(&said.code) { user.code.clone() } else { said.code };
    match &*code {
        "RedirectAddress" => Ok(Answer::Address(user.target.into())),
        "RedirectUrl" => Ok(Answer::Url(user.target.into())),
        "InvalidUser" => Ok(Answer::Refused(refused(Reason::MailboxNotFoundOnServer, &code))),
        "ServerBusy" => Ok(Answer::Refused(refused(Reason::ExchangeServerBusy, &code))),
        "InternalServerError" => Err(refused(Reason::Exchange5xx, &code)),
        code if !is_good(code) => Err(refused(Reason::MailboxLocationUnknown, code)),
        _ => {
            let urls: Vec<String> = user.external.into_iter().chain(user.internal).map(Into::into).collect();
            if urls.is_empty() {
                let detail = "the settings of the mailbox name no EWS URL";
                return Err(Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail));
            }
            Ok(Answer::Found(Found { urls, grouping: user.grouping.map(Into::into), version: user.version }))
        }
    }
}

fn refused(reason: Reason, code: &str) -> Failure {
    let code = word(code);
    let failure = Failure::new(reason, Execution::Not, format!("Autodiscover refused with {code}"));
    Failure { code: Some(code), ..failure }
}

fn parse(document: &str) -> Result<Said, Malformed> {
    let mut reader = Reader::of(document, NAMESPACES);
    if reader.root()?.name() != "Envelope" {
        return Err(Malformed::Unexpected("SOAP envelope"));
    }
    let mut said = Said::default();
    reader.children(|reader, element| match element.name() {
        "Body" => reader.children(|reader, element| match element.name() {
            "Fault" => read_fault(reader, &mut said),
            "GetUserSettingsResponseMessage" => read_message(reader, &mut said),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    if said.fault.is_none() && !said.answered {
        return Err(Malformed::Unexpected("response element"));
    }
    Ok(said)
}

fn read_fault(reader: &mut Reader<'_>, said: &mut Said) -> Result<(), Malformed> {
    said.fault = Some("Fault".into());
    reader.children(|reader, element| match element.name() {
        "faultcode" => Ok(said.fault = reader.text()?.rsplit(':').next().map(Into::into)),
        _ => Ok(()),
    })
}

fn read_message(reader: &mut Reader<'_>, said: &mut Said) -> Result<(), Malformed> {
    reader.children(|reader, element| match element.name() {
        "Response" => {
            said.answered = true;
            reader.children(|reader, element| match element.name() {
                "ErrorCode" => Ok(said.code = reader.text()?.trim().into()),
                "UserResponses" => reader.children(|reader, element| match element.name() {
                    "UserResponse" => read_user(reader).map(|user| said.users.push(user)),
                    _ => Ok(()),
                }),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    })
}

fn read_user(reader: &mut Reader<'_>) -> Result<User, Malformed> {
    let mut user = User::default();
    reader.children(|reader, element| match element.name() {
        "ErrorCode" => Ok(user.code = reader.text()?.trim().into()),
        "RedirectTarget" => Ok(user.target = reader.text()?.trim().into()),
        "UserSettings" => reader.children(|reader, element| match element.name() {
            "UserSetting" => read_setting(reader, &mut user),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(user)
}

fn read_setting(reader: &mut Reader<'_>, user: &mut User) -> Result<(), Malformed> {
    let (mut name, mut value) = (String::new(), String::new());
    reader.children(|reader, element| match element.name() {
        "Name" => Ok(name = reader.text()?.trim().to_owned()),
        "Value" => Ok(value = reader.text()?.trim().to_owned()),
        _ => Ok(()),
    })?;
    let text = (!value.is_empty()).then(|| value.as_str().into());
    match name.as_str() {
        "ExternalEwsUrl" => user.external = text,
        "InternalEwsUrl" => user.internal = text,
        "GroupingInformation" => user.grouping = text,
        "CasVersion" => user.version = version(&value),
        _ => {}
    }
    Ok(())
}

/// As in `15.02.1544.004`.
fn version(text: &str) -> Option<ServerVersion> {
    let mut numbers = text.split('.').map(|part| part.parse::<u16>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    let mut rest = || numbers.next().flatten().unwrap_or_default();
    Some(ServerVersion { major, minor, build: rest(), revision: rest() })
}
