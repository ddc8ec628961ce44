//! One mailbox: folders, items, and the log of what changed in each folder.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use crate::{
    event::{Event, Kind, Thing},
    item::{Content, Item},
    subscription::Subscription,
};

/// The folders that every mailbox has, by their distinguished names; the place is the folder's number.
pub(crate) const DISTINGUISHED: &[(&str, &str, &str, Option<u32>)] = &[
    ("root", "", "", None),
    ("msgfolderroot", "Top of Information Store", "", Some(0)),
    ("inbox", "Inbox", "IPF.Note", Some(1)),
    ("drafts", "Drafts", "IPF.Note", Some(1)),
    ("sentitems", "Sent Items", "IPF.Note", Some(1)),
    ("outbox", "Outbox", "IPF.Note", Some(1)),
    ("deleteditems", "Deleted Items", "IPF.Note", Some(1)),
    ("junkemail", "Junk Email", "IPF.Note", Some(1)),
    ("calendar", "Calendar", "IPF.Appointment", Some(1)),
    ("contacts", "Contacts", "IPF.Contact", Some(1)),
    ("tasks", "Tasks", "IPF.Task", Some(1)),
    ("notes", "Notes", "IPF.StickyNote", Some(1)),
    ("journal", "Journal", "IPF.Journal", Some(1)),
    ("recoverableitemsroot", "Recoverable Items", "", Some(0)),
    ("recoverableitemsdeletions", "Deletions", "", Some(13)),
    ("recoverableitemspurges", "Purges", "", Some(13)),
    ("recoverableitemsversions", "Versions", "", Some(13)),
    ("searchfolders", "Finder", "", Some(0)),
];

pub(crate) const ROOT: u32 = 0;
pub(crate) const MSG_FOLDER_ROOT: u32 = 1;
pub(crate) const INBOX: u32 = 2;
pub(crate) const DRAFTS: u32 = 3;
pub(crate) const SENT_ITEMS: u32 = 4;
pub(crate) const DELETED_ITEMS: u32 = 6;
pub(crate) const CALENDAR: u32 = 8;
pub(crate) const CONTACTS: u32 = 9;
pub(crate) const TASKS: u32 = 10;
pub(crate) const DELETIONS: u32 = 14;
pub(crate) const PURGES: u32 = 15;

/// A folder that somebody made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub name: String,
    pub class: String,
    pub parent: u32,
    pub made_at: u64,
}

/// What a folder holds and how it changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// What happened last to each item, in order.
    log: BTreeMap<u64, Change>,
    /// The last state that was given out, so that nothing is packed for a folder in which nothing happens.
    pub last_state: Option<((u64, u64), Arc<str>)>,
    pub count: u32,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Live(u64),
    Gone { item: u64, made_at: u64 },
}

/// One change as a client is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Create(u64),
    Update(u64),
    ReadFlag(u64),
    Delete(u64),
}

impl Told {
    /// The item that changed.
    pub fn number(self) -> u64 {
        match self {
            Self::Create(number) | Self::Update(number) | Self::ReadFlag(number) | Self::Delete(number) => {
                number
            }
        }
    }
}

/// One page of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub told: Vec<Told>,
    pub base: u64,
    pub position: u64,
    pub last: bool,
}

/// What a mailbox holds. An empty one costs next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub items: HashMap<u64, Item>,
    folders: HashMap<u32, Folder>,
    pub made: BTreeMap<u32, Made>,
    clock: u64,
    serial: u64,
    article: u32,
    pub hierarchy: u64,
    watchers: Vec<Weak<Subscription>>,
}

impl Contents {
    /// The folder that was made under this name beneath another.
    pub fn child_named(&self, parent: u32, name: &str) -> Option<u32> {
        let distinguished = DISTINGUISHED
            .iter()
            .position(|(_, known, _, above)| *above == Some(parent) && known.eq_ignore_ascii_case(name));
        distinguished.map(|at| at as u32).or_else(|| {
            let made = self
                .made
                .iter()
                .find(|(_, made)| made.parent == parent && made.name.eq_ignore_ascii_case(name));
            made.map(|(number, _)| *number)
        })
    }

    /// True if there is such a folder.
    pub fn has_folder(&self, number: u32) -> bool {
        (number as usize) < DISTINGUISHED.len() || self.made.contains_key(&number)
    }

    /// Name, class and parent of a folder.
    pub fn describe(&self, number: u32) -> Option<(&str, &str, Option<u32>)> {
        match DISTINGUISHED.get(number as usize) {
            Some((_, name, class, parent)) => Some((name, class, *parent)),
            None => self
                .made
                .get(&number)
                .map(|made| (made.name.as_str(), made.class.as_str(), Some(made.parent))),
        }
    }

