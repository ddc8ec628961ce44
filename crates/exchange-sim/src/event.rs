//! What happens in a mailbox, as notifications tell it.

use crate::{
    id::{self, Name},
    item, xml,
};

/// What a client can ask to be told of. Nothing is copied here, and no calendar changes: of those nobody ever hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    NewMail,
    Created,
    Deleted,
    Modified,
    Moved,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::NewMail, "NewMailEvent"),
    (Kind::Created, "CreatedEvent"),
    (Kind::Deleted, "DeletedEvent"),
    (Kind::Modified, "ModifiedEvent"),
    (Kind::Moved, "MovedEvent"),
];

impl Kind {
    /// The kind of this name; `None`: nothing of it ever happens.
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// What it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Item { number: u64, version: u32 },
    Folder(u32),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub kind: Kind,
    /// Milliseconds since 1970.
    pub at: i64,
    pub thing: Thing,
    pub parent: u32,
    /// Of an item that moved: its number and its folder before.
    pub before: Option<(u64, u32)>,
}

impl Event {
    /// True if it happened in a folder, or to it.
    pub fn concerns(&self, folder: u32) -> bool {
        self.parent == folder
            || self.thing == Thing::Folder(folder)
            || self.before.is_some_and(|(_, before)| before == folder)
    }

    /// Adds its element. Only who fetches events is given watermarks.
    pub fn write(&self, mailbox: u32, watermark: Option<&str>, out: &mut String) {
        let name = self.kind.name();
        out.push_str(&format!("<t:{name}>"));
        if let Some(watermark) = watermark {
            xml::element("t:Watermark", watermark, out);
        }
        xml::element("t:TimeStamp", &item::date(self.at), out);
        match self.thing {
            Thing::Item { number, version } => write_item("t:ItemId", mailbox, number, version, out),
            Thing::Folder(number) => write_folder("t:FolderId", mailbox, number, out),
        }
        write_folder("t:ParentFolderId", mailbox, self.parent, out);
        if let Some((number, folder)) = self.before {
            write_item("t:OldItemId", mailbox, number, 1, out);
            write_folder("t:OldParentFolderId", mailbox, folder, out);
        }
        out.push_str(&format!("</t:{name}>"));
    }
}

fn write_item(element: &str, mailbox: u32, number: u64, version: u32, out: &mut String) {
    let (id, key) = (id::encode(Name::Item { mailbox, number }), id::change_key(version));
    out.push_str(&format!("<{element} Id=\"{id}\" ChangeKey=\"{key}\"/>"));
}

fn write_folder(element: &str, mailbox: u32, number: u32, out: &mut String) {
    let id = id::encode(Name::Folder { mailbox, number });
    out.push_str(&format!("<{element} Id=\"{id}\" ChangeKey=\"AQAAAA==\"/>"));
}
