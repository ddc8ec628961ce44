//! `ConvertId` and `ResolveNames`.

use super::{Call, ID_MALFORMED};
use crate::{
    id,
    item::{Person, write_person},
    service::Refusal,
    xml::{self, Element},
};

/// Ids are the same in every format here; what is asked for is told of the mailbox the caller is in.
pub(super) fn convert_id(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let format = request.attribute("DestinationFormat").unwrap_or("EwsId").to_owned();
    let ids = request.child("SourceIds").map_or(&[][..], |ids| &ids.children);
    call.respond(ids, "", out, |source, out| {
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

/// Finds mailboxes by the beginning of their addresses.
pub(super) fn resolve_names(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let wanted = request.text_of("UnresolvedEntry").unwrap_or_default().to_lowercase();
    let wanted = wanted.strip_prefix("smtp:").unwrap_or(&wanted).to_owned();
    call.respond([request], "", out, |_, out| {
        let found: Vec<&str> = call
            .world
            .addresses()
            .filter(|address| address.to_lowercase().starts_with(&wanted))
            .take(100)
            .collect();
        if found.is_empty() {
            return Err(Refusal::new("ErrorNameResolutionNoResults", "No results were found."));
        }
        out.push_str(&format!(
            "<m:ResolutionSet TotalItemsInView=\"{}\" IncludesLastItemInRange=\"true\">",
            found.len()
        ));
        for address in found {
            out.push_str("<t:Resolution>");
            write_person(&Person::new(address), out);
            out.push_str("</t:Resolution>");
        }
        out.push_str("</m:ResolutionSet>");
        Ok(())
    });
    Ok(())
}
