//! Names as a deployment knows them: answers that it gives in place of the DNS, and domains that it trusts.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

/// No name of the DNS is longer (RFC 1035 2.3.4).
const LONGEST_NAME: usize = 253;
/// No label of one is longer.
const LONGEST_LABEL: usize = 63;

/// The text names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no name, or no answer to it")]
pub struct NoName;

/// What a deployment answers in place of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A server is here.
    Address(SocketAddr),
    /// A service is there.
    Service {
        /// The host.
        target: String,
        /// Its port.
        port: u16,
    },
    /// There is no such name.
    Absent,
}

/// Answers in place of the DNS. Keys are `host:port` of servers and names of services such as
/// `_autodiscover._tcp.example.org`. As one text: `key=answer`, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<String, Answer>);

/// Domains, each with all that is beneath it. As one text: separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(Vec<String>);

impl Names {
    /// What is answered to a name; `None`: the DNS is asked.
    pub fn answer(&self, key: &str) -> Option<&Answer> {
        self.0.get(&key.to_ascii_lowercase())
    }
}

impl Domains {
    /// True if one of them is this host's or holds it.
    pub fn hold(&self, host: &str) -> bool {
        self.0.iter().any(|domain| is_within(host, domain))
    }
}

/// True if a host is a domain or beneath it.
pub fn is_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.trim_end_matches('.').to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// True for a name of the DNS in ASCII.
pub fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

/// The domain of a mailbox's address; `None`: it has none.
pub fn domain_of(address: &str) -> Option<&str> {
    let (local, domain) = address.rsplit_once('@')?;
    (!local.is_empty() && is_name(domain)).then_some(domain)
}

fn server(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_name(host).then_some((host, port))
}

impl FromStr for Answer {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        if text == "none" {
            return Ok(Self::Absent);
        }
        match text.strip_prefix("srv:") {
            Some(service) => {
                let (target, port) = server(service).ok_or(NoName)?;
                Ok(Self::Service { target: target.to_owned(), port })
            }
            None => text.parse().map(Self::Address).map_err(|_| NoName),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Service { target, port } => write!(out, "srv:{target}:{port}"),
            Self::Absent => out.write_str("none"),
        }
    }
}

/// The parts of a list; an empty text has none.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |_| !text.trim().is_empty())
}

impl FromStr for Names {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let mut names = BTreeMap::new();
        for part in parts(text) {
            let (key, answer) = part.split_once('=').ok_or(NoName)?;
            let (key, answer) = (key.trim().to_ascii_lowercase(), answer.trim().parse()?);
            let fits = match answer {
                Answer::Address(_) => server(&key).is_some(),
                Answer::Service { .. } => key.starts_with('_') && is_name(&key),
                Answer::Absent => server(&key).is_some() || is_name(&key),
            };
            if !fits || names.insert(key, answer).is_some() {
                return Err(NoName);
            }
        }
        Ok(Self(names))
    }
}

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, answer)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{key}={answer}")?;
        }
        Ok(())
    }
}

impl FromStr for Domains {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let domains = parts(text).map(str::to_ascii_lowercase);
        domains
            .map(|domain| is_name(&domain).then_some(domain).ok_or(NoName))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Domains {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_come_back_as_they_were_written() {
        let service = Answer::Service { target: "mail.example.org".to_owned(), port: 8443 };
        let text = "mail.example.org:443=127.0.0.1:8443, _autodiscover._tcp.example.org = srv:mail.example.org:8443,\
                    Other.example.org:80=none,six.example.org:1=[::1]:2";
        let names: Names = text.parse().unwrap_or_default();
        for (key, expected) in [
            ("MAIL.example.org:443", Some(Answer::Address(([127, 0, 0, 1], 8443).into()))),
            ("mail.example.org:80", None),
            ("_autodiscover._TCP.example.org", Some(service)),
            ("other.example.org:80", Some(Answer::Absent)),
            ("six.example.org:1", "[::1]:2".parse().ok()),
        ] {
            assert_eq!(names.answer(key), expected.as_ref(), "{key}");
        }
        assert_eq!(names.to_string().parse(), Ok(names));
        assert_eq!("".parse(), Ok(Names::default()));
        for wrong in [
            "mail.example.org=127.0.0.1:1",
            "mail.example.org:443=127.0.0.1",
            "mail.example.org:0=127.0.0.1:1",
            "mail.example.org:443=srv:mail.example.org:1",
            "_a._tcp.example.org=127.0.0.1:1",
            "_a._tcp.example.org=srv:mail.example.org",
            "a:1=none,a:1=none",
            "a:1",
            ",",
            "=",
        ] {
            assert_eq!(wrong.parse::<Names>(), Err(NoName), "{wrong}");
        }
    }

    #[test]
    fn a_domain_holds_what_is_beneath_it() {
        let domains: Domains = "Example.org, mail.example.net".parse().unwrap_or_default();
        for (host, expected) in [
            ("example.org", true),
            ("a.b.EXAMPLE.org", true),
            ("example.org.", true),
            ("badexample.org", false),
            ("example.org.evil.example", false),
            ("mail.example.net", true),
            ("example.net", false),
            ("org", false),
            ("", false),
        ] {
            assert_eq!(domains.hold(host), expected, "{host}");
        }
        assert!(!Domains::default().hold("example.org") && "".parse() == Ok(Domains::default()));
        assert_eq!(domains.to_string(), "example.org, mail.example.net");
        for wrong in ["*.example.org", ".org", "a..b", "a b", "example.org,,", "-a.org"] {
            assert_eq!(wrong.parse::<Domains>(), Err(NoName), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_domain() {
        for (address, expected) in [
            ("anna@example.org", Some("example.org")),
            ("\"a@b\"@example.org", Some("example.org")),
            ("@example.org", None),
            ("anna", None),
            ("anna@", None),
            ("anna@exa mple.org", None),
            ("anna@example.org/x", None),
            ("anna@example.org:80", None),
            ("anna@\u{fc}ber.example", None),
        ] {
            assert_eq!(domain_of(address), expected, "{address}");
        }
    }
}
