//! `GetItem`.

use super::Call;
use crate::{answer::Refusal, property::Shape, xml::Element};

pub(super) fn run(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    let ids = request.child("ItemIds").map_or(&[][..], |ids| &ids.children);
    let shape = Shape::read(request.child("ItemShape"));
    // What is corrupt is the content: properties can still be read.
    let poisoned = |call: &Call<'_>, number| {
        let faults = call.world.asks_faults().filter(|_| shape.mime);
        let item = [u64::from(call.mailbox.number), number];
        faults.is_some_and(|mut faults| faults.poisons(call.name, &call.mailbox.address, item))
    };
    call.respond(ids, "<m:Items/>", out, |call, id, out| {
        let mut contents = call.contents();
        let (number, _) = call.item(id, &contents)?;
        if poisoned(call, number) {
            return Err(Refusal::new("ErrorItemCorrupt", "The item is corrupt and cannot be read."));
        }
        contents.settle_late_version(number);
        if let Some(item) = contents.items.get(&number) {
            out.push_str("<m:Items>");
            shape.write(call.mailbox.number, item, true, out);
            out.push_str("</m:Items>");
        }
        Ok(())
    });
    Ok(())
}
