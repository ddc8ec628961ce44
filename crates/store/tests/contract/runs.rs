//! Test & enable of many mailboxes.

use std::sync::Arc;

use mailyard_policy::{
    Reason,
    id::{MailboxId, OperationId, Org},
    mailbox::Kept,
    operation::{Method, State},
};
use mailyard_store::{
    Store,
    holder::{Claimed, Commit},
    people::{
        AccountChange, Approval, LongState, NewMailbox, Secrets, Selection, TestOutcome, TestResult,
        UnendedTests,
    },
    query::{Filter, Operator},
};

use crate::world::{World, address, at, compare, kept, mailbox, page, profile, refused};

const RUN: OperationId = OperationId::new(70);

async fn approved(store: &Arc<dyn Store>, count: u128) -> (World, Vec<Claimed>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), count).await;
    let all = Selection::Matching(Filter::All);
    store.decide_approval(&world.org, &all, Approval::Approved, at(0)).await.unwrap();
    (world, claimed)
}

fn ends(run: OperationId, result: TestResult, reason: Option<Reason>) -> Commit {
    let kept = Kept { test_done: Some(run), ..kept(State::Enabled, State::Enabled) };
    Commit {
        kept: Some(kept),
        test: Some((run, TestOutcome { result, reasons: [reason, None, None], at: at(9) })),
        ..Commit::default()
    }
}

async fn wanted(store: &Arc<dyn Store>, world: &World) -> Vec<(MailboxId, Option<OperationId>)> {
    let mut list: Vec<_> = store
        .unapplied(world.incarnation, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|(id, wanted)| (id, wanted.test))
        .filter(|(_, test)| test.is_some())
        .collect();
    list.sort();
    list
}

pub async fn a_test_is_handed_out_and_ends(store: Arc<dyn Store>) {
    let (world, claimed) = approved(&store, 5).await;
    let run =
        store.start_test(&world.org, RUN, &Selection::Matching(Filter::All), "all", at(1)).await.unwrap();
    assert_eq!((run.state, run.total, run.running), (LongState::Running, 5, 0));
    assert_eq!(wanted(&store, &world).await, [], "nothing is handed out yet");
    for expected in [2, 2, 1, 0] {
        assert_eq!(store.advance_test(&world.lead, RUN, 2, &[]).await.unwrap(), expected);
    }
    assert_eq!(wanted(&store, &world).await.len(), 5);
    for (n, claimed) in claimed.iter().enumerate() {
        let mut fence = claimed.fence;
        let (result, reason) = if n == 2 {
            (TestResult::Failure, Some(Reason::ImpersonationDenied))
        } else {
            (TestResult::Success, None)
        };
        world.commit(&mut fence, ends(RUN, result, reason)).await;
        // Told twice, counted once.
        world.commit(&mut fence, ends(RUN, TestResult::Skipped, None)).await;
    }
    let run = store.operation(RUN).await.unwrap().unwrap();
    assert_eq!((run.running, run.succeeded, run.failed, run.skipped), (0, 4, 1, 0));
    let ended = store.operation_results(RUN, 0, 100).await.unwrap();
    let order: Vec<u128> = ended.iter().map(|item| item.mailbox.get()).collect();
    assert_eq!(order, [1, 2, 3, 4, 5], "in the order in which they ended");
    assert_eq!(ended[2].outcome.as_ref().unwrap().reasons[0], Some(Reason::ImpersonationDenied));
    assert_eq!(store.operation_results(RUN, 3, 1).await.unwrap(), ended[3..4]);
    assert_eq!(wanted(&store, &world).await, []);
    store.set_operation_state(&world.lead, RUN, LongState::Done, None, at(20)).await.unwrap();
    let run = store.operation(RUN).await.unwrap().unwrap();
    assert_eq!((run.state, run.end_time), (LongState::Done, Some(at(20))));
    let late = store.set_operation_state(&world.lead, RUN, LongState::Running, None, at(21)).await;
    assert_eq!(refused(late).0, Reason::ResourceNotFound);
    let list = async |live| store.operations(&world.org, live, &page(None, 9)).await.unwrap().len();
    assert_eq!(
        (list(true).await, list(false).await, store.live_operations(9).await.unwrap().len()),
        (0, 1, 0)
    );
    let mailbox = store.mailbox(MailboxId::new(1)).await.unwrap().unwrap();
    assert_eq!((mailbox.test_wanted, mailbox.test_done), (Some(RUN), Some(RUN)));
}

