//! Our assertions against an authority that was written by others: oidc-provider, behind Node's own HTTPS.

use std::process::Stdio;

use mailyard_exchange::{Authentication, Certificate, Config, Failure, OAuth};
use mailyard_policy::Reason;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    connection::reads,
    scripted::{Act, GENUINE, Server, certificate, client, folder_answer, ok},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/node/authority.mjs");
const RSA: &str = include_str!("../keys/rsa.pkcs8.pem");
const EC: &str = include_str!("../keys/ec.pkcs8.pem");
const TENANT: &str = "contoso.example";
const CLIENT: &str = "6f3c9a52-0000-4000-8000-000000000001";

struct Authority {
    url: String,
    ca_pem: String,
    said: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Authority {
    async fn start(modules: &str, application: &Certificate, algorithms: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("it is ours");
            path
        };
        let (proof, key, ca_pem) = certificate(&GENUINE, &PKCS_ECDSA_P256_SHA256);
        let mut process = Command::new("node")
            .args([SCRIPT, modules])
            .args([file("cert.pem", &proof.pem()), file("key.pem", &key.serialize_pem())])
            .arg(file("client.pem", application.certificate_pem()))
            .args([TENANT, CLIENT, "https://127.0.0.1/.default"])
            .args(algorithms)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let port = said.next_line().await.expect("it is read").expect("it says its port");
        Self { url: format!("https://127.0.0.1:{port}"), ca_pem, said, _process: process, _folder: folder }
    }

    /// What an application gets to read with this certificate, and the token that the server saw.
    async fn ask(&self, certificate: &Certificate) -> Result<String, Failure> {
        let exchange = Server::start([Act::Answer(ok(folder_answer()))]).await;
        let application = OAuth {
            tenant: TENANT.to_owned(),
            client: CLIENT.to_owned(),
            certificate_pem: certificate.certificate_pem().to_owned(),
            authority: Some(self.url.clone()),
            resource: None,
        };
        let config = Config {
            authentication: Authentication::OAuth,
            password: certificate.key_pem().clone(),
            oauth: Some(application),
            ca_pem: Some(format!("{}{}", exchange.ca_pem, self.ca_pem)),
            ..exchange.config()
        };
        reads(&client(config)).await?;
        let requests = exchange.requests();
        let carried = requests[0].lines().find_map(|line| line.strip_prefix("Authorization: Bearer "));
        Ok(carried.unwrap_or_default().to_owned())
    }

    async fn next(&mut self) -> String {
        self.said.next_line().await.expect("it is read").unwrap_or_default()
    }
}

fn certify(key: &str) -> Certificate {
    let pair = KeyPair::from_pem(key).expect("a key");
    let certificate = CertificateParams::new(Vec::new()).expect("parameters").self_signed(&pair);
    Certificate::read(&(certificate.expect("a certificate").pem() + key)).expect("it is good")
}

#[tokio::test]
async fn another_hand_issues_tokens_for_our_assertions() {
    let Ok(modules) = std::env::var("MAILYARD_NODE") else {
        eprintln!("SKIPPED: MAILYARD_NODE names no folder with the packages of tests/node/package-lock.json");
        return;
    };
    let (rsa, ec) = (certify(RSA), certify(EC));
    let all = &["RS256", "PS256", "ES256"][..];
    for (application, algorithms) in [(&rsa, all), (&rsa, &["RS256"]), (&rsa, &["PS256"]), (&ec, all)] {
        let mut authority = Authority::start(&modules, application, algorithms).await;
        let carried = authority.ask(application).await.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(authority.next().await, format!("issued {carried} for https://127.0.0.1/.default"));
        assert!(carried.len() > 20, "{carried}");
    }
    // Somebody else's certificate.
    let other = certify(&KeyPair::generate().expect("a key").serialize_pem());
    let mut authority = Authority::start(&modules, &ec, all).await;
    let failure = authority.ask(&other).await.expect_err("it is not registered");
    assert_eq!(failure.reason, Reason::ProfileTokenRefused, "{failure}");
    let said = authority.next().await;
    assert!(said.starts_with("refused: ") && said.contains("signature"), "{said}");
    // A key that can sign in none of the ways that the authority takes.
    let authority = Authority::start(&modules, &ec, &["RS256"]).await;
    let failure = authority.ask(&ec).await.expect_err("it cannot sign so");
    assert_eq!(failure.reason, Reason::ProfileCertificateInvalid, "{failure}");
}