    /// All folders beneath one, the nearest first.
    pub fn beneath(&self, parent: u32, deep: bool) -> Vec<u32> {
        let numbers = (0..DISTINGUISHED.len() as u32).chain(self.made.keys().copied());
        let mut found: Vec<u32> = numbers
            .filter(|number| self.describe(*number).is_some_and(|(_, _, above)| above == Some(parent)))
            .collect();
        if deep {
            let below: Vec<u32> = found.iter().flat_map(|number| self.beneath(*number, true)).collect();
            found.extend(below);
        }
        found
    }

    /// Somebody wants to be told of what happens here.
    pub fn watch(&mut self, subscription: &Arc<Subscription>) {
        self.watchers.push(Arc::downgrade(subscription));
    }

    /// Tells who watches.
    fn tell(&mut self, kind: Kind, at: i64, thing: Thing, parent: u32, before: Option<(u64, u32)>) {
        let event = Event { kind, at, thing, parent, before };
        self.watchers.retain(|watcher| watcher.upgrade().is_some_and(|watcher| watcher.offer(&event)));
    }

    /// Tells that a folder holds something else than before.
    fn tell_folder(&mut self, number: u32, at: i64) {
        if self.watchers.is_empty() {
            return;
        }
        let parent = self.describe(number).and_then(|(_, _, parent)| parent).unwrap_or(ROOT);
        self.tell(Kind::Modified, at, Thing::Folder(number), parent, None);
    }

    /// Makes a folder.
    pub fn make_folder(&mut self, parent: u32, name: &str, class: &str, now: i64) -> u32 {
        let number = self.made.keys().next_back().map_or(1000, |last| last + 1);
        self.hierarchy += 1;
        let made = Made { name: name.to_owned(), class: class.to_owned(), parent, made_at: self.hierarchy };
        self.made.insert(number, made);
        self.tell(Kind::Created, now, Thing::Folder(number), parent, None);
        number
    }

    /// What a folder holds, for writing.
    pub fn folder(&mut self, number: u32) -> &mut Folder {
        self.folders.entry(number).or_default()
    }

    /// How many items a folder holds, and how many of them are not read.
    pub fn counts(&self, number: u32) -> (u32, u32) {
        let total = self.folders.get(&number).map_or(0, |folder| folder.count);
        if total == 0 {
            return (0, 0);
        }
        let unread = self.items.values().filter(|item| item.folder == number && !item.is_read).count();
        (total, unread as u32)
    }

