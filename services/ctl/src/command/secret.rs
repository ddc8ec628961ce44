//! Secrets: out of a file or typed without echo, never off the command line.

use std::{fs, io, path::Path};

use mailyard_host::data_dir;
use mailyard_wire::reason::Reason;

use super::read_text;
use crate::{ctl::Ctl, exit::Exit, failure::Failure};

/// Why a command that carries a secret is not carried out.
pub(super) fn refused() -> Failure {
    let message =
        "a password on the command line can be read by everyone on this host and stays in its history";
    Failure::of(Reason::SecretOnCommandLine, Exit::Usage, message)
}

/// Reads a password out of a file, or for `-` from standard input; on a terminal it is asked for. Without a file it is
/// asked for if `ask` says so and there is a terminal.
pub(super) fn password(ctl: &mut Ctl, file: Option<&Path>, ask: bool) -> Result<Option<String>, Failure> {
    let terminal = ctl.screen.input_is_terminal;
    let password = match file {
        None if !(ask && terminal) => return Ok(None),
        None => typed()?,
        Some(path) if path == Path::new("-") && terminal => typed()?,
        Some(path) if path == Path::new("-") => read_text(ctl, path)?,
        Some(path) => from_file(ctl, path)?,
    };
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Failure::new(Exit::Other, "the password is empty", ""));
    }
    Ok(Some(password))
}

/// Reads a certificate with its private key out of a file, or for `-` from standard input.
pub(super) fn certificate(ctl: &mut Ctl, file: Option<&Path>) -> Result<Option<String>, Failure> {
    match file {
        None => Ok(None),
        Some(path) if path == Path::new("-") => read_text(ctl, path).map(Some),
        Some(path) => from_file(ctl, path).map(Some),
    }
}

fn from_file(ctl: &mut Ctl, path: &Path) -> Result<String, Failure> {
    match data_dir::read_secret(path) {
        // The file is not ours to judge: some systems hand out secrets in files that a whole container reads.
        Err(exposed @ data_dir::Error::Exposed { .. }) => {
            ctl.screen.note(&format!("warning: {exposed}"));
            fs::read_to_string(path).map_err(|error| Failure::file(path, &error))
        }
        other => Ok(other?),
    }
}

fn typed() -> Result<String, Failure> {
    rpassword::prompt_password("Password: ").map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::new(Exit::Interrupted, "interrupted", ""),
        _ => Failure::new(Exit::Other, format!("no password could be asked for: {error}"), ""),
    })
}
