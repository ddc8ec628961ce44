//! A store whose answers get lost, and what is held after each.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mailyard_policy::{
    Reason,
    alert::Fact,
    id::{Epoch, Incarnation, MailboxId, Nonce, Org, OutgoingId, ProfileId, UploadId},
    mailbox::Kept,
    operation::Method,
    outbox::Capabilities,
};
use mailyard_store::{
    Result,
    holder::{Claims, Committed, Inbound, Item, Lane, Located, Outgoing, SeenItem, Standing, Wanted},
};

use super::*;

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is made, and its answer is lost.
    MadeInDoubt,
    /// It is not made, and its answer is lost.
    NotMadeInDoubt,
    /// It is not made, and that is said.
    Refused,
}

/// One mailbox and one lane, and what was written of them; the next writings and questions go wrong as they are told.
#[derive(Debug)]
pub struct Doubtful {
    stored: Mutex<(Claimed, Vec<Commit>)>,
    lane: Mutex<(Option<Lane>, Vec<Fact>)>,
    fates: Mutex<Vec<Fate>>,
    deaf: Mutex<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone<T>() -> Result<T> {
    Err(StoreError::Unavailable("gone for a while".into()))
}

impl Doubtful {
    /// These fates in turn, then all goes well; after each lost answer it is deaf to so many questions.
    pub fn new(fates: &[Fate], deaf: u32) -> Arc<Self> {
        let mailbox = MailboxId::new(1);
        let claimed = Claimed {
            fence: Fence { mailbox, epoch: Epoch(1), nonce: Nonce::new(2), commit_ver: 7 },
            wanted: Wanted {
                revision: 1,
                org: Org::default(),
                address: "a@contoso.example".to_owned(),
                profile: None,
                methods: [Method::None; 3],
                barred: None,
                account: None,
                test: None,
                polls: 0,
                process_email_from: None,
                create_time: Timestamp::EPOCH,
            },
            kept: Kept::default(),
            cursor: None,
            start: None,
            has_inbound: false,
        };
        let fates = Mutex::new(fates.iter().rev().copied().collect());
        let (stored, lane) = (Mutex::new((claimed, Vec::new())), Mutex::default());
        Arc::new(Self { stored, lane, fates, deaf: Mutex::new(deaf) })
    }

    /// What is stored.
    pub fn holding(&self) -> Holding {
        lock(&self.stored).0.clone().into()
    }

    /// How many facts and cycles were written.
    pub fn written(&self) -> (usize, usize) {
        let commits = &lock(&self.stored).1;
        let facts = commits.iter().map(|commit| commit.facts.len()).sum();
        (facts, commits.iter().filter(|commit| commit.cycle.is_some()).count())
    }

    /// The lane is kept so, by an earlier writing.
    pub fn put_lane(&self, kept: Lane) {
        lock(&self.lane).0 = Some(kept);
    }

    /// The lane, and the facts that were written with it.
    pub fn kept_lane(&self) -> (Option<Lane>, Vec<Fact>) {
        lock(&self.lane).clone()
    }

    /// What happens to this writing, if anything does.
    fn fate(&self) -> Result<Option<Fate>> {
        let fate = lock(&self.fates).pop();
        if fate == Some(Fate::Refused) { gone() } else { Ok(fate) }
    }

    fn hear(&self) -> Result<()> {
        let mut deaf = lock(&self.deaf);
        if *deaf > 0 {
            *deaf -= 1;
            return gone();
        }
        Ok(())
    }
}

fn answer<T>(fate: Option<Fate>, written: T) -> Result<T> {
    match fate {
        Some(_) => Err(StoreError::InDoubt("the answer is lost".into())),
        None => Ok(written),
    }
}

#[async_trait]
impl Holder for Doubtful {
    async fn commit(&self, fence: &Fence, commit: Commit) -> Result<Committed> {
        let fate = self.fate()?;
        let mut stored = lock(&self.stored);
        let (claimed, commits) = &mut *stored;
        if claimed.fence != *fence {
            return Err(StoreError::Fenced);
        }
        if fate != Some(Fate::NotMadeInDoubt) {
            claimed.fence.commit_ver += 1;
            claimed.cursor = commit.cursor.clone();
            claimed.has_inbound |= commit.leaves_inbound();
            commits.push(commit);
        }
        answer(fate, Committed { fence: claimed.fence, new_records: 0, joined: 0 })
    }

