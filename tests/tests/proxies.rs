//! Stories behind a reverse proxy that others wrote: it ends TLS, and Exchange knows the server by another name and path.

use std::{fs, net::SocketAddr, path::Path};

use mailyard_exchange_sim::{ExtendedProtection, Settings, Simulator};
use mailyard_policy::{Reason, profile::Authentication};
use mailyard_store::people::{Profile, Secrets};
use mailyard_tests::{
    Outcome, Stage, hurried,
    stranger::{Stranger, free_address},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tokio::process::Command;

/// A proxy in front of a simulator.
struct Proxy {
    address: SocketAddr,
    /// The authority of its certificate.
    ca_pem: String,
    _process: Stranger,
}

/// How a proxy is started on its configuration.
type Configured = fn(&Place<'_>) -> (String, Vec<String>);

/// What the configuration of a proxy is about.
struct Place<'a> {
    listen: SocketAddr,
    exchange: SocketAddr,
    ca_file: &'a str,
    folder: &'a Path,
}

impl Proxy {
    /// Starts one; `None`: the program is not there.
    async fn start(
        name: &str,
        configured: Configured,
        exchange: &Simulator,
        folder: &Path,
    ) -> Outcome<Option<Self>> {
        let Ok(program) = std::env::var(format!("MAILYARD_{}", name.to_uppercase())) else {
            eprintln!("SKIPPED: MAILYARD_{} names no {name}", name.to_uppercase());
            return Ok(None);
        };
        let (ca_pem, served) = certificate()?;
        fs::write(folder.join("proxy.pem"), served)?;
        let listen = free_address().await?;
        let ready = exchange.ready();
        let port = ready.ews_url.split([':', '/']).find_map(|part| part.parse::<u16>().ok());
        let exchange = SocketAddr::from(([127, 0, 0, 1], port.ok_or("the URL has no port")?));
        let (text, arguments) = configured(&Place { listen, exchange, ca_file: &ready.ca_file, folder });
        let file = folder.join(format!("{name}.conf"));
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.args(arguments).arg(&file);
        let process = Stranger::start(command, &[listen], &folder.join(format!("{name}.log"))).await?;
        Ok(Some(Self { address: listen, ca_pem, _process: process }))
    }
}

/// An authority, and what a server shows for 127.0.0.1: certificate and key in one file.
fn certificate() -> Outcome<(String, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut server = CertificateParams::new(Vec::new())?;
    server.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok((issuer.pem(), certificate.pem() + &key.serialize_pem()))
}

/// HAProxy keeps a connection to Exchange for each connection of a client once NTLM is offered on it.
fn haproxy(place: &Place<'_>) -> (String, Vec<String>) {
    let Place { listen, exchange, ca_file, folder } = place;
    let pem = folder.join("proxy.pem");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend front\n  bind {listen} ssl crt {}\n  default_backend exchange\n\
         backend exchange\n  http-request replace-path /mail(/.*) \\1\n\
         \x20 http-request set-header Host exchange.internal\n\
         \x20 server one {exchange} ssl verify required ca-file {ca_file} sni str(localhost) verifyhost localhost\n",
        pem.display()
    );
    (text, vec!["-db".to_owned(), "-f".to_owned()])
}

/// nginx takes another connection to Exchange for each request.
fn nginx(place: &Place<'_>) -> (String, Vec<String>) {
    let Place { listen, exchange, ca_file, folder } = place;
    let folder = folder.display();
    let text = format!(
        "daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
         \x20 server {{\n    listen {listen} ssl;\n    ssl_certificate {folder}/proxy.pem;\n\
         \x20   ssl_certificate_key {folder}/proxy.pem;\n    location /mail/ {{\n      proxy_pass https://{exchange}/;\n\
         \x20     proxy_set_header Host exchange.internal;\n      proxy_http_version 1.1;\n\
         \x20     proxy_ssl_verify on;\n      proxy_ssl_trusted_certificate {ca_file};\n      proxy_ssl_name localhost;\n\
         \x20   }}\n  }}\n}}\n"
    );
    (text, vec!["-c".to_owned()])
}

/// The profile goes through the proxy from now on.
async fn through(stage: &Stage, proxy: &Proxy) -> Outcome {
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let url = format!("https://{}/mail/EWS/Exchange.asmx", proxy.address);
    // Tokens are got where they are issued, and not by way of the proxy.
    let both = profile.ca_pem.clone().unwrap_or_default() + &proxy.ca_pem;
    let profile =
        Profile { incoming_url: Some(url.clone()), outgoing_url: Some(url), ca_pem: Some(both), ..profile };
    stage.store.update_profile(&profile, &Secrets::default(), false).await?;
    stage.nudge();
    Ok(())
}

/// Why the server of the profile is left alone.
async fn held_back(stage: &Stage, reason: Reason) -> Outcome {
    stage.start_tests().await?;
    stage
        .until("the profile's server is left alone", || async {
            let lane = stage.store.lane(stage.profile, 0).await?;
            let open = lane.and_then(|lane| lane.open);
            assert!(open.is_none_or(|open| open == reason), "{open:?}");
            Ok(open.is_some())
        })
        .await
}

/// Mail flows through a proxy by each of these schemes; what cannot work ends with its reason.
async fn story(name: &str, configured: Configured, schemes: &[(Authentication, Option<Reason>)]) -> Outcome {
    for (by, reason) in schemes {
        let stage = Stage::signing_in(*by, hurried()).await?;
        // Where TLS ends before Exchange, channel bindings cannot be right.
        let unbound = ExtendedProtection::None;
        stage.simulator.set(Settings { extended_protection: unbound, ..Settings::default() });
        let folder = tempfile::tempdir()?;
        let Some(proxy) = Proxy::start(name, configured, &stage.simulator, folder.path()).await? else {
            return Ok(());
        };
        through(&stage, &proxy).await?;
        match reason {
            None => stage.mail_flows(&stage.simulator, &stage.simulator).await?,
            Some(reason) => held_back(&stage, *reason).await?,
        }
        stage.shutdown.begin();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_flows_through_haproxy_by_each_scheme() -> Outcome {
    let all = [Authentication::Basic, Authentication::OAuth, Authentication::Ntlm, Authentication::Negotiate];
    story("haproxy", haproxy, &all.map(|by| (by, None))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_nginx_mail_flows_by_what_needs_no_connection_of_its_own() -> Outcome {
    let lost = Some(Reason::ProfileAuthRefusedBehindProxy);
    let schemes = [
        (Authentication::Basic, None),
        (Authentication::OAuth, None),
        (Authentication::Ntlm, lost),
        (Authentication::Negotiate, lost),
    ];
    story("nginx", nginx, &schemes).await
}
