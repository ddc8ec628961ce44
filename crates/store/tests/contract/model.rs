//! Random histories against slow, obvious models.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use mailyard_policy::{Reason, alert::What, operation::State};
use mailyard_store::{
    Error, Store,
    holder::{Commit, Fence, InboundState, Item, SeenItem},
    people::{AccountChange, Secrets},
    query::Filter,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use crate::world::{World, at, kept, mailbox, message, page, profile, track};

/// What happens to one of three mailboxes.
#[derive(Clone, Debug)]
enum Act {
    See(Vec<u8>, u8),
    Track(Vec<u8>),
    Again(u8),
    Quarantine(u8),
    Replay(u8),
    Stale(u8),
    Forget,
}

/// What one mailbox must hold.
#[derive(Default)]
struct Model {
    cursor: Option<u8>,
    waiting: BTreeMap<u8, u32>,
    quarantined: BTreeSet<u8>,
    sighted: BTreeSet<u8>,
    /// Items that the alert book was told of.
    told: usize,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let item = 0..12_u8;
    let act = prop_oneof![
        3 => (prop::collection::vec(item.clone(), 0..6), any::<u8>()).prop_map(|(items, cursor)| Act::See(items, cursor)),
        3 => prop::collection::vec(item.clone(), 0..5).prop_map(Act::Track),
        1 => item.clone().prop_map(Act::Again),
        1 => item.clone().prop_map(Act::Quarantine),
        1 => item.clone().prop_map(Act::Replay),
        1 => item.prop_map(Act::Stale),
        1 => Just(Act::Forget),
    ];
    prop::collection::vec((0..3_usize, act), 60)
}

fn name(item: u8) -> String {
    format!("item-{item}")
}

impl Model {
    /// The same act, on the model and as a transaction; `None`: it is no fenced one.
    fn step(&mut self, act: &Act) -> Option<Commit> {
        Some(match act {
            Act::See(items, cursor) => {
                self.cursor = Some(*cursor);
                for item in items {
                    if !self.sighted.contains(item) && !self.quarantined.contains(item) {
                        self.waiting.entry(*item).or_insert(0);
                    }
                }
                let seen =
                    items.iter().map(|item| SeenItem { item_id: name(*item), received: None }).collect();
                Commit { seen, cursor: Some(Bytes::from(vec![*cursor])), ..Commit::default() }
            }
            Act::Track(items) => {
                for item in items {
                    self.sighted.insert(*item);
                    self.waiting.remove(item);
                    self.quarantined.remove(item);
                }
                // Items 6 to 11 are copies of the messages of 0 to 5.
                track(items.iter().map(|item| message(u128::from(item % 6), &name(*item))))
            }
            Act::Again(item) => {
                self.waiting.entry(*item).and_modify(|attempts| *attempts += 1);
                let item = Item::Again { item_id: name(*item), reason: Reason::ItemTransientError };
                Commit { items: vec![item], ..Commit::default() }
            }
            Act::Quarantine(item) => {
                if self.waiting.remove(item).is_some() {
                    self.quarantined.insert(*item);
                    self.told += 1;
                }
                let item = Item::Quarantine { item_id: name(*item), reason: Reason::ItemCorrupt };
                Commit { items: vec![item], ..Commit::default() }
            }
            Act::Forget => {
                self.cursor = None;
                Commit { forget_cursor: true, ..Commit::default() }
            }
            Act::Replay(item) => {
                if self.quarantined.remove(item) {
                    self.waiting.insert(*item, 0);
                }
                return None;
            }
            Act::Stale(_) => return None,
        })
    }
}

async fn check(
    store: &Arc<dyn Store>,
    world: &World,
    fence: &Fence,
    model: &Model,
    history: &[(usize, Act)],
) {
    let claimed = store.reload(fence).await.unwrap();
    assert_eq!(claimed.cursor.as_deref(), model.cursor.map(|cursor| vec![cursor]).as_deref(), "{history:?}");
    let rows = store.inbound(fence.mailbox, 100).await.unwrap();
    assert!(rows.iter().all(|row| row.state == InboundState::Seen));
    let waiting: BTreeMap<String, u32> = rows.into_iter().map(|row| (row.item_id, row.attempts)).collect();
    let expected: BTreeMap<String, u32> = model.waiting.iter().map(|(item, n)| (name(*item), *n)).collect();
    assert_eq!(waiting, expected, "{history:?}");
    let stuck = store.quarantined(&world.org, Some(fence.mailbox), &page(None, 100)).await.unwrap();
    let stuck: BTreeSet<String> = stuck.into_iter().map(|row| row.item_id).collect();
    assert_eq!(stuck, model.quarantined.iter().map(|item| name(*item)).collect(), "{history:?}");
}

pub async fn fenced_commits_follow_the_model(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 3).await;
    let mut runner = TestRunner::default();
    let mut fences: Vec<Fence> = claimed.iter().map(|claimed| claimed.fence).collect();
    let mut models = [Model::default(), Model::default(), Model::default()];
    for _ in 0..8 {
        let history = acts().new_tree(&mut runner).unwrap().current();
        for (place, act) in &history {
            let (fence, model) = (&mut fences[*place], &mut models[*place]);
            if let Act::Stale(item) = act {
                let stale = Fence { commit_ver: fence.commit_ver.wrapping_sub(1), ..*fence };
                let result = store.commit(&stale, track([message(99, &name(*item))])).await;
                assert!(matches!(result, Err(Error::Fenced)));
            } else if let Some(commit) = model.step(act) {
                world.commit(fence, commit).await;
            } else if let Act::Replay(item) = act {
                store.replay(fence.mailbox, &[name(*item)]).await.unwrap();
            }
            check(&store, &world, fence, model, &history).await;
        }
    }
    let messages: BTreeSet<u8> =
        models.iter().flat_map(|model| &model.sighted).map(|item| item % 6).collect();
    assert_eq!(world.emails(Filter::All).await.len(), messages.len());
    let facts = store.unbooked(10_000).await.unwrap();
    let failed = |what: &What| matches!(what, What::Quarantined(_));
    let told = facts.iter().filter(|unbooked| unbooked.fact.as_ref().is_ok_and(|fact| failed(&fact.what)));
    assert_eq!(told.count(), models.iter().map(|model| model.told).sum::<usize>());
}

