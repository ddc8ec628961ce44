//! Claims, fences, incoming items, and what else holders keep.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    discovery::{Found, Location, Miss},
    id::{self, Epoch, Incarnation, MailboxId, Nonce, Org, OutgoingId, ProfileId, Revision, UploadId},
    mailbox::Kept,
    operation::{Kind, State},
    outbox::Capabilities,
};
use mailyard_store::{
    Store,
    fleet::SoleHolder,
    holder::{Body, Claims, Commit, Cycle, Fence, InboundState, Item, Lane, Located, Place, SeenItem},
    people::{AccountChange, Approval, NewMailbox, Profile, Secrets, Selection},
    query::{Filter, Operator},
};

use crate::world::{
    KINDS, LONG, World, address, at, compare, fenced, kept, mailbox, message, page, profile, refused, track,
};

pub async fn claims_page_and_end(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    world.add(1..=25).await;
    assert_eq!(store.claim(world.incarnation, 10).await.unwrap().mailboxes, [], "nothing is granted yet");
    world.grant_all(world.incarnation).await;
    let mut seen = Vec::new();
    for expected in [10, 10, 5, 0] {
        let part = store.claim(world.incarnation, 10).await.unwrap().mailboxes;
        assert_eq!(part.len(), expected);
        seen.extend(part.iter().map(|claimed| claimed.fence.mailbox.get()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    world.add([26]).await;
    let late = store.claim(world.incarnation, 10).await.unwrap().mailboxes;
    assert_eq!(late.len(), 1, "a mailbox made later is claimed too");
    let (claimed, set) = (&late[0], mailbox(26, Some(world.profile)));
    assert_eq!((&claimed.wanted.address, claimed.wanted.methods), (&set.address, set.methods));
    assert_eq!(
        (claimed.wanted.barred, claimed.wanted.revision, claimed.cursor.clone()),
        (Some(Reason::MailboxNotApproved), 1, None)
    );
    assert_eq!((claimed.kept, claimed.start, claimed.has_inbound), (Kept::default(), None, false));
}

pub async fn of_two_claimers_the_later_grant_writes(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut old = claimed.remove(0).fence;
    world.commit(&mut old, Commit { cursor: Some(Bytes::from_static(b"one")), ..Commit::default() }).await;
    let lead = store.elect("next", LONG, Some(SoleHolder)).await.unwrap().unwrap();
    let next = World { lead, incarnation: Incarnation::new(2), ..world };
    store.register(&lead, &next.worker, next.incarnation, "b", LONG).await.unwrap();
    next.grant_all(next.incarnation).await;
    // The new owner has not claimed yet: what the old one still commits, the new one will read.
    next.commit(&mut old, Commit { cursor: Some(Bytes::from_static(b"two")), ..Commit::default() }).await;
    let claimed = store.claim(next.incarnation, 10).await.unwrap().mailboxes.remove(0);
    assert_eq!(claimed.cursor.as_deref(), Some(&b"two"[..]));
    fenced(&store.commit(&old, Commit::default()).await);
    fenced(&store.reload(&old).await);
    let mut new = claimed.fence;
    let start = Some(at(5));
    next.commit(&mut new, Commit { start, ..Commit::default() }).await;
    next.commit(&mut new, Commit::default()).await;
    next.commit(&mut new, Commit { forget_cursor: true, start, ..Commit::default() }).await;
    let again = store.reload(&new).await.unwrap();
    assert_eq!((again.cursor, again.start), (None, start));
    next.commit(&mut new, Commit { forget_cursor: true, ..Commit::default() }).await;
    assert_eq!(store.reload(&new).await.unwrap().start, None, "it was another mailbox's");
}

pub async fn a_stale_fence_writes_nothing(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let fence = claimed.remove(0).fence;
    let stale = [
        Fence { epoch: Epoch(fence.epoch.0 - 1), ..fence },
        Fence { epoch: Epoch(fence.epoch.0 + 1), ..fence },
        Fence { nonce: Nonce::new(4), ..fence },
        Fence { commit_ver: fence.commit_ver + 1, ..fence },
        Fence { mailbox: MailboxId::new(999), ..fence },
    ];
    for stale in stale {
        fenced(&store.commit(&stale, track([message(1, "i1")])).await);
    }
    let mut now = fence;
    world.commit(&mut now, track([message(1, "i1")])).await;
    fenced(&store.commit(&fence, track([message(2, "i2")])).await);
    assert_eq!(world.emails(Filter::All).await.len(), 1);
}

pub async fn mail_state_and_cycle_are_written_together_or_not_at_all(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let id = fence.mailbox;
    let cycle = Cycle {
        operation: Kind::Incoming,
        start: at(2),
        duration: Duration::from_millis(30),
        items: 2,
        outcome: "success",
        reason: None,
    };
    let kept = kept(State::Enabled, State::Enabled);
    let turn = |body: Option<Body>| {
        let mut last = message(2, "b");
        last.body = body.unwrap_or(last.body);
        Commit {
            cursor: Some(Bytes::from_static(b"next")),
            seen: seen(&[("a", None), ("b", None), ("c", None)]),
            kept: Some(kept),
            cycle: Some(cycle.clone()),
            facts: vec![Fact {
                regarding: Regarding::Mailbox(id),
                what: What::Recovered(Kind::Incoming),
                at: at(2),
            }],
            ..track([message(1, "a"), last])
        }
    };
    let nowhere = Body::Uploaded { upload: UploadId::new(9), hash: [9; 32], size: 9 };
    fenced(&store.commit(&Fence { commit_ver: fence.commit_ver + 1, ..fence }, turn(None)).await);
    assert_eq!(refused(store.commit(&fence, turn(Some(nowhere))).await).0, Reason::FieldInvalid);
    let claimed = store.reload(&fence).await.unwrap();
    assert_eq!((claimed.fence, claimed.kept, claimed.cursor), (fence, Kept::default(), None));
    assert_eq!(store.cycles(id).await.unwrap(), []);
    assert_eq!((store.unbooked(10).await.unwrap().len(), store.inbound(id, 10).await.unwrap().len()), (0, 0));
    assert_eq!(world.emails(Filter::All).await, []);

    world.commit(&mut fence, turn(None)).await;
    let claimed = store.reload(&fence).await.unwrap();
    assert_eq!((claimed.fence, claimed.kept, claimed.has_inbound), (fence, kept, true));
    assert_eq!(claimed.cursor.as_deref(), Some(&b"next"[..]));
    assert_eq!(store.cycles(id).await.unwrap(), [cycle]);
    assert_eq!(store.unbooked(10).await.unwrap().len(), 1);
    let waiting = store.inbound(id, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|row| row.item_id.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(world.emails(Filter::All).await.len(), 2);
    assert_eq!(store.health_counts().await.unwrap()[0].ok, 1, "the health moved with it");
}

pub async fn a_transaction_may_be_large(store: Arc<dyn Store>) {
    let (_world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let fence = claimed.remove(0).fence;
    let name = |n: u128| format!("item-{n:05}");
    let page = (0..2_500).map(|n| SeenItem { item_id: name(n), received: None }).collect();
    let fence = store.commit(&fence, Commit { seen: page, ..Commit::default() }).await.unwrap().fence;
    // Of each two neighbours the second is a copy of the first.
    let items = (0..2_200).map(|n| message(n / 2, &name(n)));
    let tracked = store.commit(&fence, track(items)).await.unwrap();
    assert_eq!((tracked.new_records, tracked.joined), (1_100, 1_100));
    let again =
        store.commit(&tracked.fence, track((0..2_200).map(|n| message(n / 2, &name(n))))).await.unwrap();
    assert_eq!((again.new_records, again.joined), (0, 0), "all of it is known");
    assert_eq!(store.inbound(fence.mailbox, 10_000).await.unwrap().len(), 300);
}

pub async fn a_released_shard_is_claimed_with_what_was_kept(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let kept = kept(State::Enabled, State::Retrying { failures: 3 });
    let seen = vec![SeenItem { item_id: "a".to_owned(), received: Some(at(1)) }];
    let all = Commit {
        cursor: Some(Bytes::from_static(b"sync state")),
        start: Some(at(-9)),
        kept: Some(kept),
        seen,
        ..Commit::default()
    };
    world.commit(&mut fence, all).await;
    let grant = store.held(world.incarnation).await.unwrap()[0];
    store.release(world.incarnation, &[(grant.shard, grant.epoch)]).await.unwrap();
    world.grant_all(world.incarnation).await;
    let again = store.claim(world.incarnation, 10).await.unwrap().mailboxes.remove(0);
    assert!(again.fence.epoch > fence.epoch && again.fence.commit_ver == fence.commit_ver);
    assert_eq!((again.kept, again.start, again.has_inbound), (kept, Some(at(-9)), true));
    assert_eq!(again.cursor.as_deref(), Some(&b"sync state"[..]));
}

pub async fn an_unknown_outcome_is_read_again(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let fence = claimed.remove(0).fence;
    // It landed, and its answer was lost.
    store.commit(&fence, track([message(1, "i1")])).await.unwrap();
    let mut now = store.reload(&fence).await.unwrap().fence;
    assert_eq!(now, Fence { commit_ver: fence.commit_ver + 1, ..fence });
    fenced(&store.commit(&fence, track([message(1, "i1")])).await);
    world.commit(&mut now, track([message(1, "i1")])).await;
    assert_eq!(world.emails(Filter::All).await.len(), 1, "doing it again does no harm");
}

pub async fn a_mailbox_that_moves_is_taken_from_its_holder(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let other = store.create_profile(&profile(78, "Other"), &Secrets::default(), false).await.unwrap();
    world
        .commit(&mut fence, Commit { kept: Some(kept(State::Enabled, State::Enabled)), ..Commit::default() })
        .await;
    let before = store.mailbox(fence.mailbox).await.unwrap().unwrap();
    let set = mailbox(1, Some(other.id));
    let moved = store.update_mailbox(&set, &AccountChange::Keep, before.revision).await.unwrap();
    assert_ne!(moved.shard, before.shard);
    fenced(&store.commit(&fence, Commit::default()).await);
    assert_eq!(store.health_counts().await.unwrap(), store.recount_health().await.unwrap());
    assert_eq!(store.health_counts().await.unwrap()[1].ok, 1, "it is counted with its new profile");
    world.grant_all(world.incarnation).await;
    let claimed = store.claim(world.incarnation, 10).await.unwrap().mailboxes.remove(0);
    assert_eq!(claimed.wanted.profile, Some(other.id));
    assert_eq!(
        refused(store.update_mailbox(&set, &AccountChange::Keep, before.revision).await).0,
        Reason::EtagMismatch
    );
}

pub async fn a_claim_made_again_takes_the_mailbox_from_the_former_one(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let [mut one, mut two] = [claimed[0].fence, claimed[1].fence];
    world.commit(&mut one, Commit { cursor: Some(Bytes::from_static(b"one")), ..Commit::default() }).await;
    let again = store.claim_again(world.incarnation, &[one.mailbox]).await.unwrap().mailboxes.remove(0);
    assert_eq!((again.fence.epoch, again.fence.commit_ver), (one.epoch, one.commit_ver));
    assert_eq!(again.cursor.as_deref(), Some(&b"one"[..]));
    fenced(&store.commit(&one, Commit::default()).await);
    fenced(&store.reload(&one).await);
    one = again.fence;
    world.commit(&mut one, Commit::default()).await;
    world.commit(&mut two, Commit::default()).await;
    let standing = async |incarnation| {
        let mut standing = store.standing(incarnation).await.unwrap();
        standing.sort_by_key(|standing| standing.mailbox);
        standing.into_iter().map(|standing| (standing.mailbox, standing.nonce)).collect::<Vec<_>>()
    };
    let both = [(one.mailbox, one.nonce), (two.mailbox, two.nonce)];
    assert_eq!(standing(world.incarnation).await, both);
    let stranger = Incarnation::new(9);
    assert_eq!(standing(stranger).await, []);
    assert_eq!(store.claim_again(stranger, &[one.mailbox]).await.unwrap(), Claims::default());
    // A grant that is asked back stands until it is released, and brings nothing new.
    let grant = store.held(world.incarnation).await.unwrap()[0];
    store.revoke(&world.lead, &[(grant.shard, grant.epoch)]).await.unwrap();
    assert_eq!(standing(world.incarnation).await, both);
    assert_eq!(store.claim_again(world.incarnation, &[one.mailbox]).await.unwrap(), Claims::default());
    store.release(world.incarnation, &[(grant.shard, grant.epoch)]).await.unwrap();
    assert_eq!(standing(world.incarnation).await, []);
}

pub async fn another_profile_takes_a_mailbox_from_its_holder_even_in_the_same_shard(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let fence = claimed.remove(0).fence;
    let before = store.mailbox(fence.mailbox).await.unwrap().unwrap();
    let neighbour =
        (100..100_000).find(|n| id::shard(ProfileId::new(*n), fence.mailbox, 1) == before.shard).unwrap();
    let other =
        store.create_profile(&profile(neighbour, "Neighbour"), &Secrets::default(), false).await.unwrap().id;
    let moved =
        store.update_mailbox(&mailbox(1, Some(other)), &AccountChange::Keep, before.revision).await.unwrap();
    assert_eq!(moved.shard, before.shard);
    fenced(&store.commit(&fence, Commit::default()).await);
    assert_eq!(store.standing(world.incarnation).await.unwrap(), []);
    let again = store.claim(world.incarnation, 10).await.unwrap().mailboxes.remove(0);
    assert_eq!((again.wanted.profile, again.fence.epoch), (Some(other), fence.epoch));
    fenced(&store.reload(&fence).await);
    let renamed = NewMailbox { display_name: "Renamed".to_owned(), ..mailbox(1, Some(other)) };
    store.update_mailbox(&renamed, &AccountChange::Keep, moved.revision).await.unwrap();
    store.commit(&again.fence, Commit::default()).await.expect("a new name moves nothing");
}

pub async fn mailboxes_without_a_profile_hide_nobodys_wishes(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let without: Vec<NewMailbox> = (1..=40).map(|n| mailbox(n, None)).collect();
    store.create_mailboxes(&world.org, &without, at(0)).await.unwrap();
    world.add([99]).await;
    world.grant_all(world.incarnation).await;
    assert_eq!(store.claim(world.incarnation, 100).await.unwrap().mailboxes.len(), 41);
    for _ in 0..3 {
        let wishes = store.unapplied(world.incarnation, 1).await.unwrap();
        assert_eq!(wishes.iter().map(|(id, _)| id.get()).collect::<Vec<_>>(), [99]);
    }
    let standing = store.standing(world.incarnation).await.unwrap();
    assert_eq!(standing.iter().map(|standing| standing.mailbox.get()).collect::<Vec<_>>(), [99]);
}

fn seen(items: &[(&str, Option<Timestamp>)]) -> Vec<SeenItem> {
    items.iter().map(|(id, received)| SeenItem { item_id: (*id).to_owned(), received: *received }).collect()
}

pub async fn a_place_is_kept_with_its_attempts(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 2).await;
    let stale = claimed.remove(0).fence;
    let mut fence = stale;
    assert_eq!(store.located(fence.mailbox).await.unwrap(), None);
    let missed = Miss { at: at(1), reason: Reason::ProfileDnsFailed, times: 1, back_off: None };
    let place = Place {
        location: Location { missed: Some(missed), ..Location::default() },
        profile: (world.profile, Revision(1)),
        account: Revision(4),
    };
    let attempts = Some(vec!["soap https://a.example failed".to_owned(), "srv b.example failed".to_owned()]);
    let nothing = Located { place: place.clone(), attempts: attempts.clone() };
    world.commit(&mut fence, Commit { located: Some(nothing.clone()), ..Commit::default() }).await;
    assert_eq!(store.located(fence.mailbox).await.unwrap(), Some(nothing));
    let url = "https://mail.example/EWS".to_owned();
    let location = Location { found: Some(Found { url, at: at(2), doubted: true }), missed: None };
    let found = Place { location, ..place };
    let doubted = Located { place: found.clone(), attempts: None };
    world.commit(&mut fence, Commit { located: Some(doubted.clone()), ..Commit::default() }).await;
    let kept = store.located(fence.mailbox).await.unwrap();
    assert_eq!(kept, Some(Located { place: found, attempts }), "what was asked stays");
    fenced(&store.commit(&stale, Commit { located: Some(doubted), ..Commit::default() }).await);
    assert_eq!(store.located(claimed[0].fence.mailbox).await.unwrap(), None, "another mailbox has none");
}

pub async fn seen_items_are_added_once(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 2).await;
    let mut fence = claimed.remove(0).fence;
    world.commit(&mut fence, track([message(1, "done")])).await;
    let page = seen(&[("late", Some(at(5))), ("early", Some(at(2))), ("done", None), ("Early", Some(at(3)))]);
    world.commit(&mut fence, Commit { seen: page.clone(), ..Commit::default() }).await;
    world.commit(&mut fence, Commit { seen: page, ..Commit::default() }).await;
    let inbound = store.inbound(fence.mailbox, 10).await.unwrap();
    let ids: Vec<_> = inbound.iter().map(|row| row.item_id.as_str()).collect();
    assert_eq!(
        ids,
        ["early", "Early", "late"],
        "oldest first, ids differ by case, what was sighted stays out"
    );
    assert!(inbound.iter().all(|row| row.state == InboundState::Seen && row.attempts == 0));
    assert_eq!(store.inbound(claimed[0].fence.mailbox, 10).await.unwrap(), [], "another mailbox has none");
    // A small page may be seen and tracked in one transaction.
    let both = Commit { seen: seen(&[("x", None)]), ..track([message(2, "x"), message(3, "early")]) };
    world.commit(&mut fence, both).await;
    assert_eq!(store.inbound(fence.mailbox, 10).await.unwrap().len(), 2);
}

pub async fn one_mail_in_fifty_mailboxes_is_one_record(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 50).await;
    let mut tasks = Vec::new();
    for claimed in claimed {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let item = format!("item-{}", claimed.fence.mailbox);
            store.commit(&claimed.fence, Commit { at: at(1), ..track([message(1, &item)]) }).await.unwrap()
        }));
    }
    let (mut new, mut joined) = (0, 0);
    for task in tasks {
        let committed = task.await.unwrap();
        new += committed.new_records;
        joined += committed.joined;
    }
    assert_eq!((new, joined), (1, 49));
    let emails = world.emails(Filter::All).await;
    assert_eq!((emails.len(), emails[0].mailboxes.len()), (1, 50));
    let of_seven = world.emails(compare("mailbox", Operator::Equal, &*address(7).to_uppercase())).await;
    assert_eq!(of_seven, emails);
}

