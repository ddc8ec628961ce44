//! The commands by their nouns.

mod alert;
mod email;
mod explain;
mod mailbox;
mod operation;
mod profile;
mod secret;
mod settings;
mod status;
mod watch;

use std::{fs, io::Read as _, path::Path};

use mailyard_host::config;

use crate::{ctl::Ctl, exit::Exit, failure::Failure};

/// Commands for people who run Mailyard.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// The configuration of a server
    #[command(subcommand)]
    Config(Config),
    /// Email server profiles: how the mailboxes of a server are reached
    #[command(subcommand)]
    Profile(profile::Profile),
    /// Mailboxes: which there are, whether they may take part, and how they fare
    #[command(subcommand, visible_alias = "mb")]
    Mailbox(mailbox::Mailbox),
    /// Emails: tracked ones, and those to be sent
    #[command(subcommand)]
    Email(email::Email),
    /// What went wrong and may need somebody
    #[command(subcommand)]
    Alert(alert::Alert),
    /// Long-running operations, such as a test of many mailboxes
    #[command(subcommand, visible_alias = "op")]
    Operation(operation::Operation),
    /// The email settings of the organization
    #[command(subcommand)]
    Settings(settings::Settings),
    /// How the whole fares
    Status,
    /// What a reason means and what to do; without one, all of them. Needs no server
    Explain(explain::Explain),
}

/// The configuration of a server.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Config {
    /// Print a file with every key, its default and its meaning
    Default,
}

impl Command {
    /// True for a test of a server with nothing saved: the binary answers it itself.
    pub fn is_unsaved_test(&self) -> bool {
        matches!(self, Self::Profile(profile) if profile.is_unsaved_test())
    }

    /// Carries it out.
    pub(crate) async fn run(self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        match self {
            Self::Config(Config::Default) => {
                ctl.screen.write(config::default_file().as_bytes())?;
                Ok(Exit::Success)
            }
            Self::Profile(profile) => profile.run(ctl).await,
            Self::Mailbox(mailbox) => mailbox.run(ctl).await,
            Self::Email(email) => email.run(ctl).await,
            Self::Alert(alert) => alert.run(ctl).await,
            Self::Operation(operation) => operation.run(ctl).await,
            Self::Settings(settings) => settings.run(ctl).await,
            Self::Status => status::run(ctl).await,
            Self::Explain(explain) => explain.run(ctl),
        }
    }
}

/// Reads a file; `-` is standard input.
fn read_file(ctl: &mut Ctl, path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = ctl.screen.input.read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| Failure::file(Path::new("standard input"), &error));
    }
    fs::read(path).map_err(|error| Failure::file(path, &error))
}

/// Reads a file of text.
fn read_text(ctl: &mut Ctl, path: &Path) -> Result<String, Failure> {
    let bytes = read_file(ctl, path)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Other, format!("{}: it is no text in UTF-8", path.display()), ""))
}

/// An update without a change.
fn nothing_to_change(command: &str) -> Failure {
    let advice = format!("Give at least one flag; see: mailyard {command} --help");
    Failure::new(Exit::Usage, "there is nothing to change", &advice)
}
