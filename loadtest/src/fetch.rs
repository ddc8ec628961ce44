//! CPU per message fetched with its whole content, before anything is stored, beside exchangelib.

use mailyard_exchange::codec::{Change, Folder, ItemId, Shape, WellKnown};

use crate::{
    Outcome, capture,
    figures::Table,
    peer,
    process::{CLIENT, Process},
    stand::{Ready, Sim, Stand},
    told,
    window::{Window, watch},
};

const FETCH: &str = "GetItem";
/// Messages of one request.
const BATCH: usize = 10;
/// Messages that lie in the Inbox.
const MESSAGES: usize = 100;
/// Bytes of a message's text; its head comes on top.
const SIZE: usize = 5600;

/// The table of fetches.
///
/// # Errors
/// A process that does not begin, or makes no request.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let plain = Sim::start(stand, "sim-fetch", 1, &["--no-gzip"]).await?;
    let packed = Sim::start(stand, "sim-fetch-gzip", 1, &[]).await?;
    for sim in [&plain, &packed] {
        for address in sim.addresses()? {
            sim.deliver(&address, MESSAGES, SIZE).await?;
        }
    }
    let (mut ours, mut theirs, mut ours_packed, mut theirs_packed) = (vec![], vec![], vec![], vec![]);
    for _ in 0..stand.rounds {
        ours.push(client_once(stand, &plain).await?);
        theirs.push(exchangelib_once(stand, &plain).await?);
        ours_packed.push(client_once(stand, &packed).await?);
        theirs_packed.push(exchangelib_once(stand, &packed).await?);
    }
    let mut table =
        Table::new(format!("Messages of 6 KB fetched with their MIME over TLS, {BATCH} at a time"));
    let per_message = |windows: &[Window]| -> Vec<f64> {
        windows.iter().map(|one| one.cpu_per_request / BATCH as f64).collect()
    };
    table.row("Mailyard's client", "CPU ms/message", &per_message(&ours));
    table.row("exchangelib", "CPU ms/message", &per_message(&theirs));
    table.row("Mailyard's client, gzip", "CPU ms/message", &per_message(&ours_packed));
    table.row("exchangelib, gzip", "CPU ms/message", &per_message(&theirs_packed));
    Ok(told(table))
}

async fn client_once(stand: &Stand, sim: &Sim) -> Outcome<Window> {
    let ready = serde_json::to_string(&sim.ready)?;
    let arguments = ["fetch-client", &ready];
    let log = stand.path("fetch-client.log");
    let client = Process::start(CLIENT, &std::env::current_exe()?, arguments, &log)?;
    let (warm, long) = stand.times();
    tokio::time::sleep(warm).await;
    watch(&client, sim, FETCH, long).await
}

async fn exchangelib_once(stand: &Stand, sim: &Sim) -> Outcome<Window> {
    let exchangelib = peer::exchangelib(stand, sim, "fetch")?;
    let (warm, long) = stand.times();
    tokio::time::sleep(warm).await;
    watch(&exchangelib, sim, FETCH, long).await
}

/// Fetches what lies in the first mailbox's Inbox, over and over, until it is stopped.
///
/// # Errors
/// A request that failed.
pub async fn client(ready: &str) -> Outcome {
    let ready: Ready = serde_json::from_str(ready)?;
    let addresses = std::fs::read_to_string(&ready.addresses_file)?;
    let address = addresses.lines().next().ok_or("there is no mailbox")?;
    let mailbox = capture::client(&ready.ews_url, &ready)?.mailbox(address);
    let inbox = Folder::WellKnown(WellKnown::Inbox);
    let page = mailbox.sync_items(&inbox, None, 512, Shape::Known).await?.value;
    let ids: Vec<ItemId> = page
        .changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Create(entry) => Some(entry.id),
            Change::Update(_) | Change::Delete(_) | Change::ReadFlag(..) => None,
        })
        .collect();
    if ids.is_empty() {
        return Err("the Inbox is empty".into());
    }
    loop {
        for ids in ids.chunks(BATCH) {
            for message in mailbox.get_items(ids).await?.value {
                if message?.content.len() < SIZE {
                    return Err("a message came without its content".into());
                }
            }
        }
    }
}
