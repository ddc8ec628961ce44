//! Programs that we did not write, as processes of their own.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::Outcome;

/// A program that listens nowhere after this does not begin any more.
const READY: Duration = Duration::from_mins(1);

/// A program of others; ended when it is dropped.
#[derive(Debug)]
pub struct Stranger {
    _child: Child,
}

impl Stranger {
    /// Starts a program and waits until it accepts connections at all of these addresses. What it says goes to a file.
    ///
    /// # Errors
    /// It ended early or did not listen in time, with what it said.
    pub async fn start(mut command: Command, listening: &[SocketAddr], log: &Path) -> Outcome<Self> {
        let file = std::fs::File::create(log)?;
        let command = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.kill_on_drop(true).spawn()?;
        let begun = Instant::now();
        for address in listening {
            while TcpStream::connect(address).await.is_err() {
                if child.try_wait()?.is_some() || begun.elapsed() > READY {
                    let said = std::fs::read_to_string(log).unwrap_or_default();
                    return Err(format!("nobody listens at {address}: {said}").into());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self { _child: child })
    }
}

/// An address of this host at which nobody listens.
///
/// # Errors
/// There is none.
pub async fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?)
}