pub async fn health_counts_are_always_what_a_recount_says(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let second = store.create_profile(&profile(78, "Second"), &Secrets::default(), false).await.unwrap().id;
    world.add(1..=6).await;
    world.grant_all(world.incarnation).await;
    let states = [State::Off, State::Enabled, State::Retrying { failures: 1 }, State::Disabled];
    let steps = prop::collection::vec((1..=6_u128, 0..4_usize, 0..8_u8), 120);
    let steps = steps.new_tree(&mut TestRunner::default()).unwrap().current();
    let mut fences = BTreeMap::new();
    for (number, state, kind) in steps {
        let id = mailbox(number, None).id;
        if kind == 0 {
            let now = store.mailbox(id).await.unwrap().unwrap();
            let profile = [Some(world.profile), Some(second), None][state % 3];
            store
                .update_mailbox(&mailbox(number, profile), &AccountChange::Keep, now.revision)
                .await
                .unwrap();
        } else if kind == 1 {
            let now = store.profile(second).await.unwrap().unwrap();
            let lanes = 1 + state as u16 * 3;
            store
                .update_profile(&mailyard_store::people::Profile { lanes, ..now }, &Secrets::default(), false)
                .await
                .unwrap();
        }
        world.grant_all(world.incarnation).await;
        for claimed in store.claim(world.incarnation, 100).await.unwrap().mailboxes {
            fences.insert(claimed.fence.mailbox, claimed.fence);
        }
        let commit = Commit { kept: Some(kept(states[state], State::Off)), at: at(1), ..Commit::default() };
        let fence = fences.get_mut(&id).expect("every mailbox is claimed");
        *fence = store.commit(fence, commit).await.unwrap().fence;
        assert_eq!(store.health_counts().await.unwrap(), store.recount_health().await.unwrap());
    }
}
