//! The codec against answers of every shape, and its requests against golden files.

mod answers;
mod hostile;
mod requests;
mod streamed;

use super::{Answer, Limits, Malformed, Operation, Sieve, read, text};

const LIMITS: Limits = Limits { document: 1 << 20, content: 1 << 20 };

/// Reads an answer as a client does, arriving in pieces of `step` bytes.
fn receive<O: Operation>(answer: &[u8], step: usize) -> Result<Answer<O::Part>, Malformed> {
    let mut sieve = Sieve::new(LIMITS);
    for piece in answer.chunks(step.max(1)) {
        sieve.push(piece)?;
    }
    let (document, mimes) = sieve.finish();
    read::<O>(&text(&document)?, mimes)
}

/// An answer with this inside its body, as Exchange writes it.
fn soap(body: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><h:ServerVersionInfo MajorVersion="15" MinorVersion="2" MajorBuildNumber="1544" MinorBuildNumber="4" xmlns:h="http://schemas.microsoft.com/exchange/services/2006/types" xmlns="http://schemas.microsoft.com/exchange/services/2006/types"/></s:Header><s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{body}</s:Body></s:Envelope>"#
    )
}

/// An answer of an operation with these response messages.
fn answer(operation: &str, messages: &str) -> String {
    soap(&format!(
        r#"<m:{operation}Response xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:ResponseMessages>{messages}</m:ResponseMessages></m:{operation}Response>"#
    ))
}

/// One response message that tells of success.
fn success(operation: &str, content: &str) -> String {
    format!(
        r#"<m:{operation}ResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>{content}</m:{operation}ResponseMessage>"#
    )
}

/// One response message that tells of an error.
fn error(operation: &str, class: &str, code: &str) -> String {
    format!(
        r#"<m:{operation}ResponseMessage ResponseClass="{class}"><m:MessageText>Said for people.</m:MessageText><m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey><m:Items/></m:{operation}ResponseMessage>"#
    )
}
