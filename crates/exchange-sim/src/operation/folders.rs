//! `GetFolder`, `FindFolder`, `CreateFolder`.

use super::{Call, FOLDER_NOT_FOUND};
use crate::{
    id::{self, Name},
    mailbox::{Contents, DISTINGUISHED, ROOT},
    service::Refusal,
    xml::{self, Element},
};

/// How much is told of a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Id,
    Full,
}

fn detail(request: &Element) -> Detail {
    let shape = request.child("FolderShape");
    let additional = shape.and_then(|shape| shape.child("AdditionalProperties")).is_some();
    match shape.and_then(|shape| shape.text_of("BaseShape")) {
        Some("IdOnly") if !additional => Detail::Id,
        _ => Detail::Full,
    }
}

/// Adds a folder.
pub(super) fn write(call: &Call<'_>, contents: &Contents, number: u32, detail: Detail, out: &mut String) {
    let Some((name, class, parent)) = contents.describe(number) else { return };
    let element = match class {
        "IPF.Appointment" => "t:CalendarFolder",
        "IPF.Contact" => "t:ContactsFolder",
        "IPF.Task" => "t:TasksFolder",
        _ => "t:Folder",
    };
    let id = |number| id::encode(Name::Folder { mailbox: call.mailbox.number, number });
    out.push_str(&format!("<{element}><t:FolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/>", id(number)));
    if detail == Detail::Full {
        let (total, unread) = contents.counts(number);
        let children = contents.beneath(number, false).len();
        out.push_str(&format!(
            "<t:ParentFolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/>",
            id(parent.unwrap_or(ROOT))
        ));
        if !class.is_empty() {
            xml::element("t:FolderClass", class, out);
        }
        xml::element("t:DisplayName", name, out);
        out.push_str(&format!(
            "<t:TotalCount>{total}</t:TotalCount><t:ChildFolderCount>{children}</t:ChildFolderCount>"
        ));
        if let Some((known, ..)) = DISTINGUISHED.get(number as usize) {
            xml::element("t:DistinguishedFolderId", known, out);
        }
        if matches!(element, "t:Folder" | "t:TasksFolder") {
            out.push_str(&format!("<t:UnreadCount>{unread}</t:UnreadCount>"));
        }
    }
    out.push_str(&format!("</{element}>"));
}

pub(super) fn get(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let ids = request.child("FolderIds").map_or(&[][..], |ids| &ids.children);
    let detail = detail(request);
    call.respond(ids, "<m:Folders/>", out, |id, out| {
        let contents = call.contents();
        let number = call.folder(id, &contents)?;
        out.push_str("<m:Folders>");
        write(call, &contents, number, detail, out);
        out.push_str("</m:Folders>");
        Ok(())
    });
    Ok(())
}

pub(super) fn find(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let parents = request.child("ParentFolderIds").map_or(&[][..], |ids| &ids.children);
    let deep = request.attribute("Traversal") == Some("Deep");
    let wanted = request.at(&["Restriction", "IsEqualTo", "FieldURIOrConstant", "Constant"]);
    let wanted = wanted.and_then(|constant| constant.attribute("Value"));
    let detail = detail(request);
    let view = request.child("IndexedPageFolderView");
    let number = |key| view.and_then(|view| view.attribute(key)).and_then(|text| text.parse::<usize>().ok());
    let (offset, most) =
        (number("Offset").unwrap_or(0), number("MaxEntriesReturned").unwrap_or(1000).clamp(1, 1000));
    call.respond(parents, "", out, |parent, out| {
        let contents = call.contents();
        let parent = call.folder(parent, &contents)?;
        let mut found = contents.beneath(parent, deep);
        found.retain(|number| {
            let name = contents.describe(*number).map(|(name, ..)| name);
            wanted.is_none_or(|wanted| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
        });
        let page: Vec<u32> = found.iter().copied().skip(offset).take(most).collect();
        let next = (offset + page.len()).min(found.len());
        out.push_str(&format!(
            "<m:RootFolder IndexedPagingOffset=\"{next}\" TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{}\"><t:Folders>",
            found.len(),
            next >= found.len()
        ));
        page.into_iter().for_each(|number| write(call, &contents, number, detail, out));
        out.push_str("</t:Folders></m:RootFolder>");
        Ok(())
    });
    Ok(())
}

pub(super) fn create(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let parent = {
        let contents = call.contents();
        call.folder_in(request, "ParentFolderId", &contents)
    };
    let wanted = request.child("Folders").map_or(&[][..], |folders| &folders.children);
    call.respond(wanted, "<m:Folders/>", out, |folder, out| {
        let parent = match &parent {
            Ok(Some(parent)) => *parent,
            Ok(None) => return Err(FOLDER_NOT_FOUND),
            Err(_) => {
                return Err(Refusal::new(
                    "ErrorParentFolderNotFound",
                    "The specified parent folder could not be found.",
                ));
            }
        };
        let mut contents = call.contents();
        let name = folder.text_of("DisplayName").unwrap_or_default();
        if name.is_empty() {
            return Err(Refusal::new("ErrorFolderSaveFailed", "The folder has no name."));
        }
        if contents.child_named(parent, name).is_some() {
            let text = "A folder with the specified name already exists.";
            return Err(Refusal::new("ErrorFolderExists", text));
        }
        let class = match folder.name.as_str() {
            "CalendarFolder" => "IPF.Appointment",
            "ContactsFolder" => "IPF.Contact",
            "TasksFolder" => "IPF.Task",
            _ => folder.text_of("FolderClass").unwrap_or("IPF.Note"),
        };
        let number = contents.make_folder(parent, name, class);
        out.push_str("<m:Folders>");
        write(call, &contents, number, Detail::Id, out);
        out.push_str("</m:Folders>");
        Ok(())
    });
    Ok(())
}
