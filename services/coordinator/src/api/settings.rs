//! SettingsService: the email settings of an organization.

use mailyard_policy::{Reason, id::Org, operation::Kind};
use mailyard_store::people::Settings;
use mailyard_wire::{
    admin::{
        self, GetSettingsRequest, Method, UpdateSettingsRequest, settings_service_server::SettingsService,
    },
    name,
    status::refusal,
};
use tonic::{Request, Response, Status};

use super::{
    Api,
    input::{Input, check_etag, etag, fields},
    refuse::Told as _,
    words::wanted_method,
};

const FIELDS: &[&str] = &[
    "default_profile",
    "default_incoming",
    "default_outgoing",
    "default_act",
    "approve_users",
    "approve_queues",
];

#[tonic::async_trait]
impl SettingsService for Api {
    async fn get_settings(
        &self,
        request: Request<GetSettingsRequest>,
    ) -> Result<Response<admin::Settings>, Status> {
        let org = name::parse_settings("name", &request.into_inner().name)?;
        let settings = self.store.settings(&org).await.told()?;
        Ok(Response::new(message(&org, &settings)))
    }

    async fn update_settings(
        &self,
        request: Request<UpdateSettingsRequest>,
    ) -> Result<Response<admin::Settings>, Status> {
        let UpdateSettingsRequest { settings: message, update_mask } = request.into_inner();
        let wanted = message.unwrap_or_default();
        let org = name::parse_settings("settings.name", &wanted.name)?;
        let fields = fields(update_mask.as_ref(), FIELDS, |field| is_set(&wanted, field))?;
        let mut settings = self.store.settings(&org).await.told()?;
        check_etag("settings.etag", &wanted.etag, settings.revision)?;
        let mut input = Input::default();
        for field in &fields {
            apply(&mut settings, &wanted, field, &mut input);
        }
        input.done()?;
        if fields.contains(&"default_profile") {
            settings.default_profile = self.default_profile(&org, &wanted.default_profile).await?;
        }
        let settings = self.store.update_settings(&org, &settings).await.told()?;
        tracing::info!(org = %org, "the settings were changed");
        self.leader.nudge();
        Ok(Response::new(self::message(&org, &settings)))
    }
}

impl Api {
    async fn default_profile(
        &self,
        org: &Org,
        wanted: &str,
    ) -> Result<Option<mailyard_policy::id::ProfileId>, Status> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let profile = self.find_profile("settings.default_profile", wanted).await?;
        if profile.org != *org {
            let detail = "the profile is of another organization";
            return Err(refusal(Reason::FieldInvalid, "settings.default_profile", detail));
        }
        Ok(Some(profile.id))
    }
}

/// True if a message without a mask sets this field. False is then no wish to switch something off.
fn is_set(message: &admin::Settings, field: &str) -> bool {
    match field {
        "default_profile" => !message.default_profile.is_empty(),
        "default_incoming" => message.default_incoming != 0,
        "default_outgoing" => message.default_outgoing != 0,
        "default_act" => message.default_act != 0,
        "approve_users" => message.approve_users,
        "approve_queues" => message.approve_queues,
        _ => false,
    }
}

fn apply(settings: &mut Settings, wanted: &admin::Settings, field: &str, input: &mut Input) {
    let (kind, method) = match field {
        "default_incoming" => (Kind::Incoming, wanted.default_incoming),
        "default_outgoing" => (Kind::Outgoing, wanted.default_outgoing),
        "default_act" => (Kind::Act, wanted.default_act),
        "approve_users" => return settings.approve_users = wanted.approve_users,
        "approve_queues" => return settings.approve_queues = wanted.approve_queues,
        _ => return,
    };
    let method = wanted_method(kind, &format!("settings.{field}"), method, input);
    settings.default_methods[kind as usize] = method;
}

fn message(org: &Org, settings: &Settings) -> admin::Settings {
    let profile = settings.default_profile.map(|profile| name::resource(org, name::PROFILES, profile));
    let [incoming, outgoing, act] = settings.default_methods.map(|method| Method::from(method).into());
    admin::Settings {
        name: name::settings(org),
        default_profile: profile.unwrap_or_default(),
        default_incoming: incoming,
        default_outgoing: outgoing,
        default_act: act,
        approve_users: settings.approve_users,
        approve_queues: settings.approve_queues,
        etag: etag(settings.revision),
    }
}
