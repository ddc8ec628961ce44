//! The server of worker sessions: it carries messages between a worker's stream and the fleet.

use std::time::Duration;

use mailyard_policy::{
    Reason,
    id::{Incarnation, Term, WorkerId},
};
use mailyard_wire::{
    SESSION_PROTOCOL,
    cluster::{
        FromCoordinator, FromWorker, Hello, Refused, Welcome,
        from_coordinator::Message as ToWorker,
        from_worker::Message as OfWorker,
        session_service_server::{SessionService, SessionServiceServer},
    },
    status,
};
use ractor::rpc::CallResult;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::{Handle, Message, Opened};

/// A worker that does not say who it is in this time is not waited for.
const HELLO: Duration = Duration::from_secs(10);
/// A worker is registered in this time, or told to come again.
const OPENED: Duration = Duration::from_secs(10);
/// Messages on their way to a worker; further ones are told again later.
const ON_THE_WAY: usize = 64;

/// The server.
pub struct Sessions(Handle);

/// The service of a coordinator's fleet.
pub fn service(fleet: Handle) -> SessionServiceServer<Sessions> {
    SessionServiceServer::new(Sessions(fleet))
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type SessionStream = ReceiverStream<Result<FromCoordinator, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut from = request.into_inner();
        let hello = match tokio::time::timeout(HELLO, from.next()).await {
            Ok(Some(Ok(FromWorker { message: Some(OfWorker::Hello(hello)) }))) => hello,
            Ok(Some(Err(status))) => return Err(status),
            Ok(_) | Err(_) => return Err(wrong("message", "a session begins with a Hello")),
        };
        let (to, answers) = mpsc::channel(ON_THE_WAY);
        let fleet = self.0.clone();
        tokio::spawn(async move {
            let (tell, told) = mpsc::channel(ON_THE_WAY);
            // The fleet alone keeps it: when it drops it, the session ends.
            let known = tell.downgrade();
            match admit(&fleet, hello, tell).await {
                Ok((incarnation, welcome)) => {
                    let greeted = say(&to, ToWorker::Welcome(welcome)).await;
                    if greeted {
                        carry(&fleet, incarnation, from, told, &to).await;
                    }
                    if let Some(tell) = known.upgrade() {
                        let _stopped = fleet.actor().cast(Message::Closed(incarnation, tell));
                    }
                }
                Err(refused) => {
                    let _gone = say(&to, ToWorker::Refused(refused)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

fn wrong(field: &str, detail: &str) -> Status {
    status::refusal(Reason::FieldInvalid, field, detail)
}

async fn say(to: &mpsc::Sender<Result<FromCoordinator, Status>>, message: ToWorker) -> bool {
    to.send(Ok(FromCoordinator { message: Some(message) })).await.is_ok()
}

async fn admit(
    fleet: &Handle,
    hello: Hello,
    to: mpsc::Sender<FromCoordinator>,
) -> Result<(Incarnation, Welcome), Refused> {
    let refused = |reason: Reason, detail: String| Refused { reason: reason.code().to_owned(), detail };
    let (oldest, newest) = SESSION_PROTOCOL;
    let protocol = hello.protocol_max.min(newest);
    if protocol < oldest.max(hello.protocol_min) {
        let detail = format!(
            "this coordinator speaks versions {oldest} to {newest} of the session protocol, the worker {} to {}",
            hello.protocol_min, hello.protocol_max
        );
        return Err(refused(Reason::ConfigInvalid, detail));
    }
    let incarnation: Option<[u8; 16]> = hello.incarnation.as_slice().try_into().ok();
    let Some(incarnation) = incarnation.map(Incarnation::from_bytes) else {
        return Err(refused(Reason::FieldInvalid, "an incarnation is 16 bytes".to_owned()));
    };
    if hello.worker_id.is_empty() {
        return Err(refused(Reason::FieldInvalid, "a worker has an id".to_owned()));
    }
    let opened = Opened {
        worker: WorkerId(hello.worker_id),
        incarnation,
        build: hello.build,
        capacity: hello.capacity.max(1),
        max_term_seen: Term(hello.max_term_seen),
        to,
    };
    let asked = fleet.actor().call(|reply| Message::Open(Box::new(opened), reply), Some(OPENED)).await;
    match asked {
        Ok(CallResult::Success(Ok(term))) => Ok((incarnation, Welcome { term: term.0, protocol })),
        Ok(CallResult::Success(Err(reason))) => Err(refused(reason, reason.entry().title.to_owned())),
        Ok(_) | Err(_) => Err(refused(Reason::ClusterNoLeader, "nobody leads at the moment".to_owned())),
    }
}

/// Carries messages both ways until one end is gone.
async fn carry(
    fleet: &Handle,
    incarnation: Incarnation,
    mut from: Streaming<FromWorker>,
    mut told: mpsc::Receiver<FromCoordinator>,
    to: &mpsc::Sender<Result<FromCoordinator, Status>>,
) {
    loop {
        tokio::select! {
            heard = from.next() => match heard {
                Some(Ok(FromWorker { message: Some(message) })) => hear(fleet, incarnation, message),
                Some(Ok(FromWorker { message: None })) => {}
                Some(Err(_)) | None => return,
            },
            message = told.recv() => match message {
                Some(message) => {
                    if to.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
            () = to.closed() => return,
        }
    }
}

fn hear(fleet: &Handle, incarnation: Incarnation, message: OfWorker) {
    let told = match message {
        OfWorker::Beat(beat) => Message::Beat(incarnation, beat),
        OfWorker::Explanation(explanation) => Message::Explanation(explanation),
        OfWorker::Nudge(_) => return fleet.worker_nudged(),
        OfWorker::Hello(_) => return,
    };
    let _stopped = fleet.actor().cast(told);
}