pub async fn another_mail_with_the_same_id_is_told_apart(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    world.commit(&mut fence, track([message(1, "a")])).await;
    let mut forged = message(1, "b");
    forged.head.from = "other@fabrikam.example".to_owned();
    let mut same = message(1, "c");
    same.head.from = same.head.from.to_uppercase();
    world.commit(&mut fence, track([forged.clone(), same])).await;
    assert_eq!(world.emails(Filter::All).await.len(), 2);
    let facts = store.unbooked(10).await.unwrap();
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0].fact.clone().unwrap().what, What::MessageIdReused);
    assert_eq!(facts[0].fact.clone().unwrap().regarding, Regarding::Email(forged.record));
    forged.item_id = "d".to_owned();
    let again = store.commit(&fence, track([forged])).await.unwrap();
    assert_eq!((again.new_records, again.joined), (0, 1), "the second one is found again");
}

pub async fn an_item_is_tracked_once(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let twice =
        store.commit(&fence, track([message(1, "a"), message(2, "a"), message(3, "b")])).await.unwrap();
    assert_eq!((twice.new_records, twice.joined), (2, 0));
    fence = twice.fence;
    let again = store.commit(&fence, track([message(4, "a")])).await.unwrap();
    assert_eq!((again.new_records, again.joined), (0, 0));
    assert_eq!(world.emails(Filter::All).await.len(), 2);
}

