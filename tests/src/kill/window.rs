//! The moments at which a kill hurts most: something happened at Exchange, and nobody has written it down.

use std::{collections::HashSet, fmt, path::Path, time::Duration};

use mailyard::control::Control;
use mailyard_policy::id::Org;
use mailyard_store::{
    Store,
    query::{Filter, Operator, Page, Value},
    records::{Direction, Email},
    secret::MasterKey,
    sqlite::SqliteStore,
};
use serde_json::json;

use super::traffic::Traffic;
use crate::{Outcome, process::Process};

/// A window between an act and its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// A page of the Inbox was told, and its items are not committed.
    PageFetched,
    /// A draft was made, and its id is not recorded.
    DraftMade,
    /// SendItem was executed, and that is not recorded.
    SendExecuted,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PageFetched, Self::DraftMade, Self::SendExecuted];

    /// The request whose answer closes it.
    fn operation(self) -> &'static str {
        match self {
            Self::PageFetched => "GetItem",
            Self::DraftMade => "CreateItem",
            Self::SendExecuted => "SendItem",
        }
    }

    /// Kills the server inside this window: the simulator executes the request and holds its answer back. True if the
    /// store and the simulator's ground truth agree that it was hit.
    pub(super) async fn aim(
        self,
        control: &Control,
        traffic: &Traffic,
        process: Process,
        seen: &mut Seen,
    ) -> Outcome<bool> {
        control.delete("/fault").await?;
        let before = struck(control).await?;
        let rule =
            json!({"kind": "slow_body", "operation": self.operation(), "delay_ms": 15_000, "count": 1});
        control.post("/fault", &rule).await?;
        let late = tokio::time::Instant::now() + Duration::from_mins(1);
        while struck(control).await? == before {
            if tokio::time::Instant::now() > late {
                return Err(format!("nobody asks for {}", self.operation()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.kill().await?;
        Ok(seen.new_in(traffic, control).await?.contains(&self))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::PageFetched => "page fetched and not committed",
            Self::DraftMade => "draft made and not recorded",
            Self::SendExecuted => "SendItem executed and not recorded",
        })
    }
}

async fn struck(control: &Control) -> Outcome<u64> {
    Ok(control.get("/stats").await?["faults"]["slow_body"].as_u64().unwrap_or_default())
}

/// How often each window was hit, and how often it was aimed at.
#[derive(Clone, Debug, Default)]
pub struct Hits(std::collections::BTreeMap<Window, (usize, usize)>);

impl Hits {
    pub(super) fn note(&mut self, window: Window, hit: bool) {
        let (hits, kills) = self.0.entry(window).or_default();
        *hits += usize::from(hit);
        *kills += 1;
    }

    /// How often this one was hit.
    pub fn of(&self, window: Window) -> usize {
        self.0.get(&window).map_or(0, |(hits, _)| *hits)
    }

    /// How many kills were noted for this one.
    pub fn kills(&self, window: Window) -> usize {
        self.0.get(&window).map_or(0, |(_, kills)| *kills)
    }
}

/// What was found after earlier kills: a sending of unknown outcome rests for a while, and counts for one kill.
#[derive(Debug, Default)]
pub(super) struct Seen(HashSet<(Window, String)>);

impl Seen {
    /// The windows in which a server was killed just now.
    pub(super) async fn new_in(&mut self, traffic: &Traffic, control: &Control) -> Outcome<HashSet<Window>> {
        let found = found(traffic.data(), control, traffic.addresses()).await?;
        let new = found.into_iter().filter(|hit| self.0.insert(hit.clone()));
        Ok(new.map(|(window, _)| window).collect())
    }
}

/// What happened at Exchange and is not written down, as the store and the simulator's ground truth tell: the window,
/// and the item or sending. Nobody runs on the store meanwhile.
async fn found(data: &Path, control: &Control, addresses: &[String]) -> Outcome<Vec<(Window, String)>> {
    let key = MasterKey::load_or_create(&data.join("master.key"))?;
    let store = SqliteStore::open(&data.join("mailyard.db"), key).await?;
    let mut found = Vec::new();
    for address in addresses {
        let unknown = told_and_unknown(&store, control, address).await?;
        found.extend(unknown.into_iter().map(|item| (Window::PageFetched, item)));
    }
    let sending = emails(&store, "state", "sending").await?;
    let submitted = keys(&control.get("/submissions").await?);
    for email in sending {
        let id = email.id.to_string();
        if submitted.contains(&id) {
            found.push((Window::SendExecuted, id));
        } else if email.step.as_deref() == Some("claimed") {
            let drafts = keys(&control.get(&format!("/mailbox/{}/drafts", email.mailbox)).await?);
            if drafts.contains(&id) {
                found.push((Window::DraftMade, id));
            }
        }
    }
    Ok(found)
}

fn keys(list: &serde_json::Value) -> HashSet<String> {
    let keys = list.as_array().into_iter().flatten().filter_map(|item| item["send_key"].as_str());
    keys.map(str::to_owned).collect()
}

/// Items of the Inbox that were told in a page, and of which the store knows nothing.
async fn told_and_unknown(store: &dyn Store, control: &Control, address: &str) -> Outcome<Vec<String>> {
    let Some(mailbox) = store.mailbox_at(&Org::default(), address).await? else { return Ok(Vec::new()) };
    let known: HashSet<String> = emails(store, "mailbox", address)
        .await?
        .into_iter()
        .filter(|email| email.direction == Direction::Incoming)
        .filter_map(|email| email.internet_message_id)
        .collect();
    let waiting: HashSet<String> =
        store.inbound(mailbox.set.id, 10_000).await?.into_iter().map(|row| row.item_id).collect();
    let inbox = control.get(&format!("/mailbox/{address}/inbox")).await?;
    let unknown = inbox.as_array().into_iter().flatten().filter_map(|item| {
        let id = item["internet_message_id"].as_str()?;
        let item_id = item["item_id"].as_str()?;
        let unknown =
            item["told"] == true && is_traffic(item) && !known.contains(id) && !waiting.contains(item_id);
        unknown.then(|| item_id.to_owned())
    });
    Ok(unknown.collect())
}

/// True for what the story delivers or enqueues, and not for the server's own tests.
pub(super) fn is_traffic(item: &serde_json::Value) -> bool {
    item["subject"].as_str().is_some_and(|subject| subject.starts_with(super::traffic::SUBJECT))
}

/// All emails whose field is this.
pub(super) async fn emails(store: &dyn Store, field: &'static str, value: &str) -> Outcome<Vec<Email>> {
    let filter = Filter::Compare { field, operator: Operator::Equal, value: Value::Text(value.to_owned()) };
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let rows = store.emails(&Org::default(), &filter, &Page { after, limit: 1000 }).await?;
        after = rows.last().map(Email::page_key);
        if after.is_none() {
            return Ok(all);
        }
        all.extend(rows);
    }
}
