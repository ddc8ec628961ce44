//! Fetching items: each becomes a record, is tried again, or is put aside with its reason.

use std::sync::Arc;

use bytes::Bytes;
use mailyard_exchange::{ContentSink, Failure, Mailbox, codec::ItemId, read_head};
use mailyard_policy::{
    Reason, Timestamp,
    id::{OutgoingId, RecordId, UploadId},
    operation::Direction,
    outbox::Execution,
    tracking::{self, Fate, Head, MessageKey, Portion, Selection},
};
use mailyard_store::holder::{Body, Commit, Item, Tracked};
use sha2::{Digest, Sha256};

use super::Drained;
use crate::{
    shared::Shared,
    turn::{Done, Trouble, Turn},
};

/// An item to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) id: ItemId,
    pub(super) attempts: u32,
    pub(super) seen: Timestamp,
    /// Bytes, if they are known already.
    pub(super) size: Option<u64>,
}

/// Fetches items in portions; each portion is one commit, the first together with `page`. With `so_far`, what the turn
/// has done before, the last of them may be the turn's last. Progress: something became of an item.
pub(super) async fn fetch(
    turn: &mut Turn,
    mailbox: &Mailbox,
    wanted: &[Wanted],
    page: Commit,
    so_far: Option<Done>,
) -> Result<Drained, Trouble> {
    let sizes: Vec<u64> = wanted.iter().map(|wanted| wanted.size.unwrap_or_default()).collect();
    let mut portions = tracking::portions(&turn.shared.settings.portions, &sizes).into_iter().peekable();
    let mut page = Some(page);
    let mut done = Drained::default();
    while let Some(portion) = portions.next() {
        let items = match fetch_portion(turn, mailbox, wanted, portion).await {
            Ok(items) => moved_if_wished(turn, mailbox, items).await,
            Err(trouble) => {
                // What the page told is kept, whatever became of its contents.
                if let Some(page) = page.take().filter(|page| page.cursor.is_some()) {
                    turn.commit(page).await?;
                }
                return Err(trouble);
            }
        };
        done.items += items.iter().filter(|item| matches!(item, Item::Track(_))).count() as u32;
        done.progress |= !items.is_empty();
        let mut commit = page.take().unwrap_or_default();
        commit.items.extend(items);
        let last = so_far.filter(|_| portions.peek().is_none());
        let last = last.map(|so_far| Done { items: so_far.items + done.items, ..so_far });
        commit_portion(turn, commit, last).await?;
    }
    if let Some(page) = page {
        commit_portion(turn, page, so_far).await?;
    }
    Ok(done)
}

/// With `done`, the turn will have done this, unless something waits for more of it.
async fn commit_portion(turn: &mut Turn, commit: Commit, done: Option<Done>) -> Result<(), Trouble> {
    let waits = turn.holding.has_inbound || commit.leaves_inbound();
    let failures: Vec<Reason> = commit.items.iter().filter_map(failure_of).collect();
    match done.filter(|_| !waits) {
        Some(done) => turn.commit_last(commit, done).await?,
        None => turn.commit(commit).await?,
    }
    for reason in failures {
        turn.message_failed(Direction::Incoming, reason);
    }
    Ok(())
}

/// Why an attempt at an item failed.
fn failure_of(item: &Item) -> Option<Reason> {
    match item {
        Item::Again { reason, .. } | Item::Quarantine { reason, .. } | Item::Move { reason, .. } => {
            Some(*reason)
        }
        Item::Track(_) | Item::Drop { .. } | Item::Moved { .. } => None,
    }
}

async fn fetch_portion(
    turn: &Turn,
    mailbox: &Mailbox,
    wanted: &[Wanted],
    portion: Portion,
) -> Result<Vec<Item>, Trouble> {
    let places = match &portion {
        Portion::Together(places) => places.clone(),
        Portion::Alone(place) | Portion::TooLarge(place) => vec![*place],
    };
    let chosen: Vec<&Wanted> = places.iter().filter_map(|place| wanted.get(*place)).collect();
    match portion {
        Portion::Together(_) => together(turn, mailbox, &chosen).await,
        Portion::Alone(_) => alone(turn, mailbox, &chosen).await,
        Portion::TooLarge(_) => Ok(too_large(turn, &chosen)),
    }
}

async fn together(turn: &Turn, mailbox: &Mailbox, wanted: &[&Wanted]) -> Result<Vec<Item>, Trouble> {
    let ids: Vec<ItemId> = wanted.iter().map(|wanted| wanted.id.clone()).collect();
    let messages = mailbox.get_items(&ids).await?.value;
    let mut items = Vec::with_capacity(wanted.len());
    let mut whole = None;
    for (wanted, message) in wanted.iter().zip(messages) {
        match message {
            Ok(message) => {
                let head = read_head(&message.content);
                let fetched = Fetched {
                    received: message.item.received,
                    change_key: message.item.id.change_key.as_deref().unwrap_or_default().to_owned(),
                    size: message.content.len() as u64,
                    body: Body::Whole(message.content.into()),
                };
                items.push(track(turn, &wanted.id, head, fetched).await?);
            }
            Err(failure) if failure.is_of_item() => items.extend(failed(turn, wanted, &failure)),
            Err(failure) => whole = Some(failure),
        }
    }
    match whole {
        // A failure of the mailbox beside items that came through: they are kept, and the turn fails next time.
        Some(failure) if items.is_empty() => Err(failure.into()),
        _ => Ok(items),
    }
}

/// What is known of a message beside its head.
struct Fetched {
    received: Option<Timestamp>,
    change_key: String,
    size: u64,
    body: Body,
}

