//! What is told of a mailbox, the same in every form.

use crate::world::{Mailbox, World};

/// Where EWS is.
pub(super) fn ews_url(world: &World) -> String {
    format!("{}/EWS/Exchange.asmx", world.origin)
}

/// The name of the server in its own organization.
pub(super) fn server(world: &World) -> String {
    format!("ex01.{}", world.options.domain)
}

/// The name of somebody in the directory.
pub(super) fn display_name(mailbox: &Mailbox) -> &str {
    mailbox.address.split('@').next().unwrap_or_default()
}

/// The same by which older protocols know him.
pub(super) fn legacy_dn(world: &World, mailbox: &Mailbox) -> String {
    format!(
        "/o={}/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn={:032x}-{}",
        world.options.nt_domain,
        mailbox.number,
        display_name(mailbox)
    )
}

/// The server's version as Outlook reads it: 4 bits that say how, 6 of the major version, 6 of the minor one, a flag, 15 of
/// the build.
pub(super) fn packed_version(world: &World) -> String {
    let (major, minor, build) = world.options.version;
    let packed = 7 << 28
        | u32::from(major & 0x3f) << 22
        | u32::from(minor & 0x3f) << 16
        | 1 << 15
        | u32::from(build & 0x7fff);
    format!("{packed:08X}")
}

/// Schemas that requests may be written for.
fn schemas(world: &World) -> String {
    let old = "Exchange2007, Exchange2007_SP1, Exchange2010, Exchange2010_SP1, Exchange2010_SP2, Exchange2013, Exchange2013_SP1";
    if world.is_2013() { old.to_owned() } else { format!("{old}, Exchange2015, Exchange2016") }
}

fn version(world: &World) -> String {
    let (major, minor, build) = world.options.version;
    format!("{major}.{minor:02}.{build:04}.006")
}

/// A setting of a user; `None`: it is not available here.
pub(super) fn user_setting(world: &World, mailbox: &Mailbox, name: &str) -> Option<String> {
    Some(match name {
        "AutoDiscoverSMTPAddress" => mailbox.address.clone(),
        "UserDisplayName" => display_name(mailbox).to_owned(),
        "UserDN" => legacy_dn(world, mailbox),
        "InternalMailboxServer" => server(world),
        "EwsSupportedSchemas" => schemas(world),
        "CasVersion" | "ExternalEwsVersion" => version(world),
        "InternalEwsUrl" | "ExternalEwsUrl" => ews_url(world),
        "GroupingInformation" => "Default-First-Site-Name".to_owned(),
        _ => return None,
    })
}

/// A setting of the domain; `None`: it is not available here.
pub(super) fn domain_setting(world: &World, name: &str) -> Option<String> {
    match name {
        "ExternalEwsUrl" => Some(ews_url(world)),
        "ExternalEwsVersion" => Some(version(world)),
        _ => None,
    }
}
