//! Items that cannot be tracked go to a folder of their own, if the profile says so.

use mailyard_exchange::{
    Failure, Mailbox,
    codec::{Folder, ItemId, WellKnown},
};
use mailyard_policy::{Reason, reason::Scope};
use mailyard_store::holder::{Commit, Inbound, InboundState, Item};

use crate::turn::{Trouble, Turn};

/// The folder beside the Inbox, made when it is first needed.
const NAME: &str = "Undeliverable";

/// Carries out a move whose intent is stored: by an earlier turn, perhaps of another holder. What was moved already is
/// found by its search key. What fails stays where it is: for another turn, and after so many attempts as its content
/// had in quarantine. How the mailbox fares is judged by what is read from it, not by this.
///
/// # Errors
/// [`Trouble`] of the server or of our own side; the intent stays and is carried out by the next turn.
pub async fn finish(turn: &mut Turn, mailbox: &Mailbox, row: Inbound) -> Result<(), Trouble> {
    let Inbound { item_id, attempts, seen: _, state: InboundState::Moving { reason, search_key } } = row
    else {
        return Ok(());
    };
    turn.may_act()?;
    let mailbox = mailbox.under(turn.warrant(None));
    let most = 2 * turn.shared.settings.patience.attempts;
    let item = match carry_out(&mailbox, &item_id, &search_key).await {
        Ok(moved) => Item::Moved { item_id, moved_id: moved.id.to_string() },
        Err(failure) if failure.reason.scope() == Scope::Profile => return Err(failure.into()),
        Err(failure) if failure.reason == Reason::ItemNotFound => Item::Drop { item_id },
        Err(failure) if failure.may_pass() && attempts + 1 < most => Item::Again { item_id, reason },
        Err(_) => Item::Quarantine { item_id, reason },
    };
    turn.commit(Commit { items: vec![item], ..Commit::default() }).await
}

async fn carry_out(mailbox: &Mailbox, item_id: &str, search_key: &[u8]) -> Result<ItemId, Failure> {
    let root = Folder::WellKnown(WellKnown::MsgFolderRoot);
    let folder = Folder::Id(mailbox.ensure_folder(&root, NAME).await?.value);
    if let Some(found) = mailbox.find_by_search_key(&folder, search_key).await?.value.into_iter().next() {
        return Ok(found.id);
    }
    Ok(mailbox.move_item(&ItemId::new(item_id), &folder).await?.value)
}
