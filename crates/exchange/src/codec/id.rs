//! Names of folders and items. Ids are opaque and case-sensitive: they are kept and sent byte for byte.

use super::{Element, Malformed, Writer};

/// An item as the server names it. It changes when the item moves to another folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ItemId {
    /// The id.
    pub id: Box<str>,
    /// The version of the item; it changes with every save.
    pub change_key: Option<Box<str>>,
}

/// A folder as the server names it. It does not change when the folder moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FolderId {
    /// The id.
    pub id: Box<str>,
}

/// A folder that every mailbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WellKnown {
    /// Where mail arrives.
    Inbox,
    /// Where drafts wait.
    Drafts,
    /// Where copies of sent mail are kept.
    SentItems,
    /// Where mail waits to be submitted.
    Outbox,
    /// The bin.
    DeletedItems,
    /// What was deleted from the bin and can be recovered.
    RecoverableItemsDeletions,
    /// The parent of the folders that people see.
    MsgFolderRoot,
}

/// A folder in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Folder {
    /// One that every mailbox has.
    WellKnown(WellKnown),
    /// One by its id.
    Id(FolderId),
}

impl ItemId {
    /// An id without a change key.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self { id: id.into(), change_key: None }
    }

    /// Reads `Id` and `ChangeKey` of an element; `None` if there is no id.
    pub(super) fn read(element: &Element<'_>) -> Result<Option<Self>, Malformed> {
        let change_key = element.attribute("ChangeKey")?;
        Ok(element.attribute("Id")?.map(|id| Self { id, change_key }))
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>, name: &str) {
        match &self.change_key {
            Some(key) => writer.empty(name, &[("Id", &self.id), ("ChangeKey", key)]),
            None => writer.empty(name, &[("Id", &self.id)]),
        }
    }

    pub(super) fn write_all(ids: &[Self], writer: &mut Writer<'_>) {
        writer.nest("m:ItemIds", |writer| ids.iter().for_each(|id| id.write(writer, "t:ItemId")));
    }
}

impl FolderId {
    /// An id.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self { id: id.into() }
    }

    pub(super) fn read(element: &Element<'_>) -> Result<Option<Self>, Malformed> {
        Ok(element.attribute("Id")?.map(|id| Self { id }))
    }
}

impl WellKnown {
    /// The name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Drafts => "drafts",
            Self::SentItems => "sentitems",
            Self::Outbox => "outbox",
            Self::DeletedItems => "deleteditems",
            Self::RecoverableItemsDeletions => "recoverableitemsdeletions",
            Self::MsgFolderRoot => "msgfolderroot",
        }
    }
}

impl Folder {
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::WellKnown(folder) => {
                let (name, attributes) = ("t:DistinguishedFolderId", [("Id", folder.name())]);
                match writer.mailbox() {
                    None => writer.empty(name, &attributes),
                    Some(address) => writer.element(name, &attributes, |writer| {
                        writer.nest("t:Mailbox", |writer| writer.text("t:EmailAddress", address));
                    }),
                }
            }
            Self::Id(folder) => writer.empty("t:FolderId", &[("Id", &folder.id)]),
        }
    }

    pub(super) fn write_in(&self, writer: &mut Writer<'_>, name: &str) {
        writer.nest(name, |writer| self.write(writer));
    }
}

impl From<WellKnown> for Folder {
    fn from(folder: WellKnown) -> Self {
        Self::WellKnown(folder)
    }
}

impl From<FolderId> for Folder {
    fn from(folder: FolderId) -> Self {
        Self::Id(folder)
    }
}
