//! How the database is reached.

use std::{net::IpAddr, path::PathBuf, str::FromStr as _};

use mailyard_policy::Reason;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::{Error, Result};

/// Where the database is and how it is used.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`. It holds a password and is never shown.
    pub url: SecretString,
    /// The most connections for data; two more are for the control plane.
    pub connections: u32,
    /// Certificates of the authorities that the server's certificate may come from, as PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// True if a pooler in transaction mode stands before the server, such as PgBouncer: nothing is prepared, no setting
    /// is made at connecting, and each statement goes in a transaction.
    pub pooler: bool,
}

impl PostgresOptions {
    /// The database at this URL, with 10 connections and nothing in between.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), connections: 10, ca_file: None, pooler: false }
    }
}

/// What connections are for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Data,
    Control,
}

impl Role {
    /// Milliseconds after which a statement, and a transaction that does nothing, end: whoever stops in the middle must
    /// not keep a lock that others wait for.
    const fn limits(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Data => [("statement_timeout", "60000"), ("idle_in_transaction_session_timeout", "5000")],
            Self::Control => [("statement_timeout", "2000"), ("idle_in_transaction_session_timeout", "2000")],
        }
    }

    /// How a transaction begins; `limited`: its connection has the limits already.
    pub(super) const fn begin(self, limited: bool) -> &'static str {
        match (self, limited) {
            (_, true) => "BEGIN",
            (Self::Data, false) => {
                "BEGIN; SET LOCAL statement_timeout = 60000; SET LOCAL idle_in_transaction_session_timeout = 5000"
            }
            (Self::Control, false) => {
                "BEGIN; SET LOCAL statement_timeout = 2000; SET LOCAL idle_in_transaction_session_timeout = 2000"
            }
        }
    }
}

/// The options of connections for this.
pub(super) fn connect_options(options: &PostgresOptions, role: Role) -> Result<PgConnectOptions> {
    let url = options.url.expose_secret();
    let invalid = |detail: String| Error::refused_field(Reason::ConfigInvalid, "database", detail);
    let parsed = PgConnectOptions::from_str(url).map_err(|error| {
        invalid(format!(
            "the URL of the database is none of PostgreSQL (postgres://user@host/database): {error}"
        ))
    })?;
    if options.connections == 0 {
        return Err(invalid("it needs at least one connection".to_owned()));
    }
    let mut connect = parsed.application_name("mailyard").statement_cache_capacity(256);
    if let Some(ca_file) = &options.ca_file {
        connect = connect.ssl_root_cert(ca_file);
    }
    if !is_near(&connect) {
        match (says_mode(url), connect.get_ssl_mode()) {
            (false, _) | (true, PgSslMode::VerifyFull) => connect = connect.ssl_mode(PgSslMode::VerifyFull),
            (true, _) => {
                let host = connect.get_host();
                let detail = format!(
                    "sslmode of the URL does not verify who answers at {host}; leave it out or say verify-full, and name the authority of its certificate with ca_file"
                );
                return Err(invalid(detail));
            }
        }
    }
    Ok(if options.pooler {
        connect.extra_float_digits(None)
    } else {
        connect.options(role.limits()).options([("tcp_user_timeout", "10000")])
    })
}

fn says_mode(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.contains("sslmode=") || query.contains("ssl-mode="))
}

/// True if nothing between here and the server can be listened to by others.
fn is_near(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
