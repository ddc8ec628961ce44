//! The relay: what goes over the wire, and what each failure is called. The relay here is a script on a loopback port.

use std::{net::SocketAddr, path::Path, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::*;

/// How the script answers.
#[derive(Clone)]
struct Script {
    greeting: &'static str,
    extensions: &'static str,
    auth: &'static str,
    recipient: &'static str,
    accepted: &'static str,
    tls: Option<TlsAcceptor>,
    implicit: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: "220 relay.test",
            extensions: "250-relay.test\r\n250 AUTH PLAIN LOGIN",
            auth: "235 2.7.0 welcome",
            recipient: "250 2.1.5 ok",
            accepted: "250 2.0.0 queued",
            tls: None,
            implicit: false,
        }
    }
}

impl Script {
    /// Answers one connection; gives the address and, at its end, the lines that the client sent.
    async fn run(self) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let served = tokio::spawn(async move {
            let mut heard = Vec::new();
            let (stream, _) = listener.accept().await.expect("a client");
            self.serve(stream, &mut heard).await;
            heard
        });
        (address, served)
    }

    async fn serve(&self, stream: TcpStream, heard: &mut Vec<String>) {
        match (&self.tls, self.implicit) {
            (Some(tls), true) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.converse(BufReader::new(stream), self.greeting, heard).await;
                }
            }
            (tls, _) => {
                let rest = self.converse(BufReader::new(stream), self.greeting, heard).await;
                if let (Some(tls), Some(stream)) = (tls, rest)
                    && let Ok(stream) = tls.accept(stream.into_inner()).await
                {
                    heard.push("(encrypted)".to_owned());
                    self.converse(BufReader::new(stream), "", heard).await;
                }
            }
        }
    }

    /// Returns the stream if the client asked for STARTTLS.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufReader<S>,
        greeting: &str,
        heard: &mut Vec<String>,
    ) -> Option<BufReader<S>> {
        if !greeting.is_empty() {
            stream.write_all(format!("{greeting}\r\n").as_bytes()).await.ok()?;
        }
        let (mut line, mut in_mail) = (String::new(), false);
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let text = line.trim_end().to_owned();
            let answer = match text.split(' ').next().unwrap_or_default() {
                "." if in_mail => {
                    in_mail = false;
                    self.accepted
                }
                _ if in_mail => "",
                "EHLO" => self.extensions,
                "AUTH" => self.auth,
                "RCPT" => self.recipient,
                "STARTTLS" => "220 go",
                "DATA" => {
                    in_mail = true;
                    "354 go"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            if !answer.is_empty() {
                stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
            }
            let upgrade = text == "STARTTLS";
            heard.push(text);
            if upgrade {
                return Some(stream);
            }
        }
    }
}

fn relay(address: SocketAddr) -> Relay {
    Relay {
        host: address.ip().to_string(),
        port: Some(address.port()),
        from: "mailyard@example.com".to_owned(),
        tls: TlsMode::None,
        user: None,
        password_file: None,
        ca_file: None,
        timeout: Duration::from_secs(20),
    }
}

async fn send(relay: Relay) -> Result<(), MailError> {
    Mailer::new(Some(relay))?.send("owner@example.com", "Grüße: 54 %", "First.\n.dot\n").await
}

/// A certificate for 127.0.0.1 that vouches for itself: what the script shows, and its PEM.
fn certificate() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("key and certificate fit");
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

#[tokio::test]
async fn a_mail_is_accepted_with_its_headers() {
    let (address, served) = Script::default().run().await;
    send(relay(address)).await.expect("it is accepted");
    let heard = served.await.expect("the script ends");
    for line in [
        "MAIL FROM:<mailyard@example.com>",
        "RCPT TO:<owner@example.com>",
        "From: mailyard@example.com",
        "To: owner@example.com",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Auto-Submitted: auto-generated",
        "First.",
    ] {
        assert!(heard.iter().any(|heard| heard == line), "{line} is not in {heard:#?}");
    }
    for start in ["Subject: =?utf-8?", "Message-ID: <", "Date: ", "..dot"] {
        assert!(heard.iter().any(|heard| heard.starts_with(start)), "{start} is not in {heard:#?}");
    }
    assert!(!heard.iter().any(|line| line.starts_with("AUTH")), "{heard:#?}");
}

#[test]
fn the_message_id_follows_from_the_mail() {
    let relay = relay(SocketAddr::from(([127, 0, 0, 1], 25)));
    let id = |to, subject, body| {
        let message = relay.message(to, subject, body).expect("it is a mail");
        message.headers().get_raw("Message-ID").map(str::to_owned)
    };
    let first = id("a@x.test", "s", "b");
    assert!(first.as_deref().is_some_and(|id| id.len() == "<@example.com>".len() + 32), "{first:?}");
    assert_eq!(first, id("a@x.test", "s", "b"));
    for (to, subject, body) in [("b@x.test", "s", "b"), ("a@x.test", "sb", ""), ("a@x.test", "s", "c")] {
        assert_ne!(first, id(to, subject, body));
    }
}

#[tokio::test]
async fn refusals_are_named_without_addresses() {
    for (script, detail, permanent) in [
        (
            Script { recipient: "550 5.1.1 <owner@example.com> unknown", ..Script::default() },
            "refused with 550 5.1.1",
            true,
        ),
        (Script { accepted: "451 try later", ..Script::default() }, "refused with 451", false),
        (Script { greeting: "554 go away", ..Script::default() }, "refused with 554", true),
        (
            Script { greeting: "SSH-2.0-server", ..Script::default() },
            "did not answer as a mail relay does",
            false,
        ),
    ] {
        let (address, served) = script.run().await;
        let error = send(relay(address)).await.expect_err(detail);
        let expected = MailError::Failed { relay: address.to_string(), detail: detail.to_owned(), permanent };
        assert_eq!(error, expected);
        assert_eq!((error.reason(), error.is_permanent()), (Reason::SmtpFailed, permanent));
        served.await.expect("the script ends");
    }
}

