//! `ConvertId` and `ResolveNames`.

use super::{Call, ID_MALFORMED};
use crate::{
    answer::Refusal,
    id,
    item::{Person, write_person},
    xml::{self, Element},
};

/// Ids are the same in every format here; what is asked for is told of the mailbox the caller is in.
pub(super) fn convert_id(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let format = request.attribute("DestinationFormat").unwrap_or("EwsId").to_owned();
    let ids = request.child("SourceIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "", out, |call, source, out| {
        let text = source.attribute("Id").unwrap_or_default();
        if id::decode(text).is_none() {
            return Err(ID_MALFORMED);
        }
        out.push_str("<m:AlternateId xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"t:AlternateIdType\"");
        for (name, value) in [("Format", format.as_str()), ("Id", text), ("Mailbox", &call.mailbox.address)] {
            out.push_str(&format!(" {name}=\""));
            xml::escape(value, out);
            out.push('"');
        }
        out.push_str("/>");
        Ok(())
    });
    Ok(())
}

/// No answer tells of more.
const MOST: usize = 100;
const SEVERAL: Refusal = Refusal::new("ErrorNameResolutionMultipleResults", "Multiple results were found.");
const NOBODY: Refusal = Refusal::new("ErrorNameResolutionNoResults", "No results were found.");

/// Finds mailboxes by the beginning of their addresses, or one by `smtp:` and all of it. More than one is a warning.
pub(super) fn resolve_names(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let wanted = request.text_of("UnresolvedEntry").unwrap_or_default().to_lowercase();
    let exact = wanted.strip_prefix("smtp:");
    let fits = |address: &str| match exact {
        Some(exact) => address == exact,
        None => address.starts_with(&wanted),
    };
    let all = call.world.addresses();
    let found: Vec<&str> = all.filter(|address| fits(&address.to_lowercase())).take(MOST).collect();
    if found.len() < 2 {
        call.respond([&found[..]], "", out, |_, found, out| {
            if found.is_empty() { Err(NOBODY) } else { Ok(write_resolutions(found, true, out)) }
        });
        return Ok(());
    }
    out.push_str("<m:ResolveNamesResponse><m:ResponseMessages>");
    super::open_message(call.name, "Warning", &SEVERAL, out);
    write_resolutions(&found, found.len() < MOST, out);
    out.push_str("</m:ResolveNamesResponseMessage></m:ResponseMessages></m:ResolveNamesResponse>");
    Ok(())
}

fn write_resolutions(found: &[&str], last: bool, out: &mut String) {
    out.push_str(&format!(
        "<m:ResolutionSet TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{last}\">",
        found.len()
    ));
    for address in found {
        out.push_str("<t:Resolution>");
        write_person(&Person::new(address), out);
        out.push_str("</t:Resolution>");
    }
    out.push_str("</m:ResolutionSet>");
}
