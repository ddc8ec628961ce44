//! `SendItem`: a draft leaves. What a second one does depends on the server.

use std::sync::Arc;

use super::{Call, ITEM_NOT_FOUND};
use crate::{
    answer::Refusal,
    item::{Content, Item},
    mailbox::SENT_ITEMS,
    property,
    world::Mailbox,
    xml::{self, Element},
};

pub(super) fn run(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let save = xml::is_true(request.attribute("SaveItemToFolder"));
    let saved = request.child("SavedItemFolderId").and_then(|outer| outer.children.first());
    if !save && saved.is_some() {
        let text = "A folder is named to save in, although nothing shall be saved.";
        return Err(Refusal::new("ErrorInvalidSendItemSaveSettings", text));
    }
    let copy = match saved {
        Some(saved) => {
            let place = call.toward(saved);
            let folder = place.folder(saved, &place.contents())?;
            Some((place.mailbox, folder))
        }
        // Whoever sends for somebody else keeps the copy, unless he says where.
        None => save.then_some((call.acting, SENT_ITEMS)),
    };
    let ids = request.child("ItemIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "", out, |call, id, _| send(call, id, copy));
    Ok(())
}

fn send(call: &Call<'_>, id: &Element, copy: Option<(&Mailbox, u32)>) -> Result<(), Refusal> {
    let behaviour = call.world.behaviour();
    let mut contents = call.contents();
    let (number, current) = call.item(id, &contents)?;
    match current {
        None => {
            let text = "A change key is required for this operation.";
            return Err(Refusal::new("ErrorChangeKeyRequiredForWriteOperations", text));
        }
        Some(false) if behaviour.send_checks_change_key => {
            let text = "The send or update operation could not be performed because the change key passed in the \
                        request does not match the current change key for the item.";
            return Err(Refusal::new("ErrorStaleObject", text));
        }
        Some(_) => {}
    }
    let draft = contents.items.get(&number).ok_or(ITEM_NOT_FOUND)?.clone();
    check_recipients(&draft.content)?;
    let content = call.sent_as(&draft.content)?;
    let draft = Item { content, ..draft };
    let now = call.world.now();
    if behaviour.send_consumes_draft {
        contents.remove(number, now);
    }
    drop(contents);
    if let Some((mailbox, folder)) = copy {
        save_copy(&mut mailbox.contents(), folder, &draft, now);
    }
    let sent = Content { mime: None, ..Content::clone(&draft.content) };
    let sent = if draft.content.mime.is_some() { draft.content.clone() } else { Arc::new(sent) };
    call.world.submit(call.mailbox, &sent, property::send_key(&draft));
    Ok(())
}

/// The sent copy is the draft in another folder: its marks stay on it.
fn save_copy(contents: &mut crate::mailbox::Contents, folder: u32, draft: &Item, now: i64) {
    let copy = contents.add(folder, draft.content.clone(), now, draft.search_key);
    copy.extended.clone_from(&draft.extended);
    copy.is_read = true;
    copy.created = draft.created;
}

/// A message must go to somebody.
pub(super) fn check_recipients(content: &Content) -> Result<(), Refusal> {
    let mut all = content.to.iter().chain(&content.cc).chain(&content.bcc).peekable();
    if all.peek().is_none() {
        return Err(Refusal::new("ErrorMissingRecipients", "At least one recipient must be specified."));
    }
    if all.any(|person| !person.address.contains('@')) {
        return Err(Refusal::new("ErrorInvalidRecipients", "At least one recipient is not valid."));
    }
    Ok(())
}
