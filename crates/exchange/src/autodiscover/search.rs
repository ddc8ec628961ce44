//! Goes from place to place until one says where a mailbox is.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
    time::Duration,
};

use mailyard_policy::{Reason, discovery, names, outbox::Execution};
use tokio::time::{Instant, timeout_at};

use super::{
    Attempt, Discovered, Discovery, Inner, Outcome,
    answer::{Answer, Found},
    candidate::{self, Candidate},
};
use crate::{Failure, resolver::Service};

/// So often one search is led elsewhere.
const HOPS: u8 = 10;

/// Looks for a mailbox.
pub async fn search(inner: &Inner, address: &str) -> Discovery {
    let domain = names::domain_of(address).filter(|_| !address.contains([' ', '\r', '\n', '\t']));
    let Some(home) = domain else {
        let detail = "the address has no domain that the DNS can know";
        let result = Err(Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail));
        return Discovery { result, attempts: Vec::new() };
    };
    let mut search = Search {
        inner,
        home: home.to_owned(),
        address: address.to_owned(),
        queue: candidate::of_domain(home).into(),
        asked: BTreeSet::new(),
        addresses: BTreeSet::from([address.to_lowercase()]),
        dead: BTreeSet::new(),
        hops: 0,
        back_off: None,
        attempts: Vec::new(),
    };
    let until = Instant::now() + inner.config.deadline;
    let result = search.run(until).await;
    Discovery { result, attempts: search.attempts }
}

struct Search<'a> {
    inner: &'a Inner,
    /// The domain of the mailbox.
    home: String,
    address: String,
    queue: VecDeque<Candidate>,
    /// Places that were asked for this address.
    asked: BTreeSet<String>,
    addresses: BTreeSet<String>,
    /// Hosts with their ports that cannot be spoken to.
    dead: BTreeSet<String>,
    hops: u8,
    back_off: Option<Duration>,
    attempts: Vec<Attempt>,
}

