//! Email server profiles.

mod fields;
mod test;

use mailyard_wire::{
    FieldMask,
    admin::{
        self, Access, CreateProfileRequest, GetProfileRequest, ListProfilesRequest, UpdateProfileRequest,
    },
    name,
};

use self::fields::{Fields, Road};
use super::nothing_to_change;
use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    server::{PAGE, Server, pages},
    table::Column,
    values::shell_word,
};

const COLUMNS: &[Column] = &[
    ("NAME", &["name"]),
    ("AUTH", &["auth"]),
    ("USER", &["user"]),
    ("DEFAULT", &["is_default"]),
    ("HELD-BACK", &["held_back_reason"]),
    ("INCOMING-URL", &["incoming_url"]),
];

/// Email server profiles: how the mailboxes of a server are reached.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Profile {
    /// Make a profile
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// Change what is given, and leave the rest
    Update {
        /// Its name
        name: String,
        /// Change it only if it still has this etag
        #[arg(long)]
        etag: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// List profiles by name
    List {
        /// Only those that match, such as 'owner_email : "@contoso.test"'
        #[arg(long)]
        filter: Option<String>,
    },
    /// Show one profile
    Get {
        /// Its name
        name: String,
    },
    /// Connect to a server step by step; enables and disables nothing. Without a name nothing is saved and no server of
    /// Mailyard is needed: give a URL and credentials
    Test {
        /// The name of a profile
        #[arg(conflicts_with_all = ["url", "incoming_url", "outgoing_url", "ca_file", "max_connections",
            "request_deadline", "autodiscover", "Incoming", "Outgoing"])]
        name: Option<String>,
        /// The mailbox whose Inbox is read; without it the service account's own
        #[arg(long)]
        address: Option<String>,
        #[command(flatten)]
        road: Box<Road>,
    },
}

impl Profile {
    /// True for what no server of Mailyard is needed for.
    pub(super) fn is_unsaved_test(&self) -> bool {
        matches!(self, Self::Test { name: None, .. })
    }

    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        match self {
            Self::Create { name, fields } => create(ctl, name, fields).await,
            Self::Update { name, etag, fields } => update(ctl, &name, etag, fields).await,
            Self::List { filter } => list(ctl, filter.unwrap_or_default()).await,
            Self::Get { name } => {
                let server = ctl.server().await?;
                let request = GetProfileRequest { name: server.name(name::PROFILES, &name) };
                let profile = server.call(server.profiles().get_profile(request)).await?;
                ctl.object(&object(&profile))?;
                Ok(Exit::Success)
            }
            Self::Test { name: Some(name), address, .. } => {
                test::stored(ctl, &name, address.unwrap_or_default()).await
            }
            Self::Test { name: None, address, road } => {
                test::unsaved(ctl, road, address.unwrap_or_default()).await
            }
        }
    }
}

async fn create(ctl: &mut Ctl, display_name: String, fields: Box<Fields>) -> Result<Exit, Failure> {
    let mut profile = admin::Profile { display_name, ..Default::default() };
    let set_default = fields.default;
    fields.fill(ctl, &mut profile, true)?;
    let server = ctl.server().await?;
    let request = CreateProfileRequest { parent: server.parent.clone(), profile: Some(profile), set_default };
    let profile = server.call(server.profiles().create_profile(request)).await?;
    let text = format!("made the profile {}", profile.display_name);
    let next = format!("profile test {}", shell_word(&profile.display_name));
    ctl.done(&object(&profile), &text, Some(&next))?;
    Ok(Exit::Success)
}

async fn update(
    ctl: &mut Ctl,
    called: &str,
    etag: Option<String>,
    fields: Box<Fields>,
) -> Result<Exit, Failure> {
    let mut profile = admin::Profile { etag: etag.unwrap_or_default(), ..Default::default() };
    let set_default = fields.default;
    let paths = fields.fill(ctl, &mut profile, false)?;
    if paths.is_empty() && !set_default {
        return Err(nothing_to_change("profile update"));
    }
    let server = ctl.server().await?;
    profile.name = server.name(name::PROFILES, called);
    let mask = FieldMask { paths };
    let text = changed(&mask.paths, set_default);
    let request = UpdateProfileRequest { profile: Some(profile), update_mask: Some(mask), set_default };
    let profile = server.call(server.profiles().update_profile(request)).await?;
    let text = format!("changed the profile {}: {text}", profile.display_name);
    let next = format!("profile test {}", shell_word(&profile.display_name));
    ctl.done(&object(&profile), &text, Some(&next))?;
    Ok(Exit::Success)
}

