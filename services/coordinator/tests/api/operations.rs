//! OperationService: long-running operations, and how they go on.

use mailyard_policy::{Reason, id::OperationId};
use mailyard_store::{
    holder::{Claimed, Commit},
    people::{LongState as Stored, TestOutcome, TestResult},
};
use mailyard_wire::{
    admin::{
        CancelOperationRequest, DecideApprovalRequest, GetOperationRequest, ListOperationsRequest, LongState,
        MailboxTestResult, Operation, Selection, TestAndEnableRequest, TestResult as Told,
        WatchOperationRequest, WatchOperationResponse,
    },
    status::Refusal,
};
use tonic::Streaming;

use crate::house::{House, PARENT, address, answered, at, name, told};

/// A test of so many mailboxes, of which the last is not approved, and all are handed out.
async fn begun(house: &House, mailboxes: usize) -> (Operation, Vec<Claimed>) {
    house.profile("Main").await;
    house.import(mailboxes).await;
    let addresses = (1..mailboxes).map(address).collect();
    let selection = Some(Selection { addresses, filter: None });
    let approve = DecideApprovalRequest { parent: PARENT.into(), selection, approval: 2 };
    house.mailboxes().decide_approval(approve).await.unwrap();
    let claimed = house.hold().await;
    let selection = Some(Selection { addresses: Vec::new(), filter: Some(String::new()) });
    let test = TestAndEnableRequest { parent: PARENT.into(), selection };
    let operation = answered(house.mailboxes().test_and_enable(test).await);
    house.store.advance_test(&house.lead, id(&operation), 100, &[]).await.unwrap();
    (operation, claimed)
}

fn id(operation: &Operation) -> OperationId {
    operation.uid.parse().unwrap()
}

async fn end(house: &House, operation: &Operation, claimed: &Claimed, result: TestResult) {
    let reason = (result == TestResult::Failure).then_some(Reason::ImpersonationDenied);
    let outcome = TestOutcome { result, reasons: [reason, None, None], at: at(9) };
    let commit = Commit { test: Some((id(operation), outcome)), ..Commit::default() };
    house.commit(&claimed.fence, commit).await;
}

async fn watch(house: &House, operation: &Operation, skip_results: u64) -> Streaming<WatchOperationResponse> {
    let request = WatchOperationRequest { name: operation.name.clone(), skip_results };
    house.operations().watch_operation(request).await.unwrap().into_inner()
}

/// The next change and the addresses of its results.
async fn next(
    changes: &mut Streaming<WatchOperationResponse>,
) -> Option<(Operation, Vec<MailboxTestResult>)> {
    let change = changes.message().await.unwrap()?;
    Some((change.operation.unwrap(), change.results))
}

#[tokio::test]
async fn a_watch_tells_each_change_with_its_results_until_the_end() {
    let house = House::new().await;
    let (operation, claimed) = begun(&house, 4).await;
    let mut changes = watch(&house, &operation, 0).await;
    let (now, results) = next(&mut changes).await.unwrap();
    assert_eq!((now.state(), now.total, now.running, now.skipped), (LongState::Running, 4, 3, 1));
    assert_eq!((results.len(), results[0].result(), &*results[0].address), (1, Told::Skipped, &*address(4)));
    assert_eq!(results[0].incoming_reason, "MAILBOX_NOT_APPROVED");

    end(&house, &operation, &claimed[1], TestResult::Failure).await;
    let (now, results) = next(&mut changes).await.unwrap();
    assert_eq!((now.running, now.failed, results.len()), (2, 1, 1));
    assert_eq!((results[0].result(), &*results[0].address), (Told::Failure, &*address(2)));
    assert_eq!((&*results[0].incoming_reason, &*results[0].outgoing_reason), ("IMPERSONATION_DENIED", ""));
    drop(changes);

    // A watch that was cut goes on behind what it knows.
    let mut changes = watch(&house, &operation, 2).await;
    let (now, results) = next(&mut changes).await.unwrap();
    assert_eq!((now.failed, results.len()), (1, 0));
    end(&house, &operation, &claimed[0], TestResult::Success).await;
    end(&house, &operation, &claimed[2], TestResult::Success).await;
    let mut seen = Vec::new();
    let mut last = None;
    while let Some((now, results)) = next(&mut changes).await {
        seen.extend(results.into_iter().map(|result| result.address));
        last = Some(now);
        if seen.len() == 2 && last.as_ref().is_some_and(|now| now.state() == LongState::Running) {
            house
                .store
                .set_operation_state(&house.lead, id(&operation), Stored::Done, None, at(10))
                .await
                .unwrap();
        }
    }
    assert_eq!(seen, [address(1), address(3)]);
    let last = last.unwrap();
    assert_eq!((last.state(), last.succeeded, last.running), (LongState::Done, 2, 0));

    // Who comes after the end gets it all at once.
    let mut changes = watch(&house, &operation, 0).await;
    let (now, results) = next(&mut changes).await.unwrap();
    assert_eq!((now, results.len()), (last, 4));
    assert_eq!(next(&mut changes).await, None);
}

