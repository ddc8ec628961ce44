//! A turn or a test of a mailbox, run beside its actor.

use std::sync::Arc;

use mailyard_host::metrics::{Direction, Turn as TurnFigure};
use mailyard_policy::{
    Reason, Timestamp, breaker,
    id::{Attempt, MailboxId},
    mailbox::{self as machine, Kept, Outcome, Work},
    operation::Kind,
};
use mailyard_store::{
    Error as StoreError,
    holder::{Cycle, Fence, Wanted},
    people::Profile,
};
use ractor::ActorRef;
use tokio::time::Instant;

use super::Message;
use crate::{
    holding::Holding,
    lane::Lane,
    locate::{doubt, locate},
    poll, send,
    shared::Shared,
    test::{self, Findings},
    turn::{Done, Settlement, Trouble, Turn},
};

/// What a task came to.
pub struct Ended {
    pub(super) attempt: Attempt,
    pub(super) result: TaskResult,
    pub(super) cycle: Option<Cycle>,
    pub(super) holding: Option<Holding>,
    /// The stored part as it was written with the turn's last commit, the cycle with it.
    pub(super) written: Option<Kept>,
}

/// How it ended.
pub(super) enum TaskResult {
    Turn(Outcome),
    Test([Option<machine::Tested>; 3]),
    Fenced,
}

/// A turn or a test, run beside the actor.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    pub(super) mailbox: MailboxId,
    pub(super) wanted: Arc<Wanted>,
    pub(super) holding: Option<Holding>,
    pub(super) fence: Fence,
    pub(super) actor: ActorRef<Message>,
    pub(super) attempt: Attempt,
    pub(super) work: Work,
    pub(super) due: Timestamp,
}

impl Task {
    pub(super) async fn run(self) -> Ended {
        let attempt = self.attempt;
        let nothing = |result, holding| Ended { attempt, result, cycle: None, holding, written: None };
        if !self.shared.allows_reads() {
            return nothing(TaskResult::Turn(Outcome::OursFailed), self.holding);
        }
        let holding = match self.holding {
            Some(holding) => holding,
            None => match Holding::load(&*self.shared.store, &self.fence).await {
                Ok(holding) => holding,
                Err(StoreError::Fenced) => return nothing(TaskResult::Fenced, None),
                Err(_) => return nothing(TaskResult::Turn(Outcome::OursFailed), None),
            },
        };
        if matches!(self.work, Work::Test(_)) {
            // A person waits for it.
            self.lane.ask();
        }
        let (shared, lane) = (self.shared.clone(), self.lane.clone());
        // A place of its own lane first: who waits for that holds no turn that others could have.
        let _place = lane.place().await;
        let _slot = shared.slot().await;
        let current = self.lane.current();
        let anew = matches!(self.work, Work::Test(_));
        let Ok(roads) = self.lane.roads(&current, self.mailbox, &self.wanted, anew).await else {
            return nothing(TaskResult::Turn(Outcome::OursFailed), Some(holding));
        };
        let Ok(admitted) = self.lane.admit(self.mailbox, needs(self.work)) else {
            return nothing(TaskResult::Turn(Outcome::Held), Some(holding));
        };
        let mut turn = Turn {
            current,
            roads,
            shared: self.shared.clone(),
            mailbox: self.mailbox,
            wanted: self.wanted,
            holding,
            begun: Instant::now(),
            start: self.shared.now(),
            actor: self.actor,
            attempt,
            held: admitted.held,
            settled: None,
        };
        let (metrics, label) = (&self.shared.metrics, &turn.current.label);
        metrics.poll_began(label, kind_of(self.work), turn.start.since(self.due));
        let worked = {
            let work = located(&mut turn, &self.lane, self.work);
            let deadline = self.shared.settings.cycle_deadline;
            tokio::select! {
                worked = tokio::time::timeout(deadline, work) => worked.unwrap_or_else(|_| {
                    Worked { result: Err(cycle_deadline()), tested: None, answers: [None; 2], spoiled: true }
                }),
                () = self.shared.lease_ended() => {
                    Worked { result: Err(Trouble::Lease), tested: None, answers: [None; 2], spoiled: true }
                }
            }
        };
        self.lane.report(&admitted, worked.answers);
        worked.tell(&turn, self.work);
        worked.ended(self.work, turn)
    }
}

