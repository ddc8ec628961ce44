//! Mailboxes.

mod objects;
mod poll;
mod update;

use std::path::PathBuf;

use mailyard_wire::{
    admin::{
        self, Approval, DecideApprovalRequest, ExplainMailboxRequest, GetMailboxRequest,
        ImportMailboxesRequest, ListMailboxesRequest, TestAndEnableRequest,
    },
    name,
};

use super::{read_file, watch};
use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    selection::Selected,
    server::{PAGE, Server, pages},
    values::{mailboxes, shell_word},
};

/// Mailboxes: which there are, whether they may take part, and how they fare.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Mailbox {
    /// Make mailboxes from CSV, all or none
    ///
    /// Columns: address, display_name, kind, profile, incoming, outgoing, act; optional owner_email, crm_id,
    /// process_email_from. kind is user, queue or forward; incoming, outgoing and act are none, sss or forward.
    Import {
        /// The file; - reads standard input
        file: PathBuf,
        /// Check everything and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Change what is given, and leave the rest
    Update {
        /// Its address
        address: String,
        /// Change it only if it still has this etag
        #[arg(long)]
        etag: Option<String>,
        #[command(flatten)]
        fields: update::Fields,
    },
    /// Let mailboxes take part, all or none of those selected
    Approve(Selected),
    /// Let mailboxes take part no longer, all or none of those selected
    Reject(Selected),
    /// Test mailboxes and enable those that work
    TestEnable {
        #[command(flatten)]
        selected: Selected,
        /// Follow it to its end
        #[arg(long)]
        wait: bool,
    },
    /// Ask for a poll now
    Poll {
        #[command(flatten)]
        selected: Selected,
        /// Wait until all are polled
        #[arg(long)]
        wait: bool,
    },
    /// List mailboxes by address
    List {
        /// Only those that match, such as 'profile = "Head office" AND state = failing'
        #[arg(long)]
        filter: Option<String>,
    },
    /// Show one mailbox
    Get {
        /// Its address
        address: String,
    },
    /// Show everything about one mailbox: when it runs next, why then, and how the last runs went
    Explain {
        /// Its address
        address: String,
    },
}

impl Mailbox {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        match self {
            Self::Import { file, dry_run } => import(ctl, file, dry_run).await,
            Self::Update { address, etag, fields } => update::run(ctl, &address, etag, fields).await,
            Self::Approve(selected) => decide(ctl, &selected, Approval::Approved).await,
            Self::Reject(selected) => decide(ctl, &selected, Approval::Rejected).await,
            Self::TestEnable { selected, wait } => test_enable(ctl, &selected, wait).await,
            Self::Poll { selected, wait } => poll::run(ctl, &selected, wait).await,
            Self::List { filter } => {
                let server = ctl.server().await?;
                let found = list(&server, &filter.unwrap_or_default()).await?;
                let objects: Vec<Object> = found.iter().map(objects::mailbox).collect();
                ctl.list(&objects, objects::COLUMNS)?;
                Ok(Exit::Success)
            }
            Self::Get { address } => {
                let server = ctl.server().await?;
                let found = get(&server, server.name(name::MAILBOXES, &address)).await?;
                ctl.object(&objects::mailbox(&found))?;
                Ok(Exit::Success)
            }
            Self::Explain { address } => {
                let server = ctl.server().await?;
                let request = ExplainMailboxRequest { name: server.name(name::MAILBOXES, &address) };
                let answer = server.call(server.mailboxes().explain_mailbox(request)).await?;
                ctl.object(&objects::explained(&answer))?;
                Ok(Exit::Success)
            }
        }
    }
}

async fn get(server: &Server, name: String) -> Result<admin::Mailbox, Failure> {
    server.call(server.mailboxes().get_mailbox(GetMailboxRequest { name })).await
}

async fn list(server: &Server, filter: &str) -> Result<Vec<admin::Mailbox>, Failure> {
    pages(async |page_token| {
        let request = ListMailboxesRequest {
            parent: server.parent.clone(),
            page_size: PAGE,
            page_token,
            filter: filter.to_owned(),
        };
        let answer = server.call(server.mailboxes().list_mailboxes(request)).await?;
        Ok((answer.mailboxes, answer.next_page_token))
    })
    .await
}

async fn import(ctl: &mut Ctl, file: PathBuf, validate_only: bool) -> Result<Exit, Failure> {
    let csv = read_file(ctl, &file)?;
    let server = ctl.server().await?;
    let request = ImportMailboxesRequest { parent: server.parent.clone(), csv, validate_only };
    let imported = server.call(server.mailboxes().import_mailboxes(request)).await?.imported;
    let (key, verb, next) = if validate_only {
        let file = shell_word(&file.to_string_lossy());
        ("would_import", "would import", format!("mailbox import {file}"))
    } else {
        ("imported", "imported", "mailbox approve --all".to_owned())
    };
    let text = format!("{verb} {}", mailboxes(imported.into()));
    ctl.done(&Object::new().number(key, imported), &text, Some(&next))?;
    Ok(Exit::Success)
}

async fn decide(ctl: &mut Ctl, selected: &Selected, approval: Approval) -> Result<Exit, Failure> {
    let selection = Some(selected.read(&mut ctl.screen)?);
    let server = ctl.server().await?;
    let request =
        DecideApprovalRequest { parent: server.parent.clone(), selection, approval: approval.into() };
    let changed = server.call(server.mailboxes().decide_approval(request)).await?.changed;
    let (verb, next) = match approval {
        Approval::Approved => ("approved", format!("mailbox test-enable {}", selected.arguments())),
        _ => ("rejected", "mailbox list --filter 'approval = rejected'".to_owned()),
    };
    let text = format!("{verb} {}", mailboxes(changed));
    ctl.done(&Object::new().number("changed", changed), &text, Some(&next))?;
    Ok(Exit::Success)
}

async fn test_enable(ctl: &mut Ctl, selected: &Selected, wait: bool) -> Result<Exit, Failure> {
    let selection = Some(selected.read(&mut ctl.screen)?);
    let server = ctl.server().await?;
    let request = TestAndEnableRequest { parent: server.parent.clone(), selection };
    let operation = server.call(server.mailboxes().test_and_enable(request)).await?;
    if wait {
        return watch::to_the_end(ctl, server, operation.name).await;
    }
    let text = format!("operation {} tests {}", operation.uid, mailboxes(operation.total));
    let next = format!("operation watch {}", operation.uid);
    ctl.done(&Object::new().text("operation", &operation.uid), &text, Some(&next))?;
    Ok(Exit::Success)
}
