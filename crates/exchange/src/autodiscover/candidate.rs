//! Places to ask, and which of those that servers name are asked.

use mailyard_policy::{Reason, outbox::Execution};

use super::Method;
use crate::{Endpoint, Failure};

const JSON: &str = "/autodiscover/autodiscover.json";
const SOAP: &str = "/autodiscover/autodiscover.svc";
const POX: &str = "/autodiscover/autodiscover.xml";
const HTTPS: u16 = 443;

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub method: Method,
    /// For a SRV record its name as the host.
    pub at: Endpoint,
    /// The URLs that led here.
    pub trail: Vec<String>,
}

impl Candidate {
    fn new(method: Method, host: &str, port: u16, path: &str) -> Self {
        let at =
            Endpoint { host: host.to_owned(), port, path: path.to_owned(), tls: method != Method::Redirect };
        Self { method, at, trail: Vec::new() }
    }

    /// Its URL; for a SRV record the name.
    pub fn url(&self) -> String {
        if self.method == Method::Service { self.at.host.clone() } else { self.at.url() }
    }
}

/// A URL as it is told: what comes behind its file may be an address.
pub fn shown(url: &str) -> &str {
    let url = url.split('?').next().unwrap_or_default();
    url.find(".json/").and_then(|at| url.get(..at + 5)).unwrap_or(url)
}

/// All that a domain promises, in the order to ask.
pub fn of_domain(domain: &str) -> Vec<Candidate> {
    let beneath = format!("autodiscover.{domain}");
    let mut all = of_host(domain, HTTPS).to_vec();
    all.extend(of_host(&beneath, HTTPS));
    all.push(Candidate::new(Method::Redirect, &beneath, 80, POX));
    all.push(Candidate::new(Method::Service, &format!("_autodiscover._tcp.{domain}"), HTTPS, ""));
    all
}

/// What a host may answer, the cheapest first.
pub fn of_host(host: &str, port: u16) -> [Candidate; 3] {
    [(Method::Json, JSON), (Method::Soap, SOAP), (Method::Pox, POX)]
        .map(|(method, path)| Candidate::new(method, host, port, path))
}

/// What is asked at a URL that a server names: its host, with this URL in the place of its own for its form.
pub fn of_url(to: &Endpoint, trail: &[String]) -> [Candidate; 3] {
    let path = to.path.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let method = if path.contains(".svc") {
        Method::Soap
    } else if path.contains(".json") {
        Method::Json
    } else {
        Method::Pox
    };
    of_host(&to.host, to.port).map(|candidate| Candidate {
        at: if candidate.method == method { to.clone() } else { candidate.at },
        trail: trail.to_vec(),
        ..candidate
    })
}

/// A URL that a server leads to.
///
/// # Errors
/// Why it is not followed. What is not meant for Autodiscover says nothing: many sites lead everything somewhere.
pub fn follow(location: &str, from: &Endpoint, trusts: impl Fn(&str) -> bool) -> Result<Endpoint, Failure> {
    let location = location.trim();
    let whole = if location.starts_with('/') && !location.starts_with("//") {
        Endpoint { path: location.to_owned(), ..from.clone() }.url()
    } else {
        location.to_owned()
    };
    let to = Endpoint::parse(&whole, true)?;
    if !to.path.to_ascii_lowercase().starts_with("/autodiscover/") {
        return Err(refused(Reason::ProfileUrlWrong, "it leads to a page that is not for Autodiscover"));
    }
    check(&to, trusts).map(|()| to)
}

/// Whether a URL, once found, may be shown the password.
///
/// # Errors
/// Why not.
pub fn check_ews(url: &str, trusts: impl Fn(&str) -> bool) -> Result<(), Failure> {
    check(&Endpoint::parse(url, true)?, trusts)
}

fn check(to: &Endpoint, trusts: impl Fn(&str) -> bool) -> Result<(), Failure> {
    if !to.tls {
        let detail = format!("it leads to {} without TLS", to.host);
        return Err(refused(Reason::AutodiscoverRedirectInsecure, detail));
    }
    if !trusts(&to.host) {
        return Err(foreign(&to.host));
    }
    Ok(())
}

/// A host, or the domain of an address, that is not trusted.
pub fn foreign(host: &str) -> Failure {
    let detail = format!("it leads to {host}, which is outside the domain of the mailbox");
    refused(Reason::AutodiscoverRedirectForeign, detail)
}

/// It was followed before, or too many were.
pub fn circle() -> Failure {
    refused(Reason::AutodiscoverRedirectLoop, "it leads in a circle, or too far")
}

fn refused(reason: Reason, detail: impl Into<Box<str>>) -> Failure {
    Failure::new(reason, Execution::Not, detail)
}
