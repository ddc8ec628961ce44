//! What a reason means.

use mailyard_wire::reason::{Entry, Reason};

use crate::{ctl::Ctl, exit::Exit, failure::Failure, object::Object, table::Column};

const COLUMNS: &[Column] = &[
    ("REASON", &["reason"]),
    ("SCOPE", &["scope"]),
    ("NATURE", &["nature"]),
    ("OWNER", &["owner"]),
    ("TITLE", &["title"]),
];

/// What to explain.
#[derive(Clone, Debug, clap::Args)]
pub struct Explain {
    /// A reason's code, such as MAILBOX_NOT_APPROVED
    #[arg(value_name = "REASON")]
    reason: Option<String>,
}

impl Explain {
    pub(super) fn run(&self, ctl: &mut Ctl) -> Result<Exit, Failure> {
        let Some(asked) = &self.reason else {
            let all: Vec<Object> = Reason::catalogue().iter().map(object).collect();
            ctl.list(&all, COLUMNS)?;
            return Ok(Exit::Success);
        };
        let code = asked.trim().to_uppercase().replace('-', "_");
        let reason: Reason = code.parse().map_err(|_| unknown(asked, &code))?;
        ctl.object(&object(reason.entry()))?;
        Ok(Exit::Success)
    }
}

fn object(entry: &Entry) -> Object {
    Object::new()
        .text("reason", entry.code)
        .text("title", entry.title)
        .text("remedy", entry.remedy)
        .text("guide", entry.guide.unwrap_or_default())
        .text("page", entry.page())
        .text("scope", entry.scope.to_string())
        .text("nature", entry.nature.to_string())
        .text("owner", entry.owner.to_string())
        .text("grpc", entry.grpc)
        .flag("server_fault", entry.server_fault)
}

fn unknown(asked: &str, code: &str) -> Failure {
    let nearest = Reason::catalogue().iter().map(|entry| entry.code);
    let nearest = nearest.min_by_key(|known| strsim::osa_distance(code, known)).unwrap_or_default();
    let advice = format!("Did you mean {nearest}? All reasons: mailyard explain");
    Failure::new(Exit::NotFound, format!("{asked:?} is no reason of the catalogue"), &advice)
}
