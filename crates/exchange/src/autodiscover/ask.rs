//! Asks one place.

use std::sync::Mutex;

use mailyard_policy::{Reason, outbox::Execution};
use tokio::time::Instant;

use super::{Inner, Method, answer::Answer, candidate::Candidate, json, pox, soap};
use crate::{
    Endpoint, Failure,
    auth::{Again, Authenticator},
    codec,
    connection::{Connection, Deadlines, Taker},
    http1::Head,
    resolver::Unresolved,
    transport::{Transport, push_header},
};

/// No answer is larger.
const LARGEST: usize = 256 << 10;

impl Inner {
    /// Asks a place for an address.
    pub async fn ask(&self, candidate: &Candidate, address: &str, until: Instant) -> Result<Answer, Failure> {
        let at = &candidate.at;
        if candidate.method == Method::Service {
            return self.services(&at.host).await;
        }
        if self.config.resolver.addresses(&at.host, at.port).await == Err(Unresolved::Absent) {
            return Ok(Answer::Absent);
        }
        match candidate.method {
            Method::Json => self.ask_json(at, address, until).await,
            Method::Redirect => self.ask_redirect(at, until).await,
            Method::Soap | Method::Pox | Method::Service => self.ask_signed(candidate, address, until).await,
        }
    }

    async fn services(&self, name: &str) -> Result<Answer, Failure> {
        match self.config.resolver.services(name).await {
            Ok(services) => Ok(Answer::Services(services)),
            Err(Unresolved::Absent) => Ok(Answer::Absent),
            Err(Unresolved::Failed(error)) => {
                let detail = format!("{name} cannot be resolved: {error}");
                Err(Failure::new(Reason::ProfileDnsFailed, Execution::Not, detail))
            }
        }
    }

    async fn ask_json(&self, at: &Endpoint, address: &str, until: Instant) -> Result<Answer, Failure> {
        let (head, body) = self.get(at, &json::path(&at.path, address), until).await?;
        match redirect(&head) {
            Some(location) => Ok(Answer::Url(location)),
            None if head.status == 200 => json::read(&body),
            None => Err(of_stranger(&head)),
        }
    }

    async fn ask_redirect(&self, at: &Endpoint, until: Instant) -> Result<Answer, Failure> {
        let (head, _) = self.get(at, &at.path, until).await?;
        redirect(&head).map(Answer::Url).ok_or_else(|| of_stranger(&head))
    }

    /// A request that does not say who asks.
    async fn get(&self, at: &Endpoint, path: &str, until: Instant) -> Result<(Head, Vec<u8>), Failure> {
        let config = &self.config;
        let timeout = config.connect_timeout.min(until.saturating_duration_since(Instant::now()));
        let opened = Connection::open(at, &self.trust, &config.resolver, timeout, |_| {});
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mailyard/{}\r\nConnection: close\r\n\r\n",
            at.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        let deadlines = Deadlines { head: until, body: until };
        let mut body = Whole::default();
        let answered =
            opened.await?.exchange(request.as_bytes(), deadlines, (config.clock)(), &mut body).await;
        let (head, _) = answered.map_err(|broken| broken.failure)?;
        Ok((head, body.bytes))
    }

    async fn ask_signed(
        &self,
        candidate: &Candidate,
        address: &str,
        until: Instant,
    ) -> Result<Answer, Failure> {
        let transport = self.transport(&candidate.at)?;
        let deadlines = Deadlines { head: until, body: until };
        let content = match candidate.method {
            Method::Soap => soap::write(&candidate.at.url(), address),
            _ => pox::write(address),
        };
        let head = transport.unsigned(&content, deadlines).await?;
        if let Some(location) = redirect(&head) {
            return Ok(Answer::Url(location));
        }
        if head.status != 401 {
            return Err(of_stranger(&head));
        }
        transport.authenticator.suits(&head)?;
        let host = &candidate.at.host;
        let is_proven = self.standing().has_accepted(host);
        let _turn = if is_proven { None } else { Some(self.proving.lock().await) };
        if !self.standing().may_try(host) {
            let detail = "this host or several others refused the credentials before: it is not shown them";
            return Err(Failure::new(Reason::ProfileAuthRejected, Execution::Not, detail));
        }
        let answer = signed(&transport, candidate.method, address, &content, deadlines).await;
        match &answer {
            Ok(Answer::Url(_)) => {}
            Ok(_) => self.standing().on_accepted(host),
            Err(failure) if failure.reason.is_credential_fault() => self.standing().on_refused(host),
            Err(_) => {}
        }
        answer
    }

