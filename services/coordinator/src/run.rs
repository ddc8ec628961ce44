//! A coordinator, put together.

use std::sync::Arc;

use mailyard_host::{
    config::{Config, SmtpTls},
    metrics::Metrics,
    shutdown::{Kind, Shutdown},
};
use mailyard_policy::{Timestamp, placement};
use mailyard_store::{Store, fleet::SoleHolder};
use mailyard_wire::cluster::session_service_server::SessionServiceServer;
use ractor::{Actor, SpawnErr};
use tokio::sync::watch;

use crate::{
    aggregator::{self, Aggregator},
    duties::Duties,
    fleet::{self, Fleet, Handle},
    leader::Leader,
    leadership::Leading,
    mail::{Mailer, Relay, TlsMode},
    session::{self, Sessions},
};

/// One mail, from connecting to the relay's last answer, takes no longer.
const MAILED: std::time::Duration = std::time::Duration::from_secs(30);

/// What a coordinator is made of.
pub struct Parts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The deployment's configuration.
    pub config: Config,
    /// Who this coordinator is.
    pub holder: String,
    /// Proof that no other process can be there.
    pub proof: Option<SoleHolder>,
    /// The relay of mails to owners.
    pub mailer: Mailer,
    /// The clock of the process.
    pub now: fn() -> Timestamp,
    /// The figures of the process.
    pub metrics: Metrics,
    /// The end of the process.
    pub shutdown: Shutdown,
}

/// A coordinator that runs.
pub struct Coordinator {
    /// What servers for people and the CRM ask.
    pub leader: Arc<dyn Leader>,
    /// Whether it leads.
    pub leading: Leading,
    /// The server of worker sessions.
    pub sessions: SessionServiceServer<Sessions>,
}

/// Begins everything that a coordinator does; it ends with its process.
///
/// # Errors
/// An actor could not be started.
pub async fn start(parts: Parts) -> Result<Coordinator, SpawnErr> {
    let Parts { store, config, holder, proof, mailer, now, metrics, shutdown } = parts;
    let leading = Leading::default();
    let nudged = watch::Sender::new(());
    let (fleet, _) = Actor::spawn(
        None,
        Fleet,
        fleet::Arguments {
            store: store.clone(),
            holder,
            proof,
            leading: leading.clone(),
            lease_rules: config.lease_rules(),
            placement_rules: placement::Rules::default(),
        },
    )
    .await?;
    let handle = Handle::new(fleet, leading.clone(), nudged.clone());
    let arguments = aggregator::Arguments {
        store: store.clone(),
        leading: leading.clone(),
        rules: config.ratio_rules(),
        mails: mailer.is_configured(),
        now,
        metrics,
        nudged: nudged.clone(),
    };
    Actor::spawn(None, Aggregator, arguments).await?;
    let leader: Arc<dyn Leader> = Arc::new(handle.clone());
    let duties = Duties {
        store,
        leading: leading.clone(),
        leader: leader.clone(),
        mailer: Arc::new(mailer),
        now,
        nudged,
    };
    shutdown.spawn(Kind::Disposable, "mails", duties.clone().send_mails());
    shutdown.spawn(Kind::Disposable, "forgetting", duties.clone().forget());
    shutdown.spawn(Kind::Disposable, "duties", duties.run());
    Ok(Coordinator { leader, leading, sessions: session::service(handle) })
}

/// The relay of a deployment; `None`: no mail is sent.
pub fn relay(config: &Config) -> Option<Relay> {
    let smtp = &config.smtp;
    (!smtp.host.is_empty()).then(|| Relay {
        host: smtp.host.clone(),
        port: smtp.port,
        from: smtp.from.clone(),
        tls: match smtp.tls {
            SmtpTls::None => TlsMode::None,
            SmtpTls::StartTls => TlsMode::StartTls,
            SmtpTls::Implicit => TlsMode::Implicit,
        },
        user: (!smtp.user.is_empty()).then(|| smtp.user.clone()),
        password_file: smtp.password_file.clone(),
        ca_file: None,
        timeout: MAILED,
    })
}
