//! One sending: how an email leaves exactly once through a server that has no idempotency key.
//!
//! Intent, draft with the operation id, only the recorded draft is submitted; when the outcome is unknown, MoveItem
//! takes the draft away from everybody else before anything is tried again.
//! What stays in doubt is shown to a person and never sent again by itself.

mod text;

use std::time::Duration;

use crate::{
    id::Attempt,
    reason::{Nature, Reason, Scope},
    time::Timestamp,
    words,
};

/// Where an outgoing email stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Still written; not to be sent yet.
    Draft,
    /// It waits for its mailbox to send it: not begun, or certainly not sent. Only here a cancel wins.
    PendingSend,
    /// Its mailbox is at it; the inner step says how far.
    Sending,
    /// The server accepted it.
    Sent,
    /// It was refused for good.
    Failed,
    /// A person canceled it.
    Canceled,
    /// It was not sent in time.
    Expired,
    /// Nobody can say whether it was sent: a person must look.
    NeedsPerson,
}

words! {
    State: Draft = "draft", PendingSend = "pending_send", Sending = "sending", Sent = "sent", Failed = "failed",
        Canceled = "canceled", Expired = "expired", NeedsPerson = "needs_person";
}

impl State {
    /// True if nothing more happens to it by itself.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Draft | Self::PendingSend | Self::Sending => false,
            Self::Sent | Self::Failed | Self::Canceled | Self::Expired | Self::NeedsPerson => true,
        }
    }
}

/// A draft in Exchange. The change key is renewed by each save.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Draft {
    /// Its item id, opaque and compared byte by byte.
    pub item_id: String,
    /// Its change key.
    pub change_key: String,
}

/// The inner step of a sending, as it is stored before the act that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nothing was begun, or what was begun certainly left nothing to think of.
    #[default]
    None,
    /// A draft may be made at any moment. Drafts that are not recorded are never submitted.
    Claimed {
        /// The attempt that makes it.
        attempt: Attempt,
    },
    /// This draft is the one that may be submitted.
    Drafted(Draft),
    /// SendItem may be executed until `deadline`, and what was begun by then may run for as long again.
    Submitting {
        /// The recorded draft.
        draft: Draft,
        /// The attempt that submits it.
        attempt: Attempt,
        /// When the request is given up.
        deadline: Timestamp,
    },
    /// MoveItem may have taken the draft, or found it gone: it is looked for, `looks` times so far.
    Uncertain {
        /// The draft that was submitted.
        draft: Draft,
        /// How often it was looked for in vain.
        looks: u8,
    },
}

/// A sending as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Where it stands.
    pub state: State,
    /// How far it is inside of [`State::Sending`].
    pub step: Step,
    /// Number of the last attempt. Greater than the one in its step: the outcome of that one is unknown.
    pub attempt: Attempt,
    /// Failures in a row of the current step.
    pub failures: u8,
    /// Nothing is done before this.
    pub not_before: Option<Timestamp>,
    /// Not to be sent after this.
    pub expires: Option<Timestamp>,
    /// The last failure.
    pub reason: Option<Reason>,
}

/// What sending does on a server, as probed; `None`: not known, the worst is assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// A draft that was sent is gone.
    pub consumes_draft: Option<bool>,
    /// SendItem with an old change key fails.
    pub checks_change_key: Option<bool>,
    /// An item's old id is dead once the item was moved.
    pub moved_id_dies: Option<bool>,
}

impl Capabilities {
    /// True if taking a draft by MoveItem proves that it was not sent and keeps everybody else from sending it.
    pub fn move_is_a_fence(self) -> bool {
        self.consumes_draft == Some(true) && self.moved_id_dies == Some(true)
    }
}

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// One EWS request is given up after this (D).
    pub request_deadline: Duration,
    /// The wait after a failure that may pass.
    pub retry_gap: Duration,
    /// Failures in a row after which the email is failed.
    pub attempts: u8,
    /// The wait between two looks for a draft that is gone.
    pub look_gap: Duration,
    /// Looks in vain after which a person must look.
    pub looks: u8,
}

