//! AlertService: what went wrong and may need somebody.

use std::collections::HashMap;

use mailyard_policy::id::{AlertId, Org, ProfileId};
use mailyard_store::{notices::Alert, query::ALERT_FIELDS};
use mailyard_wire::{
    admin::{
        self, AlertLevel, AlertScope, AlertState, GetAlertRequest, ListAlertsRequest, ListAlertsResponse,
        alert_service_server::AlertService,
    },
    convert::timestamp,
    name,
};
use tonic::{Request, Response, Status};

use super::{
    Api, cut,
    refuse::{Told as _, not_found},
    with_one_more,
};
use crate::{filter, page_token::Listing};

#[tonic::async_trait]
impl AlertService for Api {
    async fn get_alert(&self, request: Request<GetAlertRequest>) -> Result<Response<admin::Alert>, Status> {
        let name = request.into_inner().name;
        let (org, last) = name::parse("name", &name, name::ALERTS)?;
        let found = match last.parse::<AlertId>() {
            Ok(id) => self.store.alert(id).await.told()?,
            Err(_) => None,
        };
        let alert =
            found.filter(|found| found.org == org).ok_or_else(|| not_found("name", "alert", &last))?;
        Ok(Response::new(message(&alert, &self.profile_names(&org).await?)))
    }

    async fn list_alerts(
        &self,
        request: Request<ListAlertsRequest>,
    ) -> Result<Response<ListAlertsResponse>, Status> {
        let ListAlertsRequest { parent, page_size, page_token, filter } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListAlerts", &[&parent, &filter]);
        let page = listing.page(page_size, &page_token).told()?;
        let filter = filter::parse(&filter, ALERT_FIELDS).told()?;
        let mut alerts = self.store.alerts(&org, &filter, &with_one_more(&page)).await.told()?;
        let next_page_token = cut(&listing, &page, &mut alerts, Alert::page_key);
        let names = self.profile_names(&org).await?;
        let alerts = alerts.iter().map(|alert| message(alert, &names)).collect();
        Ok(Response::new(ListAlertsResponse { alerts, next_page_token }))
    }
}

type Names = HashMap<ProfileId, String>;

impl Api {
    async fn profile_names(&self, org: &Org) -> Result<Names, Status> {
        let profiles = self.store.profiles(Some(org)).await.told()?;
        Ok(profiles.into_iter().map(|profile| (profile.id, profile.display_name)).collect())
    }
}

fn message(alert: &Alert, names: &Names) -> admin::Alert {
    let state = if alert.resolved_time.is_none() { AlertState::Open } else { AlertState::Resolved };
    admin::Alert {
        name: name::resource(&alert.org, name::ALERTS, alert.id),
        uid: alert.id.to_string(),
        reason: alert.reason.code().to_owned(),
        level: AlertLevel::from(alert.level).into(),
        scope: AlertScope::from(alert.scope).into(),
        regarding: alert.regarding_name.clone(),
        profile: alert.profile.and_then(|profile| names.get(&profile)).cloned().unwrap_or_default(),
        count: alert.count,
        state: state.into(),
        summary: alert.summary.clone(),
        remedy: alert.reason.entry().remedy.to_owned(),
        guide: alert.reason.entry().guide.unwrap_or_default().to_owned(),
        first_time: Some(timestamp(alert.first_time)),
        last_time: Some(timestamp(alert.last_time)),
        resolved_time: alert.resolved_time.map(timestamp),
        notice: alert.notice.clone().unwrap_or_default(),
    }
}