async fn track(turn: &Turn, id: &ItemId, head: Head, fetched: Fetched) -> Result<Item, Trouble> {
    let item_id = id.id.to_string();
    let sending: Option<OutgoingId> = head.operation_id.as_deref().and_then(|text| text.parse().ok());
    let own_test = match sending {
        Some(id) => !turn.shared.store.known_tests(&[id]).await?.is_empty(),
        None => false,
    };
    let start = turn.holding.start.unwrap_or(Timestamp::EPOCH);
    if tracking::select(start, fetched.received, own_test) != Selection::Track {
        return Ok(Item::Drop { item_id });
    }
    let usable = head.message_id.as_deref().and_then(MessageKey::of_message_id);
    let key = usable.unwrap_or_else(|| {
        let hash = match &fetched.body {
            Body::Whole(bytes) => Sha256::digest(bytes).into(),
            Body::Uploaded { hash, .. } => *hash,
        };
        MessageKey::of_content(turn.mailbox, &head, fetched.size, &hash)
    });
    Ok(Item::Track(Box::new(Tracked {
        record: RecordId::new(turn.shared.new_id()),
        item_id,
        change_key: fetched.change_key,
        received: fetched.received.unwrap_or_else(|| turn.shared.now()),
        key,
        head,
        size: fetched.size,
        body: fetched.body,
        sending,
    })))
}

/// Chunks of a large content, written while they arrive.
struct Chunks {
    shared: Arc<Shared>,
    upload: UploadId,
    number: u32,
    size: u64,
    hash: Sha256,
    head: Vec<u8>,
    trouble: Option<mailyard_store::Error>,
}

impl ContentSink for Chunks {
    async fn take(&mut self, piece: Vec<u8>) -> Result<(), Failure> {
        self.hash.update(&piece);
        self.size += piece.len() as u64;
        if self.head.len() < mailyard_exchange::LONGEST_HEAD {
            let room = mailyard_exchange::LONGEST_HEAD - self.head.len();
            self.head.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        }
        let written =
            self.shared.store.upload(self.upload, self.number, piece.into(), self.shared.now()).await;
        self.number += 1;
        written.map_err(|error| {
            self.trouble = Some(error);
            Failure::new(
                Reason::StoreUnavailable,
                Execution::Not,
                "a piece of a large content could not be kept",
            )
        })
    }
}

/// A large content is streamed into chunks; only its head is looked at.
async fn alone(turn: &Turn, mailbox: &Mailbox, wanted: &[&Wanted]) -> Result<Vec<Item>, Trouble> {
    let Some(wanted) = wanted.first() else { return Ok(Vec::new()) };
    let mut chunks = Chunks {
        shared: turn.shared.clone(),
        upload: UploadId::new(turn.shared.new_id()),
        number: 0,
        size: 0,
        hash: Sha256::new(),
        head: Vec::new(),
        trouble: None,
    };
    let streamed = mailbox.fetch_large(&wanted.id, &mut chunks).await;
    if let Some(error) = chunks.trouble {
        return Err(error.into());
    }
    match streamed {
        Ok(answer) => {
            let hash: [u8; 32] = chunks.hash.finalize().into();
            let fetched = Fetched {
                received: answer.value.item.received,
                change_key: answer.value.item.id.change_key.as_deref().unwrap_or_default().to_owned(),
                size: chunks.size,
                body: Body::Uploaded { upload: chunks.upload, hash, size: chunks.size },
            };
            Ok(vec![track(turn, &wanted.id, read_head(&chunks.head), fetched).await?])
        }
        Err(failure) if failure.is_of_item() => Ok(failed(turn, wanted, &failure).into_iter().collect()),
        Err(failure) => Err(failure.into()),
    }
}

fn too_large(turn: &Turn, wanted: &[&Wanted]) -> Vec<Item> {
    let failure =
        Failure::new(Reason::ItemTooLarge, Execution::Not, "the item is larger than the deployment allows");
    wanted.iter().filter_map(|wanted| failed(turn, wanted, &failure)).collect()
}

/// What becomes of an item that failed; `None`: it was not attempted, and stays as it is.
pub(super) fn failed(turn: &Turn, wanted: &Wanted, failure: &Failure) -> Option<Item> {
    let (item_id, reason) = (wanted.id.id.to_string(), failure.reason);
    let waited = turn.shared.now().since(wanted.seen);
    match turn.shared.settings.patience.after_failure(reason, wanted.attempts, waited) {
        Fate::Gone => Some(Item::Drop { item_id }),
        Fate::Untouched => None,
        Fate::Again => Some(Item::Again { item_id, reason }),
        Fate::GivenUp => Some(Item::Quarantine { item_id, reason }),
    }
}

/// What failed for good is to be moved, if the profile says so and its search key can be read; else it stays in place.
pub(super) async fn moved_if_wished(turn: &Turn, mailbox: &Mailbox, items: Vec<Item>) -> Vec<Item> {
    if !turn.current.profile.move_failed {
        return items;
    }
    let mut moved = Vec::with_capacity(items.len());
    for item in items {
        let Item::Quarantine { item_id, reason } = item else {
            moved.push(item);
            continue;
        };
        let known = mailbox.get_item(&ItemId::new(item_id.as_str())).await;
        let search_key = known.ok().and_then(|answer| answer.value.search_key);
        moved.push(match search_key {
            Some(key) => Item::Move { item_id, reason, search_key: Bytes::from(key) },
            None => Item::Quarantine { item_id, reason },
        });
    }
    moved
}
