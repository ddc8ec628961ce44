//! Changing what is set on a mailbox.

use std::path::PathBuf;

use mailyard_wire::{
    FieldMask,
    admin::{self, MailboxCredentials, UpdateMailboxRequest},
    name,
};

use super::objects;
use crate::{
    command::{nothing_to_change, secret},
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    server::Server,
    values::{self, Forgotten, shell_word},
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
    /// Whom it signs in as itself, a UPN or DOMAIN\user, where its profile leaves that to mailboxes
    #[arg(long)]
    user: Option<String>,
    /// The file that holds that account's password; - reads standard input, and asks on a terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Sign in as itself no longer, and forget user and password
    #[arg(long, conflicts_with_all = ["user", "password_file"])]
    forget_credentials: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "", value_parser = values::forget)]
    password: Option<Forgotten>,
}

impl Fields {
    fn is_empty(&self) -> bool {
        let Self { profile, display_name, owner_email, crm_id, user, .. } = self;
        let texts = [profile, display_name, owner_email, crm_id, user];
        texts.into_iter().all(Option::is_none) && self.password_file.is_none() && !self.forget_credentials
    }

    /// The account as far as it is given. `None`: nothing of it is.
    fn account(&self, ctl: &mut Ctl) -> Result<Option<MailboxCredentials>, Failure> {
        if self.password.is_some() {
            return Err(secret::refused());
        }
        let password = secret::password(ctl, self.password_file.as_deref(), self.user.is_some())?;
        if self.user.is_none() && password.is_none() {
            return Ok(None);
        }
        let user = self.user.clone().unwrap_or_default();
        Ok(Some(MailboxCredentials { user, password: password.unwrap_or_default(), password_set: false }))
    }

    fn request(
        self,
        server: &Server,
        account: Option<MailboxCredentials>,
        mut mailbox: admin::Mailbox,
    ) -> UpdateMailboxRequest {
        let mut paths = Vec::new();
        if self.user.is_some() {
            paths.push("credentials.user".to_owned());
        }
        if account.as_ref().is_some_and(|account| !account.password.is_empty()) {
            paths.push("credentials.password".to_owned());
        }
        if self.forget_credentials {
            paths.push("credentials".to_owned());
        }
        mailbox.credentials = account;
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
    let account = fields.account(ctl)?;
    if fields.is_empty() {
        return Err(nothing_to_change("mailbox update"));
    }
    // With another profile or account it is not known yet what works.
    let next = if fields.profile.is_some() || account.is_some() { "test-enable" } else { "get" };
    let server = ctl.server().await?;
    let name = server.name(name::MAILBOXES, address);
    let etag = etag.unwrap_or_default();
    let request = fields.request(&server, account, admin::Mailbox { name, etag, ..Default::default() });
    let paths = request.update_mask.clone().unwrap_or_default().paths.join(", ");
    let mailbox = server.call(server.mailboxes().update_mailbox(request)).await?;
    let text = format!("changed the mailbox {}: {paths}", mailbox.address);
    let next = format!("mailbox {next} {}", shell_word(&mailbox.address));
    ctl.done(&objects::mailbox(&mailbox), &text, Some(&next))?;
    Ok(Exit::Success)
}
