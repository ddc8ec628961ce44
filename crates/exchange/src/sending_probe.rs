//! How sending behaves on a server.

use mailyard_policy::{
    Nature, Reason,
    outbox::{Capabilities, Execution},
};

use crate::{
    Answer, Failure, Mailbox,
    codec::{Address, Body, Content, Deletion, Draft, Folder, ItemId, Update, WellKnown},
};

/// Finds out how sending behaves on a server by one message that the mailbox sends to itself. It carries the operation
/// id, by which its copy is known when it arrives. `aside` is a folder of our own that the draft is moved to.
///
/// The questions are asked with SendItem itself, so that every road ends with exactly one message sent. What comes
/// behind the answer that sends it stays unknown.
///
/// # Errors
/// [`Failure`] of a call that leaves a question open for now.
pub async fn probe_sending(
    mailbox: &Mailbox,
    operation_id: &str,
    aside: &Folder,
) -> Result<Capabilities, Failure> {
    let drafts = WellKnown::Drafts.into();
    let content = test_message(mailbox.address());
    let draft = mailbox.create_draft(&drafts, Content::Draft(&content), operation_id).await?.value;
    let mut stay = draft.clone();
    let probed = probe_draft(mailbox, &draft, aside, &mut stay).await;
    let leftover = match &probed {
        Ok(capabilities) => capabilities.consumes_draft != Some(true),
        Err(failure) => failure.execution == Execution::Not,
    };
    if leftover {
        // Ours, and of no use to anybody. If it cannot be deleted now, its mark tells what it is.
        let _harmless = mailbox.delete_item(&ItemId::new(stay.id), Deletion::HardDelete).await;
    }
    probed
}

async fn probe_draft(
    mailbox: &Mailbox,
    draft: &ItemId,
    aside: &Folder,
    stay: &mut ItemId,
) -> Result<Capabilities, Failure> {
    let sent = WellKnown::SentItems.into();
    let moved = mailbox.move_item(draft, aside).await?.value;
    stay.clone_from(&moved);
    let mut found = Capabilities::default();
    let refused = is_refused(mailbox.send_item(draft, &sent).await)?;
    found.moved_id_dies = Some(refused);
    if refused {
        let changed = mailbox.update_item(&moved, Update::Subject(SUBJECT_CHANGED)).await?.value;
        let refused = is_refused(mailbox.send_item(&moved, &sent).await)?;
        found.checks_change_key = Some(refused);
        if refused {
            mailbox.send_item(&changed, &sent).await?;
        }
    }
    found.consumes_draft = match mailbox.get_item(&ItemId::new(moved.id)).await {
        Ok(_) => Some(false),
        Err(failure) if failure.reason == Reason::ItemNotFound => Some(true),
        Err(_) => None,
    };
    Ok(found)
}

/// True if the server refused for the sake of the id or its change key, and not because it is busy or broken.
fn is_refused(result: Result<Answer<()>, Failure>) -> Result<bool, Failure> {
    match result {
        Ok(_) => Ok(false),
        Err(failure) => {
            let passing = !failure.is_of_item() || failure.reason.nature() == Nature::Throttled;
            if failure.execution == Execution::Not && !passing { Ok(true) } else { Err(failure) }
        }
    }
}

const SUBJECT: &str = "Test of sending";
const SUBJECT_CHANGED: &str = "Test of sending by Mailyard";

fn test_message(address: &str) -> Draft {
    let text = "This message was sent by Mailyard to find out how this server sends mail. It can be deleted.";
    Draft {
        subject: SUBJECT.to_owned(),
        body: Body::Text(text.to_owned()),
        importance: crate::codec::Importance::Normal,
        from: None,
        to: vec![Address::new(address)],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: Vec::new(),
        message_id: None,
        in_reply_to: None,
        references: None,
    }
}
