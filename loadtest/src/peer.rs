//! Clients that others wrote: wrk, a generator of HTTP requests, and exchangelib, an EWS client for Python.

use std::path::Path;

use crate::{
    Outcome, capture,
    process::{CLIENT, Process},
    stand::{Sim, Stand},
};

const EXCHANGELIB: &str = include_str!("../peers/exchangelib_peer.py");

/// Starts wrk with 64 connections and the very bytes that a worker's poll sends.
///
/// # Errors
/// It is not installed.
pub async fn wrk(stand: &Stand, sim: &Sim) -> Outcome<Process> {
    let request = capture::idle_poll(sim).await?;
    let text = String::from_utf8(request)?;
    if text.contains("]==]") {
        return Err("the request cannot be written into a script".into());
    }
    // wrk asks for the request once, before it begins.
    let script = format!(
        "function init(arguments)\n  wrk.format = function() return ([==[\n{}]==]):gsub('\\n', '\\r\\n') end\nend\n",
        text.replace("\r\n", "\n")
    );
    let file = stand.path("poll.lua");
    std::fs::write(&file, script)?;
    let file = file.to_string_lossy().into_owned();
    let arguments = ["-t", "1", "-c", "64", "-d", "3600", "-s", &file, &sim.ready.ews_url];
    Process::start(CLIENT, Path::new("wrk"), arguments, &stand.path("wrk.log"))
        .map_err(|error| format!("{error}; it is the Debian package wrk").into())
}

/// Starts exchangelib on `poll` or `fetch`, over and over.
///
/// # Errors
/// Python cannot be started.
pub fn exchangelib(stand: &Stand, sim: &Sim, what: &str) -> Outcome<Process> {
    let file = stand.path("exchangelib_peer.py");
    std::fs::write(&file, EXCHANGELIB)?;
    let ready = serde_json::to_string(&sim.ready)?;
    let file = file.to_string_lossy().into_owned();
    let arguments = [file.as_str(), what, &ready];
    Process::start(CLIENT, &stand.python, arguments, &stand.path("exchangelib.log"))
}
