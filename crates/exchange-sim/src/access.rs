//! Who asks, as whom, and by which version: what is settled before an operation is looked at.

use std::sync::Arc;

use crate::{
    answer::Refusal,
    oauth::Accepted,
    schema,
    throttle::Payer,
    world::{Mailbox, World},
    xml::Element,
};

/// Who asked.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Service,
    Owner(Arc<Mailbox>),
    /// An application by its token: it has no mailbox.
    Application(Accepted),
}

pub(crate) const IMPERSONATION_DENIED: Refusal = Refusal::new(
    "ErrorImpersonateUserDenied",
    "The account does not have permission to impersonate the requested user.",
);
pub(crate) const NO_SUCH_MAILBOX: Refusal =
    Refusal::new("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.");

impl Caller {
    /// Who pays for what it asks in its own name.
    pub fn payer(&self) -> Payer {
        match self {
            Self::Service => Payer::Account(0),
            Self::Owner(mailbox) => Payer::Account(mailbox.number),
            Self::Application(_) => Payer::Application,
        }
    }

    /// Who pays for a request with these headers (impersonation is charged to a copy of the mailbox's budget).
    pub fn payer_for(&self, header: Option<&Element>, mailbox: Option<&Mailbox>) -> Payer {
        let impersonates = header.is_some_and(|header| header.child("ExchangeImpersonation").is_some());
        match mailbox.filter(|_| impersonates) {
            Some(mailbox) => Payer::Impersonated(mailbox.number),
            None => self.payer(),
        }
    }
}

/// Whose name this is: a UPN, which is the primary address, or a name of the Windows domain.
pub(crate) fn account(world: &World, user: &str) -> Option<Caller> {
    let address = match user.split_once('\\') {
        Some((domain, name)) if domain.eq_ignore_ascii_case(&world.options.nt_domain) => {
            format!("{name}@{}", world.options.domain)
        }
        Some(_) => return None,
        None => user.to_owned(),
    };
    let mailbox =
        world.mailbox_at(&address).filter(|mailbox| mailbox.address.eq_ignore_ascii_case(&address))?;
    if mailbox.number == world.service()?.number {
        return Some(Caller::Service);
    }
    Some(Caller::Owner(mailbox.clone()))
}

/// Headers that no version knows twice, and the version that the request is written for.
pub(crate) fn check_header(world: &World, header: Option<&Element>) -> Result<(), Refusal> {
    let children = header.map_or(&[][..], |header| &header.children);
    for (number, child) in children.iter().enumerate() {
        if children[..number].iter().any(|before| before.name == child.name) {
            return Err(Refusal::new("ErrorDuplicateSOAPHeader", "A SOAP header appears more than once."));
        }
    }
    let Some(version) = stated_version(header) else { return Ok(()) };
    // Dated versions, and those of 2015 and later, came after Exchange 2013.
    let newer = world.is_2013() && version > schema::VERSION_2013;
    if newer || !schema::is_version(version) {
        return Err(Refusal::new("ErrorInvalidServerVersion", "The specified server version is invalid."));
    }
    Ok(())
}

/// The version that a request is written for.
pub(crate) fn stated_version(header: Option<&Element>) -> Option<&str> {
    header?.child("RequestServerVersion")?.attribute("Version")
}

/// The mailbox as which the request is executed.
pub(crate) fn impersonated(
    world: &World,
    caller: &Caller,
    header: Option<&Element>,
) -> Result<Option<Arc<Mailbox>>, Refusal> {
    let Some(header) = header.and_then(|header| header.child("ExchangeImpersonation")) else {
        return match caller {
            Caller::Service => Ok(world.service().cloned()),
            Caller::Owner(mailbox) => Ok(Some(mailbox.clone())),
            Caller::Application(_) => Err(Refusal::new(
                "ErrorInvalidExchangeImpersonationHeaderData",
                "ExchangeImpersonation SOAP header must be present for this type of OAuth token.",
            )),
        };
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
        Caller::Service | Caller::Application(_) => Ok(Some(wanted)),
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
