//! The health service of gRPC: the same truth that `/readyz` tells.

use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    ops::Readiness,
    shutdown::{Kind, Shutdown},
};

/// The health service of a server that serves while all conditions hold and nobody wished it to stop. It speaks for
/// the server as a whole (the empty name) and for the services of these names.
pub async fn service(
    readiness: &Readiness,
    shutdown: &Shutdown,
    services: &'static [&'static str],
) -> HealthServer<HealthService> {
    HealthServer::new(watched(readiness, shutdown, services).await)
}

async fn watched(
    readiness: &Readiness,
    shutdown: &Shutdown,
    services: &'static [&'static str],
) -> HealthService {
    let reporter = HealthReporter::new();
    let (readiness, stop, mut changes) = (readiness.clone(), shutdown.clone(), readiness.changes());
    tell(&reporter, services, readiness.is_ready()).await;
    let service = HealthService::from_health_reporter(reporter.clone());
    shutdown.spawn(Kind::Helpful, "health", async move {
        loop {
            tell(&reporter, services, readiness.is_ready() && !stop.is_wished()).await;
            tokio::select! {
                biased;
                () = stop.wished() => return tell(&reporter, services, false).await,
                // It lives as long as the readiness that is held here.
                _ = changes.changed() => {}
            }
        }
    });
    service
}

async fn tell(reporter: &HealthReporter, services: &[&'static str], serves: bool) {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in std::iter::once(&"").chain(services) {
        reporter.set_service_status(*name, status).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt as _;
    use tonic::{Code, Request};
    use tonic_health::pb::{HealthCheckRequest, health_server::Health as _};

    use super::*;

    fn asked(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn it_serves_while_it_is_ready_and_not_asked_to_stop() -> Result<(), Box<dyn std::error::Error>> {
        const ADMIN: &str = "mailyard.admin.v1.Mailboxes";
        let (readiness, shutdown) = (Readiness::default(), Shutdown::default());
        let service = watched(&readiness, &shutdown, &[ADMIN]).await;
        let mut statuses = service.watch(asked(ADMIN)).await?.into_inner();
        let mut next = async || match statuses.next().await {
            Some(Ok(answer)) => Ok(answer.status),
            other => Err(format!("{other:?}")),
        };
        let (serving, not_serving) = (1, 2);
        assert_eq!(next().await?, not_serving, "before anything is known");
        readiness.set("store", Ok(()));
        while next().await? != serving {}
        assert_eq!(service.check(asked("")).await?.into_inner().status, serving);
        let unknown = service.check(asked("other")).await.map_err(|status| status.code());
        assert_eq!(unknown.err(), Some(Code::NotFound));
        shutdown.begin();
        while next().await? != not_serving {}
        assert!(shutdown.finished(Duration::from_secs(5)).await);
        Ok(())
    }
}
