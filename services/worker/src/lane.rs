//! A profile's lane at its holder: client, gate and breaker, and which of its mailboxes wait for the breaker.

mod keep;
mod own;
mod watched;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use mailyard_exchange::{Client, Failure, Gate};
use mailyard_host::metrics::Profile as Label;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    breaker::{self, Admission, Breaker},
    id::{Attempt, Epoch, MailboxId, ProfileId},
    mailbox,
    operation::Direction,
    outbox,
    outbox::Capabilities,
    profile::CredentialSource,
    throttle,
};
use mailyard_store::{self as store, people::Profile};
use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use self::own::Owned;
pub use self::watched::Target;
use self::watched::Watched;
use crate::{road::Roads, settings::Settings, shared::Shared};

/// A profile as its mailboxes use it: replaced as a whole when people change it.
pub struct Current {
    /// The profile.
    pub profile: Profile,
    /// The rules of its mailboxes.
    pub rules: mailbox::Rules,
    /// The rules of its sendings.
    pub outbox: outbox::Rules,
    /// Its label in figures.
    pub label: Label,
    roads: Arc<Roads>,
}

impl Current {
    /// The client that a direction is done by; `found`: the URL that Autodiscover found for the mailbox.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub fn client(&self, direction: Direction, found: Option<&str>) -> Result<Client, Failure> {
        self.roads.client(direction, found)
    }
}

/// A run that was admitted.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    mailbox: MailboxId,
    begun: Timestamp,
    canary: Option<Attempt>,
}

/// A lane. Its clones are made by `Arc`.
pub struct Lane {
    shared: Arc<Shared>,
    profile: ProfileId,
    number: u16,
    epoch: Epoch,
    gate: Gate,
    owned: Owned,
    places: Arc<Semaphore>,
    current: RwLock<Arc<Current>>,
    state: Mutex<State>,
    changed: Notify,
    watched: Watched,
    tell: Box<dyn Fn(Signal) + Send + Sync>,
}

/// What a lane tells its mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// This one shall try the server.
    Canary(MailboxId),
    /// The breaker closed.
    Closed,
    /// Mail came to this one.
    Mail(MailboxId),
    /// This one is watched from now on.
    Watched(MailboxId),
}

struct State {
    breaker: Breaker,
    held: BTreeSet<MailboxId>,
    last_poked: Option<MailboxId>,
    eligible: u32,
    unsaved: bool,
    facts: VecDeque<Fact>,
    probe: ProbeState,
}

/// Whether it is being found out, or is known, how sending behaves on the profile's server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    Open,
    Running,
    Known,
}

/// The right to find out how sending behaves: one mailbox of the lane has it at a time, so that not each of thousands
/// sends itself a message. Given back when it is dropped.
pub struct Probe<'a>(&'a Lane);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.probe == ProbeState::Running {
            state.probe = ProbeState::Open;
        }
    }
}

