//! The actor above the mailboxes: it claims what this process owns, starts an actor for each, and hands on what people
//! want. All of it is level-triggered: a lost nudge costs one round.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use mailyard_policy::id::{self, Epoch, Incarnation, MailboxId, Nonce, ProfileId};
use mailyard_store::{
    Error as StoreError,
    holder::{Claimed, Fence},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::AbortHandle;
use tracing::{Instrument as _, Span};

use crate::{
    lane::{Lane, Signal},
    mailbox::{Arguments, Explained, MailboxActor, Message as MailboxMessage},
    shared::Shared,
};

/// Mailboxes of one claim: what they take up on their way stays with the process.
const CLAIMED_AT_ONCE: u32 = 128;
/// Wishes, and mailboxes with something to send, of one round.
const WISHES_AT_ONCE: u32 = 500;
/// Between two rounds without a nudge.
const ROUND: Duration = Duration::from_secs(2);
/// Mailboxes that become due at once are woken in portions.
const WOKEN_AT_ONCE: usize = 256;

/// The actor.
pub struct Supervisor;

/// What the supervisor is told.
pub enum Message {
    /// Something may have changed in the store: shards, wishes, emails to send, profiles. What caused it, if that is
    /// traced.
    Round(Span),
    /// What a round found.
    Found(Box<Found>),
    /// A mailbox whose actor was lost, as it is stored.
    Revived(Box<Claimed>, Arc<Lane>),
    /// These are due.
    Due(Vec<MailboxId>),
    /// The breaker wants this one to try the server.
    Canary(MailboxId),
    /// The breaker of a profile's lane closed.
    Reopened(ProfileId, u16),
    /// Tells everything about a mailbox; `None`: it is not held here.
    Explain(MailboxId, RpcReplyPort<Option<Explained>>),
    /// Nothing begins any more: tells when everything has ended.
    Close(RpcReplyPort<()>),
    /// How many mailboxes are held.
    Count(RpcReplyPort<usize>),
    /// These shards are to be given back: their mailboxes finish what is under way and stop.
    Drain(BTreeSet<Epoch>, RpcReplyPort<()>),
}

/// What a round found in the store.
pub struct Found {
    claimed: Vec<(Claimed, Arc<Lane>)>,
    wanted: Vec<(MailboxId, mailyard_store::holder::Wanted)>,
    outgoing: Vec<MailboxId>,
    changed_profiles: bool,
    lanes: Lanes,
    /// Claimed, and not to be started yet: nobody else will claim them, so the next round tries again.
    unstarted: Vec<Claimed>,
    cause: Span,
}

type Lanes = HashMap<(ProfileId, u16), OpenLane>;

#[derive(Clone)]
struct OpenLane {
    lane: Arc<Lane>,
    epoch: Epoch,
    keeper: AbortHandle,
}

/// What the supervisor keeps.
pub struct State {
    shared: Arc<Shared>,
    incarnation: Incarnation,
    held: HashMap<MailboxId, Held>,
    by_actor: HashMap<ractor::ActorId, MailboxId>,
    /// With the round, while one runs.
    lanes: Option<Lanes>,
    unstarted: Vec<Claimed>,
    round_wanted: Option<Span>,
    /// Nothing begins any more.
    closing: bool,
    /// Who waits until the mailboxes of these grants have stopped.
    draining: Vec<(BTreeSet<Epoch>, RpcReplyPort<()>)>,
    tasks: Vec<AbortHandle>,
}

struct Held {
    actor: ActorRef<MailboxMessage>,
    epoch: Epoch,
    nonce: Nonce,
    lane: Arc<Lane>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = (Arc<Shared>, Incarnation);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (shared, incarnation): (Arc<Shared>, Incarnation),
    ) -> Result<State, ActorProcessingErr> {
        let rounds = {
            let myself = myself.clone();
            tokio::spawn(async move {
                while myself.cast(Message::Round(Span::none())).is_ok() {
                    tokio::time::sleep(ROUND).await;
                }
            })
        };
        let alarms = {
            let (myself, shared) = (myself.clone(), shared.clone());
            tokio::spawn(async move {
                loop {
                    let due = shared.scheduler.due(shared.clocks.now, WOKEN_AT_ONCE).await;
                    if myself.cast(Message::Due(due)).is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        Ok(State {
            shared,
            incarnation,
            held: HashMap::new(),
            by_actor: HashMap::new(),
            lanes: Some(HashMap::new()),
            unstarted: Vec::new(),
            round_wanted: None,
            closing: false,
            draining: Vec::new(),
            tasks: vec![rounds.abort_handle(), alarms.abort_handle()],
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Round(cause) => state.begin_round(&myself, cause),
            Message::Close(reply) => state.close(reply),
            Message::Found(found) => state.found(&myself, *found).await,
            Message::Revived(claimed, lane) => state.start(&myself, *claimed, lane).await,
            Message::Due(due) => due.into_iter().for_each(|id| state.cast(id, MailboxMessage::Tick)),
            Message::Canary(id) => state.cast(id, MailboxMessage::Canary),
            Message::Reopened(profile, lane) => state.reopened(profile, lane),
            Message::Explain(id, reply) => state.explain(id, reply),
            Message::Count(reply) => {
                let _gone = reply.send(state.held.len());
            }
            Message::Drain(epochs, reply) => state.drain(epochs, reply),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, ..) => state.forget(actor.get_id()),
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(%error, "the actor of a mailbox came to an unforeseen end");
                state.revive(&myself, actor.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.tasks.iter().for_each(AbortHandle::abort);
        state.lanes.iter().flat_map(HashMap::values).for_each(|open| open.keeper.abort());
        Ok(())
    }
}

impl State {
    fn cast(&self, id: MailboxId, message: MailboxMessage) {
        if let Some(held) = self.held.get(&id) {
            // It may have stopped by itself: its end is on the way to us.
            let _stopped = held.actor.cast(message);
        }
    }

    fn reopened(&self, profile: ProfileId, lane: u16) {
        let of_lane = |held: &&Held| held.lane.profile() == profile && held.lane.number() == lane;
        for held in self.held.values().filter(of_lane) {
            let _stopped = held.actor.cast(MailboxMessage::Reopened);
        }
    }

    /// One round at a time; a nudge during one makes another follow.
    fn begin_round(&mut self, myself: &ActorRef<Message>, cause: Span) {
        if self.closing {
            return;
        }
        let Some(lanes) = self.lanes.take() else {
            // A cause that is traced is kept rather than one that is not.
            if self.round_wanted.as_ref().is_none_or(Span::is_none) {
                self.round_wanted = Some(cause);
            }
            return;
        };
        let round =
            Round { shared: self.shared.clone(), incarnation: self.incarnation, myself: myself.clone() };
        let myself = myself.clone();
        let unstarted = std::mem::take(&mut self.unstarted);
        tokio::spawn(async move {
            let found = round.run(lanes, unstarted, cause.clone()).instrument(cause).await;
            let _stopped = myself.cast(Message::Found(Box::new(found)));
        });
    }

    async fn found(&mut self, myself: &ActorRef<Message>, found: Found) {
        let Found { claimed, wanted, outgoing, changed_profiles, lanes, unstarted, cause } = found;
        let more = claimed.len() == CLAIMED_AT_ONCE as usize;
        self.lanes = Some(lanes);
        self.unstarted = unstarted;
        for (claimed, lane) in claimed {
            self.start(myself, claimed, lane).await;
        }
        for (id, wanted) in wanted {
            self.cast(id, MailboxMessage::Wanted(Box::new(wanted), cause.clone()));
        }
        for id in outgoing {
            self.cast(id, MailboxMessage::OutgoingDue(cause.clone()));
        }
        if changed_profiles {
            self.held.values().for_each(|held| {
                let _stopped = held.actor.cast(MailboxMessage::Tick);
            });
        }
        match self.round_wanted.take() {
            Some(cause) => self.begin_round(myself, cause),
            None if more => self.begin_round(myself, cause),
            None => {}
        }
    }

    async fn start(&mut self, myself: &ActorRef<Message>, claimed: Claimed, lane: Arc<Lane>) {
        if self.closing {
            return;
        }
        let Fence { mailbox, epoch, nonce, .. } = claimed.fence;
        if let Some(before) = self.held.remove(&mailbox) {
            // Claimed under a new grant: what the old actor still writes is fenced.
            self.by_actor.remove(&before.actor.get_id());
            before.actor.stop(None);
        }
        let arguments = Box::new(Arguments { shared: self.shared.clone(), lane: lane.clone(), claimed });
        match Actor::spawn_linked(None, MailboxActor, arguments, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.by_actor.insert(actor.get_id(), mailbox);
                self.held.insert(mailbox, Held { actor, epoch, nonce, lane, stopping: false });
            }
            Err(error) => tracing::error!(%mailbox, %error, "the actor of a mailbox could not be started"),
        }
    }

    fn forget(&mut self, actor: ractor::ActorId) {
        if let Some(id) = self.by_actor.remove(&actor) {
            self.held.remove(&id);
        }
        self.tell_drained();
    }

    /// What is stored of it is whole: it begins anew from there.
    fn revive(&mut self, myself: &ActorRef<Message>, actor: ractor::ActorId) {
        let lost = self.by_actor.remove(&actor).and_then(|id| Some((id, self.held.remove(&id)?)));
        self.tell_drained();
        let Some((mailbox, Held { epoch, nonce, lane, stopping: false, .. })) = lost else { return };
        let (shared, myself) = (self.shared.clone(), myself.clone());
        tokio::spawn(async move {
            tokio::time::sleep(ROUND).await;
            let fence = Fence { mailbox, epoch, nonce, commit_ver: 0 };
            match shared.store.reload(&fence).await {
                Ok(claimed) => {
                    let _stopped = myself.cast(Message::Revived(Box::new(claimed), lane));
                }
                Err(error) => tracing::warn!(%mailbox, %error, "a lost mailbox could not be taken up again"),
            }
        });
    }

    fn explain(&self, id: MailboxId, reply: RpcReplyPort<Option<Explained>>) {
        let Some(held) = self.held.get(&id) else {
            let _gone = reply.send(None);
            return;
        };
        let actor = held.actor.clone();
        tokio::spawn(async move {
            let explained = actor.call(MailboxMessage::Explain, Some(Duration::from_secs(5))).await;
            let explained = match explained {
                Ok(ractor::rpc::CallResult::Success(explained)) => Some(explained),
                Ok(_) | Err(_) => None,
            };
            let _gone = reply.send(explained);
        });
    }

    fn drain(&mut self, epochs: BTreeSet<Epoch>, reply: RpcReplyPort<()>) {
        for held in self.held.values_mut().filter(|held| epochs.contains(&held.epoch)) {
            held.stopping = true;
            let _stopped = held.actor.cast(MailboxMessage::Stop);
        }
        self.draining.push((epochs, reply));
        self.tell_drained();
    }

    fn close(&mut self, reply: RpcReplyPort<()>) {
        self.closing = true;
        let epochs = self.held.values().map(|held| held.epoch).collect();
        self.drain(epochs, reply);
    }

    fn tell_drained(&mut self) {
        let held: BTreeSet<Epoch> = self.held.values().map(|held| held.epoch).collect();
        for (epochs, reply) in std::mem::take(&mut self.draining) {
            if epochs.is_disjoint(&held) {
                let _gone = reply.send(());
            } else {
                self.draining.push((epochs, reply));
            }
        }
    }
}

/// One look at the store, beside the actor.
struct Round {
    shared: Arc<Shared>,
    incarnation: Incarnation,
    myself: ActorRef<Message>,
}

impl Round {
    async fn run(&self, lanes: Lanes, unstarted: Vec<Claimed>, cause: Span) -> Found {
        let mut found = Found {
            claimed: Vec::new(),
            wanted: Vec::new(),
            outgoing: Vec::new(),
            changed_profiles: false,
            lanes,
            unstarted,
            cause,
        };
        if let Err(error) = self.look(&mut found).await {
            tracing::warn!(%error, "a look at the store failed");
        }
        found
    }

    async fn look(&self, found: &mut Found) -> Result<(), StoreError> {
        let store = &self.shared.store;
        for open in found.lanes.values() {
            let id = open.lane.current().profile.id;
            if let Some(profile) = store.profile(id).await? {
                match open.lane.refresh(profile).await {
                    Ok(changed) => found.changed_profiles |= changed,
                    Err(error) => tracing::warn!(profile = %id, %error, "a changed profile cannot be used"),
                }
            }
        }
        if !self.shared.allows_reads() {
            return Ok(());
        }
        let mut claims = std::mem::take(&mut found.unstarted);
        match store.claim(self.incarnation, CLAIMED_AT_ONCE).await {
            Ok(claimed) => claims.extend(claimed),
            Err(error) => tracing::warn!(%error, "mailboxes could not be claimed"),
        }
        let mut failed = None;
        for claimed in claims {
            match self.lane_of(&claimed, &mut found.lanes).await {
                Ok(lane) => found.claimed.extend(lane.map(|lane| (claimed, lane))),
                Err(error) => {
                    failed = Some(error);
                    found.unstarted.push(claimed);
                }
            }
        }
        if let Some(error) = failed {
            let mailboxes = found.unstarted.len();
            tracing::warn!(mailboxes, %error, "claimed mailboxes cannot be started yet");
        }
        found.wanted = store.unapplied(self.incarnation, WISHES_AT_ONCE).await?;
        found.outgoing = store.due_outgoing(self.incarnation, self.shared.now(), WISHES_AT_ONCE).await?;
        Ok(())
    }

    /// The lane of a mailbox, opened when its first mailbox is claimed. `None`: it has no profile, and nothing to do.
    async fn lane_of(&self, claimed: &Claimed, lanes: &mut Lanes) -> Result<Option<Arc<Lane>>, StoreError> {
        let Some(profile) = claimed.wanted.profile else { return Ok(None) };
        let Some(profile) = self.shared.store.profile(profile).await? else { return Ok(None) };
        let number = id::lane(claimed.fence.mailbox, profile.lanes);
        let (key, epoch) = ((profile.id, number), claimed.fence.epoch);
        if let Some(open) = lanes.get(&key).filter(|open| open.epoch == epoch) {
            return Ok(Some(open.lane.clone()));
        }
        let myself = self.myself.clone();
        let key_of_lane = key;
        let tell = move |signal| {
            let (profile, number) = key_of_lane;
            let _stopped = myself.cast(match signal {
                Signal::Canary(mailbox) => Message::Canary(mailbox),
                Signal::Closed => Message::Reopened(profile, number),
            });
        };
        let lane = Lane::open(self.shared.clone(), profile, number, epoch, tell).await?;
        let keeper = tokio::spawn(lane.clone().run()).abort_handle();
        if let Some(before) = lanes.insert(key, OpenLane { lane: lane.clone(), epoch, keeper }) {
            before.keeper.abort();
        }
        Ok(Some(lane))
    }
}
