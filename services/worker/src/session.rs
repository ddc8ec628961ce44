//! The worker's end of the session: it says who it is, carries out what it shall hold, and answers questions.
//!
//! A session that is cut is opened anew; polling goes on meanwhile for as long as the lease lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mailyard_host::telemetry;
use mailyard_policy::{
    Reason,
    id::{Epoch, Incarnation, MailboxId, ShardId, WorkerId},
    lease,
};
use mailyard_wire::{
    SESSION_PROTOCOL,
    cluster::{
        Beat, Desired, Explain, Explanation, FromCoordinator, FromWorker, Hello, Nudge,
        from_coordinator::Message as Told, from_worker::Message as Said,
        session_service_client::SessionServiceClient,
    },
};
use ractor::{ActorRef, rpc::CallResult};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{explain, shared::Shared, supervisor::Message};

/// Between two beats.
const BEAT: Duration = Duration::from_secs(2);
/// A coordinator that does not answer in this time is asked anew.
const ANSWERED: Duration = Duration::from_secs(10);
/// The wait before a session is opened anew; it doubles.
const REOPENED: Duration = Duration::from_millis(200);
/// It grows to this.
const REOPENED_MAX: Duration = Duration::from_secs(5);
/// Messages on their way to the coordinator.
const ON_THE_WAY: usize = 64;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The road to the coordinator broke.
    #[error("the session broke: {0}")]
    Broken(#[from] Box<tonic::Status>),
    /// The coordinator closed it, or did not answer.
    #[error("the coordinator is silent")]
    Silent,
    /// The coordinator does not take this worker.
    #[error("the coordinator refused: {reason}: {detail}")]
    Refused {
        /// The code of its reason.
        reason: String,
        /// What it said.
        detail: String,
    },
}

/// The session of one process.
pub struct Session {
    shared: Arc<Shared>,
    worker: WorkerId,
    incarnation: Incarnation,
    supervisor: ActorRef<Message>,
    client: SessionServiceClient<Channel>,
    max_term: u64,
    version: u64,
    /// What this process holds, as it was told last.
    held: BTreeMap<u32, u64>,
    /// Grants that are to be given back: what is not given back yet is tried again with each beat.
    leaving: BTreeMap<u64, ShardId>,
    /// Those of them whose mailboxes are being stopped, or whose release is under way.
    draining: BTreeSet<u64>,
    drained: JoinSet<Drained>,
    beats: u64,
}

/// What came of giving a grant back.
struct Drained {
    epoch: u64,
    released: bool,
}

impl Session {
    /// Of this process; nothing is said yet.
    pub fn new(
        shared: Arc<Shared>,
        worker: WorkerId,
        incarnation: Incarnation,
        supervisor: ActorRef<Message>,
        channel: Channel,
    ) -> Self {
        Self {
            shared,
            worker,
            incarnation,
            supervisor,
            client: SessionServiceClient::new(channel),
            max_term: 0,
            version: 0,
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            draining: BTreeSet::new(),
            drained: JoinSet::new(),
            beats: 0,
        }
    }

    /// Keeps a session open, until this process is told that it was declared dead.
    pub async fn run(mut self) {
        let mut wait = REOPENED;
        loop {
            let before = self.beats;
            match self.once().await {
                Ended::Refused { reason, .. } if reason == Reason::WorkerUnreachable.code() => {
                    tracing::warn!("this process was declared dead and holds nothing any more");
                    return self.shared.lease_event(lease::Event::Lost);
                }
                ended => tracing::info!(%ended, "the session is opened anew"),
            }
            wait = if self.beats > before { REOPENED } else { (wait * 2).min(REOPENED_MAX) };
            tokio::time::sleep(self.shared.jittered(wait)).await;
        }
    }

    async fn once(&mut self) -> Ended {
        let (to, messages) = mpsc::channel(ON_THE_WAY);
        let sent = (self.shared.clocks.boot)();
        let hello = Hello {
            worker_id: self.worker.0.clone(),
            incarnation: self.incarnation.to_bytes().to_vec(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_min: SESSION_PROTOCOL.0,
            protocol_max: SESSION_PROTOCOL.1,
            max_term_seen: self.max_term,
            capacity: 1,
        };
        if !say(&to, Said::Hello(hello)).await {
            return Ended::Silent;
        }
        let opened = self.client.session(ReceiverStream::new(messages));
        let mut from = match tokio::time::timeout(ANSWERED, opened).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Ended::Broken(Box::new(status)),
            Err(_) => return Ended::Silent,
        };
        let heard = tokio::time::timeout(ANSWERED, from.message()).await;
        match heard {
            Ok(Ok(Some(FromCoordinator { message: Some(Told::Welcome(welcome)) }))) => {
                self.max_term = self.max_term.max(welcome.term);
                // Registered after it was asked for: its lease counts from then.
                self.shared.lease_event(lease::Event::Renewed { sent });
            }
            Ok(Ok(Some(FromCoordinator { message: Some(Told::Refused(refused)) }))) => {
                return Ended::Refused { reason: refused.reason, detail: refused.detail };
            }
            Ok(Err(status)) => return Ended::Broken(Box::new(status)),
            Ok(Ok(_)) | Err(_) => return Ended::Silent,
        }
        // What is desired is told from the beginning.
        self.version = 0;
        self.carry(&to, from).await
    }

