//! The operations: each reads its element and writes its response.

mod attachments;
mod call;
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

pub(crate) use self::call::{Call, mentioned, place};
use crate::{
    answer::{Refusal, write_values},
    fault::{Kind, Strike},
    stream::Stream,
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

/// Something of which a response message tells.
pub(crate) trait Part {
    /// Where it lies.
    fn place<'a>(&self, call: &Call<'a>) -> Call<'a>;
}

impl Part for &Element {
    fn place<'a>(&self, call: &Call<'a>) -> Call<'a> {
        call.toward(self)
    }
}

/// Addresses, which lie nowhere.
impl Part for &[&str] {
    fn place<'a>(&self, call: &Call<'a>) -> Call<'a> {
        *call
    }
}

impl Call<'_> {
    /// Writes the whole response: one message per part, in order. `empty` is what stands in a refused one.
    pub fn respond<T: Part>(
        &self,
        parts: impl IntoIterator<Item = T>,
        empty: &str,
        out: &mut String,
        mut run: impl FnMut(&Call<'_>, T, &mut String) -> Result<(), Refusal>,
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
                ("Error", run(&part.place(self), part, &mut inner))
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
