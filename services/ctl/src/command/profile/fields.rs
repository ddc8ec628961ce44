//! The fields of a profile as flags.

mod credentials;

use std::{path::PathBuf, time::Duration};

use clap::builder::BoolishValueParser;
use mailyard_wire::{Timestamp, admin, convert};

use crate::{
    command::{read_text, secret},
    ctl::Ctl,
    failure::Failure,
    values::{self, Forgotten},
};

/// How a server is reached, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Road {
    /// The EWS URL, such as https://mail.contoso.test/EWS/Exchange.asmx
    #[arg(long)]
    url: Option<String>,
    /// The EWS URL that mail is read from, if it is another
    #[arg(long, value_name = "URL")]
    incoming_url: Option<String>,
    /// The EWS URL that mail is sent through, if it is another
    #[arg(long, value_name = "URL")]
    outgoing_url: Option<String>,
    /// Let Autodiscover find the servers, for each mailbox; not with oauth
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    autodiscover: Option<bool>,
    #[command(flatten)]
    incoming: credentials::Incoming,
    #[command(flatten)]
    outgoing: credentials::Outgoing,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "", value_parser = values::forget)]
    password: Option<Forgotten>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "", value_parser = values::forget)]
    outgoing_password: Option<Forgotten>,
    /// Authorities to trust instead of the system's, as PEM; an empty file: the system's again
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Connections to the server at once, 1 to 300
    #[arg(long, value_name = "NUMBER")]
    max_connections: Option<u32>,
    /// One request ends after this
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    request_deadline: Option<Duration>,
}

/// The fields of a profile.
#[derive(Clone, Debug, clap::Args)]
pub struct Fields {
    #[command(flatten)]
    road: Road,
    /// Whose credentials open the mailboxes; with mailbox each has its own (`mailbox update ADDRESS --user`), and so many
    /// connections
    #[arg(long, value_enum, value_name = "WHOSE")]
    credentials_of: Option<credentials::Of>,
    /// Mail received before this is left alone: 2026-03-01 or 2026-03-01T12:00:00Z; an earlier date than before brings
    /// older mail in
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    process_email_from: Option<Timestamp>,
    /// No polling more often than this
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    min_poll_interval: Option<Duration>,
    /// How long the period of an idle mailbox may grow
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    idle_max: Option<Duration>,
    /// Mail that cannot be tracked is moved to the Undeliverable folder
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    move_failed: Option<bool>,
    /// The server tells when mail comes, by one more connection for each 200 mailboxes; needs impersonation
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    streaming: Option<bool>,
    /// Who is mailed when too many mailboxes fail
    #[arg(long, value_name = "ADDRESS")]
    owner_email: Option<String>,
    /// Whether the owner is mailed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    alert_owner: Option<bool>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Make it the profile of new mailboxes that name none
    #[arg(long)]
    pub(super) default: bool,
}

/// Which fields of a profile were filled in.
type Paths = Vec<String>;

impl Road {
    /// True if no server is named.
    pub(super) fn leads_nowhere(&self) -> bool {
        self.url.is_none() && self.incoming_url.is_none() && self.autodiscover != Some(true)
    }

    /// Fills in what is given, and says which fields that were. `ask`: a new user's password is asked for if no file
    /// holds it.
    pub(super) fn fill(
        self,
        ctl: &mut Ctl,
        profile: &mut admin::Profile,
        ask: bool,
    ) -> Result<Paths, Failure> {
        if self.password.is_some() || self.outgoing_password.is_some() {
            return Err(secret::refused());
        }
        let mut paths = Paths::new();
        if let Some(file) = &self.ca_file {
            paths.push("ca_pem".to_owned());
            profile.ca_pem = Some(read_text(ctl, file)?).filter(|pem| !pem.trim().is_empty());
        }
        self.incoming.fill(ctl, profile, &mut paths, ask)?;
        self.outgoing.fill(ctl, profile, &mut paths)?;
        let urls = [
            ("incoming_url", self.incoming_url.or_else(|| self.url.clone()), &mut profile.incoming_url),
            ("outgoing_url", self.outgoing_url.or(self.url), &mut profile.outgoing_url),
        ];
        for (path, url, field) in urls {
            if let Some(url) = url {
                paths.push(path.to_owned());
                *field = url;
            }
        }
        if let Some(flag) = self.autodiscover {
            paths.push("autodiscover".to_owned());
            profile.autodiscover = flag;
        }
        if let Some(number) = self.max_connections {
            paths.push("max_connections".to_owned());
            profile.max_connections = number;
        }
        if let Some(deadline) = self.request_deadline {
            paths.push("request_deadline".to_owned());
            profile.request_deadline = Some(convert::duration(deadline));
        }
        Ok(paths)
    }
}

impl Fields {
    /// Fills in what is given, and says which fields that were, as [`Road::fill`].
    pub(super) fn fill(
        self,
        ctl: &mut Ctl,
        profile: &mut admin::Profile,
        ask: bool,
    ) -> Result<Paths, Failure> {
        let mut paths = self.road.clone().fill(ctl, profile, ask)?;
        self.durations(profile, &mut paths);
        self.choices(profile, &mut paths);
        if let Some(whose) = self.credentials_of {
            paths.push("credential_source".to_owned());
            profile.credential_source = admin::CredentialSource::from(whose).into();
        }
        if let Some(address) = self.owner_email {
            paths.push("owner_email".to_owned());
            profile.owner_email = Some(address).filter(|address| !address.is_empty());
        }
        if let Some(text) = self.description {
            paths.push("description".to_owned());
            profile.description = text;
        }
        Ok(paths)
    }

    fn durations(&self, profile: &mut admin::Profile, paths: &mut Paths) {
        let durations = [
            ("min_poll_interval", self.min_poll_interval, &mut profile.min_poll_interval),
            ("idle_max", self.idle_max, &mut profile.idle_max),
        ];
        for (path, duration, field) in durations {
            if let Some(duration) = duration {
                paths.push(path.to_owned());
                *field = Some(convert::duration(duration));
            }
        }
    }

    fn choices(&self, profile: &mut admin::Profile, paths: &mut Paths) {
        let flags = [
            ("move_failed", self.move_failed, &mut profile.move_failed),
            ("streaming", self.streaming, &mut profile.streaming),
        ];
        for (path, flag, field) in flags {
            if let Some(flag) = flag {
                paths.push(path.to_owned());
                *field = flag;
            }
        }
        if self.alert_owner.is_some() {
            paths.push("alert_owner".to_owned());
            profile.alert_owner = self.alert_owner;
        }
        if self.process_email_from.is_some() {
            paths.push("process_email_from".to_owned());
            profile.process_email_from = self.process_email_from;
        }
    }
}
