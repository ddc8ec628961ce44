//! The one binary of Mailyard: a server, a simulator, a demonstration, and every client command.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use mailyard::{demo, error::Error, serve, sim, unsaved};
use mailyard_ctl::{Exit, Global};

/// Synchronizes mailboxes of Exchange Server with a CRM.
#[derive(Parser)]
#[command(name = "mailyard", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// See mail come in and go out, mailboxes fail and come back, within a minute
    Demo(demo::Demo),
    /// Run a server on a data directory
    Serve(serve::Serve),
    /// Run a simulated Exchange
    Sim(sim::Sim),
    #[command(flatten)]
    Client(mailyard_ctl::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    let result = match command {
        Command::Client(command) => return client(command, global).await.into(),
        Command::Demo(demo) => Box::pin(demo::run(demo)).await,
        Command::Serve(serve) => match folder(&global) {
            Ok(folder) => serve::run(serve, &folder).await.map(|()| Exit::Success),
            Err(exit) => return exit.into(),
        },
        Command::Sim(sim) => sim::run(sim).await.map(|()| Exit::Success),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error).into(),
    }
}

/// A test of a server with nothing saved is answered here; everything else by a server.
async fn client(command: mailyard_ctl::Command, global: Global) -> Exit {
    if !command.is_unsaved_test() {
        return mailyard_ctl::run(command, global, None).await;
    }
    match unsaved::start().await {
        Ok(unsaved) => mailyard_ctl::run(command, global, Some(unsaved.channel.clone())).await,
        Err(error) => failed(&error),
    }
}

fn folder(global: &Global) -> Result<PathBuf, Exit> {
    global.data.clone().ok_or_else(|| {
        eprintln!("error: a server needs a folder of its own\n  fix:  mailyard serve --data DIR");
        Exit::Usage
    })
}

fn failed(error: &Error) -> Exit {
    eprintln!("error: {error}");
    Exit::Other
}
