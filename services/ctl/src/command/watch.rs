//! Following an operation to its end, also through a server that restarts.

use std::time::Duration;

use mailyard_wire::admin::{
    LongState, MailboxTestResult, Operation, TestResult, WatchOperationRequest, WatchOperationResponse,
};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use super::operation;
use crate::{ctl::Ctl, exit::Exit, failure::Failure, object::Object, server::Server, wait::Patience};

/// Off a terminal progress is told when another tenth is done, or after this.
const QUIET: Duration = Duration::from_secs(10);

/// What came so far.
struct Watch {
    /// Results received: a watch that was cut goes on behind them.
    results: u64,
    failures: Vec<MailboxTestResult>,
    told: Told,
}

/// What was told of the progress.
struct Told {
    tenths: u64,
    state: LongState,
    at: Instant,
}

/// Follows an operation until it has ended, then writes it with its failures.
pub(super) async fn to_the_end(ctl: &mut Ctl, server: Server, name: String) -> Result<Exit, Failure> {
    let id = name.rsplit('/').next().unwrap_or_default();
    let again = ctl.global.invocation(&format!("operation watch {id}"));
    ctl.screen.goes_on(&format!("the operation continues: {again}"));
    let told = Told { tenths: 0, state: LongState::Running, at: Instant::now() };
    let mut watch = Watch { results: 0, failures: Vec::new(), told };
    let (mut server, mut patience) = (server, Patience::default());
    let operation = loop {
        match watch.follow(ctl, &server, &name, &mut patience).await {
            Ok(operation) => break operation,
            Err(failure) => server = patience.reconnect(ctl, failure).await?,
        }
    };
    ctl.screen.goes_on("");
    let failures = watch.failures.iter().map(failure).collect();
    ctl.object(&operation::object(&operation).objects("failures", failures))?;
    let well = operation.state() == LongState::Done && operation.failed == 0 && operation.skipped == 0;
    Ok(Exit::unless(!well))
}

impl Watch {
    async fn follow(
        &mut self,
        ctl: &mut Ctl,
        server: &Server,
        name: &str,
        patience: &mut Patience,
    ) -> Result<Operation, Failure> {
        let request = WatchOperationRequest { name: name.to_owned(), skip_results: self.results };
        let mut stream = server.call(server.operations().watch_operation(request)).await?;
        while let Some(message) = stream.next().await {
            patience.renew();
            let operation = self.take(ctl, message?);
            if matches!(operation.state(), LongState::Done | LongState::Canceled) {
                return Ok(operation);
            }
        }
        Err(Failure::away("the watch ended before the operation did"))
    }

    fn take(&mut self, ctl: &mut Ctl, message: WatchOperationResponse) -> Operation {
        self.results += message.results.len() as u64;
        let failed = |result: &MailboxTestResult| result.result() != TestResult::Success;
        self.failures.extend(message.results.into_iter().filter(failed));
        let operation = message.operation.unwrap_or_default();
        let (done, tenths) = progress(&operation);
        let told = &mut self.told;
        let news = tenths != told.tenths || operation.state() != told.state || told.at.elapsed() >= QUIET;
        if news || ctl.screen.err_is_terminal {
            *told = Told { tenths, state: operation.state(), at: Instant::now() };
            ctl.screen.progress(&line(&operation, done));
        }
        operation
    }
}

/// How many are done, and how many tenths of all that is.
fn progress(operation: &Operation) -> (u64, u64) {
    let done = operation.succeeded + operation.failed + operation.skipped;
    (done, (done * 10).checked_div(operation.total).unwrap_or_default())
}

fn line(operation: &Operation, done: u64) -> String {
    let total = operation.total;
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    let mut line = format!("{done} of {total} tested ({percent} %)");
    for (count, word) in [(operation.failed, "failed"), (operation.skipped, "skipped")] {
        if count > 0 {
            line.push_str(&format!(", {count} {word}"));
        }
    }
    match operation.state() {
        LongState::Paused => line.push_str(&format!("; it waits: {}", operation.reason)),
        LongState::Canceled => line.push_str("; canceled"),
        _ => {}
    }
    line
}

fn failure(result: &MailboxTestResult) -> Object {
    Object::new()
        .text("address", &result.address)
        .word("result", result.result().as_str_name(), "TEST_RESULT_")
        .text("incoming_reason", &result.incoming_reason)
        .text("outgoing_reason", &result.outgoing_reason)
        .text("act_reason", &result.act_reason)
        .time("time", result.time.as_ref())
}
