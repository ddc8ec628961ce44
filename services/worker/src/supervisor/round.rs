//! One look of the supervisor at the store, beside the actor.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use mailyard_policy::id::{self, Epoch, Incarnation, MailboxId, ProfileId};
use mailyard_store::{
    Error as StoreError,
    holder::{Claimed, Claims, Standing, Wanted},
    people::Profile,
};
use ractor::ActorRef;
use tokio::task::AbortHandle;
use tracing::Span;

use super::Message;
use crate::{
    lane::{Lane, Signal},
    shared::Shared,
    watch,
};

/// Mailboxes of one claim: what they take up on their way stays with the process.
const CLAIMED_AT_ONCE: usize = 128;
/// Wishes, and mailboxes with something to send, of one round.
const WISHES_AT_ONCE: u32 = 500;

/// What a round found in the store.
pub struct Found {
    /// Mailboxes that were claimed, and their lanes; none, where there is no profile.
    pub(super) claimed: Vec<(Claimed, Option<Arc<Lane>>)>,
    /// Everything that is claimed, if it was asked for.
    pub(super) standing: Option<Vec<Standing>>,
    pub(super) wanted: Vec<(MailboxId, Wanted)>,
    pub(super) outgoing: Vec<MailboxId>,
    pub(super) changed_profiles: bool,
    pub(super) lanes: Lanes,
    /// Something may be claimed that is not told here.
    pub(super) unsure: bool,
    /// There may be more to claim.
    pub(super) more: bool,
    pub(super) cause: Span,
}

/// The lanes that this process has opened.
pub(super) type Lanes = HashMap<(ProfileId, u16), OpenLane>;

pub(super) struct OpenLane {
    lane: Arc<Lane>,
    epoch: Epoch,
    tasks: [AbortHandle; 2],
}

