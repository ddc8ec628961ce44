//! CPU per message that is fetched, tracked and durably committed by a running server.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Outcome,
    figures::Table,
    process::Process,
    stand::{Data, Profile, Sim, Stand},
    told,
};

/// Bytes of a message's text; its head comes on top.
const SIZE: usize = 5600;
/// So soon that deliveries and not polls are measured, so late that polls do not matter.
const PACE: [&str; 4] =
    ["sync.active_period=2s", "sync.active_min=2s", "sync.active_max=2s", "sync.idle_max=2s"];
/// Nothing takes longer.
const LONGEST: Duration = Duration::from_mins(5);

/// The table of tracked messages.
///
/// # Errors
/// A process that does not begin, or messages that are not tracked.
pub async fn run(stand: &Stand) -> Outcome<Table> {
    let mailboxes = stand.count(1000, 100);
    let sim = Sim::start(stand, "sim-track", mailboxes, &[])?;
    let addresses = sim.addresses()?;
    let data = Data::new(stand, "data-track");
    let ops = free()?;
    let page = format!("listen.ops={ops}");
    let mut settings = PACE.to_vec();
    settings.push(&page);
    let server = data.serve(&settings)?;
    data.enable(&sim, &addresses, &Profile::basic("2s"))?;
    let mut table =
        Table::new(format!("Messages of 6 KB tracked and committed (SQLite), {mailboxes} mailboxes"));
    for (what, count) in [("ten to each mailbox", 10), ("one to each mailbox", 1)] {
        let (mut cpu, mut rate) = (vec![], vec![]);
        for _ in 0..stand.rounds {
            let figures = once(&server, &sim, ops, &addresses, count).await?;
            cpu.push(figures.0);
            rate.push(figures.1);
        }
        table.row(what, "CPU ms/message", &cpu);
        table.row(what, "messages/s", &rate);
    }
    server.stop()?;
    Ok(told(table))
}

/// Milliseconds of CPU per message, and messages per second from the first delivery to the last commit.
async fn once(
    server: &Process,
    sim: &Sim,
    ops: SocketAddr,
    addresses: &[String],
    count: usize,
) -> Outcome<(f64, f64)> {
    let (begun, cpu, before) = (Instant::now(), server.cpu()?, tracked(ops).await?);
    for address in addresses {
        sim.deliver(address, count, SIZE).await?;
    }
    let messages = (addresses.len() * count) as u64;
    while tracked(ops).await? < before + messages {
        if begun.elapsed() > LONGEST {
            return Err("not all messages were tracked in time".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let messages = messages as f64;
    Ok(((server.cpu()? - cpu) / messages, messages / begun.elapsed().as_secs_f64()))
}

/// A port that is free now.
///
/// # Errors
/// There is none.
pub fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Messages that the server has tracked so far, by its own figures.
///
/// # Errors
/// It cannot be asked.
pub async fn tracked(ops: SocketAddr) -> Outcome<u64> {
    let mut stream = TcpStream::connect(ops).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    let lines = page.lines().filter(|line| line.starts_with("mailyard_messages_total{"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}