pub async fn items_fail_move_and_come_back(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let mailbox = fence.mailbox;
    let id = |id: &str| id.to_owned();
    let key = Bytes::from_static(b"search");
    let (again, bad) = (Reason::ItemTransientError, Reason::ItemCorrupt);
    world
        .commit(
            &mut fence,
            Commit { seen: seen(&[("a", None), ("b", None), ("c", None), ("d", None)]), ..Commit::default() },
        )
        .await;
    let items = vec![
        Item::Again { item_id: id("a"), reason: again },
        Item::Quarantine { item_id: id("b"), reason: bad },
        Item::Move { item_id: id("c"), reason: bad, search_key: key.clone() },
        Item::Drop { item_id: id("d") },
    ];
    world.commit(&mut fence, Commit { items, ..Commit::default() }).await;
    let rows = store.inbound(mailbox, 10).await.unwrap();
    assert_eq!((rows[0].item_id.as_str(), rows[0].attempts, &rows[0].state), ("a", 1, &InboundState::Seen));
    let moving = InboundState::Moving { reason: bad, search_key: key };
    assert_eq!((rows.len(), &rows[1].state), (2, &moving));
    let again = Item::Again { item_id: id("c"), reason: bad };
    world.commit(&mut fence, Commit { items: vec![again], ..Commit::default() }).await;
    let rows = store.inbound(mailbox, 10).await.unwrap();
    assert_eq!(
        (rows[1].attempts, &rows[1].state),
        (2, &moving),
        "a move that failed is still to be carried out"
    );
    world
        .commit(
            &mut fence,
            Commit { items: vec![Item::Moved { item_id: id("c"), moved_id: id("c2") }], ..Commit::default() },
        )
        .await;
    let failed = store.quarantined(&world.org, Some(mailbox), &page(None, 10)).await.unwrap();
    let told: Vec<_> =
        failed.iter().map(|row| (row.item_id.as_str(), row.moved, row.reason, row.attempts)).collect();
    assert_eq!(told, [("b", false, bad, 1), ("c2", true, bad, 2)]);

    let wanted = store.mailbox(mailbox).await.unwrap().unwrap().polls_wanted;
    assert_eq!(store.replay(mailbox, &[id("c2"), id("nowhere")]).await.unwrap(), 1);
    assert_eq!(store.mailbox(mailbox).await.unwrap().unwrap().polls_wanted, wanted + 1);
    let rows = store.inbound(mailbox, 10).await.unwrap();
    assert_eq!((rows[0].item_id.as_str(), rows[0].attempts, &rows[0].state), ("c2", 0, &InboundState::Seen));
    world.commit(&mut fence, track([message(9, "c2")])).await;
    assert_eq!(world.emails(Filter::All).await.len(), 1);
    assert_eq!(store.replay(mailbox, &[id("c2")]).await.unwrap(), 0, "it is tracked now");
}