    async fn reload(&self, _: &Fence) -> Result<Claimed> {
        self.hear()?;
        Ok(lock(&self.stored).0.clone())
    }

    async fn lane(&self, _: ProfileId, _: u16) -> Result<Option<Lane>> {
        self.hear()?;
        Ok(lock(&self.lane).0.clone())
    }

    async fn keep_lane(&self, _: ProfileId, _: u16, _: Epoch, kept: &Lane, facts: &[Fact]) -> Result<()> {
        let fate = self.fate()?;
        if fate != Some(Fate::NotMadeInDoubt) {
            let (lane, told) = &mut *lock(&self.lane);
            *lane = Some(kept.clone());
            told.extend_from_slice(facts);
        }
        answer(fate, ())
    }

    async fn claim(&self, _: Incarnation, _: u32) -> Result<Claims> {
        gone()
    }
    async fn claim_again(&self, _: Incarnation, _: &[MailboxId]) -> Result<Claims> {
        gone()
    }
    async fn standing(&self, _: Incarnation) -> Result<Vec<Standing>> {
        gone()
    }
    async fn unapplied(&self, _: Incarnation, _: u32) -> Result<Vec<(MailboxId, Wanted)>> {
        gone()
    }
    async fn inbound(&self, _: MailboxId, _: u32) -> Result<Vec<Inbound>> {
        gone()
    }
    async fn located(&self, _: MailboxId) -> Result<Option<Located>> {
        gone()
    }
    async fn known_tests(&self, _: &[OutgoingId]) -> Result<Vec<OutgoingId>> {
        gone()
    }
    async fn know_test(&self, _: MailboxId, _: OutgoingId, _: Timestamp) -> Result<()> {
        gone()
    }
    async fn upload(&self, _: UploadId, _: u32, _: Bytes, _: Timestamp) -> Result<()> {
        gone()
    }
    async fn sweep_uploads(&self, _: Timestamp) -> Result<u64> {
        gone()
    }
    async fn due_outgoing(&self, _: Incarnation, _: Timestamp, _: u32) -> Result<Vec<MailboxId>> {
        gone()
    }
    async fn outgoing(&self, _: MailboxId, _: Timestamp, _: u32) -> Result<Vec<Outgoing>> {
        gone()
    }
    async fn keep_capabilities(
        &self,
        _: ProfileId,
        _: Epoch,
        _: Option<&str>,
        _: &Capabilities,
    ) -> Result<()> {
        gone()
    }
}

fn page() -> Commit {
    let seen = ["a", "b"].map(|id| SeenItem { item_id: id.to_owned(), received: None });
    Commit { cursor: Some(Bytes::from_static(b"next")), seen: seen.into(), ..Commit::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_what_is_stored() {
    use Fate::{MadeInDoubt, NotMadeInDoubt, Refused};
    for (fates, made) in
        [(vec![], true), (vec![MadeInDoubt], true), (vec![NotMadeInDoubt], false), (vec![Refused], false)]
    {
        let store = Doubtful::new(&fates, 3);
        let mut holding = store.holding();
        let written = holding.write(&*store, page()).await;
        assert_eq!(written.is_ok(), made, "{fates:?}: {written:?}");
        assert!(!matches!(written, Err(StoreError::InDoubt(_))), "{fates:?}");
        assert_eq!(holding, store.holding(), "{fates:?}");
        assert_eq!((holding.cursor.is_some(), holding.has_inbound), (made, made), "{fates:?}");
    }
}

#[test]
fn rows_wait_for_what_has_no_end_yet() {
    let id = |id: &str| id.to_owned();
    let (drop, reason) = (|name: &str| Item::Drop { item_id: name.to_owned() }, Reason::ItemTransientError);
    let put_aside = |name: &str| Item::Quarantine { item_id: id(name), reason };
    for (items, waits) in [
        (vec![], true),
        (vec![drop("a")], true),
        (vec![drop("a"), drop("b")], false),
        (vec![drop("a"), put_aside("b")], false),
        (vec![drop("a"), drop("b"), Item::Again { item_id: id("c"), reason }], true),
        (vec![drop("a"), Item::Move { item_id: id("b"), reason, search_key: Bytes::new() }], true),
    ] {
        assert_eq!(Commit { items: items.clone(), ..page() }.leaves_inbound(), waits, "{items:?}");
    }
    assert!(!Commit::default().leaves_inbound());
}