    async fn carry(&mut self, to: &mpsc::Sender<FromWorker>, mut from: Streaming<FromCoordinator>) -> Ended {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut facts = self.shared.facts_written();
        loop {
            tokio::select! {
                heard = from.message() => match heard {
                    Ok(Some(FromCoordinator { message: Some(told) })) => self.hear(told, to),
                    Ok(Some(FromCoordinator { message: None })) => {}
                    Ok(None) => return Ended::Silent,
                    Err(status) => return Ended::Broken(Box::new(status)),
                },
                _ = beat.tick() => {
                    self.give_back();
                    let Some(beat) = self.beat().await else { return Ended::Silent };
                    if !say(to, Said::Beat(beat)).await {
                        return Ended::Silent;
                    }
                }
                Ok(()) = facts.changed() => {
                    if !say(to, Said::Nudge(Nudge::default())).await {
                        return Ended::Silent;
                    }
                }
                Some(Ok(drained)) = self.drained.join_next() => {
                    self.draining.remove(&drained.epoch);
                    if drained.released {
                        self.leaving.remove(&drained.epoch);
                    }
                }
            }
        }
    }

    /// Goes through the supervisor: proof that it still does what it is told.
    async fn beat(&mut self) -> Option<Beat> {
        let CallResult::Success(mailboxes) =
            self.supervisor.call(Message::Count, Some(ANSWERED)).await.ok()?
        else {
            return None;
        };
        self.beats += 1;
        let lag = self.shared.scheduler.lag(self.shared.now());
        let (turns_done, in_flight) = self.shared.turns();
        Some(Beat {
            sequence: self.beats,
            desired_version: self.version,
            oldest_due_millis: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            mailboxes: mailboxes as u64,
            turns_done,
            in_flight,
        })
    }

    fn hear(&mut self, told: Told, to: &mpsc::Sender<FromWorker>) {
        match told {
            Told::Desired(desired) => self.desired(desired),
            Told::Nudge(nudge) => {
                let span = tracing::debug_span!("nudge");
                telemetry::adopt(&span, &nudge.traceparent);
                self.cast(Message::Round(span));
            }
            Told::Explain(explain) => self.explain(explain, to.clone()),
            Told::BeatAck(ack) => self.max_term = self.max_term.max(ack.term),
            Told::Welcome(_) | Told::Refused(_) => {}
        }
    }

    fn cast(&self, message: Message) {
        // It stops only with this process.
        let _stopped = self.supervisor.cast(message);
    }

    fn desired(&mut self, desired: Desired) {
        let Desired { term, version, grants } = desired;
        if term < self.max_term || version <= self.version {
            return;
        }
        (self.max_term, self.version) = (term, version);
        let held: BTreeMap<u32, u64> = grants.iter().map(|grant| (grant.shard, grant.epoch)).collect();
        let gone = std::mem::replace(&mut self.held, held);
        let gone = gone.into_iter().filter(|(shard, epoch)| self.held.get(shard) != Some(epoch));
        let revoked = grants.iter().filter(|grant| grant.revoking).map(|grant| (grant.shard, grant.epoch));
        for (shard, epoch) in gone.chain(revoked) {
            if let Some(shard) = u16::try_from(shard).ok().and_then(ShardId::new) {
                self.leaving.insert(epoch, shard);
            }
        }
        self.give_back();
        self.cast(Message::Round(tracing::Span::none()));
    }

    /// Stops the mailboxes of grants that go away, and gives their shards back once nothing of them runs here any more.
    fn give_back(&mut self) {
        for (epoch, shard) in &self.leaving {
            let (epoch, shard) = (*epoch, *shard);
            if !self.draining.insert(epoch) {
                continue;
            }
            let (shared, supervisor, incarnation) =
                (self.shared.clone(), self.supervisor.clone(), self.incarnation);
            self.drained.spawn(async move {
                let epochs = BTreeSet::from([Epoch(epoch)]);
                let stopped = supervisor.call(|reply| Message::Drain(epochs, reply), None).await;
                if !matches!(stopped, Ok(CallResult::Success(()))) {
                    return Drained { epoch, released: false };
                }
                let released = shared.store.release(incarnation, &[(shard, Epoch(epoch))]).await;
                if let Err(error) = &released {
                    tracing::warn!(%error, "a shard could not be given back yet");
                }
                Drained { epoch, released: released.is_ok() }
            });
        }
    }

    fn explain(&self, explain: Explain, to: mpsc::Sender<FromWorker>) {
        let Explain { request, mailbox } = explain;
        let id: Option<[u8; 16]> = mailbox.as_slice().try_into().ok();
        let Some(id) = id.map(MailboxId::from_bytes) else { return };
        let supervisor = self.supervisor.clone();
        tokio::spawn(async move {
            let asked = supervisor.call(|reply| Message::Explain(id, reply), Some(ANSWERED)).await;
            let mailbox = match asked {
                Ok(CallResult::Success(explained)) => explained.map(|explained| explain::held(&explained)),
                Ok(_) | Err(_) => None,
            };
            let _gone = say(&to, Said::Explanation(Explanation { request, mailbox })).await;
        });
    }
}

async fn say(to: &mpsc::Sender<FromWorker>, message: Said) -> bool {
    to.send(FromWorker { message: Some(message) }).await.is_ok()
}
