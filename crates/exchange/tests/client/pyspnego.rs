//! Our NTLM against an acceptor that was written by others: pyspnego, behind Python's own HTTPS.

use std::process::Stdio;

use mailyard_exchange::{Authentication, Config};
use mailyard_policy::Reason;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    connection::reads,
    scripted::{self, GENUINE, Server, certificate, folder_answer},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/ntlm_server.py");

/// The accounts that it knows: domain, user, password.
const USERS: &str = "EXAMPLE:jürgen:gehéim 🔑\n:svc@example.org:secret\n";

struct Acceptor {
    config: Config,
    said: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Acceptor {
    async fn start(python: &str, scheme: &str, binding: &str, signed: &'static SignatureAlgorithm) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("it is ours");
            path
        };
        let (certificate, key, ca_pem) = certificate(&GENUINE, signed);
        let mut process = Command::new(python)
            .arg(SCRIPT)
            .args([scheme, binding])
            .args([file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem())])
            .arg(file("answer.xml", &folder_answer()))
            .env("NTLM_USER_FILE", file("users", USERS))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let port = said.next_line().await.expect("it is read").expect("it says its port");
        let url = format!("https://127.0.0.1:{port}/EWS/Exchange.asmx");
        let base = Server::start([]).await.config();
        let config = Config { url, ca_pem: Some(ca_pem), ..base };
        Self { config, said, _process: process, _folder: folder }
    }

    /// What became of two requests.
    async fn ask(&self, authentication: Authentication, user: &str, password: &str) -> Result<(), Reason> {
        let (user, password) = (user.to_owned(), password.into());
        let client = scripted::client(Config { authentication, user, password, ..self.config.clone() });
        reads(&client).await.map_err(|failure| failure.reason)?;
        reads(&client).await.map_err(|failure| failure.reason)
    }

    async fn next(&mut self) -> String {
        self.said.next_line().await.expect("it is read").unwrap_or_default()
    }
}

#[tokio::test]
async fn another_hand_accepts_our_handshake() {
    let Ok(python) = std::env::var("MAILYARD_PYTHON") else {
        eprintln!(
            "SKIPPED: MAILYARD_PYTHON names no Python with the packages of tests/python/requirements.txt"
        );
        return;
    };
    let rejected = Err(Reason::ProfileAuthRejected);
    for (scheme, word) in [(Authentication::Ntlm, "ntlm"), (Authentication::Negotiate, "negotiate")] {
        for signed in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let mut server = Acceptor::start(&python, word, "right", signed).await;
            // The acceptor itself checks response, MIC and bindings; it says what it saw.
            for (user, name) in
                [("EXAMPLE\\Jürgen", "EXAMPLE\\Jürgen"), ("svc@example.org", "svc@example.org")]
            {
                let password = if user.contains('@') { "secret" } else { "gehéim 🔑" };
                assert_eq!(server.ask(scheme, user, password).await, Ok(()), "{word} {user}");
                let expected = format!("authenticated {name} for HTTP/127.0.0.1, MIC True, binding True");
                assert_eq!(server.next().await, expected);
                assert_eq!(server.next().await, "request 1, without authorization: False");
                assert_eq!(server.next().await, "request 2, without authorization: True");
            }
            assert_eq!(server.ask(scheme, "svc@example.org", "wrong").await, rejected);
            assert!(server.next().await.contains("Invalid NTLM response"), "{word}");
        }
        let mut server = Acceptor::start(&python, word, "wrong", &PKCS_ECDSA_P256_SHA256).await;
        assert_eq!(server.ask(scheme, "svc@example.org", "secret").await, rejected);
        assert!(server.next().await.contains("bindings do not match"), "the channel is another one");
    }
}

/// SPNEGO as the scheme of an account that is chosen by what the server offers.
#[tokio::test]
async fn another_hand_is_asked_what_it_offers() {
    let Ok(python) = std::env::var("MAILYARD_PYTHON") else {
        eprintln!(
            "SKIPPED: MAILYARD_PYTHON names no Python with the packages of tests/python/requirements.txt"
        );
        return;
    };
    for word in ["ntlm", "negotiate"] {
        let server = Acceptor::start(&python, word, "right", &PKCS_ECDSA_P256_SHA256).await;
        assert_eq!(server.ask(Authentication::Auto, "svc@example.org", "secret").await, Ok(()), "{word}");
    }
}
