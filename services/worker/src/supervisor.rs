//! The actor above the mailboxes: it claims what this process owns, starts an actor for each, and hands on what people
//! want. All of it is level-triggered: a lost nudge costs one round, and whatever the store says is held here and is
//! not, for whatever reason, is claimed again.

mod round;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use mailyard_policy::{
    breaker::Road,
    id::{Epoch, Incarnation, MailboxId, Nonce, ProfileId},
};
use mailyard_store::holder::{Claimed, Fence, Standing};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::{task::AbortHandle, time::Instant};
use tracing::{Instrument as _, Span};

use self::round::{Found, Lanes, OpenLane, Round};
use crate::{
    lane::Lane,
    mailbox::{Arguments, Explained, MailboxActor, Message as MailboxMessage},
    shared::Shared,
};

/// Between two rounds without a nudge.
const ROUND: Duration = Duration::from_secs(2);
/// What is held is compared with what is claimed so often,
const COMPARED: Duration = Duration::from_mins(1);
/// and sooner, but no more often than this, when they may differ.
const COMPARED_AGAIN: Duration = Duration::from_secs(1);
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
    /// These are due.
    Due(Vec<MailboxId>),
    /// A breaker wants this one to try the server, by this road.
    Canary(MailboxId, Road),
    /// Mail came to this one.
    Mail(MailboxId),
    /// This one is watched from now on.
    Watched(MailboxId),
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

/// What the supervisor keeps.
pub struct State {
    shared: Arc<Shared>,
    incarnation: Incarnation,
    held: HashMap<MailboxId, Held>,
    by_actor: HashMap<ractor::ActorId, MailboxId>,
    /// With the round, while one runs.
    lanes: Option<Lanes>,
    round_wanted: Option<Span>,
    /// When what is held was compared last with what is claimed.
    compared: Instant,
    /// They may differ.
    unsure: bool,
    /// Claimed and not held: the next round claims them again.
    lost: Vec<Standing>,
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
    /// Its grant goes away: it finishes what is under way.
    draining: bool,
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
            round_wanted: None,
            compared: Instant::now(),
            unsure: false,
            lost: Vec::new(),
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
            Message::Due(due) => due.into_iter().for_each(|id| state.cast(id, MailboxMessage::Tick)),
            Message::Canary(id, road) => state.cast(id, MailboxMessage::Canary(road)),
            Message::Mail(id) => state.cast(id, MailboxMessage::Notified),
            Message::Watched(id) => state.cast(id, MailboxMessage::Watched),
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
        _: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, ..) => state.forget(actor.get_id()),
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(%error, "the actor of a mailbox came to an unforeseen end");
                state.forget(actor.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.tasks.iter().for_each(AbortHandle::abort);
        state.lanes.iter().flat_map(HashMap::values).for_each(OpenLane::end);
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
        let since = self.compared.elapsed();
        let compare = since >= COMPARED || self.unsure && since >= COMPARED_AGAIN;
        if compare {
            self.compared = Instant::now();
            self.unsure = false;
        }
        let round = Round {
            shared: self.shared.clone(),
            incarnation: self.incarnation,
            myself: myself.clone(),
            compare,
            lost: std::mem::take(&mut self.lost),
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            let found = round.run(lanes, cause.clone()).instrument(cause).await;
            let _stopped = myself.cast(Message::Found(Box::new(found)));
        });
    }

    async fn found(&mut self, myself: &ActorRef<Message>, found: Found) {
        let Found { claimed, standing, wanted, outgoing, changed_profiles, lanes, unsure, more, cause } =
            found;
        self.lanes = Some(lanes);
        self.unsure |= unsure;
        for (claimed, lane) in claimed {
            self.take(myself, claimed, lane).await;
        }
        if let Some(standing) = standing {
            self.compare(standing);
        }
        self.tell_drained();
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
            None if more || !self.lost.is_empty() => self.begin_round(myself, cause),
            None => {}
        }
    }

    /// Takes up what was claimed. Without a lane it has no profile, and nothing to do.
    async fn take(&mut self, myself: &ActorRef<Message>, claimed: Claimed, lane: Option<Arc<Lane>>) {
        let Fence { mailbox, epoch, nonce, .. } = claimed.fence;
        if self.closing || self.is_draining(epoch) {
            return;
        }
        if let Some(before) = self.held.get(&mailbox) {
            // Claimed anew: it can write no more. Once it has ended, the mailbox is found to be lost.
            return before.actor.stop(None);
        }
        let Some(lane) = lane else { return };
        let arguments = Box::new(Arguments { shared: self.shared.clone(), lane: lane.clone(), claimed });
        match Actor::spawn_linked(None, MailboxActor, arguments, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.by_actor.insert(actor.get_id(), mailbox);
                self.held.insert(mailbox, Held { actor, epoch, nonce, lane, draining: false });
            }
            Err(error) => {
                self.unsure = true;
                tracing::error!(%mailbox, %error, "the actor of a mailbox could not be started");
            }
        }
    }

    /// Stops what is held and not claimed, and finds what is claimed and not held.
    fn compare(&mut self, standing: Vec<Standing>) {
        let standing: HashMap<MailboxId, Standing> =
            standing.into_iter().map(|standing| (standing.mailbox, standing)).collect();
        for (id, held) in self.held.iter().filter(|(_, held)| !held.draining) {
            if standing.get(id).is_none_or(|standing| standing.nonce != held.nonce) {
                tracing::info!(mailbox = %id, "the claim of a mailbox does not hold any more");
                held.actor.stop(None);
            }
        }
        let lost = |standing: &Standing| {
            !self.held.contains_key(&standing.mailbox) && !self.is_draining(standing.epoch)
        };
        self.lost = standing.into_values().filter(lost).collect();
    }

    /// What is stored of it is whole: it begins anew from there, unless its grant goes away.
    fn forget(&mut self, actor: ractor::ActorId) {
        let held = self.by_actor.remove(&actor).and_then(|id| self.held.remove(&id));
        self.unsure |= held.is_some_and(|held| !held.draining);
        self.tell_drained();
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
            held.draining = true;
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

    fn is_draining(&self, epoch: Epoch) -> bool {
        self.draining.iter().any(|(epochs, _)| epochs.contains(&epoch))
    }

    /// Not while a round runs: it may bring a claim under a grant that goes away.
    fn tell_drained(&mut self) {
        if self.lanes.is_none() {
            return;
        }
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
