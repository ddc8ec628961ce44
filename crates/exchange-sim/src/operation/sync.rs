//! `SyncFolderItems` and `SyncFolderHierarchy`.

use std::sync::Arc;

use super::Call;
use crate::{
    answer::Refusal,
    fault::Kind,
    id::{self, Name},
    mailbox::{Contents, MSG_FOLDER_ROOT, Told},
    operation::folders,
    property::{self, Shape},
    sync_state::{self, State},
    xml::Element,
};

const EMPTY: &str = "<m:SyncState/><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes/>";
const EMPTY_HIERARCHY: &str =
    "<m:SyncState/><m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange><m:Changes/>";
const INVALID_STATE: Refusal = Refusal::new(
    "ErrorInvalidSyncStateData",
    "The synchronization state data is corrupt or otherwise invalid.",
);

const NO_FOLDER: Refusal = Refusal::new(
    "ErrorSyncFolderNotFound",
    "The folder specified in the SyncFolderId parameter could not be found.",
);

/// The folder of a synchronization, which has a code of its own for one that is not there.
fn synchronized(call: &Call<'_>, request: &Element, contents: &Contents) -> Result<Option<u32>, Refusal> {
    let found = call.folder_in(request, "SyncFolderId", contents);
    found.map_err(|refusal| if refusal.code == "ErrorFolderNotFound" { NO_FOLDER } else { refusal })
}

pub(super) fn items(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    call.respond([request], EMPTY, out, |call, request, out| {
        let mut contents = call.contents();
        let folder = synchronized(call, request, &contents)?.ok_or(NO_FOLDER)?;
        let known = known(call, request, folder, &mut contents)?;
        let limit = request.text_of("MaxChangesReturned").and_then(|text| text.parse().ok()).unwrap_or(512);
        let mut page = contents.changes(folder, known, limit);
        if !page.last && call.strikes(Kind::RepeatedChanges).is_some() {
            // The next page begins before the end of this one.
            page.position = contents.step_back(folder, page.position, 3);
        }
        let state = state(call, folder, (page.base, page.position), &mut contents);
        let shape = Shape::read(request.child("ItemShape"));
        out.push_str(&format!(
            "<m:SyncState>{state}</m:SyncState><m:IncludesLastItemInRange>{}</m:IncludesLastItemInRange><m:Changes>",
            page.last
        ));
        let ignored = ignored(call, request);
        for told in page.told.into_iter().filter(|told| !ignored.contains(&told.number())) {
            write_change(call, &mut contents, &shape, told, out);
        }
        out.push_str("</m:Changes>");
        Ok(())
    });
    Ok(())
}

/// What the client has been told already, by its state.
fn known(
    call: &Call<'_>,
    request: &Element,
    folder: u32,
    contents: &mut Contents,
) -> Result<(u64, u64), Refusal> {
    let Some(text) = request.text_of("SyncState").filter(|text| !text.is_empty()) else { return Ok((0, 0)) };
    if call.strikes(Kind::BadSyncState).is_some() {
        return Err(INVALID_STATE);
    }
    if let Some((known, last)) = &contents.folder(folder).last_state
        && **last == *text
    {
        return Ok(*known);
    }
    let state = sync_state::unpack(text).ok_or(INVALID_STATE)?;
    if state.mailbox != call.mailbox.number || state.folder != folder || state.hierarchy {
        return Err(INVALID_STATE);
    }
    Ok((state.base, state.position))
}

/// The state that stands for this much. The last one is kept: most synchronizations find that nothing changed.
fn state(call: &Call<'_>, folder: u32, reached: (u64, u64), contents: &mut Contents) -> Arc<str> {
    let place = contents.folder(folder);
    if let Some((known, last)) = &place.last_state
        && *known == reached
    {
        return last.clone();
    }
    let (base, position) = reached;
    let state = State { mailbox: call.mailbox.number, folder, hierarchy: false, base, position };
    let items = place.count.max(call.world.options.state_items);
    let packed: Arc<str> = sync_state::pack(state, items).into();
    place.last_state = Some((reached, packed.clone()));
    packed
}

/// Items that the client does not want to hear of, because it has just changed them itself.
fn ignored(call: &Call<'_>, request: &Element) -> Vec<u64> {
    let ids = request.child("Ignore").map_or(&[][..], |ids| &ids.children);
    let number = |id: &Element| match id::decode(id.attribute("Id")?)? {
        Name::Item { mailbox, number } if mailbox == call.mailbox.number => Some(number),
        _ => None,
    };
    ids.iter().filter_map(number).collect()
}

fn write_change(call: &Call<'_>, contents: &mut Contents, shape: &Shape, told: Told, out: &mut String) {
    match told {
        Told::Create(number) => {
            wrapped("t:Create", call, contents, shape, number, out);
            contents.settle_late_version(number);
            contents.mark_told(number);
        }
        Told::Update(number) => wrapped("t:Update", call, contents, shape, number, out),
        Told::ReadFlag(number) => {
            let Some(item) = contents.items.get(&number) else { return };
            out.push_str("<t:ReadFlagChange>");
            property::write_item_id(call.mailbox.number, item, out);
            out.push_str(&format!("<t:IsRead>{}</t:IsRead></t:ReadFlagChange>", item.is_read));
        }
        Told::Delete(number) => {
            let id = id::encode(Name::Item { mailbox: call.mailbox.number, number });
            out.push_str(&format!("<t:Delete><t:ItemId Id=\"{id}\" ChangeKey=\"AQAAAA==\"/></t:Delete>"));
        }
    }
}

fn wrapped(name: &str, call: &Call<'_>, contents: &Contents, shape: &Shape, number: u64, out: &mut String) {
    let Some(item) = contents.items.get(&number) else { return };
    out.push_str(&format!("<{name}>"));
    shape.write(call.mailbox.number, item, false, out);
    out.push_str(&format!("</{name}>"));
}

pub(super) fn hierarchy(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    call.respond([request], EMPTY_HIERARCHY, out, |call, request, out| {
        let contents = call.contents();
        let root = synchronized(call, request, &contents)?.unwrap_or(MSG_FOLDER_ROOT);
        let since = match request.text_of("SyncState").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                let state = sync_state::unpack(text).ok_or(INVALID_STATE)?;
                if state.mailbox != call.mailbox.number || state.folder != root || !state.hierarchy {
                    return Err(INVALID_STATE);
                }
                Some(state.position)
            }
        };
        let state = State {
            mailbox: call.mailbox.number,
            folder: root,
            hierarchy: true,
            base: 0,
            position: contents.hierarchy,
        };
        let numbers = contents.beneath(root, true);
        let shape = folders::Shape::read(request);
        out.push_str(&format!(
            "<m:SyncState>{}</m:SyncState><m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange><m:Changes>",
            sync_state::pack(state, numbers.len() as u32)
        ));
        for number in numbers {
            let made_at = contents.made.get(&number).map_or(0, |made| made.made_at);
            if since.is_none_or(|since| made_at > since) {
                out.push_str("<t:Create>");
                folders::write(call, &contents, number, &shape, out);
                out.push_str("</t:Create>");
            }
        }
        out.push_str("</m:Changes>");
        Ok(())
    });
    Ok(())
}