fn cycle_deadline() -> Trouble {
    mailyard_exchange::Failure::new(
        Reason::MailboxCycleDeadline,
        mailyard_policy::outbox::Execution::Maybe,
        "the turn took longer than the deployment allows",
    )
    .into()
}

struct Worked {
    result: Result<Done, Trouble>,
    tested: Option<[Option<machine::Tested>; 3]>,
    /// What is learnt of the server of each direction.
    answers: [Option<breaker::Answer>; 2],
    /// It was dropped in the middle: what it held may not be what is stored.
    spoiled: bool,
}

/// Finds out where the mailbox is, works there, and doubts the place if that fails.
async fn located(turn: &mut Turn, lane: &Lane, what: Work) -> Worked {
    if let Err(trouble) = Box::pin(locate(turn, matches!(what, Work::Test(_)))).await {
        // It is looked for with the account that mail is read with.
        let answers = [trouble.answer(), None];
        return Worked { answers, result: Err(trouble), tested: None, spoiled: false };
    }
    let worked = work(turn, lane, what).await;
    match worked.failed() {
        Some(reason) => match doubt(turn, reason).await {
            Ok(()) => worked,
            Err(trouble) => Worked { result: Err(trouble), tested: None, ..worked },
        },
        None => worked,
    }
}

async fn work(turn: &mut Turn, lane: &Lane, work: Work) -> Worked {
    let result = match work {
        Work::Incoming => poll::poll(turn).await,
        // Most turns are polls that find nothing: what is rare must not make their tasks larger.
        Work::Outgoing { check } => Box::pin(send::send(turn, check)).await,
        Work::Test(kinds) => {
            let probe = lane.probe();
            return match Box::pin(test::test(turn, kinds, probe.is_some())).await {
                Ok(findings) => tested(lane, &turn.current.profile, findings).await,
                Err(trouble) => {
                    Worked { answers: [None; 2], result: Err(trouble), tested: None, spoiled: false }
                }
            };
        }
    };
    let answer = match &result {
        Ok(_) => Some(breaker::Answer::Answered),
        Err(trouble) => trouble.answer(),
    };
    let answers = needs(work).map(|needed| answer.filter(|_| needed));
    Worked { result, tested: None, answers, spoiled: false }
}

async fn tested(lane: &Lane, profile: &Profile, findings: Findings) -> Worked {
    if let Some(capabilities) = &findings.capabilities
        && let Err(error) = lane.keep_capabilities(profile, capabilities).await
    {
        // They are asked again with the next test.
        tracing::warn!(%error, "what was learnt of the server could not be kept");
    }
    Worked {
        result: Ok(Done::default()),
        tested: Some(findings.tested),
        answers: findings.answers,
        spoiled: false,
    }
}

/// The directions that a turn needs: incoming, outgoing.
fn needs(work: Work) -> [bool; 2] {
    match work {
        Work::Incoming => [true, false],
        Work::Outgoing { .. } => [false, true],
        Work::Test([incoming, outgoing, _]) => [incoming, outgoing],
    }
}

fn kind_of(work: Work) -> Kind {
    match work {
        Work::Outgoing { .. } => Kind::Outgoing,
        Work::Incoming | Work::Test(_) => Kind::Incoming,
    }
}

pub(super) fn word_of(work: Work) -> &'static str {
    match work {
        Work::Test(_) => "test",
        Work::Incoming | Work::Outgoing { .. } => kind_of(work).word(),
    }
}

