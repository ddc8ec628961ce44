//! The SOAP envelope: what stands around every request, and what every answer has in common.

use std::time::Duration;

use super::{Element, Malformed, Mime, Operation, Reader, Writer};

/// The request version that every supported server accepts, from Exchange 2013 SP1 on.
const VERSION: &str = "Exchange2013_SP1";

/// The build of the server that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// 15 for all supported servers.
    pub major: u16,
    /// 0 = 2013, 1 = 2016, 2 = 2019 and Subscription Edition.
    pub minor: u16,
    /// The build.
    pub build: u16,
    /// The revision of the build.
    pub revision: u16,
}

/// What the server said instead of doing what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The response code, such as `ErrorItemNotFound`; empty if there was none.
    pub code: Box<str>,
    /// The text for people; it may hold addresses.
    pub text: Box<str>,
    /// `InnerErrorResponseCode`: the error behind the error.
    pub inner_code: Option<Box<str>>,
    /// `BackOffMilliseconds`: how long the server asks to be left alone.
    pub back_off: Option<Duration>,
    /// The whole request was refused by a SOAP fault, and not a part of it.
    pub fault: bool,
    /// The subscriptions that it is about, if it is about some of several.
    pub subscriptions: Vec<Box<str>>,
}

/// An answer that could be read.
#[derive(Debug)]
pub struct Answer<P> {
    /// One result per response message, in the order of the request; or the fault.
    pub messages: Result<Vec<Result<P, Refusal>>, Refusal>,
    /// The server's build, if it was told.
    pub version: Option<ServerVersion>,
}

