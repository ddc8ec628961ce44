//! Sending an email, and waiting until it is sent.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mailyard_host::clock;
use mailyard_wire::{
    Timestamp,
    records::{self, Attachment, EmailState, EnqueueEmailRequest, enqueue_email_request::Body},
};

use super::{get, object};
use crate::{
    command::{read_file, read_text},
    ctl::Ctl,
    exit::Exit,
    failure::Failure,
    server::Server,
    values, wait,
};

const PAUSE: Duration = Duration::from_millis(200);

/// An email to be sent.
#[derive(Clone, Debug, clap::Args)]
pub struct Send {
    /// The address of the mailbox that sends it
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// A recipient of a copy; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    cc: Vec<String>,
    /// A recipient of a copy whom the others do not see; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    bcc: Vec<String>,
    /// Its subject
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// Its text
    #[arg(long, group = "body")]
    text: Option<String>,
    /// The file that holds its text; - reads standard input
    #[arg(long, value_name = "FILE", group = "body")]
    text_file: Option<PathBuf>,
    /// Its text as HTML
    #[arg(long, group = "body")]
    html: Option<String>,
    /// A file to attach; may be repeated
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// A key of your own: repeated with the same content it is the same email
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Not to be sent after this: 2026-03-01 or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    expires: Option<Timestamp>,
    /// Wait until it is sent, or never will be
    #[arg(long)]
    wait: bool,
}

impl Send {
    pub(super) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        let wait = self.wait;
        let mut request = self.request(ctl)?;
        let server = ctl.server().await?;
        request.parent = server.parent.clone();
        let key = request.idempotency_key.clone();
        let answer = server.call(server.emails().enqueue_email(request)).await;
        let answer = answer.map_err(|failure| in_doubt(failure, &key))?;
        if !answer.created {
            ctl.screen.note("the key was used before: this is the email of that time");
        }
        let email = answer.email.unwrap_or_default();
        if wait {
            return until_final(ctl, server, email).await;
        }
        ctl.object_then(&object(&email), &format!("email get {}", email.uid))?;
        Ok(Exit::Success)
    }

    fn request(self, ctl: &mut Ctl) -> Result<EnqueueEmailRequest, Failure> {
        let body = match (self.html, self.text_file) {
            (Some(html), _) => Body::Html(html),
            (None, Some(file)) => Body::Text(read_text(ctl, &file)?),
            (None, None) => Body::Text(self.text.unwrap_or_default()),
        };
        let mut attachments = Vec::new();
        for path in self.attach {
            attachments.push(attachment(ctl, &path)?);
        }
        Ok(EnqueueEmailRequest {
            parent: String::new(),
            idempotency_key: self.idempotency_key.map_or_else(new_key, Ok)?,
            from: self.from,
            to: self.to,
            cc: self.cc,
            bcc: self.bcc,
            subject: self.subject,
            attachments,
            expire_time: self.expires,
            body: Some(body),
        })
    }
}

/// A lost answer leaves open whether the email was taken: the same key finds out without sending twice.
fn in_doubt(failure: Failure, key: &str) -> Failure {
    let lost =
        matches!(&failure, Failure::Told(told) if matches!(told.exit, Exit::Unavailable | Exit::TimedOut));
    if !lost {
        return failure;
    }
    failure.advise(&format!("Add --idempotency-key {}: so it is sent once.", values::shell_word(key)))
}

fn new_key() -> Result<String, Failure> {
    let id = clock::new_id();
    id.map(|id| format!("ctl-{id:032x}")).map_err(|error| Failure::new(Exit::Other, error.to_string(), ""))
}

fn attachment(ctl: &mut Ctl, path: &Path) -> Result<Attachment, Failure> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let content = read_file(ctl, path)?;
    Ok(Attachment { content_type: content_type(&name).to_owned(), name, content })
}

/// By the ending of its name; what is not listed is bytes.
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("txt" | "log" | "md") => "text/plain",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("pdf") => "application/pdf",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

async fn until_final(ctl: &mut Ctl, server: Server, email: records::Email) -> Result<Exit, Failure> {
    let again = ctl.global.invocation(&format!("email get {}", email.uid));
    ctl.screen.goes_on(&format!("the sending continues: {again}"));
    let mut told = EmailState::Unspecified;
    let email = wait::until(ctl, server, PAUSE, async |ctl, server| {
        let found = get(server, email.name.clone()).await?;
        let state = found.state();
        if is_final(state) {
            return Ok(Some(found));
        }
        if state != told {
            told = state;
            let word = mailyard_wire::convert::word(state.as_str_name(), "EMAIL_STATE_");
            ctl.screen.progress(&format!("the email is {}", word.replace('_', " ")));
        }
        Ok(None)
    })
    .await?;
    ctl.screen.goes_on("");
    ctl.object(&object(&email))?;
    Ok(Exit::unless(email.state() != EmailState::Sent))
}

fn is_final(state: EmailState) -> bool {
    use EmailState::{Canceled, Expired, Failed, NeedsPerson, Sent};
    matches!(state, Sent | Failed | Canceled | Expired | NeedsPerson)
}
