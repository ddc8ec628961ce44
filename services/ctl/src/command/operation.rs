//! Long-running operations.

use mailyard_wire::{
    admin::{self, CancelOperationRequest, GetOperationRequest, ListOperationsRequest},
    name,
};

use super::watch;
use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    server::{PAGE, Server, pages},
    table::Column,
};

const COLUMNS: &[Column] = &[
    ("ID", &["operation"]),
    ("STATE", &["state"]),
    ("TOTAL", &["total"]),
    ("RUNNING", &["running"]),
    ("SUCCEEDED", &["succeeded"]),
    ("FAILED", &["failed"]),
    ("SKIPPED", &["skipped"]),
    ("CREATE-TIME", &["create_time"]),
    ("SELECTION", &["selection"]),
];

/// Long-running operations, such as a test of many mailboxes.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Operation {
    /// List operations, newest first
    List {
        /// Only those that have not ended
        #[arg(long)]
        live: bool,
    },
    /// Show one operation
    Get {
        /// Its id
        id: String,
    },
    /// Follow an operation to its end, then show it with what failed
    Watch {
        /// Its id
        id: String,
    },
    /// Stop an operation; what has ended stays
    Cancel {
        /// Its id
        id: String,
    },
}

impl Operation {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        let server = ctl.server().await?;
        match self {
            Self::List { live } => {
                let operations = list(&server, live).await?;
                let objects: Vec<Object> = operations.iter().map(object).collect();
                ctl.list(&objects, COLUMNS)?;
            }
            Self::Get { id } => {
                let request = GetOperationRequest { name: server.name(name::OPERATIONS, &id) };
                let operation = server.call(server.operations().get_operation(request)).await?;
                ctl.object(&object(&operation))?;
            }
            Self::Watch { id } => {
                let called = server.name(name::OPERATIONS, &id);
                return watch::to_the_end(ctl, server, called).await;
            }
            Self::Cancel { id } => {
                let request = CancelOperationRequest { name: server.name(name::OPERATIONS, &id) };
                let operation = server.call(server.operations().cancel_operation(request)).await?;
                ctl.object_then(&object(&operation), &format!("operation get {}", operation.uid))?;
            }
        }
        Ok(Exit::Success)
    }
}

async fn list(server: &Server, live: bool) -> Result<Vec<admin::Operation>, Failure> {
    pages(async |page_token| {
        let request =
            ListOperationsRequest { parent: server.parent.clone(), live, page_size: PAGE, page_token };
        let answer = server.call(server.operations().list_operations(request)).await?;
        Ok((answer.operations, answer.next_page_token))
    })
    .await
}

pub(super) fn object(operation: &admin::Operation) -> Object {
    Object::new()
        .text("operation", &operation.uid)
        .text("selection", &operation.selection)
        .word("state", operation.state().as_str_name(), "LONG_STATE_")
        .text("reason", &operation.reason)
        .number("total", operation.total)
        .number("running", operation.running)
        .number("succeeded", operation.succeeded)
        .number("failed", operation.failed)
        .number("skipped", operation.skipped)
        .time("create_time", operation.create_time.as_ref())
        .time("end_time", operation.end_time.as_ref())
}
