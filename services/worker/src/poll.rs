//! One turn of reading an Inbox: a page of changes becomes rows, rows become records.

mod fetch;

use bytes::Bytes;
use mailyard_exchange::{
    Mailbox,
    codec::{Change, Entry, Folder, ItemId, ItemKind, Shape, SyncPage, WellKnown},
};
use mailyard_policy::{
    Reason, Timestamp,
    tracking::{self, Restart},
};
use mailyard_store::holder::{Commit, Inbound, InboundState, SeenItem};

use self::fetch::{Wanted, failed, fetch, moved_if_wished};
use crate::{
    turn::{Done, Trouble, Turn},
    undeliverable,
};

/// Changes of one page.
const PAGE: u16 = 512;
/// A page with no more new items than this is written together with what becomes of them.
const AT_ONCE: usize = 10;
/// Rows of `inbound` that a turn takes up.
const ROWS: u32 = 256;
/// Exchange's clock and the delivery of mail differ by less.
const START_SLACK: std::time::Duration = std::time::Duration::from_mins(2);

/// Reads the Inbox on: what was left of the last turn, then one page of what is new.
///
/// # Errors
/// [`Trouble`]; everything that is written is whole, and the next turn goes on from there.
pub async fn poll(turn: &mut Turn) -> Result<Done, Trouble> {
    let mailbox = turn.incoming()?;
    follow_start(turn).await?;
    let mut before = Drained::default();
    if turn.holding.has_inbound {
        before = Box::pin(drain(turn, &mailbox)).await?;
        // Rows whose moves are not carried out would fill every page of rows for ever.
        before.add(Box::pin(move_failed(turn, &mailbox)).await?);
        if before.goes_on() {
            return Ok(Done { items: before.items, more: true });
        }
    }
    let page = match sync(turn, &mailbox).await {
        Err(Trouble::Exchange(failure)) if failure.reason == Reason::MailboxSyncStateInvalid => {
            // The server forgot where we were: the folder is told anew, and what is known already is known.
            tracing::warn!(mailbox = %turn.mailbox, "the server does not know the position in the Inbox any more");
            let start = turn.holding.start;
            turn.commit(Commit { forget_cursor: true, start, ..Commit::default() }).await?;
            sync(turn, &mailbox).await?
        }
        other => other?,
    };
    let cursor = Bytes::from(page.cursor);
    // Most polls end here: what is rare must not make their tasks larger.
    let stands = turn.holding.cursor.as_ref() == Some(&cursor);
    let pages = !page.last && !stands;
    let mut done = Drained::default();
    if !stands || !page.changes.is_empty() {
        let so_far = Done { items: before.items, more: pages };
        done = Box::pin(take_page(turn, &mailbox, page.changes, cursor, so_far)).await?;
    }
    if turn.holding.has_inbound {
        done.add(Box::pin(move_failed(turn, &mailbox)).await?);
    }
    let more = done.goes_on() || pages;
    Ok(Done { items: before.items + done.items, more })
}

/// What became of rows of `inbound`.
#[derive(Clone, Copy, Default)]
struct Drained {
    /// Items tracked.
    items: u32,
    /// Something that is stored changed.
    progress: bool,
    /// There are rows that were not taken up.
    left: bool,
}

impl Drained {
    fn add(&mut self, other: Self) {
        self.items += other.items;
        self.progress |= other.progress;
        self.left |= other.left;
    }

    /// The next turn may follow at once. If nothing came of any row, the same would happen again: it waits its time.
    fn goes_on(self) -> bool {
        self.left && self.progress
    }
}

async fn sync(turn: &mut Turn, mailbox: &Mailbox) -> Result<SyncPage, Trouble> {
    let inbox = Folder::WellKnown(WellKnown::Inbox);
    let cursor = turn.holding.cursor.take();
    let answer = mailbox.sync_items(&inbox, cursor.as_deref(), PAGE, Shape::Known).await;
    turn.holding.cursor = cursor;
    let answer = answer?;
    if turn.holding.start.is_none() {
        turn.holding.start = Some(start(turn, answer.date));
    }
    Ok(answer.value)
}

/// The later of the dates that people set.
fn wished_start(turn: &Turn) -> Option<Timestamp> {
    turn.current.profile.process_email_from.max(turn.wanted.process_email_from)
}

/// People may have set another start date.
async fn follow_start(turn: &mut Turn) -> Result<(), Trouble> {
    match tracking::restart(turn.holding.start, wished_start(turn)) {
        Restart::Anew(start) => {
            turn.commit(Commit { forget_cursor: true, start: Some(start), ..Commit::default() }).await
        }
        Restart::Later(start) => {
            turn.holding.start = Some(start);
            Ok(())
        }
        Restart::No => Ok(()),
    }
}