impl Lane {
    /// Takes up a lane with what its last holder kept. `tell` speaks to its mailboxes.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(
        shared: Arc<Shared>,
        profile: Profile,
        number: u16,
        epoch: Epoch,
        tell: impl Fn(Signal) + Send + Sync + 'static,
    ) -> store::Result<Arc<Self>> {
        let kept = match shared.store.lane(profile.id, number).await {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error @ store::Error::Corrupt(_)) => {
                tracing::error!(profile = %profile.id, lane = number, %error, "what is kept of a lane is forgotten");
                store::holder::Lane::default()
            }
            Err(error) => return Err(error),
        };
        let secrets = secrets(&shared, &profile).await?;
        let now = shared.now();
        let breaker = kept.breaker.parse().unwrap_or_else(|_| Breaker::new(now));
        let throttle: Option<throttle::State> = kept.throttle.parse().ok();
        let gate = Gate::new(profile.id, profile.max_connections, throttle, shared.clocks.now);
        let places = Arc::new(Semaphore::new(places(&shared, &profile).into()));
        let current = current(&shared.settings, &shared, profile, secrets, &gate);
        let state = State {
            breaker,
            held: BTreeSet::new(),
            last_poked: None,
            eligible: 0,
            unsaved: false,
            facts: VecDeque::new(),
            probe: probe_state(&current),
        };
        Ok(Arc::new(Self {
            profile: current.profile.id,
            shared,
            number,
            epoch,
            gate,
            owned: Owned::default(),
            places,
            current: RwLock::new(Arc::new(current)),
            state: Mutex::new(state),
            changed: Notify::new(),
            watched: Watched::default(),
            tell: Box::new(tell),
        }))
    }

    /// The profile as it is now.
    pub fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The profile.
    pub fn profile(&self) -> ProfileId {
        self.profile
    }

    /// Its number in the profile.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The gate of the profile.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Why the breaker is open.
    pub fn open_reason(&self) -> Option<Reason> {
        self.state().breaker.open()
    }

    /// The profile may have been changed by people. True if it was.
    ///
    /// # Errors
    /// The store's.
    pub async fn refresh(&self, profile: Profile) -> store::Result<bool> {
        let before = self.current();
        if before.profile == profile {
            return Ok(false);
        }
        let secrets = secrets(&self.shared, &profile).await?;
        let another_road = before.profile.credential_source != profile.credential_source
            || before.profile.credentials != profile.credentials
            || before.profile.outgoing_credentials != profile.outgoing_credentials
            || before.profile.incoming_url != profile.incoming_url
            || before.profile.outgoing_url != profile.outgoing_url
            || before.profile.ca_pem != profile.ca_pem;
        let same_clients = !another_road
            && before.profile.request_deadline == profile.request_deadline
            && before.profile.display_name == profile.display_name;
        self.gate.set_max_connections(profile.max_connections);
        self.owned.refresh(&profile);
        self.resize(places(&self.shared, &before.profile), places(&self.shared, &profile));
        let mut current = current(&self.shared.settings, &self.shared, profile, secrets, &self.gate);
        if same_clients {
            // They have their connections, which are signed in, and their token.
            current.roads = before.roads.clone();
        }
        let probe = probe_state(&current);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        if another_road {
            self.state().probe = probe;
            self.breaker_event(breaker::Event::Changed);
        }
        self.watched.tell();
        Ok(true)
    }

    /// A place for one turn, once one is free. With a gate for all there are as many as connections: more turns would
    /// wait for one another at the gate, and keep those of other profiles from beginning.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.places.acquire().await.ok()
    }

    /// Places that are taken away go as soon as the turns on them have ended.
    fn resize(&self, before: u16, after: u16) {
        self.places.add_permits(after.saturating_sub(before).into());
        let fewer = before.saturating_sub(after);
        if fewer > 0 {
            let places = self.places.clone();
            tokio::spawn(async move {
                if let Ok(taken) = places.acquire_many(fewer.into()).await {
                    taken.forget();
                }
            });
        }
    }

    /// A mailbox counts for the breaker, or does not any more.
    pub fn count(&self, counts: bool) {
        let eligible = {
            let mut state = self.state();
            state.eligible = if counts { state.eligible + 1 } else { state.eligible.saturating_sub(1) };
            state.eligible
        };
        self.breaker_event(breaker::Event::Eligible(eligible));
    }

    /// Somebody wants to know at once whether the server is well.
    pub fn ask(&self) {
        self.breaker_event(breaker::Event::Asked);
    }

    /// Whether a mailbox may run.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, mailbox: MailboxId) -> Result<Ticket, Reason> {
        let now = self.shared.now();
        let mut state = self.state();
        let canary = match state.breaker.admit(&self.shared.settings.breaker, mailbox, now) {
            Admission::Go => None,
            Admission::Canary(attempt) => {
                state.unsaved = true;
                Some(attempt)
            }
            Admission::Held { reason } => {
                state.held.insert(mailbox);
                return Err(reason);
            }
        };
        state.held.remove(&mailbox);
        Ok(Ticket { mailbox, begun: now, canary })
    }

    /// What came of an admitted run; `None`: nothing was learnt of the server.
    pub fn report(&self, ticket: Ticket, answer: Option<breaker::Answer>) {
        let Ticket { mailbox, begun, canary } = ticket;
        match (canary, answer) {
            (Some(attempt), answer) => {
                // A canary of which nothing is known proves nothing: the next one goes after the same wait.
                let answer = answer.unwrap_or(breaker::Answer::Throttled);
                self.breaker_event(breaker::Event::CanaryEnded { attempt, answer });
            }
            (None, Some(answer)) => self.breaker_event(breaker::Event::Ended { mailbox, begun, answer }),
            (None, None) => {}
        }
    }

    fn breaker_event(&self, event: breaker::Event) {
        let now = self.shared.now();
        let rules = &self.shared.settings.breaker;
        let mut state = self.state();
        let canary = state.breaker.canary_at(rules, now);
        let effect = state.breaker.step(rules, event, now);
        let regarding = Regarding::Profile(self.profile);
        let what = match effect {
            Some(breaker::Effect::Opened(reason)) => Some(What::BreakerOpened(reason)),
            Some(breaker::Effect::Closed) => Some(What::BreakerClosed),
            None => None,
        };
        if let Some(what) = what {
            match what {
                What::BreakerOpened(reason) => {
                    tracing::warn!(profile = %self.profile, reason = reason.code(), "the server is left alone");
                }
                _ => tracing::info!(profile = %self.profile, "the server is well again"),
            }
            state.facts.push_back(Fact { regarding, what, at: now });
            state.unsaved = true;
        }
        // Most events change nothing that the lane's task waits for.
        let changed = state.unsaved || state.breaker.canary_at(rules, now) != canary;
        drop(state);
        if what.is_some() {
            self.watched.tell();
        }
        if what == Some(What::BreakerClosed) {
            (self.tell)(Signal::Closed);
        }
        if changed {
            self.changed.notify_one();
        }
    }

    /// Writes what changed and sends canaries, until the lane belongs to somebody else.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.keep().await {
                Ok(()) => {}
                Err(store::Error::Fenced) => return,
                Err(error) => tracing::warn!(profile = %self.profile, %error, "a lane could not be kept"),
            }
            let now = self.shared.now();
            let canary = self.state().breaker.canary_at(&self.shared.settings.breaker, now);
            if canary.is_some_and(|at| at <= now) {
                self.poke_one();
            }
            // Whoever is poked may be busy: it is asked again, or another one, a second later.
            let wait = canary.map_or(std::time::Duration::from_mins(1), |at| at.since(now));
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait.max(std::time::Duration::from_secs(1))) => {}
            }
        }
    }

    async fn keep(&self) -> store::Result<()> {
        let (kept, facts) = {
            let mut state = self.state();
            if !std::mem::take(&mut state.unsaved) {
                return Ok(());
            }
            let kept = store::holder::Lane {
                breaker: state.breaker.to_string(),
                open: state.breaker.open(),
                throttle: self.gate.view().state.to_string(),
            };
            (kept, state.facts.iter().copied().collect::<Vec<_>>())
        };
        let place = (self.profile, self.number, self.epoch);
        let written = keep::write(&*self.shared.store, place, &kept, &facts).await;
        let mut state = self.state();
        match &written {
            Ok(()) => {
                drop(state.facts.drain(..facts.len()));
                if !facts.is_empty() {
                    self.shared.tell_facts();
                }
            }
            Err(_) => state.unsaved = true,
        }
        written
    }

    /// One of those that wait, another one each time.
    fn poke_one(&self) {
        let next = {
            let mut state = self.state();
            let after = state.last_poked.and_then(|last| {
                let later = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
                state.held.range(later).next().copied()
            });
            let next = after.or_else(|| state.held.first().copied());
            state.last_poked = next;
            next
        };
        if let Some(mailbox) = next {
            (self.tell)(Signal::Canary(mailbox));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to find out how sending behaves; `None`: it is known, or somebody is at it.
    pub fn probe(&self) -> Option<Probe<'_>> {
        let mut state = self.state();
        if state.probe != ProbeState::Open {
            return None;
        }
        state.probe = ProbeState::Running;
        drop(state);
        Some(Probe(self))
    }

    /// Keeps what a probe learnt of the sending of the server of this profile.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_capabilities(
        &self,
        probed: &Profile,
        capabilities: &Capabilities,
    ) -> store::Result<()> {
        let url = probed.url(Direction::Outgoing);
        self.shared.store.keep_capabilities(self.profile, self.epoch, url, capabilities).await?;
        if capabilities.consumes_draft.is_some() {
            self.state().probe = ProbeState::Known;
        }
        Ok(())
    }
}

