//! `GetFolder`, `FindFolder`, `CreateFolder`.

use super::{Call, FOLDER_NOT_FOUND, call::unless_denied};
use crate::{
    answer::Refusal,
    id::{self, Name},
    mailbox::{Contents, DISTINGUISHED, ROOT},
    property::{Path, Value},
    restriction,
    xml::{self, Element},
};

/// What is told of folders.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    all: bool,
    fields: Vec<String>,
}

const DEFAULT: &[&str] =
    &["folder:DisplayName", "folder:TotalCount", "folder:ChildFolderCount", "folder:UnreadCount"];

impl Shape {
    /// Reads the `FolderShape` of a request.
    pub fn read(request: &Element) -> Self {
        let Some(shape) = request.child("FolderShape") else { return Self::default() };
        let base = shape.text_of("BaseShape").unwrap_or_default();
        let asked = shape.child("AdditionalProperties").map_or(&[][..], |all| &all.children);
        let asked = asked.iter().filter_map(|path| path.attribute("FieldURI"));
        let default = if base == "Default" { DEFAULT } else { &[] };
        let fields = default.iter().copied().chain(asked).map(ToOwned::to_owned).collect();
        Self { all: base == "AllProperties", fields }
    }

    fn has(&self, uri: &str) -> bool {
        self.all || self.fields.iter().any(|field| field == uri)
    }
}

/// Adds a folder.
pub(super) fn write(call: &Call<'_>, contents: &Contents, number: u32, shape: &Shape, out: &mut String) {
    let Some((_, class, parent)) = contents.describe(number) else { return };
    let element = match class {
        "IPF.Appointment" => "t:CalendarFolder",
        "IPF.Contact" => "t:ContactsFolder",
        "IPF.Task" => "t:TasksFolder",
        _ => "t:Folder",
    };
    let id = |number| id::encode(Name::Folder { mailbox: call.mailbox.number, number });
    out.push_str(&format!("<{element}><t:FolderId Id=\"{}\" ChangeKey=\"AQAAAA==\"/>", id(number)));
    if shape.has("folder:ParentFolderId") {
        let parent = id(parent.unwrap_or(ROOT));
        out.push_str(&format!("<t:ParentFolderId Id=\"{parent}\" ChangeKey=\"AQAAAA==\"/>"));
    }
    for uri in FIELDS.iter().filter(|uri| shape.has(uri)) {
        // Appointments and contacts are not read or unread.
        let unread = *uri == "folder:UnreadCount" && !matches!(element, "t:Folder" | "t:TasksFolder");
        let text = match value(contents, number, uri).filter(|_| !unread) {
            Some(Value::Text(text)) => text,
            Some(Value::Number(count)) => count.to_string(),
            _ => continue,
        };
        xml::element(&uri.replace("folder:", "t:"), &text, out);
    }
    out.push_str(&format!("</{element}>"));
}

/// Properties of folders in the order of the schema.
const FIELDS: &[&str] = &[
    "folder:FolderClass",
    "folder:DisplayName",
    "folder:TotalCount",
    "folder:ChildFolderCount",
    "folder:DistinguishedFolderId",
    "folder:UnreadCount",
];

/// What a property of a folder compares as.
fn value(contents: &Contents, number: u32, uri: &str) -> Option<Value> {
    let (name, class, _) = contents.describe(number)?;
    let text = |text: &str| (!text.is_empty()).then(|| Value::Text(text.to_owned()));
    match uri {
        "folder:FolderClass" => text(class),
        "folder:DisplayName" => Some(Value::Text(name.to_owned())),
        "folder:TotalCount" => Some(Value::Number(contents.counts(number).0.into())),
        "folder:UnreadCount" => Some(Value::Number(contents.counts(number).1.into())),
        "folder:ChildFolderCount" => Some(Value::Number(contents.beneath(number, false).len() as i64)),
        "folder:DistinguishedFolderId" => {
            DISTINGUISHED.get(number as usize).and_then(|(known, ..)| text(known))
        }
        _ => None,
    }
}

pub(super) fn get(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let ids = request.child("FolderIds").map_or(&[][..], |ids| &ids.children);
    let shape = Shape::read(request);
    call.respond(ids, "<m:Folders/>", out, |call, id, out| {
        let contents = call.contents();
        let number = call.folder(id, &contents)?;
        out.push_str("<m:Folders>");
        write(call, &contents, number, &shape, out);
        out.push_str("</m:Folders>");
        Ok(())
    });
    Ok(())
}

pub(super) fn find(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let parents = request.child("ParentFolderIds").map_or(&[][..], |ids| &ids.children);
    let deep = request.attribute("Traversal") == Some("Deep");
    let restriction = request.child("Restriction");
    let shape = Shape::read(request);
    let view = request.child("IndexedPageFolderView");
    let number = |key| view.and_then(|view| view.attribute(key)).and_then(|text| text.parse::<usize>().ok());
    let (offset, most) =
        (number("Offset").unwrap_or(0), number("MaxEntriesReturned").unwrap_or(1000).clamp(1, 1000));
    call.respond(parents, "", out, |call, parent, out| {
        let contents = call.contents();
        let parent = call.folder(parent, &contents)?;
        let mut found = contents.beneath(parent, deep);
        found.retain(|number| {
            let of = |path: &Path| match path {
                Path::Field(uri) => value(&contents, *number, uri),
                _ => None,
            };
            restriction.is_none_or(|condition| restriction::holds(condition, &of))
        });
        let page: Vec<u32> = found.iter().copied().skip(offset).take(most).collect();
        let next = (offset + page.len()).min(found.len());
        out.push_str(&format!(
            "<m:RootFolder IndexedPagingOffset=\"{next}\" TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{}\"><t:Folders>",
            found.len(),
            next >= found.len()
        ));
        page.into_iter().for_each(|number| write(call, &contents, number, &shape, out));
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
    call.respond(wanted, "<m:Folders/>", out, |call, folder, out| {
        let parent = match &parent {
            Ok(Some(parent)) => *parent,
            Ok(None) => return Err(FOLDER_NOT_FOUND),
            Err(refusal) => {
                let text = "The specified parent folder could not be found.";
                let not_found = Refusal::new("ErrorParentFolderNotFound", text);
                return Err(unless_denied(refusal.clone(), not_found));
            }
        };
        let now = call.world.now();
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
        let number = contents.make_folder(parent, name, class, now);
        out.push_str("<m:Folders>");
        write(call, &contents, number, &Shape::default(), out);
        out.push_str("</m:Folders>");
        Ok(())
    });
    Ok(())
}
