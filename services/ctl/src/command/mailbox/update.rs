//! Changing what is set on a mailbox.

use mailyard_wire::{
    FieldMask,
    admin::{self, UpdateMailboxRequest},
    name,
};

use super::objects;
use crate::{
    command::nothing_to_change, ctl::Ctl, exit::Exit, failure::Failure, server::Server, values::shell_word,
};

/// What to change.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Fields {
    /// Its profile; an empty name: none
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Its name for people
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Whom its alerts concern; empty: nobody
    #[arg(long, value_name = "ADDRESS")]
    owner_email: Option<String>,
    /// The CRM's key; empty: none
    #[arg(long, value_name = "KEY")]
    crm_id: Option<String>,
}

impl Fields {
    fn request(self, server: &Server, mut mailbox: admin::Mailbox) -> UpdateMailboxRequest {
        let mut paths = Vec::new();
        if let Some(profile) = self.profile {
            paths.push("profile".to_owned());
            let named = (!profile.is_empty()).then(|| server.name(name::PROFILES, &profile));
            mailbox.profile = named.unwrap_or_default();
        }
        let texts = [
            ("display_name", self.display_name, &mut mailbox.display_name),
            ("owner_email", self.owner_email, &mut mailbox.owner_email),
            ("crm_id", self.crm_id, &mut mailbox.crm_id),
        ];
        for (path, text, field) in texts {
            if let Some(text) = text {
                paths.push(path.to_owned());
                *field = text;
            }
        }
        UpdateMailboxRequest { mailbox: Some(mailbox), update_mask: Some(FieldMask { paths }) }
    }
}

pub(super) async fn run(
    ctl: &mut Ctl,
    address: &str,
    etag: Option<String>,
    fields: Fields,
) -> Result<Exit, Failure> {
    let Fields { profile, display_name, owner_email, crm_id } = &fields;
    if [profile, display_name, owner_email, crm_id].into_iter().all(Option::is_none) {
        return Err(nothing_to_change("mailbox update"));
    }
    // Another profile: what works there is not known yet.
    let next = if profile.is_some() { "test-enable" } else { "get" };
    let server = ctl.server().await?;
    let name = server.name(name::MAILBOXES, address);
    let etag = etag.unwrap_or_default();
    let request = fields.request(&server, admin::Mailbox { name, etag, ..Default::default() });
    let paths = request.update_mask.clone().unwrap_or_default().paths.join(", ");
    let mailbox = server.call(server.mailboxes().update_mailbox(request)).await?;
    let text = format!("changed the mailbox {}: {paths}", mailbox.address);
    let next = format!("mailbox {next} {}", shell_word(&mailbox.address));
    ctl.done(&objects::mailbox(&mailbox), &text, Some(&next))?;
    Ok(Exit::Success)
}
