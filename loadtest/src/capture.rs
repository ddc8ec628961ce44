//! The very request that a worker's poll sends, as bytes.

use std::time::Duration;

use mailyard_exchange::{
    Authentication, Client, Config, Gate, Resolver,
    codec::{Folder, Shape, WellKnown},
};
use mailyard_host::clock;
use mailyard_policy::{id::ProfileId, profile::CredentialSource};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::{Outcome, stand::Sim};

/// Changes of one page, as the worker asks for them.
const PAGE: u16 = 512;

/// A client of the simulator, as the worker makes one.
///
/// # Errors
/// The simulator's files cannot be read.
pub fn client(sim_url: &str, ready: &crate::stand::Ready) -> Outcome<Client> {
    let config = Config {
        url: sim_url.to_owned(),
        credential_source: CredentialSource::Profile,
        authentication: Authentication::Basic,
        user: ready.user.clone(),
        password: ready.password.clone().into(),
        oauth: None,
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
        resolver: Resolver::default(),
        impersonate: true,
        request_deadline: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(10),
        largest_content: 64 << 20,
        allow_plain_http: true,
        clock: clock::now,
        observer: None,
    };
    let gate = Gate::new(ProfileId::new(1), 64, None, clock::now);
    Ok(Client::new(config, gate)?)
}

/// A poll of a mailbox in which nothing is new, taken from the client by a listener that answers nothing.
///
/// # Errors
/// The client sent none.
pub async fn idle_poll(sim: &Sim) -> Outcome<Vec<u8>> {
    let address = sim.addresses()?.into_iter().next().ok_or("the simulator has no mailbox")?;
    let inbox = Folder::WellKnown(WellKnown::Inbox);
    let mailbox = client(&sim.ready.ews_url, &sim.ready)?.mailbox(address.as_str());
    let mut cursor = None;
    loop {
        let page = mailbox.sync_items(&inbox, cursor.as_deref(), PAGE, Shape::Known).await?.value;
        cursor = Some(page.cursor);
        if page.last {
            break;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = listener.local_addr()?.to_string();
    let ears = client(&format!("http://{here}/EWS/Exchange.asmx"), &sim.ready)?.mailbox(address.as_str());
    let (request, _cut) =
        tokio::join!(heard(listener), ears.sync_items(&inbox, cursor.as_deref(), PAGE, Shape::Known));
    let text = String::from_utf8(request?)?;
    let authority = sim.ready.ews_url.split('/').nth(2).unwrap_or_default();
    Ok(text.replacen(&format!("Host: {here}"), &format!("Host: {authority}"), 1).into_bytes())
}

async fn heard(listener: TcpListener) -> Outcome<Vec<u8>> {
    let (mut stream, _) = listener.accept().await?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"</s:Envelope>") {
        if stream.read_buf(&mut heard).await? == 0 {
            return Err("the client sent half a request".into());
        }
    }
    Ok(heard)
}
