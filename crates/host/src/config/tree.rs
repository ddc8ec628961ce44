//! Every key of the configuration, with its default and its meaning.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::Uri;
use mailyard_policy::names::{Domains, Names};

use super::setting::{Bytes, LogFormat, LogLevel, Percent, Setting, SmtpTls};

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section in brackets.
    pub section: &'static str,
    /// The key in it.
    pub name: &'static str,
    /// What may be written.
    pub allowed: &'static str,
    /// True: it may be written as a table.
    pub table: bool,
    /// What it means.
    pub meaning: &'static str,
}

macro_rules! tree {
    ($($(#[doc = $about:literal])+ $section:ident: $name:ident {
        $($(#[doc = $meaning:literal])+ $key:ident: $kind:ty = $default:literal,)+
    })+) => {
        /// The whole configuration.
        #[derive(Clone, Debug, PartialEq, Eq, Default)]
        pub struct Config { $($(#[doc = $about])+ pub $section: $name,)+ }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name { $($(#[doc = $meaning])+ pub $key: $kind,)+ }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($key: <$kind>::read($default).unwrap_or_else(|| unreadable($default)),)+ }
                }
            }
        )+

        /// Every key, in the order of the file.
        pub const KEYS: &[Key] = &[$($(Key {
            section: stringify!($section),
            name: stringify!($key),
            allowed: <$kind as Setting>::ALLOWED,
            table: <$kind as Setting>::TABLE,
            meaning: concat!($($meaning),+),
        },)+)+];

        impl Config {
            /// Sets a key. `None`: there is no such key; `Some(false)`: the value is not one of its kind.
            pub(super) fn set(&mut self, section: &str, key: &str, text: &str) -> Option<bool> {
                match (section, key) {
                    $($((stringify!($section), stringify!($key)) => {
                        let value = <$kind>::read(text);
                        let good = value.is_some();
                        if let Some(value) = value {
                            self.$section.$key = value;
                        }
                        Some(good)
                    })+)+
                    _ => None,
                }
            }

            /// A key's value, as it is written in a file.
            pub fn written(&self, section: &str, key: &str) -> Option<String> {
                match (section, key) {
                    $($((stringify!($section), stringify!($key)) => Some(self.$section.$key.write()),)+)+
                    _ => None,
                }
            }
        }

        const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($about),+)),)+];
    };
}

/// A default of this file that is no value of its kind: found by the first test that makes a configuration.
fn unreadable<T>(default: &str) -> T {
    unreachable!("the default {default:?} is no value of its kind")
}

tree! {
    /// Where the server is reached.
    listen: Listen {
        /// gRPC for administrators and the CRM, over TLS.
        grpc: SocketAddr = "127.0.0.1:0",
        /// Metrics and health, plain HTTP: keep it on the loopback or a private network. Empty: none.
        ops: Option<SocketAddr> = "",
    }
    /// What is written to the log.
    log: Log {
        /// The lowest level that is written, and other levels for single targets: "debug", "info,mailyard_worker=debug".
        level: LogLevel = "info,ractor=warn",
        /// text, json, or auto: text on a terminal, JSON otherwise.
        format: LogFormat = "auto",
    }
    /// Where traces and metrics are sent.
    telemetry: Telemetry {
        /// The URL of an OTLP collector (gRPC). Empty: nothing is sent.
        otlp_endpoint: Option<Uri> = "",
        /// The share of traces that is sent. Of a trace that was begun elsewhere it was decided there.
        sample: Percent = "0.01",
    }
    /// Where everything is kept.
    store: Store {
        /// The database file. Empty: mailyard.db in the data directory.
        path: Option<PathBuf> = "",
        /// The key that secrets are encrypted with. Empty: master.key in the data directory.
        key_file: Option<PathBuf> = "",
    }
    /// This process as a worker.
    worker: Worker {
        /// Its name in the cluster; it stays the same over restarts. Empty: the host's name.
        id: String = "",
        /// Turns of mailboxes under way at once; further ones wait.
        max_inflight: u16 = "64",
    }
    /// When mailboxes are polled, tried again and disabled.
    sync: Sync {
        /// The usual period of an active mailbox.
        active_period: Duration = "5m",
        /// The shortest period of an active mailbox.
        active_min: Duration = "2m",
        /// The longest period of an active mailbox.
        active_max: Duration = "12m",
        /// How long the period may grow while nothing happens, for profiles that do not say.
        idle_max: Duration = "60m",
        /// The wait after a failure.
        retry_gap: Duration = "5m",
        /// The failure in a row that disables.
        retry_attempts: u8 = "10",
    }
    /// How much of Exchange is asked at once, and for how long.
    exchange: Exchange {
        /// Larger messages are put into quarantine and not fetched.
        max_message_size: Bytes = "64MiB",
        /// One request is given up after this; at most 20s, on which the leases of a cluster rely.
        request_deadline: Duration = "20s",
        /// A connection is given up after this.
        connect_timeout: Duration = "10s",
        /// A turn of a mailbox is given up after this.
        cycle_deadline: Duration = "10m",
        /// URLs that begin with http: are allowed. Passwords travel in clear text then.
        allow_plain_http: bool = "false",
        /// Domains that Autodiscover may lead to, besides the mailbox's own: servers there are shown passwords.
        autodiscover_domains: Domains = "",
        /// Answers in place of the DNS, as "name=answer" separated by commas, or as the table [exchange.resolve].
        resolve: Names = "",
    }
    /// When the server of a profile is left alone.
    breaker: Breaker {
        /// Faults of the server in a row that open it.
        faults: u8 = "5",
        /// The first try goes this long after the opening; the wait doubles.
        canary_first: Duration = "5s",
        /// The wait between tries grows to this.
        canary_max: Duration = "60s",
        /// The wait before a refused password is tried a second time.
        credential_canary: Duration = "60s",
        /// Successes of different mailboxes that close it.
        successes: u8 = "3",
    }
    /// When a profile's owner is told that mailboxes fail.
    alerts: Alerts {
        /// The share of failing mailboxes that is too much; strictly above it.
        failure_ratio: Percent = "0.50",
        /// The share at or below which it is well again.
        clear_below: Percent = "0.45",
        /// How long it must be too much.
        hold: Duration = "1m",
        /// How long it must be well.
        clear_hold: Duration = "10m",
        /// The owner is told again after this, while it stays so.
        renotify: Duration = "24h",
        /// With fewer mailboxes nothing is told.
        minimum_population: u64 = "1",
    }
    /// The relay that carries mails to owners; never the Exchange that is synchronized.
    smtp: Smtp {
        /// Its name. Empty: no mail is sent, and alerts say so.
        host: String = "",
        /// Its port. Empty: 25, 587 or 465, as `tls` says.
        port: Option<u16> = "",
        /// The sender's address.
        from: String = "",
        /// The user, if it asks for one.
        user: String = "",
        /// The file that holds the password.
        password_file: Option<PathBuf> = "",
        /// none, starttls or implicit.
        tls: SmtpTls = "starttls",
    }
}

/// A whole file with every key, its default and its meaning.
pub fn default_file() -> String {
    let config = Config::default();
    let mut text =
        String::from("# Every key of Mailyard with its default. What is left out has its default.\n");
    for (section, about) in SECTIONS {
        text.push_str(&format!("\n#{about}\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let value = config.written(section, key.name).unwrap_or_default();
            text.push_str(&format!("#{}\n{} = {value}\n", key.meaning, key.name));
        }
    }
    text
}
