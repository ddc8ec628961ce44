//! Items that cannot be tracked go to a folder of their own, if the profile says so.

use mailyard_exchange::{
    Mailbox,
    codec::{Folder, ItemId, WellKnown},
};
use mailyard_policy::Reason;
use mailyard_store::holder::{Commit, Inbound, InboundState, Item};

use crate::turn::{Trouble, Turn};

/// The folder beside the Inbox, made when it is first needed.
const NAME: &str = "Undeliverable";

/// Carries out a move whose intent is stored: by an earlier turn, perhaps of another holder. What was moved already is
/// found by its search key; what cannot be moved stays where it is, in quarantine.
///
/// # Errors
/// [`Trouble`]; the intent stays and is carried out by the next turn.
pub async fn finish(turn: &mut Turn, mailbox: &Mailbox, row: Inbound) -> Result<(), Trouble> {
    let InboundState::Moving { reason, search_key } = row.state else { return Ok(()) };
    let item_id = row.item_id;
    let root = Folder::WellKnown(WellKnown::MsgFolderRoot);
    let folder = Folder::Id(mailbox.ensure_folder(&root, NAME).await?.value);
    let found = mailbox.find_by_search_key(&folder, &search_key).await?.value;
    let moved = match found.into_iter().next() {
        Some(item) => Ok(item.id),
        None => {
            turn.may_act()?;
            mailbox.move_item(&ItemId::new(item_id.as_str()), &folder).await.map(|answer| answer.value)
        }
    };
    let item = match moved {
        Ok(moved) => Item::Moved { item_id, moved_id: moved.id.to_string() },
        Err(failure) if failure.reason == Reason::ItemNotFound => Item::Drop { item_id },
        Err(failure) if failure.is_of_item() && !failure.may_pass() => Item::Quarantine { item_id, reason },
        Err(failure) => return Err(failure.into()),
    };
    turn.commit(Commit { items: vec![item], ..Commit::default() }).await
}
