//! A simulator from its beginning to its end, for whoever runs one.

use std::{io::Write as _, net::SocketAddr, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    Grant, Listed, Made, Options, Registration, Rule, Scheme, Settings, Submission, auth, control, doors,
    oauth::Issuer,
    tls,
    world::{World, folder_named},
};

/// Why a simulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is not free, or an address not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A permission for or in a mailbox that is none.
    #[error("cannot give permissions: {0}")]
    Grant(String),
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
}

/// What a person or program needs to use the simulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Where clients go.
    pub ews_url: String,
    /// Where clients that know only an address begin: Autodiscover by SOAP; the other forms lie beside it.
    pub autodiscover_url: String,
    /// Where they are told of it without TLS.
    pub autodiscover_http_url: String,
    /// The authority to trust.
    pub ca_file: String,
    /// The service account's UPN.
    pub user: String,
    /// Everybody's password.
    pub password: String,
    /// The mail domain.
    pub domain: String,
    /// The Windows domain.
    pub nt_domain: String,
    /// One address per line.
    pub addresses_file: String,
    /// Where the control door is.
    pub control_url: String,
    /// How to get tokens, if they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<Registration>,
}

/// A simulator that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    ready: Ready,
    stop: watch::Sender<bool>,
    doors: JoinSet<()>,
}

impl Simulator {
    /// Opens all doors.
    ///
    /// # Errors
    /// [`Error`] if a port, a file or a certificate cannot be had.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let identity = tls::identity(options.listen.ip(), &options.domain).map_err(Error::Certificate)?;
        let clients = listen(options.listen).await?;
        let beginners = listen(options.plain_listen).await?;
        let controllers = listen(options.control_listen).await?;
        let client_address = local(&clients)?;
        let places = (local(&beginners)?, local(&controllers)?);
        let mut issuing = None;
        let mut issuer = None;
        if options.auth.contains(&Scheme::OAuth) {
            let door = listen(options.issuer_listen).await?;
            issuer = Some(register(&options, local(&door)?, client_address)?);
            issuing = Some(door);
        }
        let bindings = auth::bindings(&identity.end_point);
        let origin = format!("https://{client_address}");
        let (stop, stopped) = watch::channel(false);
        let world = Arc::new(World::new(options, origin, bindings, issuer, stopped.clone()));
        let ready = write_files(&world, &identity.ca_pem, places)?;
        fill(&world);
        world.options.grants.iter().try_for_each(|grant| world.grant(grant)).map_err(Error::Grant)?;
        let acceptor = TlsAcceptor::from(identity.server);
        let mut doors = JoinSet::new();
        let (tls, served) = (acceptor.clone(), world.clone());
        doors.spawn(doors::open(clients, stopped.clone(), move |tcp| {
            doors::client(tcp, tls.clone(), served.clone())
        }));
        if let Some(door) = issuing {
            let served = world.clone();
            doors.spawn(doors::open(door, stopped.clone(), move |tcp| {
                doors::issuer(tcp, acceptor.clone(), served.clone())
            }));
        }
        let served = world.clone();
        doors.spawn(doors::open(beginners, stopped.clone(), move |tcp| doors::plain(tcp, served.clone())));
        let served = world.clone();
        doors.spawn(doors::open(controllers, stopped, move |tcp| doors::controller(tcp, served.clone())));
        Ok(Self { world, ready, stop, doors })
    }

    /// What a person or program needs to use it.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Delivers made messages. Returns how many arrived.
    pub fn deliver(&self, made: &Made) -> usize {
        self.world.deliver_made(made)
    }

    /// Adds a rule of what goes wrong.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn fault(&self, rule: Rule) -> Result<(), String> {
        rule.check()?;
        self.world.set_faults(|faults| faults.add(rule));
        Ok(())
    }

    /// Takes all rules away.
    pub fn clear_faults(&self) {
        self.world.set_faults(crate::fault::Faults::clear);
    }

    /// Changes the settings.
    pub fn set(&self, settings: Settings) {
        let Ok(_) = self.world.change_settings(|_| Ok::<_, std::convert::Infallible>(settings));
    }

    /// Gives or takes permissions.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn grant(&self, grant: &Grant) -> Result<(), String> {
        self.world.grant(grant)
    }

    /// Everything that was accepted for delivery.
    pub fn submissions(&self) -> Vec<Submission> {
        self.world.submissions()
    }

    /// A folder of a mailbox; `None`: there is no such mailbox or folder.
    pub fn list(&self, mailbox: &str, folder: &str) -> Option<Vec<Listed>> {
        let mailbox = self.world.mailbox_at(mailbox)?;
        let folder = folder_named(&mailbox.contents(), folder)?;
        Some(World::list(mailbox, folder))
    }

    /// The counters, as the control door tells them.
    pub fn stats(&self) -> serde_json::Value {
        control::stats(&self.world, None)
    }

    /// Requests of an operation for a mailbox; `None`: there is no such mailbox.
    pub fn requests(&self, operation: &str, mailbox: &str) -> Option<u64> {
        let mailbox = self.world.mailbox_at(mailbox)?;
        Some(self.world.counters.of_mailbox(mailbox.number, Some(operation)))
    }

    /// Addresses of the mailboxes.
    pub fn addresses(&self) -> Vec<String> {
        self.world.addresses().map(ToOwned::to_owned).collect()
    }

    /// Stops and waits until nothing runs any more.
    pub async fn shutdown(mut self) {
        // Nobody may be listening any more: then there is nothing to stop.
        let _gone = self.stop.send(true);
        while self.doors.join_next().await.is_some() {}
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Error> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|source| Error::Listen { address: nowhere, source })
}

