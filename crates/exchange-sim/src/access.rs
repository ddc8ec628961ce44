//! Who asks, as whom, and by which version: what is settled before an operation is looked at.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    schema,
    service::Refusal,
    world::{Mailbox, World},
    xml::Element,
};

/// Who asked.
pub(crate) enum Caller {
    Service,
    Owner(Arc<Mailbox>),
}

pub(crate) const IMPERSONATION_DENIED: Refusal = Refusal::new(
    "ErrorImpersonateUserDenied",
    "The account does not have permission to impersonate the requested user.",
);
pub(crate) const NO_SUCH_MAILBOX: Refusal =
    Refusal::new("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.");

/// Who signs in with these credentials.
pub(crate) fn authenticate(world: &World, authorization: Option<&str>) -> Option<Caller> {
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
pub(crate) fn check_header(world: &World, header: Option<&Element>) -> Result<(), Refusal> {
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
pub(crate) fn impersonated(
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