impl Search<'_> {
    async fn run(&mut self, until: Instant) -> Result<Discovered, Failure> {
        while let Some(candidate) = self.queue.pop_front() {
            let begun = Instant::now();
            if self.dead.contains(&host_of(&candidate)) || !self.asked.insert(key(&candidate.url())) {
                continue;
            }
            let deadline = until.min(begun + self.inner.config.place_deadline);
            let asked = timeout_at(deadline, self.inner.ask(&candidate, &self.address, deadline)).await;
            let answer = asked.unwrap_or_else(|_| Err(late()));
            if let ControlFlow::Break(result) = self.take(&candidate, begun, answer) {
                return result;
            }
            if Instant::now() >= until {
                break;
            }
        }
        Err(self.failure())
    }

    fn take(
        &mut self,
        candidate: &Candidate,
        begun: Instant,
        answer: Result<Answer, Failure>,
    ) -> ControlFlow<Result<Discovered, Failure>> {
        let led = match answer {
            Ok(Answer::Found(found)) => match self.accept(candidate, found) {
                Ok(discovered) => {
                    self.note(candidate, begun, Outcome::Found, format!("EWS is at {}", discovered.ews_url));
                    return ControlFlow::Break(Ok(discovered));
                }
                Err(failure) => Err(failure),
            },
            Ok(Answer::Url(location)) => self.follow(candidate, &location),
            Ok(Answer::Address(address)) => self.turn_to(&address),
            Ok(Answer::Services(services)) => self.take_services(candidate, &services),
            Ok(Answer::Absent) => {
                self.dead.insert(host_of(candidate));
                let detail = format!("the DNS knows no {}", candidate.at.host);
                Err(Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail))
            }
            Ok(Answer::Refused(failure)) => {
                self.note_failure(candidate, begun, &failure);
                return ControlFlow::Break(Err(failure));
            }
            Err(failure) => {
                if is_of_road(failure.reason) {
                    self.dead.insert(host_of(candidate));
                }
                Err(failure)
            }
        };
        match led {
            Ok(evidence) => self.note(candidate, begun, Outcome::Led, evidence),
            Err(failure) => self.note_failure(candidate, begun, &failure),
        }
        ControlFlow::Continue(())
    }

    fn trusts(&self, host: &str) -> bool {
        self.inner.config.trusts(&self.home, host)
    }

    /// The first URL that may be shown the password.
    fn accept(&self, candidate: &Candidate, found: Found) -> Result<Discovered, Failure> {
        let mut refused = None;
        for url in found.urls {
            match candidate::check_ews(&url, |host| self.trusts(host)) {
                Ok(()) => {
                    return Ok(Discovered {
                        ews_url: url.trim().to_owned(),
                        address: self.address.clone(),
                        grouping: found.grouping,
                        version: found.version,
                        by: candidate.method,
                    });
                }
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
        Err(refused.unwrap_or_else(Failure::of_page))
    }

    fn hop(&mut self) -> Result<(), Failure> {
        self.hops += 1;
        if self.hops > HOPS { Err(candidate::circle()) } else { Ok(()) }
    }

    fn follow(&mut self, from: &Candidate, location: &str) -> Result<String, Failure> {
        let to = candidate::follow(location, &from.at, |host| self.trusts(host))?;
        let mut trail = from.trail.clone();
        trail.push(key(&from.url()));
        if trail.contains(&key(&to.url())) {
            return Err(candidate::circle());
        }
        self.hop()?;
        self.push(&candidate::of_url(&to, &trail));
        Ok(format!("it leads to {}", candidate::shown(&to.url())))
    }

    /// Everything begins anew for another address.
    fn turn_to(&mut self, address: &str) -> Result<String, Failure> {
        let Some(domain) = names::domain_of(address).filter(|_| !address.contains(char::is_whitespace))
        else {
            let detail = "it leads to something that is no address";
            return Err(Failure::new(Reason::MailboxLocationUnknown, Execution::Not, detail));
        };
        if !self.trusts(domain) {
            return Err(candidate::foreign(domain));
        }
        if !self.addresses.insert(address.to_lowercase()) {
            return Err(candidate::circle());
        }
        self.hop()?;
        self.queue = candidate::of_domain(domain).into();
        self.asked.clear();
        address.clone_into(&mut self.address);
        Ok(format!("it leads to another address, in {domain}"))
    }

    fn take_services(&mut self, from: &Candidate, services: &[Service]) -> Result<String, Failure> {
        let trusted: Vec<_> = services.iter().filter(|service| self.trusts(&service.target)).collect();
        if let ([], Some(service)) = (&trusted[..], services.first()) {
            return Err(candidate::foreign(&service.target));
        }
        self.hop()?;
        let trail = vec![key(&from.url())];
        let of_service = |service: &&Service| {
            candidate::of_host(&service.target, service.port)
                .map(|candidate| Candidate { trail: trail.clone(), ..candidate })
        };
        let all: Vec<Candidate> = trusted.iter().flat_map(of_service).collect();
        self.push(&all);
        let hosts: Vec<String> = trusted.iter().map(|it| format!("{}:{}", it.target, it.port)).collect();
        Ok(format!("it names {}", hosts.join(", ")))
    }

    /// They come before all others.
    fn push(&mut self, candidates: &[Candidate]) {
        for candidate in candidates.iter().rev() {
            self.queue.push_front(candidate.clone());
        }
    }

    fn note(&mut self, candidate: &Candidate, begun: Instant, outcome: Outcome, evidence: String) {
        let url = candidate::shown(&candidate.url()).to_owned();
        tracing::debug!(url, method = %candidate.method, %outcome, evidence, "asked for the place of a mailbox");
        let (method, duration) = (candidate.method, begun.elapsed());
        self.attempts.push(Attempt { url, method, outcome, reason: None, duration, evidence });
    }

    fn note_failure(&mut self, candidate: &Candidate, begun: Instant, failure: &Failure) {
        self.note(candidate, begun, Outcome::Failed, failure.evidence());
        self.back_off = self.back_off.max(failure.back_off);
        if let Some(attempt) = self.attempts.last_mut() {
            let source = self.inner.config.credential_source;
            attempt.reason = Some(failure.reason.with_credentials_of(source));
        }
    }

    /// What is said in the end, with every place that was asked.
    fn failure(&self) -> Failure {
        let reason = discovery::sharpest(self.attempts.iter().filter_map(|attempt| attempt.reason));
        let told = |attempt: &Attempt| {
            let reason = attempt.reason.map_or(attempt.outcome.word(), Reason::code);
            format!("{} ({reason})", attempt.url)
        };
        let places: Vec<String> = self.attempts.iter().map(told).collect();
        let detail = format!("nobody said where the mailbox is: {}", places.join(", "));
        Failure { back_off: self.back_off, ..Failure::new(reason, Execution::Not, detail) }
    }
}

/// URLs that mean the same place look the same.
fn key(url: &str) -> String {
    url.to_ascii_lowercase()
}

fn host_of(candidate: &Candidate) -> String {
    format!("{}:{}", candidate.at.host.to_ascii_lowercase(), candidate.at.port)
}

fn late() -> Failure {
    Failure::new(Reason::ProfileDeadlineExceeded, Execution::Not, "the server did not answer in time")
}

/// True if nobody else is asked at the same host.
fn is_of_road(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ProfileDnsFailed
            | Reason::ProfileConnectFailed
            | Reason::ProfileConnectTimeout
            | Reason::ProfileDeadlineExceeded
            | Reason::ProfileTlsUntrusted
            | Reason::ProfileTlsNameMismatch
            | Reason::ProfileTlsExpired
            | Reason::ProfileTlsVersion
            | Reason::ProfileTlsSuites
            | Reason::ProfileTlsCertificateUnsuited
            | Reason::ProfileTlsClientCertificate
            | Reason::ProfileTlsFailed
    )
}
