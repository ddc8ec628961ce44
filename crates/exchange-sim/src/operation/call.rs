//! A request under way: whose mailbox it comes to, and what it may reach there.

use std::sync::{Arc, MutexGuard};

use super::{FOLDER_NOT_FOUND, ID_MALFORMED, ITEM_NOT_FOUND};
use crate::{
    access::{Caller, NO_SUCH_MAILBOX},
    answer::Refusal,
    fault::{Kind, Strike},
    id::{self, Name},
    item::{Content, Person},
    mailbox::{Contents, DISTINGUISHED},
    permission::Access,
    throttle::Payer,
    world::{Mailbox, World},
    xml::Element,
};

/// A request under way.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub world: &'a World,
    /// The mailbox that it comes to, and how.
    pub mailbox: &'a Mailbox,
    pub access: Access,
    /// Whoever acts: the mailbox of the account, or the one that it impersonates.
    pub acting: &'a Mailbox,
    pub name: &'static str,
    pub caller: &'a Caller,
    /// Whose budget it is charged to.
    pub payer: Payer,
    /// The server behind the others that runs it.
    pub backend: u32,
}

const ACCESS_DENIED: Refusal =
    Refusal::new("ErrorAccessDenied", "Access is denied. Check credentials and try again.");
const SEND_AS_DENIED: Refusal = Refusal::new(
    "ErrorSendAsDenied",
    "The user account which was used to submit this request does not have the right to send mail on behalf of the specified \
     sending account.",
);

/// The mailbox that an element names first, by the address beside a folder's name or by an id. A folder's name alone means
/// the one of whoever acts.
pub(crate) fn mentioned<'a>(world: &'a World, acting: &'a Mailbox, element: &Element) -> Option<&'a Mailbox> {
    let of_number = |number| world.mailbox(number).map(Arc::as_ref);
    match element.name.as_str() {
        "DistinguishedFolderId" => match element.at(&["Mailbox", "EmailAddress"]) {
            Some(address) => world.mailbox_at(address.text.trim()).map(Arc::as_ref),
            None => Some(acting),
        },
        "FolderId" | "ItemId" | "ParentItemId" | "AttachmentId" => {
            id::decode(element.attribute("Id").unwrap_or_default()).and_then(|name| of_number(name.mailbox()))
        }
        _ => element.children.iter().find_map(|child| mentioned(world, acting, child)),
    }
}

/// The mailbox that a request or a part of it comes to, if whoever acts may; else his own, where he is told so.
pub(crate) fn place<'a>(world: &'a World, acting: &'a Mailbox, element: &Element) -> (&'a Mailbox, Access) {
    match mentioned(world, acting, element).filter(|wanted| wanted.number != acting.number) {
        None => (acting, Access::Own),
        Some(wanted) => match world.rights(acting, wanted) {
            rights if rights.opens() => (wanted, Access::Granted(rights)),
            _ => (acting, Access::Own),
        },
    }
}

impl<'a> Call<'a> {
    /// The same for a part, which may name another mailbox than the rest.
    pub fn toward(&self, part: &Element) -> Self {
        if mentioned(self.world, self.acting, part).is_none() {
            return *self;
        }
        let (mailbox, access) = place(self.world, self.acting, part);
        Self { mailbox, access, ..*self }
    }