fn changed(paths: &[String], set_default: bool) -> String {
    let mut all = paths.to_vec();
    if set_default {
        all.push("it is the default".to_owned());
    }
    all.join(", ")
}

async fn list(ctl: &mut Ctl, filter: String) -> Result<Exit, Failure> {
    let server = ctl.server().await?;
    let profiles = all(&server, &filter).await?;
    let objects: Vec<Object> = profiles.iter().map(object).collect();
    ctl.list(&objects, COLUMNS)?;
    Ok(Exit::Success)
}

async fn all(server: &Server, filter: &str) -> Result<Vec<admin::Profile>, Failure> {
    pages(async |page_token| {
        let request = ListProfilesRequest {
            parent: server.parent.clone(),
            page_size: PAGE,
            page_token,
            filter: filter.to_owned(),
        };
        let answer = server.call(server.profiles().list_profiles(request)).await?;
        Ok((answer.profiles, answer.next_page_token))
    })
    .await
}

fn object(profile: &admin::Profile) -> Object {
    let found = profile.capabilities.unwrap_or_default();
    let capabilities = Object::new()
        .maybe("consumes_draft", found.consumes_draft)
        .maybe("checks_change_key", found.checks_change_key)
        .maybe("moved_id_dies", found.moved_id_dies);
    let object = Object::new()
        .text("name", &profile.display_name)
        .text("id", &profile.uid)
        .text("description", &profile.description)
        .text("incoming_url", &profile.incoming_url)
        .text("outgoing_url", &profile.outgoing_url)
        .flag("autodiscover", profile.autodiscover)
        .word("credentials_of", profile.credential_source().as_str_name(), "CREDENTIAL_SOURCE_");
    let object = credentials(object, &profile.credentials.clone().unwrap_or_default());
    let object = match &profile.outgoing_credentials {
        Some(own) => object.object("outgoing_credentials", credentials(Object::new(), own)),
        None => object,
    };
    let object = object
        .text("ca_pem", profile.ca_pem())
        .time("process_email_from", profile.process_email_from.as_ref())
        .span("min_poll_interval", profile.min_poll_interval.as_ref())
        .number("max_connections", profile.max_connections)
        .span("idle_max", profile.idle_max.as_ref())
        .flag("move_failed", profile.move_failed)
        .flag("streaming", profile.streaming)
        .maybe("alert_owner", profile.alert_owner)
        .text("owner_email", profile.owner_email())
        .span("request_deadline", profile.request_deadline.as_ref())
        .flag("is_default", profile.is_default)
        .text("held_back_reason", &profile.held_back_reason)
        .objects("held_back", super::status::held_back(&profile.held_back))
        .time("create_time", profile.create_time.as_ref())
        .text("etag", &profile.etag);
    let object = match &profile.last_test {
        Some(last) => object.object("last_test", test::last(last)),
        None => object,
    };
    if capabilities.entries().is_empty() { object } else { object.object("capabilities", capabilities) }
}

fn credentials(object: Object, credentials: &admin::Credentials) -> Object {
    let object = object.word("auth", credentials.authentication().as_str_name(), "AUTHENTICATION_");
    // Who signs in as itself acts for nobody.
    let object = match credentials.access() {
        Access::Unspecified => object,
        access => object.word("access", access.as_str_name(), "ACCESS_"),
    };
    let object = object.text("user", &credentials.user).flag("password_set", credentials.password_set);
    match &credentials.oauth {
        Some(oauth) => application(object, oauth),
        None => object,
    }
}

fn application(object: Object, oauth: &admin::OAuth) -> Object {
    object
        .text("oauth_tenant", &oauth.tenant)
        .text("oauth_client", &oauth.client)
        .text("oauth_authority", &oauth.authority)
        .text("oauth_resource", &oauth.resource)
        .text("oauth_certificate_subject", &oauth.certificate_subject)
        .time("oauth_certificate_expire_time", oauth.certificate_expire_time.as_ref())
        .text("oauth_certificate", &oauth.certificate_pem)
        .flag("oauth_key_set", oauth.key_set)
}
