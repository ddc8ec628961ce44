//! What the command line says of a row.

use mailyard_tests::Outcome;
use serde_json::Value;

use crate::{
    rows::Told,
    world::{Place, World},
};

/// What commands say that list everything.
pub struct Shell {
    alerts: Value,
    emails: Value,
    profiles: Value,
}

/// True if one of a list has these values.
fn lists(list: &Value, wanted: &[(&str, &str)]) -> bool {
    let has = |one: &Value| wanted.iter().all(|(key, value)| one[*key] == **value);
    list.as_array().is_some_and(|list| list.iter().any(has))
}

impl Shell {
    pub async fn take(world: &World) -> Outcome<Self> {
        let outgoing = ["email", "list", "--filter", "direction = outgoing"];
        Ok(Self {
            alerts: world.cli(&["alert", "list"]).await?,
            emails: world.cli(&outgoing).await?,
            profiles: world.cli(&["profile", "list"]).await?,
        })
    }

    /// What is missing; empty: it says the same as everything else.
    pub async fn misses(&self, world: &World, place: &Place) -> Outcome<Vec<String>> {
        let Some(code) = place.row.told.code() else { return Ok(Vec::new()) };
        let entry = world.cli(&["explain", code]).await?;
        let explained = entry["reason"] == code && entry["remedy"].as_str().is_some_and(|it| !it.is_empty());
        let mailbox = ["mailbox", "explain", place.mailbox.as_str()];
        let alerted = lists(&self.alerts, &[("profile", &place.profile), ("reason", code)]);
        let says = match place.row.told {
            Told::Mailbox(_) => alerted && is_of_operation(&world.cli(&mailbox).await?, code),
            Told::Server(_) => {
                let held = [("name", place.profile.as_str()), ("held_back_reason", code)];
                alerted && lists(&self.profiles, &held) && is_of_cycle(&world.cli(&mailbox).await?, code)
            }
            Told::Slowed(_) => !alerted && is_of_cycle(&world.cli(&mailbox).await?, code),
            Told::Item(_) => alerted,
            Told::Email(_) => {
                alerted && lists(&self.emails, &[("mailbox", &place.mailbox), ("reason", code)])
            }
            Told::Waits(_) => lists(&self.emails, &[("mailbox", &place.mailbox), ("reason", code)]),
            Told::Warned(_) => {
                let test =
                    world.cli(&["profile", "test", &place.profile, "--address", &place.mailbox]).await?;
                lists(&test["steps"], &[("outcome", "warning"), ("reason", code)])
            }
            Told::Nothing => true,
        };
        let missing = [(explained, "explain"), (says, "commands")];
        Ok(missing.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what.to_owned()).collect())
    }
}

fn is_of_operation(mailbox: &Value, code: &str) -> bool {
    ["incoming", "outgoing"].iter().any(|one| mailbox["operations"][one]["reason"] == code)
}

fn is_of_cycle(mailbox: &Value, code: &str) -> bool {
    lists(&mailbox["cycles"], &[("reason", code)])
}
