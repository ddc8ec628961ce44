//! A fake Exchange on real HTTPS: an independent reading of the protocol, with real state and faults by rule.
//!
//! It answers the operations that clients use for mail, refuses what Exchange refuses, delivers between its mailboxes,
//! and tells the truth about what was sent through its control door.

mod access;
mod affinity;
mod answer;
mod auth;
mod autodiscover;
mod control;
mod counters;
mod doors;
mod event;
mod fault;
mod id;
mod item;
mod made;
mod mailbox;
mod oauth;
mod operation;
mod permission;
mod property;
mod restriction;
mod schema;
mod server;
mod service;
mod settings;
mod stream;
mod subscription;
mod sync_state;
mod throttle;
mod tls;
mod world;
mod xml;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

pub use auth::{ExtendedProtection, Scheme};
pub use fault::{Kind as FaultKind, Rule};
pub use made::{Listed, Made};
pub use oauth::Registration;
pub use permission::{Grant, Permission};
pub use server::{Error, Ready, Simulator};
pub use settings::Settings;
pub use throttle::Budget;
pub use world::Submission;

/// How a server treats drafts: Exchange as it is, or one that is laxer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// A draft that was sent is gone: a second SendItem finds nothing.
    pub send_consumes_draft: bool,
    /// SendItem with an old change key fails.
    pub send_checks_change_key: bool,
    /// An item's old id is dead once it was moved.
    pub moved_id_dies: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { send_consumes_draft: true, send_checks_change_key: true, moved_id_dies: true }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where HTTPS listens.
    pub listen: SocketAddr,
    /// Where somebody without TLS is told to ask with it, for Autodiscover.
    pub plain_listen: SocketAddr,
    /// Where the control door listens: plain HTTP, loopback only.
    pub control_listen: SocketAddr,
    /// Where the token issuer listens: HTTPS, if OAuth is among the schemes.
    pub issuer_listen: SocketAddr,
    /// How clients may sign in.
    pub auth: Vec<Scheme>,
    /// What can be changed while it runs.
    pub settings: Settings,
    /// What accounts may do in others' mailboxes without impersonation.
    pub grants: Vec<Grant>,
    /// How many mailboxes, besides the service account's own.
    pub mailboxes: usize,
    /// Messages that lie in each Inbox at the beginning.
    pub initial_messages: usize,
    /// What repeats, repeats with the same seed.
    pub seed: u64,
    /// The mail domain.
    pub domain: String,
    /// The Windows domain.
    pub nt_domain: String,
    /// The service account's name in both.
    pub service_user: String,
    /// The password of all; `None`: one is made from the seed.
    pub password: Option<String>,
    /// Major, minor and build.
    pub version: (u16, u16, u16),
    /// How drafts are treated.
    pub behaviour: Behaviour,
    /// Where `ca.pem`, `addresses.txt` and the application's certificate are written.
    pub folder: PathBuf,
    /// Answers are compressed for clients that ask for it.
    pub gzip: bool,
    /// Sync states are at least as large as those of a folder with so many items.
    pub state_items: u32,
    /// A clock that begins here and goes on by a second with each item, for answers that repeat; `None`: the real one.
    pub fixed_clock: Option<i64>,
}

impl Options {
    /// So many mailboxes on free ports of the loopback, with files in this folder.
    pub fn new(mailboxes: usize, seed: u64, folder: impl Into<PathBuf>) -> Self {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            listen: free,
            plain_listen: free,
            control_listen: free,
            issuer_listen: free,
            auth: vec![Scheme::Basic],
            settings: Settings::default(),
            grants: Vec::new(),
            mailboxes,
            initial_messages: 0,
            seed,
            domain: "exchange.test".to_owned(),
            nt_domain: "EXCHANGE".to_owned(),
            service_user: "svc-mailyard".to_owned(),
            password: None,
            version: (15, 2, 1748),
            behaviour: Behaviour::default(),
            folder: folder.into(),
            gzip: true,
            state_items: 0,
            fixed_clock: None,
        }
    }
}
