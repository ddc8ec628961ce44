//! One trace from an admin's call to coordinator, worker, request to Exchange and commit.

use std::{collections::HashMap, path::Path, time::Duration};

use mailyard::control::Control;
use mailyard_ctl::server::Server;
use mailyard_exchange_sim::Ready;
use mailyard_host::data_dir::Endpoint;
use mailyard_tests::{Outcome, collector::Collector, process::Process, tenant::set_up};
use mailyard_wire::admin::{PollMailboxesRequest, Selection};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_mailyard");
const TRACE: [u8; 16] = [0xa1; 16];
const CALLER: &str = "00-a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1-b2b2b2b2b2b2b2b2-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_followed_to_its_commit() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (collector, address) = Collector::start().await?;
    let binary = Path::new(BINARY);
    let log = folder.path().join("log");
    let exchange = format!("--folder={}", folder.path().join("exchange").display());
    let (_simulator, ready): (_, Ready) =
        Process::start(binary, ["sim", "--mailboxes=2", &exchange], &log).await?;
    let data = format!("--data={}", folder.path().join("data").display());
    let otlp = format!("--set=telemetry.otlp_endpoint=http://{address}");
    let ops = "--set=listen.ops=127.0.0.1:0";
    let (process, endpoint): (_, Endpoint) =
        Process::start(binary, ["serve", &data, &otlp, ops], &log).await?;
    let server = Server::at(&endpoint, "default").await?;
    set_up(&server, &ready).await?;
    let to = std::fs::read_to_string(&ready.addresses_file)?.lines().next().unwrap_or_default().to_owned();
    Control::new(&ready.control_url).post("/deliver", &json!({"to": [to]})).await?;
    let asked = PollMailboxesRequest {
        parent: server.parent.clone(),
        selection: Some(Selection { addresses: vec![to], filter: None }),
    };
    let mut request = tonic::Request::new(asked);
    request.metadata_mut().insert("traceparent", CALLER.parse()?);
    server.call(server.mailboxes().poll_mailboxes(request)).await?;

    let expected = ["rpc", "nudge", "turn", "ews", "commit"];
    let late = tokio::time::Instant::now() + Duration::from_secs(30);
    let spans = loop {
        let spans = collector.trace(&TRACE);
        if expected.iter().all(|name| spans.iter().any(|span| span.name == *name)) {
            break spans;
        }
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert!(tokio::time::Instant::now() < late, "{names:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let by_id: HashMap<&[u8], &str> =
        spans.iter().map(|span| (span.span_id.as_slice(), span.name.as_str())).collect();
    let parent = |name: &str| {
        let span = spans.iter().find(|span| span.name == name);
        span.and_then(|span| by_id.get(span.parent_span_id.as_slice()).copied())
    };
    assert_eq!(
        expected.map(parent),
        [None, Some("rpc"), Some("nudge"), Some("turn"), Some("turn")],
        "who caused what"
    );
    assert_eq!(process.stop().await?, Some(0));
    let figures = collector.figures();
    for name in ["mailyard_polls", "mailyard_messages", "mailyard_poll_lag"] {
        assert!(figures.iter().any(|figure| figure == name), "{name}: {figures:?}");
    }
    Ok(())
}