/// Writes a file anew; a secret one is its owner's alone from its beginning.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let fail = |source| Error::Write { path: path.to_string_lossy().into_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    // What lies there from an earlier run may have another mode.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(fail)
}

/// An issuer at an address, with an application that has a certificate in a file.
fn register(options: &Options, issuer: SocketAddr, clients: SocketAddr) -> Result<Issuer, Error> {
    let file = options.folder.join("application.pem");
    let (authority, resource) = (format!("https://{issuer}"), format!("https://{clients}"));
    let (issuer, pem) = Issuer::new(options.seed, authority, resource, file.to_string_lossy().into_owned())
        .map_err(Error::Certificate)?;
    write(&file, &pem, 0o600)?;
    Ok(issuer)
}

fn write_files(
    world: &World,
    ca_pem: &str,
    (beginners, controllers): (SocketAddr, SocketAddr),
) -> Result<Ready, Error> {
    let ca_file = world.options.folder.join("ca.pem");
    let addresses_file = world.options.folder.join("addresses.txt");
    write(&ca_file, ca_pem, 0o644)?;
    let addresses: String = world.addresses().flat_map(|address| [address, "\n"]).collect();
    write(&addresses_file, &addresses, 0o644)?;
    Ok(Ready {
        ews_url: format!("{}/EWS/Exchange.asmx", world.origin),
        autodiscover_url: format!("{}/autodiscover/autodiscover.svc", world.origin),
        autodiscover_http_url: format!("http://{beginners}/autodiscover/autodiscover.xml"),
        ca_file: ca_file.to_string_lossy().into_owned(),
        user: world.service().map(|mailbox| mailbox.address.clone()).unwrap_or_default(),
        password: world.password.clone(),
        domain: world.options.domain.clone(),
        nt_domain: world.options.nt_domain.clone(),
        addresses_file: addresses_file.to_string_lossy().into_owned(),
        control_url: format!("http://{controllers}"),
        oauth: world.issuer.as_ref().map(|issuer| issuer.registration().clone()),
    })
}

fn fill(world: &World) {
    let count = world.options.initial_messages as u32;
    if count == 0 {
        return;
    }
    for address in world.addresses() {
        let made = Made { to: vec![address.to_owned()], count: Some(count), ..Made::default() };
        world.deliver_made(&made);
    }
}
