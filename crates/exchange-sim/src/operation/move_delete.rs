//! `MoveItem` and `DeleteItem`.

use super::{Call, call::unless_denied};
use crate::{
    answer::Refusal,
    mailbox::{DELETED_ITEMS, DELETIONS, PURGES},
    property,
    xml::{self, Element},
};

pub(super) fn shift(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let target = call.mailbox.number;
    let to = {
        let contents = call.contents();
        call.folder_in(request, "ToFolderId", &contents)
    };
    let tell = request.text_of("ReturnNewItemIds").is_none_or(|tell| xml::is_true(Some(tell)));
    let ids = request.child("ItemIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "<m:Items/>", out, |call, id, out| {
        let not_found = Refusal::new("ErrorToFolderNotFound", "The destination folder could not be found.");
        let to = to.clone().map_err(|refusal| unless_denied(refusal, not_found.clone()))?.ok_or(not_found)?;
        if call.mailbox.number != target {
            let text = "Items cannot be moved to another mailbox here.";
            return Err(Refusal::new("ErrorMoveCopyFailed", text));
        }
        let now = call.world.now();
        let mut contents = call.contents();
        let (number, _) = call.item(id, &contents)?;
        let keep = !call.world.behaviour().moved_id_dies;
        let moved = contents.shift(number, to, now, keep);
        out.push_str("<m:Items>");
        let found = moved.map(|new| if keep { number } else { new });
        if let Some(item) = found.and_then(|number| contents.items.get(&number)).filter(|_| tell) {
            out.push_str("<t:Message>");
            property::write_item_id(call.mailbox.number, item, out);
            out.push_str("</t:Message>");
        }
        out.push_str("</m:Items>");
        Ok(())
    });
    Ok(())
}

pub(super) fn delete(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let to = match request.attribute("DeleteType") {
        Some("MoveToDeletedItems") => DELETED_ITEMS,
        Some("SoftDelete") => DELETIONS,
        _ => PURGES,
    };
    let ids = request.child("ItemIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "", out, |call, id, _| {
        let now = call.world.now();
        let mut contents = call.contents();
        let (number, _) = call.item(id, &contents)?;
        contents.shift(number, to, now, false);
        Ok(())
    });
    Ok(())
}