impl Rules {
    /// No wait of a sending is longer than this.
    fn longest_wait(&self) -> Duration {
        self.request_deadline * 2 + self.retry_gap.max(self.look_gap).max(LONGEST_HINT)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            request_deadline: Duration::from_secs(20),
            retry_gap: Duration::from_mins(5),
            attempts: 10,
            look_gap: Duration::from_secs(30),
            looks: 4,
        }
    }
}

/// What is to be done next. Each act is begun only after the step that names it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing, ever.
    Nothing,
    /// Nothing before this moment.
    Wait(Timestamp),
    /// Step forward with [`Event::Begin`] and store that before anything else.
    Begin,
    /// Make a draft with the operation id; adopt one that carries it already, if this is not the first attempt.
    MakeDraft {
        /// The attempt.
        attempt: Attempt,
        /// True if an earlier attempt may have left a draft: look for it first.
        look_first: bool,
    },
    /// Submit the recorded draft; give up at the deadline.
    Submit {
        /// The attempt.
        attempt: Attempt,
        /// The draft.
        draft: Draft,
        /// When to give up.
        deadline: Timestamp,
    },
    /// Take the draft by MoveItem into the private folder; if it is not found, look for the operation id in the
    /// private folder, in Sent Items and in the Outbox.
    TakeOrFind {
        /// The attempt.
        attempt: Attempt,
        /// The draft.
        draft: Draft,
    },
}

/// Whether a step was stored by the one who asks, a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fresh {
    /// Yes: its act has not been begun.
    Yes,
    /// No: it was found, and its act may have been begun by somebody.
    No,
}

/// What the server did with a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Execution {
    /// Certainly nothing.
    Not,
    /// Nobody knows.
    Maybe,
}

/// Where an email that may have been sent was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// MoveItem took it, or it lies in the private folder from an earlier take: it has this id now.
    Taken(Draft),
    /// A copy with the operation id lies in Sent Items.
    Sent,
    /// It lies in the Outbox: the server is at it.
    Outbox,
    /// Nowhere.
    Nowhere,
}

/// What happens to a sending. Results name their attempt; those of another attempt are late and change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The holder goes to work.
    Begin,
    /// A draft was made (or found) and may be recorded.
    DraftMade(Attempt, Draft),
    /// No draft was made that we know of. Another one does no harm.
    DraftFailed(Attempt, Reason, Option<Duration>),
    /// The recorded draft has another change key by now, and was certainly not submitted.
    DraftChanged(Attempt, Draft),
    /// The server accepted the draft.
    Submitted(Attempt),
    /// The submission failed. With [`Execution::Not`] the draft is as it was.
    SubmitFailed(Attempt, Execution, Reason, Option<Duration>),
    /// The look for an uncertain draft came to an end.
    Found(Attempt, Finding),
    /// The look itself failed and is repeated.
    LookFailed(Attempt, Reason, Option<Duration>),
}

impl Delivery {
    /// A new email that waits to be sent.
    pub fn pending(expires: Option<Timestamp>) -> Self {
        Self {
            state: State::PendingSend,
            step: Step::None,
            attempt: Attempt(0),
            failures: 0,
            not_before: None,
            expires,
            reason: None,
        }
    }

    /// When it is to be looked at; `None`: never.
    pub fn due(&self, rules: &Rules) -> Option<Timestamp> {
        let earliest = match (&self.state, &self.step) {
            (state, _) if state.is_final() => return None,
            (State::Draft, _) => return None,
            (_, Step::Submitting { deadline, .. }) => *deadline + rules.request_deadline,
            (_, Step::None | Step::Claimed { .. } | Step::Drafted(_) | Step::Uncertain { .. }) => {
                Timestamp::EPOCH
            }
        };
        Some(earliest.max(self.not_before.unwrap_or(Timestamp::EPOCH)))
    }

