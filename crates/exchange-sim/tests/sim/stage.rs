//! A simulator and a client that only carries bytes: what is asked and answered stands in the tests.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use mailyard_exchange_sim::{Made, Options, Rule, Simulator};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::TcpStream;

pub const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
pub const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";
/// Where the fixed clock begins: 1 June 2026, 8 o'clock.
pub const CLOCK: i64 = 1_780_300_800_000;

/// A simulator that runs, in a folder of its own.
pub struct Stage {
    pub simulator: Simulator,
    trust: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
}

/// An answer of the server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Stage {
    pub async fn new(mailboxes: usize, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = Options::new(mailboxes, 1, folder.path());
        options.fixed_clock = Some(CLOCK);
        change(&mut options);
        let simulator = Simulator::start(options).await.expect("a simulator");
        let pem = std::fs::read(&simulator.ready().ca_file).expect("a CA");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { simulator, trust: Arc::new(trust), _folder: folder }
    }

    /// The address of a mailbox, counted from 1.
    pub fn address(&self, number: usize) -> String {
        self.simulator.addresses()[number - 1].clone()
    }

    pub fn deliver(&self, number: usize, count: u32) {
        let made = Made { to: vec![self.address(number)], count: Some(count), ..Made::default() };
        assert_eq!(self.simulator.deliver(&made), count as usize);
    }

    pub fn fault(&self, json: &str) {
        let rule: Rule = serde_json::from_str(json).expect("a rule");
        self.simulator.fault(rule).expect("a good rule");
    }

    /// A connection to the EWS endpoint that stays open.
    pub async fn line(&self) -> Line {
        let url: http::Uri = self.simulator.ready().ews_url.parse().expect("a URL");
        self.connect(&url).await.expect("a connection")
    }

    async fn connect(&self, url: &http::Uri) -> Option<Line> {
        let place = url.authority().expect("a place").to_string();
        let tcp = TcpStream::connect(&place).await.ok()?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let tls = tokio_rustls::TlsConnector::from(self.trust.clone()).connect(name, tcp).await.ok()?;
        let certificate = tls.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.ok()?;
        let running = tokio::spawn(connection);
        Some(Line { sender, running, place, certificate: certificate.unwrap_or_default() })
    }

    /// The service account's credential, or that of anybody else.
    pub fn basic(&self, user: &str) -> String {
        use base64::Engine as _;
        let credential = format!("{user}:{}", self.simulator.ready().password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credential))
    }

    /// Asks any server that the simulator's authority vouches for.
    pub async fn https(&self, method: Method, url: &str, body: &str) -> Answer {
        let url: http::Uri = url.parse().expect("a URL");
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::builder().method(method).uri(path);
        let mut line = self.connect(&url).await.expect("a connection");
        line.send(request, body).await.expect("an answer")
    }

    /// Sends a document as a user; `None`: the connection ended without an answer.
    pub async fn post(&self, user: &str, anchor: &str, document: &str) -> Option<Answer> {
        let ready = self.simulator.ready();
        let url: http::Uri = ready.ews_url.parse().expect("a URL");
        let authorization = self.basic(user);
        self.connect(&url).await?.post(Some(&authorization), anchor, document).await
    }

    /// Sends an operation of the service account as another mailbox.
    pub async fn ask(&self, mailbox: &str, operation: &str) -> Option<Answer> {
        let document = soap(Some(mailbox), operation);
        self.post(&self.simulator.ready().user.clone(), mailbox, &document).await
    }

    /// The same, for those that are answered.
    pub async fn answer(&self, mailbox: &str, operation: &str) -> String {
        self.ask(mailbox, operation).await.expect("an answer").body
    }

    /// Asks at the control door.
    pub async fn control(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let place = self.simulator.ready().control_url.clone();
        let answer = self.http(method, &format!("{place}{path}"), body).await;
        (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
    }

    /// Asks a server without TLS.
    pub async fn http(&self, method: Method, url: &str, body: &str) -> Answer {
        let (place, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
        let tcp = TcpStream::connect(place).await.expect("a connection");
        let request = Request::builder()
            .method(method)
            .uri(format!("/{path}"))
            .header(header::HOST, place)
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("a connection");
        let running = tokio::spawn(connection);
        let answer = exchange(&mut sender, request).await.expect("an answer");
        running.abort();
        answer
    }
}

/// What a connection says that goes on answering.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// An envelope.
    Document(String),
    /// It ended as an answer should.
    End,
    /// It was broken off.
    Cut,
}

/// An answer that goes on.
pub struct Talk {
    pub headers: http::HeaderMap,
    body: hyper::body::Incoming,
    heard: String,
    _line: Line,
}

