//! Resource names: `organizations/{org}`, `organizations/{org}/{collection}/{resource}`.

use mailyard_policy::{Reason, id::Org};
use tonic::Status;

use crate::status;

/// Profiles.
pub const PROFILES: &str = "emailServerProfiles";
/// Mailboxes.
pub const MAILBOXES: &str = "mailboxes";
/// Alerts.
pub const ALERTS: &str = "alerts";
/// Long-running operations.
pub const OPERATIONS: &str = "operations";
/// Emails.
pub const EMAILS: &str = "emails";
/// The settings of an organization: one of their kind.
pub const SETTINGS: &str = "emailSettings";

/// The name of an organization.
pub fn organization(org: &Org) -> String {
    format!("organizations/{org}")
}

/// The name of a resource.
pub fn resource(org: &Org, collection: &str, resource: impl std::fmt::Display) -> String {
    format!("organizations/{org}/{collection}/{resource}")
}

/// The name of the settings.
pub fn settings(org: &Org) -> String {
    format!("organizations/{org}/{SETTINGS}")
}

/// Reads `organizations/{org}`.
///
/// # Errors
/// `FIELD_INVALID` on this field.
pub fn parse_organization(field: &str, name: &str) -> Result<Org, Status> {
    let org = name.strip_prefix("organizations/").filter(|org| is_org(org));
    org.map(|org| Org(org.to_owned())).ok_or_else(|| wrong(field, name, "organizations/{org}"))
}

/// Reads the name of a resource of this collection: its organization, and what stands last. That may be an id or what
/// people call it, slashes and all.
///
/// # Errors
/// `FIELD_INVALID` on this field.
pub fn parse(field: &str, name: &str, collection: &str) -> Result<(Org, String), Status> {
    let parts = name.strip_prefix("organizations/").and_then(|rest| {
        let (org, rest) = rest.split_once('/')?;
        let (found, last) = rest.split_once('/')?;
        (found == collection && is_org(org) && !last.is_empty())
            .then(|| (Org(org.to_owned()), last.to_owned()))
    });
    parts.ok_or_else(|| wrong(field, name, &format!("organizations/{{org}}/{collection}/{{name}}")))
}

/// Reads the name of an organization's settings.
///
/// # Errors
/// `FIELD_INVALID` on this field.
pub fn parse_settings(field: &str, name: &str) -> Result<Org, Status> {
    let org = name.strip_suffix(SETTINGS).and_then(|rest| rest.strip_suffix('/'));
    org.and_then(|org| parse_organization(field, org).ok())
        .ok_or_else(|| wrong(field, name, "organizations/{org}/emailSettings"))
}

fn is_org(org: &str) -> bool {
    !org.is_empty()
        && org.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn wrong(field: &str, name: &str, shape: &str) -> Status {
    let shown: String = name.chars().take(80).collect();
    status::refusal(
        Reason::FieldInvalid,
        field,
        &format!("{shown:?} is no resource name of the form {shape}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let org = Org::default();
        let cases = [
            (resource(&org, PROFILES, "Head office / 2"), PROFILES, Some("Head office / 2")),
            (resource(&org, MAILBOXES, "ada@contoso.test"), MAILBOXES, Some("ada@contoso.test")),
            (resource(&org, MAILBOXES, "ada@contoso.test"), PROFILES, None),
            ("organizations/default/mailboxes/".to_owned(), MAILBOXES, None),
            ("organizations//mailboxes/x".to_owned(), MAILBOXES, None),
            ("mailboxes/x".to_owned(), MAILBOXES, None),
        ];
        for (name, collection, expected) in cases {
            let found = parse("name", &name, collection).ok().map(|(_, last)| last);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        assert_eq!(parse_organization("parent", &organization(&org)).ok(), Some(org.clone()));
        assert!(parse_organization("parent", "organizations/De fault").is_err());
        assert_eq!(parse_settings("name", &settings(&org)).ok(), Some(org));
        assert!(parse_settings("name", "organizations/x").is_err());
    }
}
