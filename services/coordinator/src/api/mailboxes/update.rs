//! UpdateMailbox: what people set on a mailbox is changed, field by field.

use mailyard_policy::{
    Reason,
    id::{Org, ProfileId},
};
use mailyard_store::people::{Mailbox, NewMailbox};
use mailyard_wire::{
    admin::{self, UpdateMailboxRequest},
    status::refusal,
};
use tonic::Status;

use crate::api::{
    Api,
    input::{Input, SHORT, check_etag, fields, goes_again},
    refuse::Told as _,
};

/// What callers can set, by the names of the update mask.
const FIELDS: &[&str] = &["display_name", "profile", "owner_email", "crm_id"];

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
            input.done()?;
            if fields.contains(&"profile") {
                set.profile = self.wanted_profile(&before.org, &message.profile).await?;
            }
            if set == before.set {
                return Ok(before);
            }
            match self.store.update_mailbox(&set, before.revision).await {
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
    let text = match field {
        "display_name" => &message.display_name,
        "profile" => &message.profile,
        "owner_email" => &message.owner_email,
        "crm_id" => &message.crm_id,
        _ => return false,
    };
    !text.is_empty()
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