pub async fn what_cannot_be_tested_is_skipped_at_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let none = NewMailbox { methods: [Method::None; 3], ..mailbox(1, Some(world.profile)) };
    let rows = [none, mailbox(2, None), mailbox(3, Some(world.profile)), mailbox(4, Some(world.profile))];
    store.create_mailboxes(&world.org, &rows, at(0)).await.unwrap();
    let four = Selection::Addresses(vec![rows[3].address.clone()]);
    store.decide_approval(&world.org, &four, Approval::Approved, at(0)).await.unwrap();
    let run =
        store.start_test(&world.org, RUN, &Selection::Matching(Filter::All), "all", at(1)).await.unwrap();
    assert_eq!((run.total, run.running, run.skipped), (4, 0, 3));
    let reasons: Vec<_> = store
        .operation_results(RUN, 0, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|item| (item.mailbox.get(), item.outcome.unwrap().reasons[0].unwrap()))
        .collect();
    let expected =
        [(1, Reason::MethodNotSupported), (2, Reason::ProfileNotSet), (3, Reason::MailboxNotApproved)];
    assert_eq!(reasons, expected);
    assert_eq!(store.advance_test(&world.lead, RUN, 9, &[]).await.unwrap(), 1);
    let nobody = Selection::Matching(compare("address", Operator::Equal, "nobody"));
    let empty = store.start_test(&world.org, OperationId::new(2), &nobody, "nobody", at(1)).await;
    assert_eq!(refused(empty).0, Reason::SelectionEmpty);
    let unknown = Selection::Addresses(vec!["nobody@contoso.example".to_owned()]);
    let result = store.start_test(&world.org, OperationId::new(3), &unknown, "x", at(1)).await;
    assert_eq!(refused(result).0, Reason::ResourceNotFound);
    let kept = store.operations(&world.org, false, &page(None, 9)).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.id).collect::<Vec<_>>(), [run.id], "nothing is left of those");
}

pub async fn a_test_of_a_selection_has_each_mailbox_once(store: Arc<dyn Store>) {
    let (world, _) = approved(&store, 5).await;
    let two = Selection::Addresses([3, 1, 3].map(address).to_vec());
    let run = store.start_test(&world.org, RUN, &two, "two", at(1)).await.unwrap();
    assert_eq!((run.total, run.skipped), (2, 0));
    let one = Selection::Matching(compare("address", Operator::Contains, "m005"));
    let run = store.start_test(&world.org, OperationId::new(71), &one, "one", at(1)).await.unwrap();
    assert_eq!(run.total, 1);
    while store.advance_test(&world.lead, RUN, 9, &[]).await.unwrap() > 0 {}
    let handed: Vec<u128> = wanted(&store, &world).await.into_iter().map(|(id, _)| id.get()).collect();
    assert_eq!(handed, [1, 3]);
}

pub async fn operations_are_listed_by_organization_page_by_page(store: Arc<dyn Store>) {
    let (world, _) = approved(&store, 1).await;
    // Two of them at the same moment.
    let runs =
        [(1, 5), (2, 7), (3, 7), (4, 9), (5, 3)].map(|(id, seconds)| (OperationId::new(id), at(seconds)));
    for (id, at) in runs {
        store.start_test(&world.org, id, &Selection::Matching(Filter::All), "all", at).await.unwrap();
    }
    let done = OperationId::new(2);
    store.set_operation_state(&world.lead, done, LongState::Done, None, at(20)).await.unwrap();
    for (live, expected) in [(false, &[4, 3, 2, 1, 5][..]), (true, &[4, 3, 1, 5])] {
        for size in 1..=6 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let rows = store.operations(&world.org, live, &page(after, size)).await.unwrap();
                seen.extend(rows.iter().map(|run| run.id.get()));
                let Some(last) = rows.last() else { break };
                after = Some(last.page_key());
            }
            assert_eq!(seen, expected, "live {live}, pages of {size}");
        }
    }
    let other = Org("other".to_owned());
    assert_eq!(store.operations(&other, false, &page(None, 9)).await.unwrap(), []);
    let oldest: Vec<u128> =
        store.live_operations(3).await.unwrap().into_iter().map(|run| run.id.get()).collect();
    assert_eq!(oldest, [5, 1, 3], "nobody is passed over for those that came later");
    let nonsense = store.operations(&world.org, false, &page(Some("nonsense".to_owned()), 9)).await;
    assert_eq!(refused(nonsense).0, Reason::PageTokenInvalid);
}

pub async fn held_profiles_wait(store: Arc<dyn Store>) {
    let (world, _) = approved(&store, 2).await;
    let other = store.create_profile(&profile(78, "Other"), &Secrets::default(), false).await.unwrap().id;
    store.create_mailboxes(&world.org, &[mailbox(3, Some(other))], at(0)).await.unwrap();
    let all = Selection::Matching(Filter::All);
    store.decide_approval(&world.org, &all, Approval::Approved, at(0)).await.unwrap();
    store.start_test(&world.org, RUN, &all, "all", at(1)).await.unwrap();
    assert_eq!(store.advance_test(&world.lead, RUN, 9, &[world.profile]).await.unwrap(), 1);
    let mut unended = store.unended_tests(RUN).await.unwrap();
    unended.sort_by_key(|tests| tests.waiting);
    let tests = |profile, running, waiting| UnendedTests { profile, running, waiting };
    assert_eq!(unended, [tests(other, 1, 0), tests(world.profile, 0, 2)]);
    let halted = Some(Reason::ProfileTestHalted);
    store.set_operation_state(&world.lead, RUN, LongState::Paused, halted, at(2)).await.unwrap();
    let run = store.operation(RUN).await.unwrap().unwrap();
    assert_eq!((run.state, run.reason, run.running, run.end_time), (LongState::Paused, halted, 1, None));
    assert_eq!(
        store.advance_test(&world.lead, RUN, 1, &[other]).await.unwrap(),
        1,
        "the next one is a canary"
    );
    store.set_operation_state(&world.lead, RUN, LongState::Running, None, at(3)).await.unwrap();
    assert_eq!(store.advance_test(&world.lead, RUN, 9, &[]).await.unwrap(), 1);
}