impl Talk {
    /// The next envelope, however it is cut into pieces.
    pub async fn next(&mut self) -> Said {
        const END: &str = "</Envelope>";
        loop {
            if let Some(at) = self.heard.find(END) {
                let rest = self.heard.split_off(at + END.len());
                return Said::Document(std::mem::replace(&mut self.heard, rest));
            }
            match self.body.frame().await {
                None => return Said::End,
                Some(Err(_)) => return Said::Cut,
                Some(Ok(frame)) => {
                    let data = frame.into_data().expect("data");
                    self.heard.push_str(std::str::from_utf8(&data).expect("UTF-8"));
                }
            }
        }
    }

    /// The next envelope, if there is one.
    pub async fn document(&mut self) -> String {
        match self.next().await {
            Said::Document(document) => document,
            other => panic!("an envelope, not {other:?}"),
        }
    }

    /// The next envelope that is more than a sign of life.
    pub async fn news(&mut self) -> String {
        loop {
            let document = self.document().await;
            if !document.contains("StatusEvent") {
                return document;
            }
        }
    }
}

/// A connection, on which requests follow each other.
pub struct Line {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    running: tokio::task::JoinHandle<hyper::Result<()>>,
    place: String,
    /// The server's certificate.
    pub certificate: Vec<u8>,
}

impl Line {
    /// Sends a document to the EWS endpoint.
    pub async fn post(
        &mut self,
        authorization: Option<&str>,
        anchor: &str,
        document: &str,
    ) -> Option<Answer> {
        let mut request = Request::post("/EWS/Exchange.asmx")
            .header(header::CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("x-anchormailbox", anchor);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.send(request, document).await
    }

    /// Sends any request; `None`: the connection ended without an answer.
    pub async fn send(&mut self, request: http::request::Builder, body: &str) -> Option<Answer> {
        let body = Full::new(Bytes::from(body.to_owned()));
        let mut request = request.body(body).expect("a request");
        let place = http::HeaderValue::from_str(&self.place).expect("a place");
        request.headers_mut().entry(header::HOST).or_insert(place);
        exchange(&mut self.sender, request).await
    }

    /// Sends a request whose answer goes on.
    pub async fn talk(mut self, request: http::request::Builder, body: &str) -> Talk {
        let body = Full::new(Bytes::from(body.to_owned()));
        let request = request.header(header::HOST, &self.place).body(body).expect("a request");
        self.sender.ready().await.expect("a connection");
        let (parts, body) = self.sender.send_request(request).await.expect("an answer").into_parts();
        assert_eq!(parts.status, 200);
        Talk { headers: parts.headers, body, heard: String::new(), _line: self }
    }

    /// True once the server has ended it.
    pub async fn is_over(&mut self) -> bool {
        self.sender.ready().await.is_err()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn exchange(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Option<Answer> {
    sender.ready().await.ok()?;
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

impl Answer {
    /// The challenges, in order.
    pub fn challenges(&self) -> Vec<&str> {
        let all = self.headers.get_all(header::WWW_AUTHENTICATE).iter();
        all.map(|challenge| challenge.to_str().expect("text")).collect()
    }
}

/// An envelope around an operation, impersonating a mailbox by its primary address.
pub fn soap(mailbox: Option<&str>, operation: &str) -> String {
    let impersonation = mailbox.map_or(String::new(), |mailbox| {
        format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:PrimarySmtpAddress>{mailbox}</t:PrimarySmtpAddress></t:ConnectingSID>\
             </t:ExchangeImpersonation>"
        )
    });
    let header = format!("<t:RequestServerVersion Version=\"Exchange2016\"/>{impersonation}");
    envelope(&header, operation)
}

/// An envelope around headers and an operation.
pub fn envelope(header: &str, operation: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"{MESSAGES}\" \
         xmlns:t=\"{TYPES}\">\n<s:Header>{header}</s:Header>\n<s:Body>{operation}</s:Body>\n</s:Envelope>\n"
    )
}

/// The attributes of the first element of this name, or its text if it has none.
pub fn first<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    all(document, name).next()
}

/// The attributes or texts of all elements of this name.
pub fn all<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let tags: Vec<_> =
        document.match_indices(&format!(":{name}")).map(|(at, found)| at + found.len()).collect();
    tags.into_iter().filter_map(|at| {
        let rest = &document[at..];
        match rest.chars().next()? {
            ' ' => rest.split_once('>').map(|(tag, _)| tag.trim().trim_end_matches('/')),
            // An end tag is followed by no text of its own.
            '>' if !document[..at].rsplit('<').next()?.starts_with('/') => {
                rest[1..].split_once("</").map(|(text, _)| text)
            }
            _ => None,
        }
    })
}

/// The response codes of an answer or a fault, in order.
pub fn codes(document: &str) -> Vec<&str> {
    let ends = document
        .match_indices("ResponseCode>")
        .filter(|(at, _)| document[..*at].rsplit('<').next().is_some_and(|name| name.starts_with('/')));
    ends.filter_map(|(at, _)| document[..at].rsplit_once("</")?.0.rsplit('>').next()).collect()
}

/// The value of one attribute among others.
pub fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}
