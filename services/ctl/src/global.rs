//! What every command takes.

use std::{path::PathBuf, time::Duration};

use crate::values;

/// They stand apart from those of the command itself.
const HEADING: &str = "Options of every command";
const DATA_VARIABLE: &str = "MAILYARD_DATA";

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The data directory of the server: what it needs to be found and trusted lies there
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR", env = DATA_VARIABLE, hide_env_values = true)]
    pub data: Option<PathBuf>,
    /// The organization
    #[arg(long, global = true, help_heading = HEADING, default_value = "default")]
    pub org: String,
    /// How results are written
    #[arg(short, long, global = true, help_heading = HEADING, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Give up after this, such as 90s or 5m; without it one call may take 30s, and waits take as long as they take
    #[arg(long, global = true, help_heading = HEADING, value_name = "DURATION", value_parser = values::duration)]
    pub timeout: Option<Duration>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables for people
    #[default]
    Table,
    /// One array or object for programs
    Json,
}

impl Global {
    /// A command of ours to go on with, for the same server.
    pub(crate) fn invocation(&self, command: &str) -> String {
        let mut line = "mailyard".to_owned();
        if let Some(data) = &self.data
            && std::env::var_os(DATA_VARIABLE).is_none_or(|variable| variable != data.as_os_str())
        {
            line.push_str(&format!(" --data {}", values::shell_word(&data.to_string_lossy())));
        }
        if self.org != "default" {
            line.push_str(&format!(" --org {}", values::shell_word(&self.org)));
        }
        format!("{line} {command}")
    }
}