impl Worked {
    /// Why Exchange did not do what was asked.
    fn failed(&self) -> Option<Reason> {
        let of_test = self.tested.iter().flatten().flatten().find_map(|tested| match tested {
            machine::Tested::Fails { reason, .. } => Some(*reason),
            machine::Tested::Works => None,
        });
        match &self.result {
            Err(Trouble::Exchange(failure)) => Some(failure.reason),
            _ => of_test,
        }
    }

    /// The figures of a turn, its failure in the log, and its place in the trace.
    fn tell(&self, turn: &Turn, work: Work) {
        let (metrics, label, kind) = (&turn.shared.metrics, &turn.current.label, kind_of(work));
        if let Some(tested) = &self.tested {
            for (kind, tested) in Kind::ALL.into_iter().zip(tested) {
                match tested {
                    Some(machine::Tested::Works) => metrics.poll_ended(label, kind, TurnFigure::Success),
                    Some(machine::Tested::Fails { reason, .. }) => turn.failed(kind, *reason, "by its test"),
                    None => {}
                }
            }
            return;
        }
        let figure = match &self.result {
            Ok(done) => {
                let direction = match kind {
                    Kind::Outgoing => Direction::Outgoing,
                    Kind::Incoming | Kind::Act => Direction::Incoming,
                };
                if done.items > 0 {
                    metrics.messages(label, direction, done.items.into());
                }
                TurnFigure::Success
            }
            Err(trouble) if trouble.is_fenced() => {
                metrics.fenced_write(kind);
                TurnFigure::Fenced
            }
            Err(Trouble::Exchange(failure) | Trouble::Nowhere(failure)) => {
                return turn.failed(kind, failure.reason, &failure.evidence());
            }
            // It did not run.
            Err(Trouble::Held) => return,
            Err(trouble @ (Trouble::Store(_) | Trouble::Lease)) => {
                return turn.failed(kind, Reason::StoreUnavailable, &trouble.to_string());
            }
        };
        metrics.poll_ended(label, kind, figure);
    }

    fn ended(self, work: Work, turn: Turn) -> Ended {
        let Turn { attempt, start, begun, settled, .. } = turn;
        let spoiled = self.spoiled || self.result.as_ref().err().is_some_and(Trouble::spoils_holding);
        let holding = (!spoiled).then_some(turn.holding);
        let ended = |result| Ended { attempt, result, cycle: None, holding, written: None };
        if self.result.as_ref().err().is_some_and(Trouble::is_fenced) {
            return ended(TaskResult::Fenced);
        }
        if let Some(tested) = self.tested {
            return ended(TaskResult::Test(tested));
        }
        let outcome = self.result.as_ref().map_or_else(Trouble::outcome, |done| done.outcome());
        let ended = ended(TaskResult::Turn(outcome));
        let (items, reason) = match outcome {
            Outcome::Completed { items } | Outcome::More { items } => (items, None),
            Outcome::Failed { reason, .. } => (0, Some(reason)),
            Outcome::Held | Outcome::OursFailed => return ended,
        };
        let (operation, duration) = (kind_of(work), begun.elapsed());
        let cycle = Cycle { operation, start, duration, items, outcome: word(reason), reason };
        match settled {
            Some(settled) => {
                let Settlement { kept, cycle: written } = *settled;
                Ended { cycle: Some(written.unwrap_or(cycle)), written: Some(kept), ..ended }
            }
            None => Ended { cycle: Some(cycle), ..ended },
        }
    }
}

/// The word that stands for the end of a cycle.
pub(super) fn word(reason: Option<Reason>) -> &'static str {
    use mailyard_policy::Nature;
    match reason {
        None => "success",
        Some(reason) if reason.is_server_fault() => "server_fault",
        Some(reason) => match reason.nature() {
            Nature::Throttled => "throttled",
            Nature::Transient => "transient",
            Nature::Permanent | Nature::Configuration => "permanent",
        },
    }
}
