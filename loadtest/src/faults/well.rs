//! What people would see of a server: who is well, who is not, and which mail is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Outcome,
    figures::{Bound, Table},
    stand::Data,
};

/// The subjects of delivered messages begin so; a number follows.
pub const SUBJECT: &str = "load ";
/// The one fault of the run that is of a mailbox and not of the server, and the news that a test went well.
const OF_MAILBOXES: [&str; 2] = ["MAILBOX_UNAVAILABLE", "MAILBOX_CONNECTED"];

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    ok: u64,
    held_back: bool,
    disabled: usize,
    tracked: u64,
    doubled: u64,
    /// Failures that mailboxes were blamed for, by reason.
    blamed: BTreeMap<String, u64>,
}

impl Found {
    /// Asks the server.
    ///
    /// # Errors
    /// It refuses.
    pub fn look(data: &Data<'_>) -> Outcome<Self> {
        let status = data.ask(&["status"])?;
        let mut found = Self { held_back: data.held_back()?.is_some(), ..Self::default() };
        for profile in list(&status["profiles"]) {
            found.ok += profile["ok"].as_u64().unwrap_or_default();
        }
        let is_disabled = |mailbox: &&Value| {
            let operations = mailbox["operations"].as_object().into_iter().flatten();
            operations.into_iter().any(|(_, operation)| operation["state"] == "disabled")
        };
        found.disabled = list(&data.ask(&["mailbox", "list"])?).filter(is_disabled).count();
        let mut subjects = BTreeSet::new();
        for email in list(&data.ask(&["email", "list"])?) {
            let subject = email["subject"].as_str().unwrap_or_default();
            if subject.starts_with(SUBJECT) {
                found.tracked += 1;
                found.doubled += u64::from(!subjects.insert(subject.to_owned()));
            }
        }
        for alert in list(&data.ask(&["alert", "list"])?).filter(|alert| alert["scope"] == "mailbox") {
            let reason = alert["reason"].as_str().unwrap_or_default().to_owned();
            *found.blamed.entry(reason).or_default() += 1;
        }
        Ok(found)
    }

    /// Everybody works, nobody waits for the server, and all mail is there.
    pub fn is_well(&self, mailboxes: usize, delivered: u64) -> bool {
        let (all, tracked) = (mailboxes as u64, self.tracked - self.doubled);
        // Who was disabled stays so: there is nothing to wait for.
        self.ok + self.disabled as u64 >= all && !self.held_back && tracked >= delivered
    }

    /// What came of it.
    pub fn tell(&self, table: &mut Table) {
        table.single("messages tracked", "messages", &[(self.tracked - self.doubled) as f64]);
        table.single("messages tracked twice", "messages", &[self.doubled as f64]).bound(Bound::AtMost(0.0));
        table.single("mailboxes disabled", "mailboxes", &[self.disabled as f64]).bound(Bound::AtMost(0.0));
        let wrongly = self.blamed.iter().filter(|(reason, _)| !OF_MAILBOXES.contains(&reason.as_str()));
        let wrongly: u64 = wrongly.map(|(_, count)| count).sum();
        table
            .single("mailboxes blamed for the server", "alerts", &[wrongly as f64])
            .bound(Bound::AtMost(0.0));
        for (reason, count) in &self.blamed {
            table.single(format!("alerts: {reason}"), "alerts", &[*count as f64]);
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
