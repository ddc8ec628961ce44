//! Leadership, leases and shards.

use std::{collections::HashSet, sync::Arc, time::Duration};

use mailyard_policy::id::{Epoch, Incarnation, Nonce, ShardId, WorkerId};
use mailyard_store::{
    Store,
    fleet::{Leadership, SoleHolder, WorkerState},
};

use crate::world::{LONG, World, fenced};

pub async fn one_leads_at_a_time(store: Arc<dyn Store>) {
    let first = store.elect("a", LONG, None).await.unwrap().expect("nobody led");
    assert_eq!(store.elect("b", LONG, None).await.unwrap(), None);
    store.renew_leadership(&first, Duration::ZERO).await.unwrap();
    let second = loop {
        if let Some(lead) = store.elect("b", LONG, None).await.unwrap() {
            break lead;
        }
    };
    assert!(second.term > first.term && second.nonce != first.nonce);
    fenced(&store.renew_leadership(&first, LONG).await);
    fenced(&store.renew_leadership(&Leadership { nonce: Nonce::new(1), ..second }, LONG).await);
}

pub async fn a_deposed_leader_changes_nothing(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let old = world.lead;
    store.elect("two", LONG, Some(SoleHolder)).await.unwrap().unwrap();
    let shard = ShardId::new(5).unwrap();
    fenced(&store.register(&old, &world.worker, Incarnation::new(9), "b", LONG).await);
    fenced(&store.grant(&old, (&world.worker, world.incarnation), &[(shard, Epoch(0))]).await);
    fenced(&store.revoke(&old, &[(shard, Epoch(0))]).await);
    fenced(&store.declare_dead(&old, Duration::ZERO).await);
    fenced(&store.publish(&old, 1).await);
    assert!(store.shards().await.unwrap().is_empty() && store.workers().await.unwrap().is_empty());
}

pub async fn leases_end_and_the_dead_stay_dead(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add([1]).await;
    let short = Incarnation::new(2);
    let worker = WorkerId("w2".to_owned());
    store.register(&world.lead, &worker, short, "b", Duration::ZERO).await.unwrap();
    world.grant_all(short).await;
    assert_eq!(world.grant_all(short).await, [], "the worker's name must be the incarnation's");
    let free: Vec<_> = store.shards().await.unwrap().iter().map(|shard| (shard.shard, shard.epoch)).collect();
    let granted = store.grant(&world.lead, (&worker, short), &free).await.unwrap();
    assert_eq!((granted.len(), store.held(short).await.unwrap()), (1, granted.clone()));

    assert_eq!(store.declare_dead(&world.lead, LONG).await.unwrap(), [], "its grace has not ended");
    let dead = loop {
        let dead = store.declare_dead(&world.lead, Duration::ZERO).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
    };
    assert_eq!(dead, [short]);
    assert!(store.shards().await.unwrap().iter().all(|shard| shard.owner.is_none()));
    assert!(
        store.held(short).await.unwrap().is_empty()
            && store.claim(short, 10).await.unwrap().mailboxes.is_empty()
    );
    fenced(&store.renew_lease(short, LONG).await);
    fenced(&store.drain(short).await);
    fenced(&store.register(&world.lead, &worker, short, "b", LONG).await);
    let left: Vec<_> = store.workers().await.unwrap().into_iter().map(|worker| worker.incarnation).collect();
    assert_eq!(left, [world.incarnation]);
}

pub async fn grants_are_compared_with_what_was_seen(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let to = (&world.worker, world.incarnation);
    let [a, b] = [7, 8].map(|shard| ShardId::new(shard).unwrap());
    let first = store.grant(&world.lead, to, &[(a, Epoch(0)), (b, Epoch(99))]).await.unwrap();
    assert_eq!(first.iter().map(|grant| grant.shard).collect::<Vec<_>>(), [a], "b was never at 99");
    assert_eq!(store.grant(&world.lead, to, &[(a, first[0].epoch)]).await.unwrap(), [], "a is owned");
    let second = store.grant(&world.lead, to, &[(b, Epoch(0))]).await.unwrap();
    assert!(second[0].epoch > first[0].epoch, "numbers rise over all shards");
    assert_ne!(second[0].nonce, first[0].nonce);
    store.drain(world.incarnation).await.unwrap();
    assert_eq!(store.workers().await.unwrap()[0].state, WorkerState::Draining);
    let c = ShardId::new(9).unwrap();
    assert_eq!(store.grant(&world.lead, to, &[(c, Epoch(0))]).await.unwrap(), [], "it goes away");
    store.renew_lease(world.incarnation, LONG).await.unwrap();
}

pub async fn shards_are_revoked_and_released_by_their_owner(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add([1]).await;
    let grant = world.grant_all(world.incarnation).await[0];
    store.revoke(&world.lead, &[(grant.shard, Epoch(grant.epoch.0 + 1))]).await.unwrap();
    assert!(!store.held(world.incarnation).await.unwrap()[0].revoking, "another grant was meant");
    store.revoke(&world.lead, &[(grant.shard, grant.epoch)]).await.unwrap();
    assert!(store.held(world.incarnation).await.unwrap()[0].revoking);
    assert_eq!(
        store.claim(world.incarnation, 10).await.unwrap().mailboxes,
        [],
        "a revoked shard is not claimed any more"
    );
    let other = Incarnation::new(3);
    store.release(other, &[(grant.shard, grant.epoch)]).await.unwrap();
    assert_eq!(store.held(world.incarnation).await.unwrap().len(), 1, "another's word frees nothing");
    store.release(world.incarnation, &[(grant.shard, grant.epoch)]).await.unwrap();
    assert_eq!(store.held(world.incarnation).await.unwrap(), []);
    assert_eq!(world.grant_all(world.incarnation).await.len(), 1);
}

pub async fn the_sole_holder_begins_at_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add(1..=3).await;
    let before: HashSet<Epoch> =
        world.grant_all(world.incarnation).await.iter().map(|grant| grant.epoch).collect();
    let lead = store.elect("next", LONG, Some(SoleHolder)).await.unwrap().expect("the proof is enough");
    assert!(lead.term > world.lead.term);
    assert_eq!(store.workers().await.unwrap(), []);
    fenced(&store.renew_lease(world.incarnation, LONG).await);
    let next = World { lead, incarnation: Incarnation::new(2), ..world };
    store.register(&lead, &next.worker, next.incarnation, "b", LONG).await.unwrap();
    let after = next.grant_all(next.incarnation).await;
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|grant| before.iter().all(|old| grant.epoch > *old)), "epochs rise");
    assert_eq!(store.claim(next.incarnation, 10).await.unwrap().mailboxes.len(), 3);
}
