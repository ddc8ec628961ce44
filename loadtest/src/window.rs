//! A window of time in which a client is watched: its CPU from the operating system, its requests from the server.

use std::time::{Duration, Instant};

use crate::{Outcome, process::Process, stand::Sim};

/// What a client did in a window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Milliseconds of CPU per request.
    pub cpu_per_request: f64,
    /// Requests per second.
    pub rate: f64,
}

/// Watches a client for a while.
///
/// # Errors
/// It ended, or made no request.
pub async fn watch(client: &Process, sim: &Sim, operation: &str, long: Duration) -> Outcome<Window> {
    let begun = Instant::now();
    let (requests, cpu) = (sim.requests(operation).await?, client.cpu()?);
    tokio::time::sleep(long).await;
    let (requests, cpu) = (sim.requests(operation).await? - requests, client.cpu()? - cpu);
    let elapsed = begun.elapsed().as_secs_f64();
    if requests == 0 {
        return Err(format!("no {operation} was seen in {elapsed:.1} s").into());
    }
    let requests = requests as f64;
    Ok(Window { cpu_per_request: cpu / requests, rate: requests / elapsed })
}

/// Milliseconds of CPU per request in each window.
pub fn cpu(windows: &[Window]) -> Vec<f64> {
    windows.iter().map(|one| one.cpu_per_request).collect()
}

/// Requests per second in each window.
pub fn rate(windows: &[Window]) -> Vec<f64> {
    windows.iter().map(|one| one.rate).collect()
}