pub async fn canceling_takes_tests_back(store: Arc<dyn Store>) {
    let (world, claimed) = approved(&store, 4).await;
    store.start_test(&world.org, RUN, &Selection::Matching(Filter::All), "all", at(1)).await.unwrap();
    store.advance_test(&world.lead, RUN, 3, &[]).await.unwrap();
    let first = wanted(&store, &world).await[0].0;
    let mut fence = claimed.iter().find(|claimed| claimed.fence.mailbox == first).unwrap().fence;
    world.commit(&mut fence, ends(RUN, TestResult::Success, None)).await;
    store.set_operation_state(&world.lead, RUN, LongState::Canceled, None, at(5)).await.unwrap();
    assert_eq!(wanted(&store, &world).await, []);
    assert_eq!(store.advance_test(&world.lead, RUN, 9, &[]).await.unwrap(), 0);
    let run = store.operation(RUN).await.unwrap().unwrap();
    assert_eq!((run.state, run.running, run.succeeded), (LongState::Canceled, 0, 1));
    // A holder that had not heard of it yet changes nothing any more.
    let second = claimed.iter().find(|claimed| claimed.fence.mailbox != first).unwrap();
    let mut fence = second.fence;
    world.commit(&mut fence, ends(RUN, TestResult::Success, None)).await;
    assert_eq!(store.operation(RUN).await.unwrap().unwrap().succeeded, 1);
}

pub async fn two_tests_of_one_mailbox_follow_each_other(store: Arc<dyn Store>) {
    let (world, claimed) = approved(&store, 1).await;
    let next = OperationId::new(71);
    for run in [RUN, next] {
        store.start_test(&world.org, run, &Selection::Matching(Filter::All), "all", at(1)).await.unwrap();
    }
    assert_eq!(store.advance_test(&world.lead, RUN, 9, &[]).await.unwrap(), 1);
    assert_eq!(store.advance_test(&world.lead, next, 9, &[]).await.unwrap(), 0, "the mailbox is busy");
    let mut fence = claimed[0].fence;
    world.commit(&mut fence, ends(RUN, TestResult::Success, None)).await;
    assert_eq!(store.advance_test(&world.lead, next, 9, &[]).await.unwrap(), 1);
    assert_eq!(wanted(&store, &world).await, [(fence.mailbox, Some(next))]);
}

pub async fn a_mailbox_that_loses_its_profile_keeps_nobody_waiting(store: Arc<dyn Store>) {
    let (world, _) = approved(&store, 3).await;
    let all = Selection::Matching(Filter::All);
    store.start_test(&world.org, RUN, &all, "all", at(1)).await.unwrap();
    assert_eq!(store.advance_test(&world.lead, RUN, 1, &[]).await.unwrap(), 1);
    assert_eq!(store.want_polls(&world.org, &all).await.unwrap().wanted.len(), 3);
    for n in 1..=3 {
        let before = store.mailbox(mailbox(n, None).id).await.unwrap().unwrap();
        let after =
            store.update_mailbox(&mailbox(n, None), &AccountChange::Keep, before.revision).await.unwrap();
        assert_eq!((after.test_wanted, after.polls_wanted), (None, after.polls_done), "{n}");
    }
    let run = store.operation(RUN).await.unwrap().unwrap();
    assert_eq!((run.running, run.skipped), (0, 3), "one was handed out, two were not");
    let results = store.operation_results(RUN, 0, 9).await.unwrap();
    let reasons: Vec<_> = results.into_iter().map(|item| item.outcome.unwrap().reasons[0]).collect();
    assert_eq!(reasons, [Some(Reason::ProfileNotSet); 3]);
    let polls = store.want_polls(&world.org, &all).await.unwrap();
    let refused: Vec<_> =
        polls.refused.iter().map(|refused| (refused.mailbox.get(), refused.reason)).collect();
    assert_eq!(refused, [1, 2, 3].map(|n| (n, Reason::ProfileNotSet)));
    assert_eq!(
        (polls.wanted, store.mailbox(mailbox(1, None).id).await.unwrap().unwrap().polls_wanted),
        (vec![], 0)
    );
}