#[tokio::test]
async fn a_watch_ends_with_the_server_and_the_server_with_its_watches() {
    let house = House::new().await;
    let (operation, _) = begun(&house, 2).await;
    let mut changes = watch(&house, &operation, 0).await;
    next(&mut changes).await.unwrap();
    house.shutdown.begin();
    let refused = changes.message().await.expect_err("the server stops");
    assert_eq!(Refusal::from(&refused).reason.as_deref(), Some("SERVER_DRAINING"));
    house.server.await.unwrap();
}

#[tokio::test]
async fn operations_are_listed_page_by_page() {
    let house = House::new().await;
    let mut begun = vec![begun(&house, 2).await.0];
    for _ in 0..4 {
        let selection = Some(Selection { addresses: Vec::new(), filter: Some(String::new()) });
        let test = TestAndEnableRequest { parent: PARENT.into(), selection };
        begun.push(answered(house.mailboxes().test_and_enable(test).await));
    }
    let list = |live, token: &str| ListOperationsRequest {
        parent: PARENT.into(),
        live,
        page_size: 2,
        page_token: token.into(),
    };
    let (mut seen, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = answered(house.operations().list_operations(list(true, &token)).await);
        sizes.push(page.operations.len());
        seen.extend(page.operations.into_iter().map(|operation| operation.uid));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(sizes, [2, 2, 1]);
    let (mut seen, mut all) = (seen, begun.into_iter().map(|operation| operation.uid).collect::<Vec<_>>());
    seen.sort();
    all.sort();
    assert_eq!(seen, all, "each once");
    let refused = told(house.operations().list_operations(list(false, &token)).await);
    assert!(refused.contains("PAGE_TOKEN_INVALID"), "the token of another list: {refused}");
}

#[tokio::test]
async fn only_the_leader_cancels_and_what_has_ended_stays() {
    let house = House::new().await;
    let (operation, claimed) = begun(&house, 3).await;
    end(&house, &operation, &claimed[0], TestResult::Success).await;
    let cancel = || CancelOperationRequest { name: operation.name.clone() };
    *house.leader.lead.lock().unwrap() = None;
    insta::assert_snapshot!(told(house.operations().cancel_operation(cancel()).await), @r"
    Unavailable CLUSTER_NO_LEADER
        nobody leads who could cancel it
    ");
    let nudges = house.nudges();
    *house.leader.lead.lock().unwrap() = Some(house.lead);
    let canceled = answered(house.operations().cancel_operation(cancel()).await);
    assert_eq!((canceled.state(), canceled.running, canceled.succeeded), (LongState::Canceled, 0, 1));
    assert_eq!(house.nudges(), nudges + 1);
    assert_eq!(answered(house.operations().cancel_operation(cancel()).await), canceled, "a second time");
    let mut changes = watch(&house, &operation, 0).await;
    assert_eq!(
        next(&mut changes).await.map(|(now, results)| (now, results.len())),
        Some((canceled.clone(), 2))
    );
    assert_eq!(next(&mut changes).await, None);

    let request = GetOperationRequest { name: operation.name.clone() };
    assert_eq!(answered(house.operations().get_operation(request).await), canceled);
    let list = |live| ListOperationsRequest { parent: PARENT.into(), live, ..Default::default() };
    assert_eq!(answered(house.operations().list_operations(list(false)).await).operations, [canceled]);
    assert_eq!(answered(house.operations().list_operations(list(true)).await).operations, []);
    let unknown = GetOperationRequest { name: name("operations", "00000000000000000000000000") };
    insta::assert_snapshot!(told(house.operations().get_operation(unknown).await), @r#"
    NotFound RESOURCE_NOT_FOUND
        name: there is no operation "00000000000000000000000000"
    "#);
}
