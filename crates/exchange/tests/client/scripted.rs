//! A server that plays a script: one act per request, whatever the request is. What it received is kept.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use mailyard_exchange::{Authentication, Client, Config, Gate, Resolver};
use mailyard_policy::{Timestamp, id::ProfileId, profile::CredentialSource};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring::default_provider},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
pub enum Act {
    /// Answers, and keeps the connection.
    Answer(Vec<u8>),
    /// Answers, and closes the connection.
    AnswerAndClose(Vec<u8>),
    /// Answers as soon as the head of the request is there, and closes the connection with the rest unread.
    AnswerEarly(Vec<u8>),
    /// Answers the first part, and the rest so much later.
    AnswerLate(Vec<u8>, Duration, Vec<u8>),
    /// Answers with a message of so many bytes, made while it is sent.
    Stream(usize),
    /// Closes the connection.
    Close,
    /// Never answers.
    Hang,
}

/// The server; it stops when it is dropped.
pub struct Server {
    pub url: String,
    pub ca_pem: String,
    pub port: u16,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Act>>,
    /// With the number of the connection that each came on, from 1.
    requests: Mutex<Vec<(usize, String)>>,
    connections: AtomicUsize,
}

/// Whom the server proves to be.
pub struct Identity {
    pub name: &'static str,
    pub years: (i32, i32),
}

pub const GENUINE: Identity = Identity { name: "127.0.0.1", years: (2020, 2099) };

