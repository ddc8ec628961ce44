//! Who fails when a part of an answer does: one item, or the mailbox.

use mailyard_exchange::{
    Failure,
    codec::{Folder, ItemId, Shape, WellKnown},
};
use mailyard_policy::Reason;

use crate::scripted::{Act, Server, ok, soap};

const ITEM: &str =
    r#"<m:Items><t:Message><t:ItemId Id="I" ChangeKey="k"/><t:Size>9</t:Size></t:Message></m:Items>"#;
/// What Exchange says of an item that it cannot read, and of a mailbox that it cannot read just now.
const PASSING: &str = "ErrorInternalServerError";

#[tokio::test]
async fn an_item_that_fails_alone_or_beside_others_fails_by_itself() {
    type Case<'a> = (&'a [Result<&'a str, &'a str>], &'a [Option<Reason>]);
    let cases: &[Case<'_>] = &[
        (&[Ok(ITEM), Err(PASSING)], &[None, Some(Reason::ItemTransientError)]),
        (&[Err(PASSING)], &[Some(Reason::ItemTransientError)]),
        (&[Err(PASSING), Err(PASSING)], &[Some(Reason::MailboxTransientError); 2]),
        (
            &[Err("ErrorNobodyKnows"), Err("ErrorItemNotFound")],
            &[Some(Reason::MailboxTransientError), Some(Reason::ItemNotFound)],
        ),
        (&[Ok(ITEM), Err("ErrorMailboxStoreUnavailable")], &[None, Some(Reason::MailboxUnavailable)]),
        (&[Err("ErrorBatchProcessingStopped")], &[Some(Reason::ItemNotAttempted)]),
    ];
    for (parts, expected) in cases {
        let server = Server::start([Act::Answer(ok(soap("GetItem", parts)))]).await;
        let ids: Vec<ItemId> = (0..parts.len()).map(|number| ItemId::new(format!("I{number}"))).collect();
        let answer = server.client().mailbox("anna@example.org").sizes(&ids).await.expect("an answer");
        let reasons: Vec<_> =
            answer.value.iter().map(|part| part.as_ref().err().map(|failure| failure.reason)).collect();
        assert_eq!(reasons, *expected, "{parts:?}");
    }
}

#[tokio::test]
async fn a_folder_that_fails_is_the_mailbox_failing() {
    let stopped = |operation| Act::Answer(ok(soap(operation, &[Err("ErrorBatchProcessingStopped")])));
    let server = Server::start([stopped("SyncFolderItems"), stopped("GetFolder")]).await;
    let (mailbox, inbox) = (server.client().mailbox("anna@example.org"), Folder::WellKnown(WellKnown::Inbox));
    let reason = |failure: Failure| failure.reason;
    let synced = mailbox.sync_items(&inbox, None, 10, Shape::Known).await.map_err(reason);
    assert_eq!(synced.err(), Some(Reason::MailboxTransientError));
    let found = mailbox.get_folder(&inbox).await.map_err(reason);
    assert_eq!(found.err(), Some(Reason::MailboxTransientError));
}
