//! Alerts.

use mailyard_wire::{
    admin::{self, GetAlertRequest, ListAlertsRequest},
    name,
};

use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    server::{PAGE, pages},
    table::Column,
};

const COLUMNS: &[Column] = &[
    ("REASON", &["reason"]),
    ("LEVEL", &["level"]),
    ("SCOPE", &["scope"]),
    ("REGARDING", &["regarding"]),
    ("COUNT", &["count"]),
    ("STATE", &["state"]),
    ("LAST-TIME", &["last_time"]),
    ("SUMMARY", &["summary"]),
];

/// What went wrong and may need somebody.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Alert {
    /// List alerts, newest first
    List {
        /// Only those that match, such as 'state = open AND level = error'
        #[arg(long)]
        filter: Option<String>,
    },
    /// Show one alert
    Get {
        /// Its id
        id: String,
    },
}

impl Alert {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        let server = ctl.server().await?;
        match self {
            Self::Get { id } => {
                let request = GetAlertRequest { name: server.name(name::ALERTS, &id) };
                let alert = server.call(server.alerts().get_alert(request)).await?;
                ctl.object(&object(&alert))?;
            }
            Self::List { filter } => {
                let filter = filter.unwrap_or_default();
                let alerts = pages(async |page_token| {
                    let request = ListAlertsRequest {
                        parent: server.parent.clone(),
                        page_size: PAGE,
                        page_token,
                        filter: filter.clone(),
                    };
                    let answer = server.call(server.alerts().list_alerts(request)).await?;
                    Ok((answer.alerts, answer.next_page_token))
                })
                .await?;
                let objects: Vec<Object> = alerts.iter().map(object).collect();
                ctl.list(&objects, COLUMNS)?;
            }
        }
        Ok(Exit::Success)
    }
}

fn object(alert: &admin::Alert) -> Object {
    Object::new()
        .text("id", &alert.uid)
        .text("reason", &alert.reason)
        .word("level", alert.level().as_str_name(), "ALERT_LEVEL_")
        .word("scope", alert.scope().as_str_name(), "ALERT_SCOPE_")
        .text("regarding", &alert.regarding)
        .text("profile", &alert.profile)
        .number("count", alert.count)
        .word("state", alert.state().as_str_name(), "ALERT_STATE_")
        .text("summary", &alert.summary)
        .text("remedy", &alert.remedy)
        .text("guide", &alert.guide)
        .text("notice", &alert.notice)
        .time("first_time", alert.first_time.as_ref())
        .time("last_time", alert.last_time.as_ref())
        .time("resolved_time", alert.resolved_time.as_ref())
}
