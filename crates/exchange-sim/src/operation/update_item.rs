//! `UpdateItem`.

use std::sync::Arc;

use super::{Call, create_item};
use crate::{
    answer::Refusal,
    item::Content,
    property::{self, Path},
    xml::{self, Element},
};

pub(super) fn run(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let resolution = request.attribute("ConflictResolution").unwrap_or("AutoResolve");
    let changes = request.child("ItemChanges").map_or(&[][..], |changes| &changes.children);
    call.respond(changes, "<m:Items/>", out, |call, change, out| {
        let now = call.world.now();
        let mut contents = call.contents();
        let id = change.child("ItemId").ok_or(super::ID_MALFORMED)?;
        let (number, current) = call.item(id, &contents)?;
        match (resolution, current) {
            ("AlwaysOverwrite", _) => {}
            (_, None) => {
                let text = "A change key is required for this operation.";
                return Err(Refusal::new("ErrorChangeKeyRequiredForWriteOperations", text));
            }
            ("NeverOverwrite", Some(false)) => {
                let text = "The send or update operation could not be performed because of a conflict.";
                return Err(Refusal::new("ErrorIrresolvableConflict", text));
            }
            _ => {}
        }
        let updates = change.child("Updates").map_or(&[][..], |updates| &updates.children);
        let only_read_flag = !updates.is_empty()
            && updates
                .iter()
                .all(|update| Path::inside(update) == Some(Path::Field("message:IsRead".to_owned())));
        let item = contents.items.get_mut(&number).ok_or(super::ITEM_NOT_FOUND)?;
        let mut content = Content::clone(&item.content);
        for update in updates {
            apply(update, &mut content, item)?;
        }
        item.content = Arc::new(content);
        contents.saved(number, now, only_read_flag);
        if let Some(item) = contents.items.get(&number) {
            out.push_str("<m:Items><t:Message>");
            property::write_item_id(call.mailbox.number, item, out);
            out.push_str("</t:Message></m:Items><m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>");
        }
        Ok(())
    });
    Ok(())
}

fn apply(update: &Element, content: &mut Content, item: &mut crate::item::Item) -> Result<(), Refusal> {
    let path = Path::inside(update);
    if update.name == "DeleteItemField" {
        match path {
            Some(Path::Extended { name, .. }) => item.extended.retain(|(known, _)| *known != name),
            Some(Path::Field(uri)) => {
                let name = uri.split(':').next_back().unwrap_or_default().to_owned();
                let empty = Element { name, ..empty() };
                create_item::set(content, &empty);
            }
            Some(Path::Unknown) | None => {}
        }
        return Ok(());
    }
    let Some(values) = update.child("Message").or_else(|| update.child("Item")) else {
        let text = "The update does not name the property that it sets.";
        return Err(Refusal::new("ErrorUpdatePropertyMismatch", text));
    };
    if values.children.len() != 1 {
        let text = "An update must set exactly one property.";
        return Err(Refusal::new("ErrorIncorrectUpdatePropertyCount", text));
    }
    create_item::check_settable(values)?;
    let set = values.children.first();
    let same = match &path {
        Some(Path::Field(uri)) => set.is_some_and(|set| uri.split(':').next_back() == Some(&set.name)),
        Some(Path::Extended { .. }) => set.and_then(Path::inside) == path,
        // Nothing here has such properties.
        _ => true,
    };
    if !same {
        let text = "The update names another property than it sets.";
        return Err(Refusal::new("ErrorUpdatePropertyMismatch", text));
    }
    for (name, new) in create_item::read_extended(values, content) {
        item.extended.retain(|(known, _)| *known != name);
        item.extended.push((name, new));
    }
    for child in &values.children {
        if child.name == "IsRead" {
            item.is_read = xml::is_true(Some(&child.text));
        } else if update.name == "AppendToItemField" && child.name == "Body" {
            content.body.push_str(&child.text);
        } else {
            create_item::set(content, child);
        }
    }
    Ok(())
}

fn empty() -> Element {
    Element {
        space: crate::xml::Space::Types,
        name: String::new(),
        attributes: Vec::new(),
        children: Vec::new(),
        text: String::new(),
        offset: 0,
    }
}
