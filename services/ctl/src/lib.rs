//! The command line: a client of the admin and records services.
//!
//! A binary flattens [`Global`] and [`Command`] into its own arguments and hands them to [`run`]:
//!
//! ```
//! #[derive(clap::Parser)]
//! struct Arguments {
//!     #[command(flatten)]
//!     global: mailyard_ctl::Global,
//!     #[command(subcommand)]
//!     command: mailyard_ctl::Command,
//! }
//! ```

mod command;
mod ctl;
mod exit;
pub mod failure;
mod global;
mod object;
mod screen;
mod selection;
pub mod server;
mod table;
#[cfg(test)]
mod tests;
mod values;
mod wait;

use std::{future::Future, io};

pub use command::Command;
pub use exit::Exit;
pub use global::{Global, Output};

use crate::{ctl::Ctl, failure::Failure, screen::Screen};

/// Carries out a command on this process's standard streams, and ends early on the first interrupt. With a channel it
/// speaks to who is at its end; without one to the server of the data directory.
pub async fn run(command: Command, global: Global, channel: Option<tonic::transport::Channel>) -> Exit {
    let mut ctl = Ctl::new(global, Screen::of_process());
    ctl.channel = channel;
    let interrupt = async {
        // Without a handler the interrupt ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    run_until(command, &mut ctl, interrupt).await
}

enum End {
    Carried(Result<Exit, Failure>),
    TimedOut,
    Interrupted,
}

async fn run_until(command: Command, ctl: &mut Ctl, interrupt: impl Future<Output = ()>) -> Exit {
    let timeout = ctl.global.timeout;
    let late = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        biased;
        result = Box::pin(command.run(ctl)) => End::Carried(result),
        () = interrupt => End::Interrupted,
        () = late => End::TimedOut,
    };
    match end {
        End::Carried(Ok(exit)) => exit,
        End::Carried(Err(Failure::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            Exit::Success
        }
        End::Carried(Err(failure)) => ctl.screen.failure(&failure),
        End::Interrupted => ctl.screen.left(Exit::Interrupted, "interrupted"),
        End::TimedOut => ctl.screen.left(Exit::TimedOut, "the time given by --timeout is over"),
    }
}