    /// What the mailbox holds.
    pub fn contents(&self) -> MutexGuard<'a, Contents> {
        self.mailbox.contents()
    }

    /// True if it comes to the mailbox of somebody else.
    pub fn is_delegated(&self) -> bool {
        self.access != Access::Own
    }

    /// Checks whether a message may be sent in the name that it bears. Returns it as it leaves: a delegate is seen as its sender.
    pub fn sent_as(&self, content: &Arc<Content>) -> Result<Arc<Content>, Refusal> {
        let from = content.from.as_ref().and_then(|from| self.world.mailbox_at(&from.address));
        let Some(from) = from.filter(|from| from.number != self.acting.number) else {
            return Ok(content.clone());
        };
        let rights = self.world.rights(self.acting, from);
        if !rights.sends() {
            return Err(SEND_AS_DENIED);
        }
        let sender = if rights.send_as { from } else { self.acting };
        let seen =
            content.sender.as_ref().is_some_and(|seen| seen.address.eq_ignore_ascii_case(&sender.address));
        if seen {
            return Ok(content.clone());
        }
        let sender = Some(Person::new(&sender.address));
        Ok(Arc::new(Content { sender, mime: None, ..Content::clone(content) }))
    }

    /// Whether a rule of this kind strikes this request.
    pub fn strikes(&self, kind: Kind) -> Option<Strike> {
        self.world.asks_faults()?.strikes(kind, self.name, &self.mailbox.address)
    }

    /// True if an element names a folder of another mailbox.
    pub fn is_foreign(&self, element: &Element) -> bool {
        match element.at(&["Mailbox", "EmailAddress"]) {
            Some(address) => {
                let named = self.world.mailbox_at(address.text.trim());
                named.is_none_or(|named| named.number != self.mailbox.number)
            }
            None if element.name == "DistinguishedFolderId" => self.is_delegated(),
            None => match id::decode(element.attribute("Id").unwrap_or_default()) {
                Some(Name::Folder { mailbox, .. }) => mailbox != self.mailbox.number,
                _ => false,
            },
        }
    }

    /// The folder that an element names.
    pub fn folder(&self, element: &Element, contents: &Contents) -> Result<u32, Refusal> {
        if self.is_foreign(element) {
            let address = element.at(&["Mailbox", "EmailAddress"]).map(|address| address.text.trim());
            let nobody = address.is_some_and(|address| self.world.mailbox_at(address).is_none());
            return Err(if nobody { NO_SUCH_MAILBOX } else { ACCESS_DENIED });
        }
        let number = if element.name == "DistinguishedFolderId" {
            let wanted = element.attribute("Id").unwrap_or_default();
            DISTINGUISHED.iter().position(|(id, ..)| *id == wanted).map(|at| at as u32)
        } else {
            match id::decode(element.attribute("Id").unwrap_or_default()) {
                Some(Name::Folder { number, .. }) => {
                    Some(number).filter(|number| contents.has_folder(*number))
                }
                _ => return Err(ID_MALFORMED),
            }
        };
        let number = number.ok_or(FOLDER_NOT_FOUND)?;
        if self.access.reaches(number, contents) { Ok(number) } else { Err(ACCESS_DENIED) }
    }

    /// The folder inside an element such as `ParentFolderId`; `None`: the element is absent.
    pub fn folder_in(
        &self,
        element: &Element,
        name: &str,
        contents: &Contents,
    ) -> Result<Option<u32>, Refusal> {
        let inner = element.child(name).and_then(|outer| outer.children.first());
        inner.map(|inner| self.folder(inner, contents)).transpose()
    }

    /// The item that an `ItemId` names, and whether its change key is the current one (`None`: it has none).
    pub fn item(&self, element: &Element, contents: &Contents) -> Result<(u64, Option<bool>), Refusal> {
        match id::decode(element.attribute("Id").unwrap_or_default()) {
            Some(Name::Item { mailbox, number }) if mailbox == self.mailbox.number => {
                let found = contents.items.get(&number);
                // What may not be seen is not there.
                let item =
                    found.filter(|item| self.access.reaches(item.folder, contents)).ok_or(ITEM_NOT_FOUND)?;
                let current = element.attribute("ChangeKey").map(|key| key == id::change_key(item.version));
                Ok((number, current))
            }
            Some(Name::Item { .. }) => Err(ITEM_NOT_FOUND),
            _ => Err(ID_MALFORMED),
        }
    }
}

/// What is told of a folder that cannot be had, unless it may not be had.
pub(super) fn unless_denied(refusal: Refusal, otherwise: Refusal) -> Refusal {
    if refusal.code == ACCESS_DENIED.code || refusal.code == NO_SUCH_MAILBOX.code {
        refusal
    } else {
        otherwise
    }
}
