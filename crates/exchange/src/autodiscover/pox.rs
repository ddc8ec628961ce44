//! Autodiscover of MS-OXDSCLI: plain XML.

use mailyard_policy::{Reason, outbox::Execution};

use super::answer::{Answer, Found, of_malformed, word};
use crate::{
    Failure,
    codec::{Malformed, Reader, ServerVersion, Writer},
};

const NAMESPACES: &[&str] = &[
    "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006",
    "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a",
];

/// The server knows no such address (MS-OXDSCLI, ErrorCode).
const ADDRESS_UNKNOWN: &str = "500";

/// Asks for the settings of an address.
pub fn write(address: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut writer = Writer::new(&mut out);
    writer.raw(concat!(
        r#"<?xml version="1.0" encoding="utf-8"?>"#,
        r#"<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">"#,
        "<Request>",
    ));
    writer.text("EMailAddress", address);
    writer.raw(concat!(
        "<AcceptableResponseSchema>",
        "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a",
        "</AcceptableResponseSchema></Request></Autodiscover>",
    ));
    out
}

#[derive(Default)]
struct Said {
    answered: bool,
    error: Option<Box<str>>,
    action: Box<str>,
    address: Box<str>,
    url: Box<str>,
    /// Preference, URL, version.
    protocols: Vec<(u8, String, Option<ServerVersion>)>,
}

/// Reads an answer.
pub fn read(document: &str) -> Result<Answer, Failure> {
    let mut said = parse(document).map_err(|malformed| of_malformed(malformed, document))?;
    if let Some(code) = said.error {
        return of_error(&code);
    }
    match &*said.action {
        "redirectAddr" => return Ok(Answer::Address(said.address.into())),
        "redirectUrl" => return Ok(Answer::Url(said.url.into())),
        _ => {}
    }
    said.protocols.sort_by_key(|(preference, ..)| *preference);
    let version = said.protocols.iter().find_map(|(.., version)| *version);
    let urls: Vec<String> = said.protocols.into_iter().map(|(_, url, _)| url).collect();
    if urls.is_empty() {
        let detail = "the settings of the mailbox name no EWS URL";
        return Err(Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail));
    }
    Ok(Answer::Found(Found { urls, grouping: None, version }))
}

fn of_error(code: &str) -> Result<Answer, Failure> {
    let unknown = code == ADDRESS_UNKNOWN;
    let reason = if unknown { Reason::MailboxNotFoundOnServer } else { Reason::MailboxLocationUnknown };
    let code = word(code);
    let failure = Failure::new(reason, Execution::Not, format!("Autodiscover refused with {code}"));
    let failure = Failure { code: Some(code), ..failure };
    if unknown { Ok(Answer::Refused(failure)) } else { Err(failure) }
}

fn parse(document: &str) -> Result<Said, Malformed> {
    let mut reader = Reader::of(document, NAMESPACES);
    if reader.root()?.name() != "Autodiscover" {
        return Err(Malformed::Unexpected("element Autodiscover"));
    }
    let mut said = Said::default();
    reader.children(|reader, element| match element.name() {
        "Response" => {
            said.answered = true;
            reader.children(|reader, element| match element.name() {
                "Account" => read_account(reader, &mut said),
                "Error" => read_error(reader, &mut said),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    })?;
    if said.answered { Ok(said) } else { Err(Malformed::Unexpected("element Response")) }
}

fn read_error(reader: &mut Reader<'_>, said: &mut Said) -> Result<(), Malformed> {
    said.error = Some(Box::default());
    reader.children(|reader, element| match element.name() {
        "ErrorCode" => Ok(said.error = Some(reader.text()?.trim().into())),
        _ => Ok(()),
    })
}

fn read_account(reader: &mut Reader<'_>, said: &mut Said) -> Result<(), Malformed> {
    reader.children(|reader, element| match element.name() {
        "Action" => Ok(said.action = reader.text()?.trim().into()),
        "RedirectAddr" => Ok(said.address = reader.text()?.trim().into()),
        "RedirectUrl" => Ok(said.url = reader.text()?.trim().into()),
        "Protocol" => Ok(said.protocols.extend(read_protocol(reader)?)),
        _ => Ok(()),
    })
}

fn read_protocol(reader: &mut Reader<'_>) -> Result<Option<(u8, String, Option<ServerVersion>)>, Malformed> {
    let (mut kind, mut ews, mut availability, mut version) = (String::new(), None, None, None);
    reader.children(|reader, element| match element.name() {
        "Type" => Ok(kind = reader.text()?.trim().to_owned()),
        "EwsUrl" => Ok(ews = Some(reader.text()?.trim().to_owned())),
        "ASUrl" => Ok(availability = Some(reader.text()?.trim().to_owned())),
        "ServerVersion" => Ok(version = self::version(reader.text()?.trim())),
        _ => Ok(()),
    })?;
    // What is reached from outside is reached from everywhere.
    let preference = match kind.as_str() {
        "EXPR" => 0,
        "EXHTTP" => 1,
        "EXCH" => 2,
        _ => return Ok(None),
    };
    let url = ews.or(availability).filter(|url| !url.is_empty());
    Ok(url.map(|url| (preference, url, version)))
}

/// Four bytes in hexadecimal (MS-OXDSCLI, ServerVersion): 4 bits of the structure, 6 of the major version, 6 of the minor one,
/// a flag, 15 of the build.
fn version(text: &str) -> Option<ServerVersion> {
    let bits = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8)?;
    let (major, minor) = ((bits >> 22 & 0x3F) as u16, (bits >> 16 & 0x3F) as u16);
    Some(ServerVersion { major, minor, build: (bits & 0x7FFF) as u16, revision: 0 })
}