/// In whose name a request is executed, and in whose mailbox; mailboxes are told by their primary SMTP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acting<'a> {
    /// The service account, in its own mailbox.
    AsItself,
    /// The mailbox's owner, by impersonation.
    As(&'a str),
    /// The service account, in a mailbox it has permissions on: folders that every mailbox has are those of this one.
    In(&'a str),
}

/// Writes a whole request.
pub fn write<O: Operation>(out: &mut Vec<u8>, acting: Acting<'_>, operation: &O) {
    let mut writer = Writer::new(out);
    if let Acting::In(address) = acting {
        writer = writer.in_mailbox(address);
    }
    writer.raw(concat!(
        r#"<?xml version="1.0" encoding="utf-8"?>"#,
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/""#,
        r#" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types""#,
        r#" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"><s:Header>"#,
    ));
    writer.empty("t:RequestServerVersion", &[("Version", VERSION)]);
    if let Acting::As(address) = acting {
        writer.raw("<t:ExchangeImpersonation><t:ConnectingSID>");
        writer.text("t:PrimarySmtpAddress", address);
        writer.raw("</t:ConnectingSID></t:ExchangeImpersonation>");
    }
    writer.raw("</s:Header><s:Body>");
    operation.write(&mut writer);
    writer.raw("</s:Body></s:Envelope>");
}

/// Reads a whole answer; `mimes` are the contents that a [`super::Sieve`] took out of it.
///
/// # Errors
/// [`Malformed`] if it is not an answer to the operation.
pub fn read<O: Operation>(document: &str, mimes: Vec<Mime>) -> Result<Answer<O::Part>, Malformed> {
    let mut reader = Reader::new(document, mimes);
    if reader.root()?.name() != "Envelope" {
        return Err(Malformed::Unexpected("SOAP envelope"));
    }
    let (mut version, mut messages) = (None, None);
    reader.children(|reader, element| {
        match element.name() {
            "Header" => reader.children(|_, element| {
                if element.name() == "ServerVersionInfo" {
                    version = read_version(element)?;
                }
                Ok(())
            })?,
            "Body" => reader.children(|reader, element| {
                if element.name() == "Fault" {
                    messages = Some(Err(read_fault(reader)?));
                } else if element.name().strip_suffix("Response") == Some(O::NAME) {
                    messages = Some(Ok(read_messages::<O>(reader)?));
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    // Contents are told apart by their order only.
    if reader.has_stray_mime() {
        return Err(Malformed::Unexpected("place for a content"));
    }
    Ok(Answer { messages: messages.ok_or(Malformed::Unexpected("response element"))?, version })
}

fn read_messages<O: Operation>(reader: &mut Reader<'_>) -> Result<Vec<Result<O::Part, Refusal>>, Malformed> {
    let mut messages = Vec::new();
    reader.children(|reader, element| {
        if element.name() == "ResponseMessages" {
            reader.children(|reader, element| {
                messages.push(read_message::<O>(reader, element)?);
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(messages)
}

/// `Warning` with `ErrorBatchProcessingStopped` means that the item was not attempted; any other warning comes with
/// a result.
fn read_message<O: Operation>(
    reader: &mut Reader<'_>,
    element: &Element<'_>,
) -> Result<Result<O::Part, Refusal>, Malformed> {
    let class = element.attribute("ResponseClass")?;
    let (mut part, mut refusal) = (O::Part::default(), Refusal::default());
    reader.children(|reader, element| match element.name() {
        "MessageText" => Ok(refusal.text = reader.boxed_text()?),
        "ResponseCode" => Ok(refusal.code = reader.boxed_text()?),
        "MessageXml" => read_values(reader, &mut refusal),
        "DescriptiveLinkKey" => Ok(()),
        "ErrorSubscriptionIds" => read_subscriptions(reader, &mut refusal),
        _ => O::read(reader, element, &mut part),
    })?;
    let refused = match class.as_deref() {
        Some("Success") => false,
        Some("Warning") => &*refusal.code == "ErrorBatchProcessingStopped",
        _ => true,
    };
    Ok(if refused { Err(refusal) } else { Ok(part) })
}

fn read_fault(reader: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    let mut refusal = Refusal { fault: true, ..Refusal::default() };
    let mut soap_code = Box::default();
    reader.children(|reader, element| match element.name() {
        "faultcode" => Ok(soap_code = reader.boxed_text()?),
        "faultstring" => Ok(refusal.text = reader.boxed_text()?),
        "detail" => reader.children(|reader, element| match element.name() {
            "ResponseCode" => Ok(refusal.code = reader.boxed_text()?),
            "MessageXml" => read_values(reader, &mut refusal),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    if refusal.code.is_empty() {
        refusal.code = soap_code.rsplit(':').next().unwrap_or_default().trim().into();
    }
    Ok(refusal)
}

/// The values are looked up by name: their order is not promised.
fn read_values(reader: &mut Reader<'_>, refusal: &mut Refusal) -> Result<(), Malformed> {
    reader.children(|reader, element| {
        let name = element.attribute("Name")?;
        match name.as_deref() {
            Some("BackOffMilliseconds") => {
                refusal.back_off = reader.text()?.trim().parse().ok().map(Duration::from_millis);
            }
            Some("InnerErrorResponseCode") => refusal.inner_code = Some(reader.text()?.trim().into()),
            _ => {}
        }
        Ok(())
    })
}

fn read_subscriptions(reader: &mut Reader<'_>, refusal: &mut Refusal) -> Result<(), Malformed> {
    reader.children(|reader, element| {
        if element.name() == "SubscriptionId" {
            refusal.subscriptions.push(reader.text()?.trim().into());
        }
        Ok(())
    })
}

fn read_version(element: &Element<'_>) -> Result<Option<ServerVersion>, Malformed> {
    let number = |name| Ok(element.attribute(name)?.and_then(|text| text.parse::<u16>().ok()));
    let (Some(major), Some(minor)) = (number("MajorVersion")?, number("MinorVersion")?) else {
        return Ok(None);
    };
    let build = number("MajorBuildNumber")?.unwrap_or_default();
    let revision = number("MinorBuildNumber")?.unwrap_or_default();
    Ok(Some(ServerVersion { major, minor, build, revision }))
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}.{}", self.major, self.minor, self.build, self.revision)
    }
}
