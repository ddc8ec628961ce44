//! `FindItem`.

use super::Call;
use crate::{
    answer::Refusal,
    item::Item,
    property::{self, Shape},
    restriction,
    xml::Element,
};

/// A page has no more rows, whatever is asked (policy `EWSFindCountLimit`).
const MOST: usize = 1000;
/// The same, if there is a restriction.
const MOST_RESTRICTED: usize = 250;

const NOT_INDEXED: Refusal =
    Refusal::new("ErrorContentIndexingNotEnabled", "Content indexing is not enabled for the mailbox.");

pub(super) fn items(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let parents = request.child("ParentFolderIds").map_or(&[][..], |ids| &ids.children);
    let shape = Shape::read(request.child("ItemShape"));
    let restriction = request.child("Restriction");
    let view = request.child("IndexedPageItemView");
    let attribute = |key: &str| view.and_then(|view| view.attribute(key));
    let number = |key| attribute(key).and_then(|text| text.parse::<usize>().ok());
    let from_end = attribute("BasePoint") == Some("End");
    let most = if restriction.is_some() { MOST_RESTRICTED } else { MOST };
    let (offset, most) =
        (number("Offset").unwrap_or(0), number("MaxEntriesReturned").unwrap_or(most).clamp(1, most));
    let ordinary = request.attribute("Traversal") == Some("Shallow");
    call.respond(parents, "", out, |call, parent, out| {
        if request.child("QueryString").is_some() {
            return Err(NOT_INDEXED);
        }
        let contents = call.contents();
        let folder = call.folder(parent, &contents)?;
        let mut found: Vec<&Item> = if ordinary { contents.items_of(folder) } else { Vec::new() };
        found.retain(|item| restriction.is_none_or(|condition| restriction::holds(condition, &|path| property::value(item, path))));
        restriction::sort(request.child("SortOrder"), &mut found);
        if from_end {
            found.reverse();
        }
        let total = found.len();
        let page: Vec<&Item> = found.into_iter().skip(offset).take(most).collect();
        let next = (offset + page.len()).min(total);
        out.push_str(&format!(
            "<m:RootFolder IndexedPagingOffset=\"{next}\" TotalItemsInView=\"{total}\" IncludesLastItemInRange=\"{}\"><t:Items>",
            next >= total
        ));
        page.into_iter().for_each(|item| shape.write(call.mailbox.number, item, false, out));
        out.push_str("</t:Items></m:RootFolder>");
        Ok(())
    });
    Ok(())
}