fn probe_state(current: &Current) -> ProbeState {
    match current.profile.capabilities.consumes_draft {
        Some(_) => ProbeState::Known,
        None => ProbeState::Open,
    }
}

/// Turns that run at once: as many as connections. Mailboxes that sign in as themselves have connections each of its
/// own: of them half of all turns run, so that those of other profiles can begin.
fn places(shared: &Shared, profile: &Profile) -> u16 {
    match profile.credential_source {
        CredentialSource::Profile => profile.max_connections,
        CredentialSource::Mailbox => (shared.settings.max_inflight / 2).max(1),
    }
}

/// What the profile signs in with, in each direction.
async fn secrets(shared: &Shared, profile: &Profile) -> store::Result<[Option<SecretString>; 2]> {
    let secret = |direction| shared.store.secret(profile, direction);
    Ok([secret(Direction::Incoming).await?, secret(Direction::Outgoing).await?])
}

fn current(
    settings: &Settings,
    shared: &Shared,
    profile: Profile,
    secrets: [Option<SecretString>; 2],
    gate: &Gate,
) -> Current {
    let label = shared.metrics.profile(&profile.display_name);
    let roads = Arc::new(Roads::new(shared, &label, &profile, secrets, gate));
    let rules = settings.mailbox_rules(&profile);
    let outbox = outbox::Rules { request_deadline: settings.request_deadline(&profile), ..settings.outbox };
    Current { profile, rules, outbox, label, roads }
}
