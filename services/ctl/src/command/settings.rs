//! The email settings of the organization.

use clap::builder::BoolishValueParser;
use mailyard_wire::{
    FieldMask,
    admin::{self, GetProfileRequest, GetSettingsRequest, UpdateSettingsRequest},
    name,
};

use super::nothing_to_change;
use crate::{ctl::Ctl, exit::Exit, failure::Failure, object::Object, server::Server};

/// The email settings of the organization.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Settings {
    /// Show the settings
    Get,
    /// Change those that are given
    Update(Update),
}

/// What to change.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Update {
    /// The profile of new mailboxes that name none; an empty name: none
    #[arg(long, value_name = "NAME")]
    default_profile: Option<String>,
    /// How new mailboxes receive
    #[arg(long, value_enum, value_name = "METHOD")]
    default_incoming: Option<Method>,
    /// How new mailboxes send
    #[arg(long, value_enum, value_name = "METHOD")]
    default_outgoing: Option<Method>,
    /// How appointments, contacts and tasks of new mailboxes are synchronized
    #[arg(long, value_enum, value_name = "METHOD")]
    default_act: Option<Method>,
    /// Only approved mailboxes of users take part
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    approve_users: Option<bool>,
    /// Only approved mailboxes of queues take part
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    approve_queues: Option<bool>,
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Method {
    /// Not at all
    None,
    /// Server-side synchronization
    Sss,
    /// By a mailbox that mail is forwarded to
    Forward,
}

impl From<Method> for admin::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::None => Self::None,
            Method::Sss => Self::Sss,
            Method::Forward => Self::Forward,
        }
    }
}

impl Settings {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        if let Self::Update(update) = &self {
            update.check()?;
        }
        let server = ctl.server().await?;
        let called = format!("{}/{}", server.parent, name::SETTINGS);
        match self {
            Self::Get => {
                let request = GetSettingsRequest { name: called };
                let settings = server.call(server.settings().get_settings(request)).await?;
                ctl.object(&object(&server, &settings).await?)?;
            }
            Self::Update(update) => {
                let request = update.request(&server, called);
                let settings = server.call(server.settings().update_settings(request)).await?;
                ctl.object_then(&object(&server, &settings).await?, "mailbox list")?;
            }
        }
        Ok(Exit::Success)
    }
}

impl Update {
    fn check(&self) -> Result<(), Failure> {
        let texts = self.default_profile.is_some();
        let methods = [self.default_incoming, self.default_outgoing, self.default_act];
        let flags = [self.approve_users, self.approve_queues];
        if texts || methods.iter().any(Option::is_some) || flags.iter().any(Option::is_some) {
            return Ok(());
        }
        Err(nothing_to_change("settings update"))
    }

    fn request(self, server: &Server, called: String) -> UpdateSettingsRequest {
        let mut settings = admin::Settings { name: called, ..Default::default() };
        let mut paths = Vec::new();
        if let Some(profile) = self.default_profile {
            paths.push("default_profile");
            let named = (!profile.is_empty()).then(|| server.name(name::PROFILES, &profile));
            settings.default_profile = named.unwrap_or_default();
        }
        let methods = [
            ("default_incoming", self.default_incoming, &mut settings.default_incoming),
            ("default_outgoing", self.default_outgoing, &mut settings.default_outgoing),
            ("default_act", self.default_act, &mut settings.default_act),
        ];
        for (path, method, field) in methods {
            if let Some(method) = method {
                paths.push(path);
                *field = admin::Method::from(method).into();
            }
        }
        let flags = [
            ("approve_users", self.approve_users, &mut settings.approve_users),
            ("approve_queues", self.approve_queues, &mut settings.approve_queues),
        ];
        for (path, flag, field) in flags {
            if let Some(flag) = flag {
                paths.push(path);
                *field = flag;
            }
        }
        let paths = paths.into_iter().map(ToOwned::to_owned).collect();
        UpdateSettingsRequest { settings: Some(settings), update_mask: Some(FieldMask { paths }) }
    }
}

/// The default profile is shown by the name that people gave it.
async fn object(server: &Server, settings: &admin::Settings) -> Result<Object, Failure> {
    let mut profile = String::new();
    if !settings.default_profile.is_empty() {
        let request = GetProfileRequest { name: settings.default_profile.clone() };
        profile = server.call(server.profiles().get_profile(request)).await?.display_name;
    }
    Ok(Object::new()
        .text("default_profile", profile)
        .word("default_incoming", settings.default_incoming().as_str_name(), "METHOD_")
        .word("default_outgoing", settings.default_outgoing().as_str_name(), "METHOD_")
        .word("default_act", settings.default_act().as_str_name(), "METHOD_")
        .flag("approve_users", settings.approve_users)
        .flag("approve_queues", settings.approve_queues)
        .text("etag", &settings.etag))
}
