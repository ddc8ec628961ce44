//! UpdateMailbox: what people set on a mailbox is changed, field by field.

use mailyard_policy::{
    Reason,
    id::{Org, ProfileId},
    profile::Account,
};
use mailyard_store::people::{AccountChange, Mailbox, NewMailbox};
use mailyard_wire::{
    admin::{self, MailboxCredentials, UpdateMailboxRequest},
    status::refusal,
};
use tonic::Status;

use crate::api::{
    Api,
    input::{Input, SHORT, check_etag, fields, goes_again},
    refuse::Told as _,
};

/// What callers can set, by the names of the update mask.
const FIELDS: &[&str] =
    &["display_name", "profile", "owner_email", "crm_id", "credentials.user", "credentials.password"];

impl Api {
    /// Changes a mailbox; returns it as it is then.
    pub(super) async fn change_mailbox(&self, request: UpdateMailboxRequest) -> Result<Mailbox, Status> {
        let UpdateMailboxRequest { mailbox: message, update_mask } = request;
        let message = message.unwrap_or_default();
        let fields = fields(update_mask.as_ref(), FIELDS, |field| is_set(&message, field))?;
        let mut attempt = 1;
        loop {
            let before = self.find_mailbox("mailbox.name", &message.name).await?;
            check_etag("mailbox.etag", &message.etag, before.revision)?;
            let mut set = before.set.clone();
            let mut input = Input::default();
            for field in &fields {
                apply(&mut set, &message, field, &mut input);
            }
            let account = if fields.iter().any(|field| field.starts_with("credentials.")) {
                account(before.account.as_ref(), message.credentials.as_ref(), &fields, &mut input)
            } else {
                AccountChange::Keep
            };
            input.done()?;
            if fields.contains(&"profile") {
                set.profile = self.wanted_profile(&before.org, &message.profile).await?;
            }
            if set == before.set && matches!(account, AccountChange::Keep) {
                return Ok(before);
            }
            match self.store.update_mailbox(&set, &account, before.revision).await {
                Err(error) if goes_again(&message.etag, attempt, &error) => {
                    attempt += 1;
                }
                updated => {
                    let mailbox = updated.told()?;
                    tracing::info!(mailbox = %mailbox.set.id, "a mailbox was changed");
                    self.leader.nudge();
                    return Ok(mailbox);
                }
            }
        }
    }

    async fn wanted_profile(&self, org: &Org, wanted: &str) -> Result<Option<ProfileId>, Status> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let profile = self.find_profile("mailbox.profile", wanted).await?;
        if profile.org != *org {
            let detail = "the profile is of another organization";
            return Err(refusal(Reason::FieldInvalid, "mailbox.profile", detail));
        }
        Ok(Some(profile.id))
    }
}

/// True if a message without a mask sets this field.
fn is_set(message: &admin::Mailbox, field: &str) -> bool {
    let nobody = MailboxCredentials::default();
    let credentials = message.credentials.as_ref().unwrap_or(&nobody);
    let text = match field {
        "display_name" => &message.display_name,
        "profile" => &message.profile,
        "owner_email" => &message.owner_email,
        "crm_id" => &message.crm_id,
        "credentials.user" => &credentials.user,
        "credentials.password" => &credentials.password,
        _ => return false,
    };
    !text.is_empty()
}

/// What becomes of the mailbox's own account. A password belongs to its user: another user brings another one.
fn account(
    before: Option<&Account>,
    wanted: Option<&MailboxCredentials>,
    fields: &[&str],
    input: &mut Input,
) -> AccountChange {
    let (user_at, password_at) = ("mailbox.credentials.user", "mailbox.credentials.password");
    let Some(wanted) = wanted else {
        return before.map_or(AccountChange::Keep, |_| AccountChange::Forget);
    };
    let known = before.map(|account| account.user.as_str()).unwrap_or_default();
    let user = if fields.contains(&"credentials.user") {
        input.line(user_at, &wanted.user, SHORT)
    } else {
        known.to_owned()
    };
    if user.is_empty() {
        input.wrong(user_at, "it is empty");
    }
    let given = fields.contains(&"credentials.password") && !wanted.password.is_empty();
    if given {
        let password = input.password(password_at, &wanted.password);
        return AccountChange::Set { user, password };
    }
    if user != known || before.is_none() {
        input.wrong(password_at, "it is empty; the password of the account is required");
    }
    AccountChange::Keep
}

fn apply(set: &mut NewMailbox, wanted: &admin::Mailbox, field: &str, input: &mut Input) {
    let given = |text: String| (!text.is_empty()).then_some(text);
    match field {
        "display_name" => set.display_name = input.name("mailbox.display_name", &wanted.display_name, SHORT),
        "owner_email" => {
            let address = wanted.owner_email.as_str();
            set.owner_email = (!address.is_empty()).then(|| input.address("mailbox.owner_email", address));
        }
        "crm_id" => set.crm_id = given(input.line("mailbox.crm_id", &wanted.crm_id, SHORT)),
        _ => {}
    }
}