pub async fn the_quarantine_is_paged(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 3).await;
    for claimed in claimed {
        let mut fence = claimed.fence;
        let ids = ["x", "y", "z"];
        let items =
            ids.map(|id| Item::Quarantine { item_id: id.to_owned(), reason: Reason::ItemCorrupt }).into();
        world
            .commit(&mut fence, Commit { seen: seen(&ids.map(|id| (id, None))), items, ..Commit::default() })
            .await;
    }
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let part = store.quarantined(&world.org, None, &page(after, 2)).await.unwrap();
        let Some(last) = part.last() else { break };
        after = Some(last.page_key());
        all.extend(part.into_iter().map(|row| (row.address, row.item_id)));
    }
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((all.len(), &all), (9, &sorted));
    assert_eq!(store.quarantined(&Org("other".to_owned()), None, &page(None, 9)).await.unwrap(), []);
}

pub async fn wishes_reach_the_holder_until_applied(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 3).await;
    let mut fence = claimed.remove(0).fence;
    assert_eq!(store.unapplied(world.incarnation, 10).await.unwrap().len(), 3, "nobody applied anything yet");
    assert_eq!(store.unapplied(world.incarnation, 2).await.unwrap().len(), 2);
    let apply = |revision| Commit {
        kept: Some(mailyard_policy::mailbox::Kept {
            wanted_seen: revision,
            ..kept(State::Untested, State::Untested)
        }),
        ..Commit::default()
    };
    world.commit(&mut fence, apply(1)).await;
    let pending = |list: Vec<(MailboxId, _)>| {
        list.into_iter().find(|(id, _)| *id == fence.mailbox).map(|found| found.1)
    };
    assert_eq!(pending(store.unapplied(world.incarnation, 10).await.unwrap()), None);
    let one = Selection::Addresses(vec![address(1).to_lowercase()]);
    store.decide_approval(&world.org, &one, Approval::Approved, at(3)).await.unwrap();
    assert_eq!(store.want_polls(&world.org, &one).await.unwrap().wanted, [fence.mailbox]);
    let wanted = pending(store.unapplied(world.incarnation, 10).await.unwrap()).expect("two wishes");
    assert_eq!((wanted.revision, wanted.barred, wanted.polls), (3, None, 1));
    assert_eq!(store.unapplied(Incarnation::new(99), 10).await.unwrap(), []);
    // Nobody needs approval any more: each holder is told.
    let settings = store.settings(&world.org).await.unwrap();
    let open = mailyard_store::people::Settings { approve_users: false, ..settings };
    store.update_settings(&world.org, &open).await.unwrap();
    let all = store.unapplied(world.incarnation, 10).await.unwrap();
    assert!(all.len() == 3 && all.iter().all(|(_, wanted)| wanted.barred.is_none()));
}