#[tokio::test]
async fn a_relay_that_is_away_or_silent_is_an_error_in_time() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let silent = Relay { timeout: Duration::from_millis(150), ..relay(address) };
    let error = send(silent.clone()).await.expect_err("it accepts and says nothing");
    assert!(error.to_string().ends_with("did not take the mail within 0.15 s"), "{error}");
    drop(listener);
    let error = send(silent).await.expect_err("nobody listens");
    assert!(error.to_string().contains("cannot be used: "), "{error}");
    assert_eq!(error.reason(), Reason::SmtpFailed);
}

#[tokio::test]
async fn the_password_comes_from_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "pass word\r\n").expect("a file");
    let signed_in =
        |address| Relay { user: Some("me".to_owned()), password_file: Some(file.clone()), ..relay(address) };
    let (address, served) = Script::default().run().await;
    send(signed_in(address)).await.expect("it is accepted");
    let heard = served.await.expect("the script ends");
    // RFC 4616: NUL, user, NUL, password.
    assert!(heard.contains(&"AUTH PLAIN AG1lAHBhc3Mgd29yZA==".to_owned()), "{heard:#?}");

    let (address, _) = Script { auth: "535 5.7.8 wrong", ..Script::default() }.run().await;
    let error = send(signed_in(address)).await.expect_err("the password is refused");
    assert!(error.to_string().ends_with("refused with 535 5.7.8"), "{error}");

    let gone = Relay { password_file: Some(folder.path().join("gone")), ..signed_in(address) };
    let error = send(gone).await.expect_err("there is no such file");
    assert!(matches!(error, MailError::Settings { key: "password_file", .. }), "{error}");
}

#[tokio::test]
async fn encryption_is_demanded_and_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let (tls, pem) = certificate();
    std::fs::write(&file, pem).expect("a file");
    let starttls = || Script {
        extensions: "250-relay.test\r\n250 STARTTLS",
        tls: Some(tls.clone()),
        ..Script::default()
    };
    let implicit = || Script { tls: Some(tls.clone()), implicit: true, ..Script::default() };
    let known = Some(file.as_path());
    for (name, script, mode, trusted, accepted) in [
        ("starttls", starttls(), TlsMode::StartTls, known, true),
        ("implicit", implicit(), TlsMode::Implicit, known, true),
        ("starttls, unknown authority", starttls(), TlsMode::StartTls, None, false),
        ("implicit, unknown authority", implicit(), TlsMode::Implicit, None, false),
        ("starttls is not offered", Script::default(), TlsMode::StartTls, known, false),
        ("no TLS at all", Script::default(), TlsMode::Implicit, known, false),
    ] {
        let (address, served) = script.run().await;
        let relay = Relay { tls: mode, ca_file: trusted.map(Path::to_owned), ..relay(address) };
        let result = send(relay).await;
        assert_eq!(result.is_ok(), accepted, "{name}: {result:?}");
        let heard = served.await.expect("the script ends");
        assert_eq!(heard.iter().any(|line| line.starts_with("MAIL")), accepted, "{name}: {heard:#?}");
        if accepted && mode == TlsMode::StartTls {
            let encrypted = heard.iter().position(|line| line == "(encrypted)");
            assert!(encrypted < heard.iter().position(|line| line.starts_with("MAIL")), "{heard:#?}");
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let good = Relay { host: "relay.test".to_owned(), ..relay(SocketAddr::from(([127, 0, 0, 1], 25))) };
    let file = Some(PathBuf::from("password"));
    for (relay, key) in [
        (Relay { host: " ".to_owned(), ..good.clone() }, "host"),
        (Relay { from: "mailyard".to_owned(), ..good.clone() }, "from"),
        (Relay { user: Some("me".to_owned()), ..good.clone() }, "user"),
        (Relay { password_file: file.clone(), ..good.clone() }, "user"),
        (Relay { user: Some("me".to_owned()), password_file: file, ..good.clone() }, "tls"),
    ] {
        let error = Mailer::new(Some(relay)).expect_err(key);
        assert!(matches!(error, MailError::Settings { key: found, .. } if found == key), "{key}: {error}");
        assert_eq!(error.reason(), Reason::ConfigInvalid);
    }
    assert!(Mailer::new(Some(good)).is_ok());
    for (word, mode) in
        [("none", TlsMode::None), ("starttls", TlsMode::StartTls), ("implicit", TlsMode::Implicit)]
    {
        assert_eq!(word.parse(), Ok(mode));
    }
    assert!("ssl".parse::<TlsMode>().is_err());
}

#[tokio::test]
async fn without_a_relay_or_a_recipient_nothing_is_sent() {
    let none = Mailer::new(None).expect("no relay is a setting too");
    assert!(!none.is_configured());
    let error = none.send("owner@example.com", "s", "b").await.expect_err("no relay");
    assert_eq!((error.reason(), error.is_permanent()), (Reason::SmtpNotConfigured, false));

    let mailer = Mailer::new(Some(relay(SocketAddr::from(([127, 0, 0, 1], 9))))).expect("it is complete");
    for to in ["", "owner", "a@x.test\r\nBcc: b@x.test", "a@x.test, b@x.test"] {
        let error = mailer.send(to, "s", "b").await.expect_err(to);
        assert_eq!(error, MailError::Recipient, "{to:?}");
    }
}
