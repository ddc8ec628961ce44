//! The operations: each reads its element and writes its response.

mod attachments;
mod create_item;
mod events;
mod find;
mod folders;
mod get_item;
mod lookup;
mod move_delete;
mod send;
mod sync;
mod update_item;

use std::sync::MutexGuard;

use crate::{
    access::Caller,
    answer::{Refusal, write_values},
    fault::{Kind, Strike},
    id::{self, Name},
    mailbox::{Contents, DISTINGUISHED},
    stream::Stream,
    throttle::Payer,
    world::{Mailbox, World},
    xml::{self, Element},
};

/// An operation that the simulator knows.
pub(crate) struct Operation {
    pub name: &'static str,
    pub run: Run,
}

/// Runs an operation: `Err` refuses the request as a whole.
pub(crate) enum Run {
    /// It writes its response.
    Answer(fn(&Call<'_>, &Element, &mut String) -> Result<(), Refusal>),
    /// It goes on answering.
    Stream(fn(&Call<'_>, &Element) -> Result<Stream, Refusal>),
}

/// A request under way.
pub(crate) struct Call<'a> {
    pub world: &'a World,
    pub mailbox: &'a Mailbox,
    pub name: &'static str,
    pub caller: &'a Caller,
    /// Whose budget it is charged to.
    pub payer: Payer,
    /// The server behind the others that runs it.
    pub backend: u32,
}

impl Operation {
    /// True for those whose requests have to reach the server that knows the subscription.
    pub fn needs_affinity(&self) -> bool {
        matches!(self.name, "Subscribe" | "Unsubscribe" | "GetEvents" | "GetStreamingEvents")
    }
}

/// All of them.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation { name: "SyncFolderItems", run: Run::Answer(sync::items) },
    Operation { name: "GetItem", run: Run::Answer(get_item::run) },
    Operation { name: "GetFolder", run: Run::Answer(folders::get) },
    Operation { name: "FindItem", run: Run::Answer(find::items) },
    Operation { name: "FindFolder", run: Run::Answer(folders::find) },
    Operation { name: "SyncFolderHierarchy", run: Run::Answer(sync::hierarchy) },
    Operation { name: "CreateItem", run: Run::Answer(create_item::run) },
    Operation { name: "UpdateItem", run: Run::Answer(update_item::run) },
    Operation { name: "SendItem", run: Run::Answer(send::run) },
    Operation { name: "MoveItem", run: Run::Answer(move_delete::shift) },
    Operation { name: "DeleteItem", run: Run::Answer(move_delete::delete) },
    Operation { name: "CreateFolder", run: Run::Answer(folders::create) },
    Operation { name: "CreateAttachment", run: Run::Answer(attachments::create) },
    Operation { name: "GetAttachment", run: Run::Answer(attachments::get) },
    Operation { name: "ConvertId", run: Run::Answer(lookup::convert_id) },
    Operation { name: "ResolveNames", run: Run::Answer(lookup::resolve_names) },
    Operation { name: "Subscribe", run: Run::Answer(events::subscribe) },
    Operation { name: "Unsubscribe", run: Run::Answer(events::unsubscribe) },
    Operation { name: "GetEvents", run: Run::Answer(events::get) },
    Operation { name: "GetStreamingEvents", run: Run::Stream(events::stream) },
];

/// The operation of that name.
pub(crate) fn named(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

pub(crate) const ITEM_NOT_FOUND: Refusal =
    Refusal::new("ErrorItemNotFound", "The specified object was not found in the store.");
pub(crate) const FOLDER_NOT_FOUND: Refusal =
    Refusal::new("ErrorFolderNotFound", "The specified folder could not be found in the store.");
pub(crate) const ID_MALFORMED: Refusal = Refusal::new("ErrorInvalidIdMalformed", "Id is malformed.");

impl Call<'_> {
    /// What the mailbox holds.
    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        self.mailbox.contents()
    }

    /// Whether a rule of this kind strikes this request.
    pub fn strikes(&self, kind: Kind) -> Option<Strike> {
        self.world.asks_faults()?.strikes(kind, self.name, &self.mailbox.address)
    }

    /// True if an element names a folder of another mailbox.
    pub fn is_foreign(&self, element: &Element) -> bool {
        match element.at(&["Mailbox", "EmailAddress"]) {
            Some(address) => !address.text.trim().eq_ignore_ascii_case(&self.mailbox.address),
            None => match id::decode(element.attribute("Id").unwrap_or_default()) {
                Some(Name::Folder { mailbox, .. }) => mailbox != self.mailbox.number,
                _ => false,
            },
        }
    }

    /// The folder that an element names.
    pub fn folder(&self, element: &Element, contents: &Contents) -> Result<u32, Refusal> {
        match element.name.as_str() {
            "DistinguishedFolderId" => {
                if let Some(mailbox) = element.at(&["Mailbox", "EmailAddress"])
                    && !mailbox.text.trim().eq_ignore_ascii_case(&self.mailbox.address)
                {
                    return Err(Refusal::new(
                        "ErrorAccessDenied",
                        "Access is denied. Check credentials and try again.",
                    ));
                }
                let wanted = element.attribute("Id").unwrap_or_default();
                let found = DISTINGUISHED.iter().position(|(id, ..)| *id == wanted);
                found.map(|at| at as u32).ok_or(FOLDER_NOT_FOUND)
            }
            _ => match id::decode(element.attribute("Id").unwrap_or_default()) {
                Some(Name::Folder { mailbox, number }) if mailbox == self.mailbox.number => {
                    if contents.has_folder(number) { Ok(number) } else { Err(FOLDER_NOT_FOUND) }
                }
                Some(Name::Folder { .. }) => Err(Refusal::new(
                    "ErrorAccessDenied",
                    "Access is denied. Check credentials and try again.",
                )),
                _ => Err(ID_MALFORMED),
            },
        }
    }

    /// The folder inside an element such as `ParentFolderId`; `None`: the element is absent.
    pub fn folder_in(
        &self,
        element: &Element,
        name: &str,
        contents: &Contents,
    ) -> Result<Option<u32>, Refusal> {
        let inner = element.child(name).and_then(|outer| outer.children.first());
        inner.map(|inner| self.folder(inner, contents)).transpose()
    }

    /// The item that an `ItemId` names, and whether its change key is the current one (`None`: it has none).
    pub fn item(&self, element: &Element, contents: &Contents) -> Result<(u64, Option<bool>), Refusal> {
        match id::decode(element.attribute("Id").unwrap_or_default()) {
            Some(Name::Item { mailbox, number }) if mailbox == self.mailbox.number => {
                let item = contents.items.get(&number).ok_or(ITEM_NOT_FOUND)?;
                let current = element.attribute("ChangeKey").map(|key| key == id::change_key(item.version));
                Ok((number, current))
            }
            Some(Name::Item { .. }) => Err(ITEM_NOT_FOUND),
            _ => Err(ID_MALFORMED),
        }
    }

    /// Writes the whole response: one message per part, in order. `empty` is what stands in a refused one.
    pub fn respond<T>(
        &self,
        parts: impl IntoIterator<Item = T>,
        empty: &str,
        out: &mut String,
        mut run: impl FnMut(T, &mut String) -> Result<(), Refusal>,
    ) {
        let name = self.name;
        let parts: Vec<T> = parts.into_iter().collect();
        let unavailable = self.strikes(Kind::MailboxUnavailable).is_some();
        let struck = self.strikes(Kind::ResponseCode).map(Strike::refusal);
        // Of a batch struck by this, the second part fails and nothing after it is attempted.
        let partial = parts.len() > 1 && self.strikes(Kind::PartialBatch).is_some();
        let stopped = self.strikes(Kind::StoppedBatch).is_some();
        out.push_str(&format!("<m:{name}Response><m:ResponseMessages>"));
        for (number, part) in parts.into_iter().enumerate() {
            let mut inner = String::new();
            let (class, result) = if let Some(refusal) = &struck {
                ("Error", Err(refusal.clone()))
            } else if unavailable {
                let text = "The mailbox database is temporarily unavailable.";
                ("Error", Err(Refusal::new("ErrorMailboxStoreUnavailable", text)))
            } else if stopped || partial && number > 1 {
                let text = "Batch processing stopped because an earlier request failed.";
                ("Warning", Err(Refusal::new("ErrorBatchProcessingStopped", text)))
            } else if partial && number == 1 {
                let text = "An internal server error occurred. Try again later.";
                ("Error", Err(Refusal::new("ErrorInternalServerTransientError", text)))
            } else {
                ("Error", run(part, &mut inner))
            };
            match result {
                Ok(()) => {
                    out.push_str(&format!(
                        "<m:{name}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>"
                    ));
                    out.push_str(&inner);
                }
                Err(refusal) => {
                    open_message(name, class, &refusal, out);
                    out.push_str(empty);
                }
            }
            out.push_str(&format!("</m:{name}ResponseMessage>"));
        }
        out.push_str(&format!("</m:ResponseMessages></m:{name}Response>"));
    }
}

/// Begins a response message that is no plain success, up to its payload.
pub(crate) fn open_message(name: &str, class: &str, refusal: &Refusal, out: &mut String) {
    out.push_str(&format!("<m:{name}ResponseMessage ResponseClass=\"{class}\">"));
    xml::element("m:MessageText", &refusal.text, out);
    xml::element("m:ResponseCode", &refusal.code, out);
    out.push_str("<m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>");
    write_values("m:MessageXml", &refusal.values, out);
}
