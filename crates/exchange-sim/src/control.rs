//! The control door: deliver, break, look.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Grant, Made, Rule, autodiscover,
    world::{World, folder_named},
};

const LARGEST: usize = 80 << 20;

type Answer = Result<Value, (StatusCode, String)>;

/// Answers one request.
pub(crate) async fn answer(world: &World, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let result = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => route(world, &parts.method, &path, &query, &body.to_bytes()),
        Err(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned())),
    };
    let (status, value) = match result {
        Ok(value) => (StatusCode::OK, value),
        Err((status, error)) => (status, json!({ "error": error })),
    };
    let body = Full::new(Bytes::from(value.to_string()));
    http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap_or_default()
}

fn route(world: &World, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method.as_str(), &steps[..]) {
        ("POST", ["deliver"]) => deliver(world, body),
        ("POST", ["fault"]) => fault(world, body),
        ("DELETE", ["fault"]) => {
            world.set_faults(crate::fault::Faults::clear);
            Ok(json!({}))
        }
        ("GET", ["settings"]) => Ok(json!(world.settings())),
        ("POST", ["settings"]) => {
            let changed = world.change_settings(|settings| settings.changed(body));
            changed.map(|settings| json!(settings)).map_err(|error| (StatusCode::BAD_REQUEST, error))
        }
        ("GET", ["permissions"]) => Ok(json!(world.grants())),
        ("POST", ["permissions"]) => {
            let grant: Grant = read(body)?;
            world.grant(&grant).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
            Ok(json!(world.grants()))
        }
        ("GET", ["stats"]) => {
            let wanted = query.strip_prefix("mailbox=").map(percent_decoded);
            let unknown = wanted.as_ref().filter(|address| world.mailbox_at(address).is_none());
            if let Some(address) = unknown {
                return Err((StatusCode::NOT_FOUND, format!("there is no mailbox {address}")));
            }
            Ok(stats(world, wanted.as_deref()))
        }
        ("GET", ["stats", "mailboxes"]) => {
            let wanted = query.strip_prefix("operation=").map(percent_decoded);
            wanted.as_deref().map_or(Ok(()), known_operation)?;
            let counters = &world.counters;
            let count = |number| counters.of_mailbox(number, wanted.as_deref());
            let counts = world.addresses().zip(1..).map(|(address, number)| (address, count(number)));
            Ok(json!(counts.collect::<std::collections::BTreeMap<_, _>>()))
        }
        ("POST", ["stats", "window"]) => Ok(json!({ "max_concurrent": world.counters.end_window() })),
        ("GET", ["submissions"]) => Ok(json!(world.submissions())),
        ("GET", ["mailbox", address, folder]) => list(world, address, folder),
        _ => Err((StatusCode::NOT_FOUND, format!("there is no {method} {path}"))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn deliver(world: &World, body: &[u8]) -> Answer {
    let made: Made = read(body)?;
    let unknown = made.to.iter().find(|address| world.mailbox_at(address).is_none());
    if let Some(address) = unknown {
        return Err((StatusCode::BAD_REQUEST, format!("to: there is no mailbox {address}")));
    }
    if made.to.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "to: at least one address is needed".to_owned()));
    }
    Ok(json!({ "delivered": world.deliver_made(&made) }))
}

fn fault(world: &World, body: &[u8]) -> Answer {
    let rule: Rule = read(body)?;
    rule.check().map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let unknown = rule.mailbox.as_ref().filter(|address| world.mailbox_at(address).is_none());
    if let Some(address) = unknown {
        return Err((StatusCode::BAD_REQUEST, format!("mailbox: there is no mailbox {address}")));
    }
    rule.operation.as_deref().map_or(Ok(()), known_operation)?;
    world.set_faults(|faults| faults.add(rule));
    Ok(json!({}))
}

fn known_operation(name: &str) -> Result<(), (StatusCode, String)> {
    if crate::operation::named(name).is_some() || autodiscover::is_form(name) {
        return Ok(());
    }
    Err((StatusCode::BAD_REQUEST, format!("operation: there is no operation {name}")))
}

fn list(world: &World, address: &str, folder: &str) -> Answer {
    let address = percent_decoded(address);
    let not_found = |what: String| (StatusCode::NOT_FOUND, what);
    let mailbox =
        world.mailbox_at(&address).ok_or_else(|| not_found(format!("there is no mailbox {address}")))?;
    let folder = percent_decoded(folder);
    let number = folder_named(&mailbox.contents(), &folder);
    let number = number.ok_or_else(|| not_found(format!("there is no folder {folder}")))?;
    Ok(json!(World::list(mailbox, number)))
}

/// Text without its percent signs.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The counters; with a mailbox also its own.
pub(crate) fn stats(world: &World, mailbox: Option<&str>) -> Value {
    let counters = &world.counters;
    let faults: serde_json::Map<String, Value> = world
        .faults()
        .struck()
        .iter()
        .filter_map(|(kind, count)| {
            Some((serde_json::to_value(kind).ok()?.as_str()?.to_owned(), json!(count)))
        })
        .collect();
    let mut stats = json!({
        "requests": counters.requests(),
        "faults": faults,
        "max_concurrent": counters.max_concurrent(),
        "concurrent": counters.concurrent(),
        "sends_executed": counters.sends.load(Ordering::Relaxed),
        "connections": counters.connections.load(Ordering::Relaxed),
        "handshakes": counters.handshakes.load(Ordering::Relaxed),
        "refused_sign_ins": counters.refused_sign_ins(),
        "wrong_anchor_mailbox": counters.wrong_anchor.load(Ordering::Relaxed),
        "wrong_affinity": counters.wrong_affinity.load(Ordering::Relaxed),
        "subscriptions": world.subscriptions.count(),
        "streams": counters.streams.load(Ordering::Relaxed),
        "max_streams": counters.max_streams.load(Ordering::Relaxed),
    });
    if let Some(issuer) = &world.issuer {
        let (all, with_claims) = issuer.issued();
        stats["tokens"] = json!(all);
        stats["tokens_with_claims"] = json!(with_claims);
    }
    if let Some(one) = mailbox.and_then(|address| world.mailbox_at(address)) {
        stats["mailbox_requests"] = json!(counters.of_mailbox(one.number, None));
    }
    stats
}
