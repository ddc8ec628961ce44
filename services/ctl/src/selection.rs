//! Which mailboxes a command is about.

use std::io::Read as _;

use mailyard_wire::admin::Selection;

use crate::{exit::Exit, failure::Failure, screen::Screen};

/// All mailboxes, those that match, or those with these addresses.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Selected {
    /// All mailboxes
    #[arg(long)]
    all: bool,
    /// Those that match, such as 'profile = "Head office" AND state = failing'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Their addresses; - reads them from standard input, one a line
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
}

impl Selected {
    /// As the server reads it.
    pub(crate) fn read(&self, screen: &mut Screen) -> Result<Selection, Failure> {
        if self.all {
            return Ok(Selection { addresses: Vec::new(), filter: Some(String::new()) });
        }
        if let Some(filter) = &self.filter {
            return Ok(Selection { addresses: Vec::new(), filter: Some(filter.clone()) });
        }
        let mut addresses = Vec::new();
        for address in &self.addresses {
            if address == "-" {
                addresses.extend(from_input(screen)?);
            } else {
                addresses.push(address.clone());
            }
        }
        if addresses.is_empty() {
            return Err(Failure::new(Exit::Usage, "standard input holds no address", ""));
        }
        Ok(Selection { addresses, filter: None })
    }

    /// The same selection as arguments of the next command.
    pub(crate) fn arguments(&self) -> String {
        match &self.filter {
            Some(filter) => format!("--filter {}", crate::values::shell_word(filter)),
            None if self.all => "--all".to_owned(),
            None if self.addresses.len() > 3 || self.addresses.iter().any(|one| one == "-") => {
                "ADDRESS…".to_owned()
            }
            None => self.addresses.join(" "),
        }
    }
}

fn from_input(screen: &mut Screen) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    let read = screen.input.read_to_string(&mut text);
    read.map_err(|error| Failure::new(Exit::Other, format!("standard input: {error}"), ""))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
}