impl Server {
    pub async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        Self::start_as(GENUINE, script).await
    }

    pub async fn start_as(identity: Identity, script: impl IntoIterator<Item = Act>) -> Self {
        let (config, ca_pem) = tls(&identity);
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), ca_pem, script).await
    }

    /// A server that speaks TLS on these terms only.
    pub async fn start_on(terms: Terms, script: impl IntoIterator<Item = Act>) -> Self {
        let (certificate, key, ca_pem) = certificate(&GENUINE, &rcgen::PKCS_ECDSA_P256_SHA256);
        let config = terms.config(vec![certificate.der().clone()], &key);
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), ca_pem, script).await
    }

    /// A server whose certificate says that it is an authority's, and signs itself.
    pub async fn start_as_authority() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(vec![GENUINE.name.to_owned()]).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let config = Terms::default().config(vec![certificate.der().clone()], &key);
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), certificate.pem(), []).await
    }

    /// A server without TLS.
    pub async fn start_plain(script: impl IntoIterator<Item = Act>) -> Self {
        Self::listen(None, String::new(), script).await
    }

    async fn listen(
        acceptor: Option<TlsAcceptor>,
        ca_pem: String,
        script: impl IntoIterator<Item = Act>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared =
            Arc::new(Shared { script: Mutex::new(script.into_iter().collect()), ..Shared::default() });
        let listening = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((mut tcp, _)) = listener.accept().await {
                    let (acceptor, shared) = (acceptor.clone(), shared.clone());
                    let next = |shared: &Shared| shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::spawn(async move {
                        match acceptor {
                            None => {
                                let _gone = serve(&mut tcp, next(&shared), &shared).await;
                            }
                            Some(acceptor) => {
                                if let Ok(mut stream) = acceptor.accept(tcp).await {
                                    let _gone = serve(&mut stream, next(&shared), &shared).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self { url: format!("https://127.0.0.1:{port}/EWS/Exchange.asmx"), ca_pem, port, shared, listening }
    }

    /// What it does after all it was told before.
    pub fn will(&self, more: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().expect("nobody panics").extend(more);
    }

    /// True if it has begun all that it was told.
    pub fn finished(&self) -> bool {
        self.shared.script.lock().expect("nobody panics").is_empty()
    }

    /// What it received, heads and bodies.
    pub fn requests(&self) -> Vec<String> {
        self.received().into_iter().map(|(_, request)| request).collect()
    }

    /// The same, each with the number of its connection.
    pub fn received(&self) -> Vec<(usize, String)> {
        self.shared.requests.lock().expect("nobody panics").clone()
    }

    /// The operations it received.
    pub fn operations(&self) -> Vec<String> {
        let name = |request: &String| {
            let (_, body) = request.split_once("<s:Body><m:")?;
            body.split([' ', '>']).next().map(str::to_owned)
        };
        self.requests().iter().filter_map(name).collect()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn config(&self) -> Config {
        Config {
            url: self.url.clone(),
            credential_source: CredentialSource::Profile,
            authentication: Authentication::Basic,
            user: "EXAMPLE\\svc".to_owned(),
            password: "geheim".into(),
            oauth: None,
            ca_pem: Some(self.ca_pem.clone()),
            resolver: Resolver::default(),
            impersonate: true,
            request_deadline: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            largest_content: 64 << 20,
            allow_plain_http: false,
            clock,
            observer: None,
        }
    }

    pub fn client(&self) -> Client {
        client(self.config())
    }

    /// A client that authenticates so.
    pub fn client_by(&self, authentication: Authentication) -> Client {
        client(Config { authentication, ..self.config() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

pub fn client(config: Config) -> Client {
    Client::new(config, Gate::new(ProfileId::new(1), 10, None, clock)).expect("the configuration is good")
}

pub fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or_default())
}

/// A certificate of this identity with its key, and the authority that signs it with this algorithm (PEM).
pub fn certificate(
    identity: &Identity,
    algorithm: &'static rcgen::SignatureAlgorithm,
) -> (rcgen::Certificate, KeyPair, String) {
    let ca_key = KeyPair::generate_for(algorithm).expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(vec![identity.name.to_owned()]).expect("parameters");
    parameters.not_before = rcgen::date_time_ymd(identity.years.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(identity.years.1, 1, 1);
    (parameters.signed_by(&key, &issuer).expect("a certificate"), key, ca_certificate.pem())
}

fn tls(identity: &Identity) -> (ServerConfig, String) {
    let (certificate, key, ca_pem) = certificate(identity, &rcgen::PKCS_ECDSA_P256_SHA256);
    let chain = vec![certificate.der().clone()];
    (Terms::default().config(chain, &key), ca_pem)
}

/// What a server of TLS insists on.
pub struct Terms {
    pub provider: CryptoProvider,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// A certificate of its clients.
    pub certificate: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { provider: default_provider(), versions: ALL_VERSIONS.to_vec(), certificate: false }
    }
}

impl Terms {
    fn config(self, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> ServerConfig {
        let provider = Arc::new(self.provider);
        let verifier = self.certificate.then(|| {
            let mut roots = RootCertStore::empty();
            chain.iter().cloned().for_each(|root| roots.add(root).expect("a certificate"));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            verifier.build().expect("a verifier")
        });
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("a chain")
    }
}

async fn serve(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    number: usize,
    shared: &Shared,
) -> std::io::Result<()> {
    let early = || matches!(shared.script.lock().expect("nobody panics").front(), Some(Act::AnswerEarly(_)));
    while let Some(request) = receive(stream, early).await? {
        shared.requests.lock().expect("nobody panics").push((number, request));
        let act = shared.script.lock().expect("nobody panics").pop_front().unwrap_or(Act::Close);
        match act {
            Act::Answer(bytes) => stream.write_all(&bytes).await?,
            Act::AnswerAndClose(bytes) | Act::AnswerEarly(bytes) => {
                stream.write_all(&bytes).await?;
                break;
            }
            Act::AnswerLate(first, after, rest) => {
                stream.write_all(&first).await?;
                stream.flush().await?;
                tokio::time::sleep(after).await;
                stream.write_all(&rest).await?;
            }
            Act::Stream(size) => stream_message(stream, size).await?,
            Act::Close => break,
            Act::Hang => std::future::pending().await,
        }
        stream.flush().await?;
    }
    stream.shutdown().await
}

/// A request; with `early` its head, and what came with it.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    early: impl Fn() -> bool,
) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.map_or(Some(0), |length| length.parse().ok());
            if length == Some(body.len()) || early() {
                return Ok(Some(text.into_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The line that a streamed message repeats, and what it is in base64 as often as a piece holds it.
pub const LINE: &str = "The quick brown fox jumps over the lazy dog and on and on.\r\n";

async fn stream_message(stream: &mut (impl AsyncWrite + Unpin), size: usize) -> std::io::Result<()> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let lines = size / LINE.len();
    let (before, after) = item_answer("I1")
        .split_once("UExBQ0U=")
        .map_or_else(Default::default, |(a, b)| (a.to_owned(), b.to_owned()));
    let line = STANDARD.encode(LINE);
    let length = before.len() + lines * line.len() + after.len();
    stream.write_all(format!("{OK}Content-Length: {length}\r\n\r\n{before}").as_bytes()).await?;
    let piece = line.repeat(100);
    for _ in 0..lines / 100 {
        stream.write_all(piece.as_bytes()).await?;
    }
    stream.write_all(line.repeat(lines % 100).as_bytes()).await?;
    stream.write_all(after.as_bytes()).await
}

/// The head of an answer up to where its length stands.
pub const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nDate: Sun, 01 Mar 2026 12:00:00 GMT\r\n";

/// A whole answer with this body.
pub fn ok(body: impl AsRef<str>) -> Vec<u8> {
    http(OK, body.as_ref().as_bytes())
}

/// A whole answer with this head and this body.
pub fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = Vec::from(format!("{head}Content-Length: {}\r\n\r\n", body.len()));
    answer.extend_from_slice(body);
    answer
}

pub fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("memory");
    packed.finish().expect("memory")
}

/// A SOAP answer with one part per result: what a success holds, or the code of an error.
pub fn soap(operation: &str, parts: &[Result<&str, &str>]) -> String {
    let mut messages = String::new();
    for part in parts {
        let (class, code, content) = match part {
            Ok(content) => ("Success", "NoError", *content),
            Err(code) => ("Error", *code, ""),
        };
        let _infallible = write!(
            messages,
            r#"<m:{operation}ResponseMessage ResponseClass="{class}"><m:ResponseCode>{code}</m:ResponseCode>{content}</m:{operation}ResponseMessage>"#
        );
    }
    format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><t:ServerVersionInfo MajorVersion="15" MinorVersion="2" MajorBuildNumber="1544" MinorBuildNumber="4" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"/></s:Header><s:Body><m:{operation}Response xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:ResponseMessages>{messages}</m:ResponseMessages></m:{operation}Response></s:Body></s:Envelope>"#
    )
}

/// An answer with one item whose content is `PLACE`.
pub fn item_answer(id: &str) -> String {
    let item = format!(
        r#"<m:Items><t:Message><t:MimeContent CharacterSet="UTF-8">UExBQ0U=</t:MimeContent><t:ItemId Id="{id}" ChangeKey="k"/><t:Size>9</t:Size></t:Message></m:Items>"#
    );
    soap("GetItem", &[Ok(&item)])
}

/// An answer with one folder.
pub fn folder_answer() -> String {
    soap("GetFolder", &[Ok(r#"<m:Folders><t:Folder><t:FolderId Id="F1"/></t:Folder></m:Folders>"#)])
}
