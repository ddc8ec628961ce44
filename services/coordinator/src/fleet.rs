//! The actor that knows which workers there are and says who holds which shard.
//!
//! It decides nothing itself: it reads how things stand, asks the planner, writes the plan, and tells each worker
//! everything it shall hold. What takes time runs beside it, one round at a time.

mod round;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use mailyard_host::telemetry;
use mailyard_policy::{
    Reason,
    id::{Incarnation, MailboxId, Term, WorkerId},
    lease, placement,
};
use mailyard_store::{
    Store,
    fleet::{Leadership, SoleHolder},
};
use mailyard_wire::cluster::{
    self, FromCoordinator, HeldMailbox, Nudge, from_coordinator::Message as ToWorker,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use self::round::{Found, Round};
use crate::{
    leader::{Beating, Leader},
    leadership::{Leading, RENEWED},
};

/// Between two rounds without a nudge.
const ROUND: Duration = Duration::from_secs(1);
/// A holder that does not explain a mailbox in this time is silent.
const EXPLAINED: Duration = Duration::from_secs(3);

/// What the actor begins with.
pub struct Arguments {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Who this coordinator is.
    pub holder: String,
    /// Proof that no other process can be there; used for the first election.
    pub proof: Option<SoleHolder>,
    /// The leadership that this actor keeps.
    pub leading: Leading,
    /// The numbers of leases.
    pub lease_rules: lease::Rules,
    /// What bounds a plan.
    pub placement_rules: placement::Rules,
}

/// A worker's process that wants to be told what it shall hold.
#[derive(Debug)]
pub struct Opened {
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub incarnation: Incarnation,
    /// The build it runs.
    pub build: String,
    /// Its share of the work beside the others'.
    pub capacity: u32,
    /// The highest term it has heard of.
    pub max_term_seen: Term,
    /// Where to it is spoken.
    pub to: mpsc::Sender<FromCoordinator>,
}

/// What the fleet is told.
pub enum Message {
    /// Look at the store now.
    Round,
    /// What a round found; `None`: it failed.
    Found(Option<Box<Found>>),
    /// Something changed that workers should look for, with the trace that caused it.
    Nudge(String),
    /// A session begins: its process is registered, and the answer says under which term, or why not.
    Open(Box<Opened>, RpcReplyPort<Result<Term, Reason>>),
    /// Its process is registered.
    Registered(Box<Opened>),
    /// A worker told how it fares.
    Beat(Incarnation, cluster::Beat),
    /// What it answered of a mailbox.
    Explanation(cluster::Explanation),
    /// A session ended.
    Closed(Incarnation, mpsc::Sender<FromCoordinator>),
    /// Ask the holder of a mailbox.
    Explain(MailboxId, RpcReplyPort<Option<HeldMailbox>>),
    /// The workers whose sessions are open.
    Beating(RpcReplyPort<Vec<Beating>>),
}

/// The actor.
pub struct Fleet;

/// What the fleet keeps.
pub struct State {
    arguments: Arc<Arguments>,
    sessions: HashMap<Incarnation, Session>,
    /// Of what workers shall hold; raised by each change.
    version: u64,
    round_runs: bool,
    round_wanted: bool,
    proof: Option<SoleHolder>,
    /// What the planner remembers.
    memory: placement::Memory,
    asked: HashMap<u64, Asked>,
    requests: u64,
    ticker: AbortHandle,
}

/// A question that was put to all workers.
struct Asked {
    unanswered: usize,
    reply: RpcReplyPort<Option<HeldMailbox>>,
}

struct Session {
    opened: Box<Opened>,
    beat: cluster::Beat,
    /// What it was told last, and under which version.
    told: Option<(u64, Vec<cluster::Grant>)>,
}

impl Actor for Fleet {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let ticker = {
            let myself = myself.clone();
            tokio::spawn(async move {
                while myself.cast(Message::Round).is_ok() {
                    tokio::time::sleep(ROUND.min(RENEWED)).await;
                }
            })
        };
        Ok(State {
            proof: arguments.proof,
            arguments: Arc::new(arguments),
            sessions: HashMap::new(),
            version: 0,
            round_runs: false,
            round_wanted: false,
            memory: placement::Memory::default(),
            asked: HashMap::new(),
            requests: 0,
            ticker: ticker.abort_handle(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Round => state.begin_round(&myself),
            Message::Found(found) => state.found(&myself, found),
            Message::Nudge(traceparent) => {
                state.begin_round(&myself);
                state.tell_all(&ToWorker::Nudge(Nudge { traceparent }));
            }
            Message::Open(opened, reply) => state.open(&myself, opened, reply),
            Message::Registered(opened) => {
                let beat = cluster::Beat::default();
                state.sessions.insert(opened.incarnation, Session { opened, beat, told: None });
                state.close_if_deposed();
                state.begin_round(&myself);
            }
            Message::Beat(incarnation, beat) => state.beat(incarnation, beat),
            Message::Explanation(explanation) => state.explained(explanation),
            Message::Closed(incarnation, to) => {
                // A process that came back under the same number has another channel.
                state
                    .sessions
                    .retain(|known, session| *known != incarnation || !session.opened.to.same_channel(&to));
            }
            Message::Explain(mailbox, reply) => state.explain(mailbox, reply),
            Message::Beating(reply) => {
                let _gone = reply.send(state.beating());
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.ticker.abort();
        Ok(())
    }
}

impl State {
    /// One round at a time; what happens during one makes another follow.
    fn begin_round(&mut self, myself: &ActorRef<Message>) {
        if self.round_runs {
            self.round_wanted = true;
            return;
        }
        self.round_runs = true;
        let able = self.sessions.values().map(|session| placement::Candidate {
            worker: session.opened.worker.clone(),
            incarnation: session.opened.incarnation,
            capacity: session.opened.capacity,
            build: session.opened.build.clone(),
            standing: placement::Standing::Live,
        });
        let round = Round {
            arguments: self.arguments.clone(),
            proof: self.proof.take(),
            able: able.collect(),
            memory: self.memory.clone(),
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            let found = round.run().await;
            let _stopped = myself.cast(Message::Found(found.map(Box::new)));
        });
    }

    fn found(&mut self, myself: &ActorRef<Message>, found: Option<Box<Found>>) {
        self.round_runs = false;
        if let Some(found) = found {
            self.tell_desired(&found);
            self.memory = found.memory;
        }
        self.close_if_deposed();
        if std::mem::take(&mut self.round_wanted) {
            self.begin_round(myself);
        }
    }

    /// Closes all sessions of a coordinator that does not lead: their workers look for the one that does.
    fn close_if_deposed(&mut self) {
        if self.arguments.leading.now().is_some() || self.sessions.is_empty() {
            return;
        }
        tracing::info!(sessions = self.sessions.len(), "another coordinator leads: sessions are closed");
        self.sessions.clear();
        self.asked.clear();
    }

    /// Tells each worker everything it shall hold, if that is not what it was told last.
    fn tell_desired(&mut self, found: &Found) {
        for (incarnation, session) in &mut self.sessions {
            let Some(grants) = found.grants.get(incarnation) else { continue };
            if session.told.as_ref().is_some_and(|(_, told)| told == grants) {
                continue;
            }
            self.version += 1;
            let desired =
                cluster::Desired { term: found.term.0, version: self.version, grants: grants.clone() };
            if session.say(ToWorker::Desired(desired)) {
                session.told = Some((self.version, grants.clone()));
            }
        }
    }

    fn tell_all(&mut self, message: &ToWorker) {
        for session in self.sessions.values_mut() {
            // One that is not taken costs a period.
            let _full = session.say(message.clone());
        }
    }

    fn open(
        &mut self,
        myself: &ActorRef<Message>,
        opened: Box<Opened>,
        reply: RpcReplyPort<Result<Term, Reason>>,
    ) {
        let Some(lead) = self.arguments.leading.now() else {
            let _gone = reply.send(Err(Reason::ClusterNoLeader));
            return;
        };
        if opened.max_term_seen > lead.term {
            self.arguments.leading.lost(&lead);
            let _gone = reply.send(Err(Reason::ClusterNoLeader));
            return;
        }
        let (arguments, myself) = (self.arguments.clone(), myself.clone());
        tokio::spawn(async move {
            let Opened { worker, incarnation, build, .. } = &*opened;
            let registered =
                arguments.store.register(&lead, worker, *incarnation, build, arguments.lease_rules.ttl).await;
            let answer = match registered {
                Ok(()) => {
                    tracing::info!(worker = %worker, incarnation = %incarnation, "a worker is here");
                    let _stopped = myself.cast(Message::Registered(opened));
                    Ok(lead.term)
                }
                // Declared dead: it may come back as a new process only.
                Err(mailyard_store::Error::Fenced) => Err(Reason::WorkerUnreachable),
                Err(error) => {
                    tracing::warn!(%error, "a worker could not be registered");
                    Err(Reason::StoreUnavailable)
                }
            };
            let _gone = reply.send(answer);
        });
    }

    fn beat(&mut self, incarnation: Incarnation, beat: cluster::Beat) {
        let term = self.arguments.leading.now().map_or(0, |lead| lead.term.0);
        let Some(session) = self.sessions.get_mut(&incarnation) else { return };
        let version = session.told.as_ref().map_or(0, |(version, _)| *version);
        let ack = cluster::BeatAck { term, sequence: beat.sequence, desired_version: version };
        let behind = beat.desired_version < version;
        session.beat = beat;
        session.say(ToWorker::BeatAck(ack));
        if behind && let Some((version, grants)) = session.told.clone() {
            // It was lost, or is on its way: told twice it does no harm.
            session.say(ToWorker::Desired(cluster::Desired { term, version, grants }));
        }
    }

    /// Asks everybody: the holder knows it, and nobody else.
    fn explain(&mut self, mailbox: MailboxId, reply: RpcReplyPort<Option<HeldMailbox>>) {
        self.asked.retain(|_, asked| !asked.reply.is_closed());
        self.requests += 1;
        let request = self.requests;
        if self.sessions.is_empty() {
            let _gone = reply.send(None);
            return;
        }
        self.asked.insert(request, Asked { unanswered: self.sessions.len(), reply });
        let mailbox = mailbox.to_bytes().to_vec();
        self.tell_all(&ToWorker::Explain(cluster::Explain { request, mailbox }));
    }

    fn explained(&mut self, explanation: cluster::Explanation) {
        let cluster::Explanation { request, mailbox } = explanation;
        let Some(asked) = self.asked.get_mut(&request) else { return };
        asked.unanswered = asked.unanswered.saturating_sub(1);
        if mailbox.is_none() && asked.unanswered > 0 {
            return;
        }
        if let Some(Asked { reply, .. }) = self.asked.remove(&request) {
            // Who asked may have gone away.
            let _gone = reply.send(mailbox);
        }
    }

    fn beating(&self) -> Vec<Beating> {
        let beating = self.sessions.iter().map(|(incarnation, session)| Beating {
            incarnation: *incarnation,
            mailboxes: session.beat.mailboxes,
            oldest_due_millis: session.beat.oldest_due_millis,
        });
        beating.collect()
    }
}

impl Session {
    /// False: the worker does not take what it is told; it is told again later.
    fn say(&self, message: ToWorker) -> bool {
        self.opened.to.try_send(FromCoordinator { message: Some(message) }).is_ok()
    }
}

/// The fleet of this coordinator, as its servers ask it.
#[derive(Clone)]
pub struct Handle {
    fleet: ActorRef<Message>,
    leading: Leading,
    nudged: watch::Sender<()>,
}

impl Handle {
    /// The fleet, the leadership it keeps, and who else of this process is nudged.
    pub fn new(fleet: ActorRef<Message>, leading: Leading, nudged: watch::Sender<()>) -> Self {
        Self { fleet, leading, nudged }
    }

    /// The actor.
    pub fn actor(&self) -> &ActorRef<Message> {
        &self.fleet
    }

    /// A worker wrote facts, or ended tests: the leader's other parts look now.
    pub fn worker_nudged(&self) {
        self.nudged.send_replace(());
    }
}

#[async_trait]
impl Leader for Handle {
    fn nudge(&self) {
        let _stopped = self.fleet.cast(Message::Nudge(telemetry::traceparent()));
        self.nudged.send_replace(());
    }

    async fn explain(&self, mailbox: MailboxId) -> Option<HeldMailbox> {
        let asked = self.fleet.call(|reply| Message::Explain(mailbox, reply), Some(EXPLAINED)).await;
        match asked {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            Ok(_) | Err(_) => None,
        }
    }

    fn leadership(&self) -> Option<Leadership> {
        self.leading.now()
    }

    async fn beating(&self) -> Vec<Beating> {
        let asked = self.fleet.call(Message::Beating, Some(EXPLAINED)).await;
        match asked {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            Ok(_) | Err(_) => Vec::new(),
        }
    }
}