/// The date that people set; else when the mailbox was made, by Exchange's clock.
fn start(turn: &Turn, server: Option<Timestamp>) -> Timestamp {
    wished_start(turn).unwrap_or_else(|| {
        let (made, now) = (turn.wanted.create_time, turn.shared.now());
        let made = match server {
            Some(server) if server > now => made + server.since(now),
            Some(server) => made - now.since(server),
            None => made,
        };
        made - START_SLACK
    })
}

/// Takes up a page of changes, after what the turn has done so far.
async fn take_page(
    turn: &mut Turn,
    mailbox: &Mailbox,
    changes: Vec<Change>,
    cursor: Bytes,
    so_far: Done,
) -> Result<Drained, Trouble> {
    let start = turn.holding.start;
    let nothing_changed = changes.is_empty();
    let new: Vec<Entry> = changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Create(entry) => Some(entry),
            Change::Update(_) | Change::Delete(_) | Change::ReadFlag(..) => None,
        })
        .filter(|entry| matches!(entry.kind, ItemKind::Message | ItemKind::Meeting | ItemKind::Other))
        .filter(|entry| start.zip(entry.received).is_none_or(|(start, received)| received >= start))
        .collect();
    let known = turn.holding.cursor.as_ref() == Some(&cursor);
    let first = turn.holding.cursor.is_none();
    if new.is_empty() && !first && (known || nothing_changed) {
        // An empty poll writes nothing: the position in memory is as good, and the stored one not wrong.
        turn.holding.cursor = Some(cursor);
        return Ok(Drained::default());
    }
    let seen = new
        .iter()
        .map(|entry| SeenItem { item_id: entry.id.id.to_string(), received: entry.received })
        .collect();
    let page = Commit { cursor: Some(cursor), start, seen, ..Commit::default() };
    let now = turn.shared.now();
    let fresh = |entry: Entry| Wanted { id: entry.id, attempts: 0, seen: now, size: entry.size };
    let wanted: Vec<Wanted> = new.into_iter().map(fresh).collect();
    if wanted.len() <= AT_ONCE && wanted.iter().all(|wanted| wanted.size.is_some()) {
        let fetched = fetch(turn, mailbox, &wanted, page, Some(so_far)).await?;
        return Ok(Drained { progress: true, ..fetched });
    }
    turn.commit(page).await?;
    let drained = drain(turn, mailbox).await?;
    Ok(Drained { progress: true, ..drained })
}

/// Takes up rows of `inbound`, each at most once in a turn.
async fn drain(turn: &mut Turn, mailbox: &Mailbox) -> Result<Drained, Trouble> {
    let rows = turn.shared.store.inbound(turn.mailbox, ROWS).await?;
    let mut drained = Drained { left: rows.len() == ROWS as usize, ..Drained::default() };
    let seen: Vec<Inbound> = rows.into_iter().filter(|row| row.state == InboundState::Seen).collect();
    for rows in seen.chunks(AT_ONCE * 4) {
        if turn.is_long() {
            drained.left = true;
            break;
        }
        let mut wanted: Vec<Wanted> = rows
            .iter()
            .map(|row| Wanted {
                id: ItemId::new(row.item_id.as_str()),
                attempts: row.attempts,
                seen: row.seen,
                size: None,
            })
            .collect();
        let ids: Vec<ItemId> = wanted.iter().map(|wanted| wanted.id.clone()).collect();
        let sizes = mailbox.sizes(&ids).await?.value;
        let (mut lost, mut whole) = (Vec::new(), None);
        for (wanted, size) in wanted.iter_mut().zip(sizes) {
            match size {
                Ok(info) => wanted.size = Some(info.size.unwrap_or_default()),
                Err(failure) if failure.is_of_item() => lost.extend(failed(turn, wanted, &failure)),
                Err(failure) => whole = Some(failure),
            }
        }
        wanted.retain(|wanted| wanted.size.is_some());
        // A failure of the mailbox beside items that are known now: they go on, and the turn fails next time.
        if let Some(failure) = whole.filter(|_| wanted.is_empty() && lost.is_empty()) {
            return Err(failure.into());
        }
        let lost = moved_if_wished(turn, mailbox, lost).await;
        drained.progress |= !lost.is_empty();
        let page = Commit { items: lost, ..Commit::default() };
        drained.add(fetch(turn, mailbox, &wanted, page, None).await?);
    }
    turn.holding.has_inbound = drained.left || !turn.shared.store.inbound(turn.mailbox, 1).await?.is_empty();
    Ok(drained)
}

/// Carries out the moves whose intents are stored.
async fn move_failed(turn: &mut Turn, mailbox: &Mailbox) -> Result<Drained, Trouble> {
    let mut moved = Drained::default();
    let rows = turn.shared.store.inbound(turn.mailbox, ROWS).await?;
    for row in rows.into_iter().filter(|row| matches!(row.state, InboundState::Moving { .. })) {
        if moved.progress && turn.is_long() {
            moved.left = true;
            break;
        }
        undeliverable::finish(turn, mailbox, row).await?;
        moved.progress = true;
    }
    Ok(moved)
}