    /// Items of a folder in the order in which they were made.
    pub fn items_of(&self, folder: u32) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items.values().filter(|item| item.folder == folder).collect();
        items.sort_by_key(|item| item.number);
        items
    }

    /// Puts a new item into a folder. The caller fills in what it knows.
    pub fn add(&mut self, folder: u32, content: Arc<Content>, now: i64, search_key: [u8; 16]) -> &mut Item {
        let thing = Thing::Item { number: self.serial + 1, version: 1 };
        self.tell(Kind::Created, now, thing, folder, None);
        self.tell_folder(folder, now);
        self.put(folder, content, now, search_key)
    }

    /// The same for mail that arrives.
    pub fn deliver(&mut self, content: Arc<Content>, now: i64, search_key: [u8; 16]) -> &mut Item {
        let thing = Thing::Item { number: self.serial + 1, version: 1 };
        self.tell(Kind::NewMail, now, thing, INBOX, None);
        self.add(INBOX, content, now, search_key)
    }

    fn put(&mut self, folder: u32, content: Arc<Content>, now: i64, search_key: [u8; 16]) -> &mut Item {
        self.serial += 1;
        self.article += 1;
        let (number, article) = (self.serial, self.article);
        let at = self.tick();
        let place = self.folder(folder);
        place.log.insert(at, Change::Live(number));
        place.count += 1;
        let size = Item::size_of(&content);
        self.items.entry(number).or_insert(Item {
            number,
            folder,
            version: 1,
            late_version: false,
            content,
            search_key,
            article,
            received: now,
            sent: now,
            created: now,
            modified: now,
            is_read: false,
            told: false,
            is_draft: false,
            size,
            extended: Vec::new(),
            made_at: at,
            changed_at: at,
            only_read_flag: false,
        })
    }

    /// Notes that an item was saved: another change key, an entry at the end of the log.
    pub fn saved(&mut self, number: u64, now: i64, only_read_flag: bool) {
        let at = self.tick();
        let Some(item) = self.items.get_mut(&number) else { return };
        item.version += 1;
        item.modified = now;
        item.only_read_flag = only_read_flag && (item.only_read_flag || item.changed_at == item.made_at);
        let before = std::mem::replace(&mut item.changed_at, at);
        let (folder, version) = (item.folder, item.version);
        let place = self.folder(folder);
        place.log.remove(&before);
        place.log.insert(at, Change::Live(number));
        self.tell(Kind::Modified, now, Thing::Item { number, version }, folder, None);
    }

    /// Takes an item out of its folder for good.
    pub fn remove(&mut self, number: u64, now: i64) -> Option<Item> {
        let item = self.take(number)?;
        self.tell(Kind::Deleted, now, Thing::Item { number, version: item.version }, item.folder, None);
        self.tell_folder(item.folder, now);
        Some(item)
    }

    fn take(&mut self, number: u64) -> Option<Item> {
        let item = self.items.remove(&number)?;
        let at = self.tick();
        let place = self.folder(item.folder);
        place.log.remove(&item.changed_at);
        place.log.insert(at, Change::Gone { item: number, made_at: item.made_at });
        place.count -= 1;
        Some(item)
    }

    /// Moves an item; it has another number then. `keep_old_id`: the old one goes on naming it (a lax server).
    pub fn shift(&mut self, number: u64, to: u32, now: i64, keep_old_id: bool) -> Option<u64> {
        let item = self.take(number)?;
        let Item { content, search_key, folder: from, version, .. } = &item;
        let (content, search_key, from, version) = (content.clone(), *search_key, *from, version + 1);
        let moved = self.put(to, content, now, search_key);
        let (new, article, at) = (moved.number, moved.article, moved.made_at);
        *moved = Item {
            number: new,
            folder: to,
            article,
            made_at: at,
            changed_at: at,
            modified: now,
            version,
            ..item
        };
        if keep_old_id {
            self.alias(number, new);
        }
        if matches!(to, DELETIONS | PURGES) {
            // Where nobody looks, there is nothing.
            self.tell(Kind::Deleted, now, Thing::Item { number, version }, from, None);
        } else {
            let known_as = if keep_old_id { number } else { new };
            let thing = Thing::Item { number: known_as, version };
            self.tell(Kind::Moved, now, thing, to, Some((number, from)));
            self.tell_folder(to, now);
        }
        self.tell_folder(from, now);
        Some(new)
    }

    fn alias(&mut self, old: u64, new: u64) {
        // The item keeps its old number: everything that names the new one is renamed.
        let Some(item) = self.items.remove(&new) else { return };
        let (folder, at) = (item.folder, item.changed_at);
        self.items.insert(old, Item { number: old, ..item });
        self.folder(folder).log.insert(at, Change::Live(old));
    }

    /// Changes in a folder after a state, at most `limit`. `base`: everything that existed then is known to the
    /// client; `position`: how far it has come since.
    pub fn changes(&self, folder: u32, (base, position): (u64, u64), limit: usize) -> Page {
        let Some(folder) = self.folders.get(&folder) else {
            return Page { told: Vec::new(), base, position, last: true };
        };
        let mut told = Vec::new();
        let mut reached = position;
        let mut last = true;
        for (at, change) in folder.log.range(position + 1..) {
            if told.len() == limit {
                last = false;
                break;
            }
            reached = *at;
            match change {
                Change::Live(number) => {
                    let Some(item) = self.items.get(number) else { continue };
                    told.push(match item {
                        item if item.made_at > base => Told::Create(*number),
                        item if item.only_read_flag => Told::ReadFlag(*number),
                        _ => Told::Update(*number),
                    });
                }
                // Made after all that the client can have been told of: it never hears of it.
                Change::Gone { made_at, .. } if *made_at > position => {}
                Change::Gone { item, .. } => told.push(Told::Delete(*item)),
            }
        }
        Page { told, base: if last { reached } else { base }, position: reached, last }
    }

    /// A position that lies up to `changes` changes before another.
    pub fn step_back(&self, folder: u32, position: u64, changes: usize) -> u64 {
        let Some(folder) = self.folders.get(&folder) else { return position };
        let before = folder.log.range(..=position).rev().nth(changes);
        before.map_or(position, |(at, _)| *at)
    }

    /// A client was told of the item in a page of changes.
    pub fn mark_told(&mut self, number: u64) {
        if let Some(item) = self.items.get_mut(&number) {
            item.told = true;
        }
    }

    /// Exchange saves an item once more by itself, shortly after its delivery: its change key is another one then.
    pub fn settle_late_version(&mut self, number: u64) {
        if let Some(item) = self.items.get_mut(&number)
            && std::mem::take(&mut item.late_version)
        {
            item.version += 1;
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests;
