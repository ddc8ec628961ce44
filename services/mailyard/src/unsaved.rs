//! Test Connection with nothing saved: the coordinator's service in this process, on a store that is forgotten.

use std::sync::Arc;

use async_trait::async_trait;
use mailyard_coordinator::{
    api::{Api, Deployment},
    leader::{Beating, Leader},
};
use mailyard_host::{
    config::{self, Config},
    shutdown::Shutdown,
};
use mailyard_policy::id::MailboxId;
use mailyard_store::fleet::Leadership;
use mailyard_wire::{admin::profile_service_server::ProfileServiceServer, cluster::HeldMailbox};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{embedded, error::Error, pipe};

/// The service, as long as this is kept.
pub struct Unsaved {
    /// The road to it.
    pub channel: Channel,
    _folder: TempDir,
}

/// Nobody leads, and nobody waits to be told of anything.
struct Nobody;

#[async_trait]
impl Leader for Nobody {
    fn nudge(&self) {}

    async fn explain(&self, _mailbox: MailboxId) -> Option<HeldMailbox> {
        None
    }

    fn leadership(&self) -> Option<Leadership> {
        None
    }

    async fn beating(&self) -> Vec<Beating> {
        Vec::new()
    }
}

/// Begins the service, with the settings that a server in this environment would have.
///
/// # Errors
/// A setting is wrong, or there is no place for temporary files.
pub async fn start() -> Result<Unsaved, Error> {
    let config = config::load(None, config::environment(), &[])?;
    let folder = tempfile::tempdir()?;
    let store = embedded::open_store(folder.path(), &Config::default()).await?;
    let api = Api::new(store, Arc::new(Nobody), Deployment::from(&config), Shutdown::default());
    Ok(Unsaved { channel: pipe::serve(ProfileServiceServer::new(api)), _folder: folder })
}