pub async fn the_last_cycles_are_kept(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    for n in 0..20_u32 {
        let cycle = Cycle {
            operation: KINDS[n as usize % 2],
            start: at(n.into()),
            duration: Duration::from_millis(n.into()),
            items: n,
            outcome: if n % 3 == 0 { "transient" } else { "success" },
            reason: (n % 3 == 0).then_some(Reason::MailboxUnavailable),
        };
        world.commit(&mut fence, Commit { cycle: Some(cycle), ..Commit::default() }).await;
        world.commit(&mut fence, Commit::default()).await;
    }
    let cycles = store.cycles(fence.mailbox).await.unwrap();
    assert_eq!(cycles.iter().map(|cycle| cycle.items).collect::<Vec<_>>(), (4..20).rev().collect::<Vec<_>>());
    let eighteenth = &cycles[1];
    assert_eq!((eighteenth.outcome, eighteenth.operation), ("transient", Kind::Incoming));
    assert_eq!((eighteenth.reason, eighteenth.duration.as_millis()), (Some(Reason::MailboxUnavailable), 18));
}

pub async fn lanes_are_kept_by_the_last_grant(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let kept = Lane {
        breaker: "open".to_owned(),
        open: Some(Reason::ProfileAuthRejected),
        throttle: "t".to_owned(),
    };
    assert_eq!(store.lane(world.profile, 0).await.unwrap(), None);
    store.keep_lane(world.profile, 0, Epoch(5), &kept, &[]).await.unwrap();
    store.keep_lane(world.profile, 0, Epoch(5), &kept, &[]).await.unwrap();
    let late = Lane { open: None, ..kept.clone() };
    fenced(&store.keep_lane(world.profile, 0, Epoch(4), &late, &[]).await);
    assert_eq!(store.lane(world.profile, 0).await.unwrap(), Some(kept));
    assert_eq!(store.lane(world.profile, 1).await.unwrap(), None);
    let known =
        Capabilities { consumes_draft: Some(true), checks_change_key: None, moved_id_dies: Some(false) };
    let before = store.profile(world.profile).await.unwrap().unwrap();
    let url = before.outgoing_url.as_deref();
    fenced(&store.keep_capabilities(world.profile, Epoch(4), url, &known).await);
    fenced(&store.keep_capabilities(world.profile, Epoch(6), Some("https://another.example/"), &known).await);
    store.keep_capabilities(world.profile, Epoch(6), url, &known).await.unwrap();
    let profile = store.profile(world.profile).await.unwrap().unwrap();
    assert_eq!(profile.capabilities, known);
    let same = store.update_profile(&profile, &Secrets::default(), false).await.unwrap();
    assert_eq!(same.capabilities, known, "people do not change it");
    let moved =
        Profile { outgoing_url: Some("https://another.example/EWS/Exchange.asmx".to_owned()), ..same };
    let moved = store.update_profile(&moved, &Secrets::default(), false).await.unwrap();
    assert_eq!(moved.capabilities, Capabilities::default(), "another server sends in its own way");
}

pub async fn known_tests_are_told(store: Arc<dyn Store>) {
    let (_world, claimed) = World::with_mailboxes(store.clone(), 1).await;
    let [a, b] = [1, 2].map(OutgoingId::new);
    store.know_test(claimed[0].fence.mailbox, a, at(1)).await.unwrap();
    store.know_test(claimed[0].fence.mailbox, a, at(2)).await.unwrap();
    assert_eq!(store.known_tests(&[a, b]).await.unwrap(), [a]);
    assert_eq!(store.known_tests(&[]).await.unwrap(), []);
}