impl OpenLane {
    /// Somebody else holds it from now on.
    pub(super) fn end(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One look at the store, beside the actor.
pub(super) struct Round {
    pub(super) shared: Arc<Shared>,
    pub(super) incarnation: Incarnation,
    pub(super) myself: ActorRef<Message>,
    /// Everything that is claimed is asked for.
    pub(super) compare: bool,
    /// Claimed, and not held.
    pub(super) lost: Vec<Standing>,
}

/// What this round has learnt of profiles and lanes, so that each is asked for once.
#[derive(Default)]
struct Learnt {
    profiles: HashMap<ProfileId, Result<Option<Profile>, Shut>>,
    /// Lanes that cannot be opened now.
    shut: HashSet<(ProfileId, u16)>,
}

impl Round {
    pub(super) async fn run(self, lanes: Lanes, cause: Span) -> Found {
        let mut found = Found {
            claimed: Vec::new(),
            standing: None,
            wanted: Vec::new(),
            outgoing: Vec::new(),
            changed_profiles: false,
            lanes,
            unsure: false,
            more: false,
            cause,
        };
        if let Err(error) = self.look(&mut found).await {
            found.unsure |= self.compare || !self.lost.is_empty();
            tracing::warn!(%error, "a look at the store failed");
        }
        found
    }

    async fn look(&self, found: &mut Found) -> Result<(), StoreError> {
        let store = &self.shared.store;
        self.refresh_lanes(found).await?;
        if !self.shared.allows_reads() {
            found.unsure |= self.compare || !self.lost.is_empty();
            return Ok(());
        }
        let mut learnt = Learnt::default();
        let claims = store.claim(self.incarnation, CLAIMED_AT_ONCE as u32).await;
        self.claimed(claims, &mut learnt, found).await;
        self.claim_lost(&mut learnt, found).await;
        if self.compare {
            found.standing = Some(store.standing(self.incarnation).await?);
        }
        found.wanted = store.unapplied(self.incarnation, WISHES_AT_ONCE).await?;
        found.outgoing = store.due_outgoing(self.incarnation, self.shared.now(), WISHES_AT_ONCE).await?;
        Ok(())
    }

    async fn refresh_lanes(&self, found: &mut Found) -> Result<(), StoreError> {
        for open in found.lanes.values() {
            let profile = open.lane.profile();
            let refreshed = async {
                match self.shared.store.profile(profile).await? {
                    Some(now) => open.lane.refresh(now).await,
                    None => Ok(false),
                }
            };
            match refreshed.await {
                Ok(changed) => found.changed_profiles |= changed,
                Err(error @ (StoreError::Corrupt(_) | StoreError::Key { .. })) => {
                    tracing::warn!(%profile, %error, "a changed profile cannot be used");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Claims again what has a lane to run in; the others wait for theirs.
    async fn claim_lost(&self, learnt: &mut Learnt, found: &mut Found) {
        let mut ready = Vec::with_capacity(self.lost.len());
        for Standing { mailbox, profile, epoch, .. } in &self.lost {
            match self.lane_of(*mailbox, *profile, *epoch, learnt, &mut found.lanes).await {
                Ok(_) => ready.push(*mailbox),
                Err(Shut) => found.unsure = true,
            }
        }
        for portion in ready.chunks(CLAIMED_AT_ONCE) {
            let claims = self.shared.store.claim_again(self.incarnation, portion).await;
            self.claimed(claims, learnt, found).await;
        }
    }

    async fn claimed(&self, claims: Result<Claims, StoreError>, learnt: &mut Learnt, found: &mut Found) {
        let Claims { mailboxes, unreadable } = match claims {
            Ok(claims) => claims,
            Err(error) => {
                // Nobody can say whether they are claimed.
                found.unsure = true;
                return tracing::warn!(%error, "mailboxes could not be claimed");
            }
        };
        found.more |= mailboxes.len() + unreadable.len() == CLAIMED_AT_ONCE;
        for aside in unreadable {
            let (mailbox, detail) = (aside.mailbox, aside.detail);
            tracing::error!(%mailbox, detail, "what is stored of a mailbox cannot be understood: it is set aside");
        }
        for claimed in mailboxes {
            let (mailbox, epoch) = (claimed.fence.mailbox, claimed.fence.epoch);
            let lane = match claimed.wanted.profile {
                Some(profile) => self.lane_of(mailbox, profile, epoch, learnt, &mut found.lanes).await,
                None => Ok(None),
            };
            match lane {
                Ok(lane) => found.claimed.push((claimed, lane)),
                Err(Shut) => found.unsure = true,
            }
        }
    }

    /// The lane of a mailbox, opened when its first mailbox is claimed. `None`: its profile is gone.
    async fn lane_of(
        &self,
        mailbox: MailboxId,
        profile: ProfileId,
        epoch: Epoch,
        learnt: &mut Learnt,
        lanes: &mut Lanes,
    ) -> Result<Option<Arc<Lane>>, Shut> {
        let known = match learnt.profiles.get(&profile) {
            Some(known) => known.clone(),
            None => {
                let read =
                    self.shared.store.profile(profile).await.map_err(|error| Shut::of(profile, &error));
                learnt.profiles.entry(profile).or_insert(read).clone()
            }
        };
        let Some(known) = known? else { return Ok(None) };
        let key = (profile, id::lane(mailbox, known.lanes));
        if learnt.shut.contains(&key) {
            return Err(Shut);
        }
        if let Some(open) = lanes.get(&key).filter(|open| open.epoch == epoch) {
            return Ok(Some(open.lane.clone()));
        }
        match self.open(known, key, epoch).await {
            Ok(open) => {
                let lane = open.lane.clone();
                if let Some(before) = lanes.insert(key, open) {
                    before.end();
                }
                Ok(Some(lane))
            }
            Err(error) => {
                learnt.shut.insert(key);
                Err(Shut::of(profile, &error))
            }
        }
    }

    async fn open(
        &self,
        profile: Profile,
        key: (ProfileId, u16),
        epoch: Epoch,
    ) -> Result<OpenLane, StoreError> {
        let myself = self.myself.clone();
        let tell = move |signal| {
            let (profile, number) = key;
            let _stopped = myself.cast(match signal {
                Signal::Canary(mailbox, road) => Message::Canary(mailbox, road),
                Signal::Closed => Message::Reopened(profile, number),
                Signal::Mail(mailbox) => Message::Mail(mailbox),
                Signal::Watched(mailbox) => Message::Watched(mailbox),
            });
        };
        let lane = Lane::open(self.shared.clone(), profile, key.1, epoch, tell).await?;
        let kept = tokio::spawn(lane.clone().run());
        let watched = tokio::spawn(watch::run(self.shared.clone(), lane.clone()));
        let tasks = [kept.abort_handle(), watched.abort_handle()];
        Ok(OpenLane { lane, epoch, tasks })
    }
}

/// A lane that cannot be opened now: its mailboxes wait.
#[derive(Clone, Copy)]
struct Shut;

impl Shut {
    fn of(profile: ProfileId, error: &StoreError) -> Self {
        tracing::warn!(%profile, %error, "a lane cannot be opened yet: its mailboxes wait");
        Self
    }
}
