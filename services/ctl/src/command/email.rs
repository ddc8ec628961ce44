//! Emails: tracked ones, and those to be sent.

mod send;

use mailyard_wire::{
    name,
    records::{
        self, CancelEmailRequest, GetEmailContentRequest, GetEmailRequest, ListEmailsRequest,
        ResolveEmailRequest,
    },
};
use tokio_stream::StreamExt as _;

use self::send::Send;
use crate::{
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    object::Object,
    server::{PAGE, Server, pages},
    table::Column,
    values::filter_text,
};

const COLUMNS: &[Column] = &[
    ("ID", &["id"]),
    ("MAILBOX", &["mailbox"]),
    ("DIRECTION", &["direction"]),
    ("STATE", &["state"]),
    ("TIME", &["received_time", "sent_time", "create_time"]),
    ("FROM", &["from"]),
    ("SUBJECT", &["subject"]),
];

/// Emails: tracked ones, and those to be sent.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Email {
    /// List emails, newest first
    List {
        /// Only those that were seen in this mailbox, or are sent from it
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<String>,
        /// Only those that match, such as 'direction = incoming AND subject : "offer"'
        #[arg(long)]
        filter: Option<String>,
    },
    /// Show one email
    Get {
        /// Its id
        id: String,
    },
    /// Write the MIME of a tracked email to standard output
    Content {
        /// Its id
        id: String,
    },
    /// Send an email
    Send(Box<Send>),
    /// Cancel an email whose sending has not begun
    Cancel {
        /// Its id
        id: String,
    },
    /// Decide about an email of which nobody can say whether it was sent
    #[command(group = clap::ArgGroup::new("word").required(true).args(["sent", "not_sent"]))]
    Resolve {
        /// Its id
        id: String,
        /// It was sent
        #[arg(long)]
        sent: bool,
        /// It was not, and will not be
        #[arg(long)]
        not_sent: bool,
    },
}

impl Email {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        if let Self::Send(send) = self {
            return send.run(ctl).await;
        }
        let server = ctl.server().await?;
        let called = |id: &str| server.name(name::EMAILS, id);
        match self {
            Self::List { mailbox, filter } => list(ctl, &server, mailbox, filter).await?,
            Self::Content { id } => content(ctl, &server, called(&id)).await?,
            Self::Get { id } => {
                let email = get(&server, called(&id)).await?;
                ctl.object(&object(&email))?;
            }
            Self::Cancel { id } => {
                let request = CancelEmailRequest { name: called(&id) };
                let email = server.call(server.emails().cancel_email(request)).await?;
                ctl.object(&object(&email))?;
            }
            Self::Resolve { id, sent, .. } => {
                let request = ResolveEmailRequest { name: called(&id), sent };
                let email = server.call(server.emails().resolve_email(request)).await?;
                ctl.object(&object(&email))?;
            }
            Self::Send(_) => {}
        }
        Ok(Exit::Success)
    }
}

async fn get(server: &Server, name: String) -> Result<records::Email, Failure> {
    server.call(server.emails().get_email(GetEmailRequest { name })).await
}

async fn list(
    ctl: &mut Ctl,
    server: &Server,
    mailbox: Option<String>,
    filter: Option<String>,
) -> Result<(), Failure> {
    let filter = match (mailbox.map(|address| filter_text(&address)), filter) {
        (None, filter) => filter.unwrap_or_default(),
        (Some(address), None) => format!("mailbox = {address}"),
        (Some(address), Some(filter)) => format!("({filter}) AND mailbox = {address}"),
    };
    let emails = pages(async |page_token| {
        let (parent, filter) = (server.parent.clone(), filter.clone());
        let request = ListEmailsRequest { parent, page_size: PAGE, page_token, filter };
        let answer = server.call(server.emails().list_emails(request)).await?;
        Ok((answer.emails, answer.next_page_token))
    })
    .await?;
    let objects: Vec<Object> = emails.iter().map(object).collect();
    ctl.list(&objects, COLUMNS)
}

/// Writes the bytes as they are, whatever the format.
async fn content(ctl: &mut Ctl, server: &Server, name: String) -> Result<(), Failure> {
    let request = GetEmailContentRequest { name };
    let mut pieces = server.call(server.emails().get_email_content(request)).await?;
    while let Some(message) = pieces.next().await {
        ctl.screen.write(&message?.piece)?;
    }
    Ok(())
}

fn object(email: &records::Email) -> Object {
    Object::new()
        .text("id", &email.uid)
        .text("mailbox", &email.mailbox)
        .texts("mailboxes", email.mailboxes.clone())
        .word("direction", email.direction().as_str_name(), "DIRECTION_")
        .word("state", email.state().as_str_name(), "EMAIL_STATE_")
        .text("step", &email.step)
        .text("reason", &email.reason)
        .text("internet_message_id", &email.internet_message_id)
        .text("subject", &email.subject)
        .text("from", &email.from)
        .texts("to", email.to.clone())
        .texts("cc", email.cc.clone())
        .time("sent_time", email.sent_time.as_ref())
        .time("received_time", email.received_time.as_ref())
        .time("create_time", email.create_time.as_ref())
        .time("next_attempt_time", email.next_attempt_time.as_ref())
        .number("size", email.size)
        .text("linked", email.linked.rsplit('/').next().unwrap_or_default())
}