    /// What its holder has to do. `fresh` says that this very holder stored this step a moment ago; whoever finds it
    /// leaves a sending in SUBMITTING alone until nobody can be executing it any more, and looks for drafts that an
    /// earlier attempt may have left.
    pub fn act(&self, rules: &Rules, fresh: Fresh, now: Timestamp) -> Act {
        let Some(due) = self.due(rules) else { return Act::Nothing };
        match (&self.step, fresh) {
            (Step::Submitting { draft, attempt, deadline }, Fresh::Yes)
                if now < *deadline && *attempt == self.attempt =>
            {
                return Act::Submit { attempt: *attempt, draft: draft.clone(), deadline: *deadline };
            }
            _ if due > now => return Act::Wait(due.min(now + rules.longest_wait())),
            _ => {}
        }
        match &self.step {
            Step::None | Step::Drafted(_) | Step::Submitting { .. } => Act::Begin,
            Step::Claimed { attempt } => {
                Act::MakeDraft { attempt: *attempt, look_first: fresh == Fresh::No || attempt.0 > 1 }
            }
            Step::Uncertain { draft, .. } => Act::TakeOrFind { attempt: self.attempt, draft: draft.clone() },
        }
    }

    /// The next state. The same state: the event was late, and nothing is to be stored.
    #[must_use]
    pub fn step(&self, rules: &Rules, capabilities: Capabilities, event: &Event, now: Timestamp) -> Self {
        if self.state.is_final() || self.state == State::Draft {
            return self.clone();
        }
        match event {
            Event::Begin => self.begin(rules, now),
            Event::DraftMade(attempt, draft) => match &self.step {
                Step::Claimed { attempt: current } if current == attempt => {
                    self.settled(Step::Drafted(draft.clone()))
                }
                _ => self.clone(),
            },
            Event::DraftFailed(attempt, reason, hint) => match &self.step {
                Step::Claimed { attempt: current } if current == attempt => {
                    self.failed(Step::None, rules, *reason, *hint, now)
                }
                _ => self.clone(),
            },
            Event::DraftChanged(attempt, draft) => match &self.step {
                Step::Submitting { attempt: current, .. } if current == attempt => {
                    self.settled(Step::Drafted(draft.clone()))
                }
                _ => self.clone(),
            },
            Event::Submitted(attempt) => match &self.step {
                Step::Submitting { attempt: current, .. } if current == attempt => {
                    self.ended(State::Sent, None)
                }
                _ => self.clone(),
            },
            Event::SubmitFailed(attempt, execution, reason, hint) => match (&self.step, execution) {
                // A recorded draft that is gone may have left by an earlier submission.
                (Step::Submitting { attempt: current, draft, .. }, Execution::Not)
                    if current == attempt && *reason == Reason::ItemNotFound =>
                {
                    let step = Step::Uncertain { draft: draft.clone(), looks: 0 };
                    Self { step, reason: Some(*reason), ..self.clone() }
                }
                (Step::Submitting { attempt: current, draft, .. }, Execution::Not) if current == attempt => {
                    self.failed(Step::Drafted(draft.clone()), rules, *reason, *hint, now)
                }
                (Step::Submitting { attempt: current, .. }, Execution::Maybe)
                    if current == attempt && self.attempt == *attempt =>
                {
                    Self { reason: Some(*reason), attempt: attempt.next(), ..self.clone() }
                }
                _ => self.clone(),
            },
            Event::Found(attempt, finding) => match &self.step {
                Step::Uncertain { draft, looks } if self.attempt == *attempt => {
                    self.found(rules, capabilities, draft, *looks, finding, now)
                }
                _ => self.clone(),
            },
            Event::LookFailed(attempt, reason, hint) => match &self.step {
                Step::Uncertain { .. } if self.attempt == *attempt => {
                    let wait = hint.unwrap_or(rules.look_gap).clamp(SHORTEST_HINT, LONGEST_HINT);
                    Self {
                        reason: Some(*reason),
                        not_before: Some(now + wait),
                        attempt: attempt.next(),
                        ..self.clone()
                    }
                }
                _ => self.clone(),
            },
        }
    }