    fn transport(&self, at: &Endpoint) -> Result<Transport, Failure> {
        let config = &self.config;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml; charset=utf-8\r\nAccept: text/xml\r\n\
             User-Agent: Mailyard/{}\r\n",
            at.path,
            at.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        Ok(Transport {
            endpoint: at.clone(),
            trust: self.trust.clone(),
            resolver: config.resolver.clone(),
            authenticator: Authenticator::of_account(
                config.authentication,
                &config.user,
                &config.password,
                at,
            )?,
            connect_timeout: config.connect_timeout,
            clock: config.clock,
            head,
            idle: Mutex::default(),
        })
    }
}

/// A request that says who asks.
async fn signed(
    transport: &Transport,
    method: Method,
    address: &str,
    content: &[u8],
    deadlines: Deadlines,
) -> Result<Answer, Failure> {
    let request = |authorization: Option<&str>| {
        let mut request = Vec::from(transport.head.as_bytes());
        push_header(&mut request, "Authorization", authorization);
        push_header(&mut request, "X-AnchorMailbox", Some(address));
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
        request.extend_from_slice(content);
        request
    };
    let mut fresh = false;
    loop {
        let mut body = Whole::default();
        match transport.attempt(fresh, false, None, deadlines, &request, &mut body).await {
            Ok(head) => return read(method, &head, &body.bytes),
            Err(ended) if ended.again == Again::OnNewConnection && !fresh => fresh = true,
            Err(ended) => return Err(ended.failure),
        }
    }
}

fn read(method: Method, head: &Head, body: &[u8]) -> Result<Answer, Failure> {
    if let Some(location) = redirect(head) {
        return Ok(Answer::Url(location));
    }
    let of_status = || Failure::of_status(head.status, None, head.retry_after);
    if head.status != 200 && !(head.status == 500 && head.xml) {
        return Err(of_status());
    }
    let document = codec::text(body).map_err(Failure::of_malformed)?;
    let answer = if method == Method::Soap { soap::read(&document) } else { pox::read(&document) };
    match answer {
        // A page for people, although it says that it is XML.
        Err(failure) if head.status != 200 && failure.code.is_none() => Err(of_status()),
        Ok(Answer::Refused(failure)) => {
            let back_off = failure.back_off.or(head.retry_after);
            Ok(Answer::Refused(Failure { back_off, ..failure }))
        }
        answer => answer,
    }
}

fn redirect(head: &Head) -> Option<String> {
    matches!(head.status, 301 | 302 | 307 | 308).then(|| head.location.clone()).flatten()
}

/// Somebody who need not be Exchange, and does not ask who asks.
fn of_stranger(head: &Head) -> Failure {
    let failure = Failure::of_status(head.status, None, head.retry_after);
    if (failure.reason.is_server_fault() || head.status < 300) && head.status < 500 {
        let detail = format!("there is no Autodiscover (HTTP status {})", head.status);
        return Failure { reason: Reason::ProfileUrlWrong, detail: detail.into(), ..failure };
    }
    failure
}

/// An answer as a whole, which is small.
#[derive(Default)]
struct Whole {
    bytes: Vec<u8>,
}

impl Taker for Whole {
    fn head(&mut self, _head: &Head) -> Result<(), Failure> {
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.bytes.len() + piece.len() > LARGEST {
            let detail = "the answer is larger than any of Autodiscover";
            return Err(Failure::new(Reason::EwsAnswerTooLarge, Execution::Not, detail));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}