    /// Stores the intent of the next act, under a new attempt.
    fn begin(&self, rules: &Rules, now: Timestamp) -> Self {
        if self.due(rules).is_none_or(|due| due > now) {
            return self.clone();
        }
        let attempt = self.attempt.next();
        let expired = self.expires.is_some_and(|expires| expires <= now);
        let step = match &self.step {
            Step::None | Step::Claimed { .. } | Step::Drafted(_) if expired => {
                return self.ended(State::Expired, Some(Reason::EmailExpired));
            }
            Step::None => Step::Claimed { attempt },
            Step::Claimed { .. } => return self.clone(),
            Step::Drafted(draft) => {
                Step::Submitting { draft: draft.clone(), attempt, deadline: now + rules.request_deadline }
            }
            Step::Submitting { draft, .. } => Step::Uncertain { draft: draft.clone(), looks: 0 },
            Step::Uncertain { .. } => self.step.clone(),
        };
        Self { state: State::Sending, step, attempt, not_before: None, ..self.clone() }
    }

    /// A step came to a good end; the count of failures starts anew.
    fn settled(&self, step: Step) -> Self {
        Self { state: State::Sending, step, failures: 0, not_before: None, reason: None, ..self.clone() }
    }

    fn ended(&self, state: State, reason: Option<Reason>) -> Self {
        Self { state, step: Step::None, not_before: None, reason, ..self.clone() }
    }

    /// The server certainly did nothing that matters: it waits to be sent as before, or is given up. Only what is
    /// wrong with the email itself counts against it.
    fn failed(
        &self,
        step: Step,
        rules: &Rules,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        let its_own = reason.scope() == Scope::Item;
        let counts = its_own && reason.nature() == Nature::Transient;
        let for_good = its_own && matches!(reason.nature(), Nature::Permanent | Nature::Configuration);
        let failures = self.failures.saturating_add(u8::from(counts));
        if for_good || failures >= rules.attempts {
            return Self { failures, ..self.ended(State::Failed, Some(reason)) };
        }
        let wait = hint.map_or(rules.retry_gap, |hint| hint.clamp(SHORTEST_HINT, LONGEST_HINT));
        Self {
            state: State::PendingSend,
            step,
            failures,
            not_before: Some(now + wait),
            reason: Some(reason),
            ..self.clone()
        }
    }

    fn found(
        &self,
        rules: &Rules,
        capabilities: Capabilities,
        draft: &Draft,
        looks: u8,
        finding: &Finding,
        now: Timestamp,
    ) -> Self {
        let again = |looks| Self {
            step: Step::Uncertain { draft: draft.clone(), looks },
            not_before: Some(now + rules.look_gap),
            attempt: self.attempt.next(),
            ..self.clone()
        };
        match finding {
            Finding::Sent => self.ended(State::Sent, None),
            Finding::Outbox => again(looks),
            Finding::Taken(taken) if capabilities.move_is_a_fence() => {
                self.settled(Step::Drafted(taken.clone()))
            }
            // The draft is there, yet on this server that proves nothing: only a sent copy could.
            Finding::Taken(taken) if looks < rules.looks => {
                Self { step: Step::Uncertain { draft: taken.clone(), looks: looks + 1 }, ..again(looks) }
            }
            Finding::Nowhere if looks < rules.looks => again(looks + 1),
            Finding::Taken(_) | Finding::Nowhere => {
                self.ended(State::NeedsPerson, Some(Reason::EmailOutcomeUnknown))
            }
        }
    }
}

/// No hint of the server makes a sending come again sooner than this.
const SHORTEST_HINT: Duration = Duration::from_secs(1);

/// No hint of the server makes a sending wait longer than this.
const LONGEST_HINT: Duration = Duration::from_mins(10);
