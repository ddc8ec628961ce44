//! A profile's lane at its holder: client, gate and breaker, and which of its mailboxes wait for the breaker.

mod keep;
mod own;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use mailyard_exchange::{Client, Failure, Gate};
use mailyard_host::metrics::Profile as Label;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    breaker::{self, Admission, Breakers, Road},
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

/// The directions, in the order in which what is known of them is told.
const DIRECTIONS: [Direction; 2] = [Direction::Incoming, Direction::Outgoing];

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
#[derive(Clone, Debug)]
pub struct Admitted {
    mailbox: MailboxId,
    begun: Timestamp,
    canaries: Vec<(Road, Attempt)>,
    /// Why each direction is held back: what needs it is not done.
    pub held: [Option<Reason>; 2],
}

/// Whether a mailbox counts for the breaker of each road: both, incoming, outgoing.
pub type Counts = [bool; 3];

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
    /// This one shall try the server, by this road.
    Canary(MailboxId, Road),
    /// A breaker closed.
    Closed,
    /// Mail came to this one.
    Mail(MailboxId),
    /// This one is watched from now on.
    Watched(MailboxId),
}

struct State {
    breakers: Breakers,
    waiting: BTreeMap<Road, Waiting>,
    eligible: [u32; 3],
    unsaved: bool,
    facts: VecDeque<Fact>,
    probe: ProbeState,
}

/// Mailboxes that wait for a breaker.
#[derive(Default)]
struct Waiting {
    mailboxes: BTreeSet<MailboxId>,
    last_poked: Option<MailboxId>,
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
        let apart = profile.sends_apart();
        let mut breakers = kept.breaker.parse().unwrap_or_else(|_| Breakers::new(apart, now));
        breakers.set_apart(apart);
        let throttle: Option<throttle::State> = kept.throttle.parse().ok();
        let gate = Gate::new(profile.id, profile.max_connections, throttle, shared.clocks.now);
        let places = Arc::new(Semaphore::new(places(&shared, &profile).into()));
        let current = current(&shared.settings, &shared, profile, secrets, &gate);
        let state = State {
            breakers,
            waiting: BTreeMap::new(),
            eligible: [0; 3],
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

    /// Why each direction is held back: incoming, outgoing.
    pub fn held(&self) -> [Option<Reason>; 2] {
        self.state().breakers.held()
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
        let apart = profile.sends_apart();
        let other_roads = DIRECTIONS.map(|direction| is_another_road(&before.profile, &profile, direction));
        let another_road = other_roads.contains(&true) || before.profile.sends_apart() != apart;
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
            self.changed_roads(apart, other_roads);
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

    /// What leads to the servers is new in these directions.
    fn changed_roads(&self, apart: bool, changed: [bool; 2]) {
        let (became_others, roads) = {
            let mut state = self.state();
            let became_others = state.breakers.set_apart(apart);
            state.unsaved |= became_others;
            if became_others {
                state.waiting.clear();
            }
            (became_others, state.breakers.roads())
        };
        for road in roads {
            let is_changed =
                std::iter::zip(DIRECTIONS, changed).any(|(way, changed)| changed && road.leads(way));
            if became_others {
                self.tell_eligible(*road);
            }
            if became_others || is_changed {
                self.breaker_event(*road, breaker::Event::Changed);
            }
        }
        if became_others {
            // Whoever waits for a road that is no more is not poked by another.
            (self.tell)(Signal::Closed);
        }
    }

    /// A mailbox counts for some breakers, and did for others before.
    pub fn count(&self, before: Counts, counts: Counts) {
        let roads = {
            let mut state = self.state();
            for (eligible, change) in state.eligible.iter_mut().zip(std::iter::zip(before, counts)) {
                match change {
                    (false, true) => *eligible += 1,
                    (true, false) => *eligible = eligible.saturating_sub(1),
                    (false, false) | (true, true) => {}
                }
            }
            state.breakers.roads()
        };
        roads.iter().for_each(|road| self.tell_eligible(*road));
    }

    fn tell_eligible(&self, road: Road) {
        let eligible = self.state().eligible[road as usize];
        self.breaker_event(road, breaker::Event::Eligible(eligible));
    }

    /// Somebody wants to know at once whether the servers are well.
    pub fn ask(&self) {
        let roads = self.state().breakers.roads();
        roads.iter().for_each(|road| self.breaker_event(*road, breaker::Event::Asked));
    }

    /// Whether a mailbox may run in the directions that it needs. It may if one of them is open to it.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, mailbox: MailboxId, needs: [bool; 2]) -> Result<Admitted, Reason> {
        let begun = self.shared.now();
        let mut state = self.state();
        let mut admitted = Admitted { mailbox, begun, canaries: Vec::new(), held: state.breakers.held() };
        let (mut goes, mut refused) = (false, None);
        for road in state.breakers.roads() {
            let needed = std::iter::zip(DIRECTIONS, needs).any(|(way, needed)| needed && road.leads(way));
            if !needed {
                continue;
            }
            let held = match self.admit_to(&mut state, *road, mailbox, begun) {
                Ok(canary) => {
                    admitted.canaries.extend(canary.map(|attempt| (*road, attempt)));
                    goes = true;
                    None
                }
                Err(reason) => Some(reason),
            };
            refused = refused.or(held);
            for way in DIRECTIONS.into_iter().filter(|way| road.leads(*way)) {
                admitted.held[way as usize] = held;
            }
        }
        match refused {
            Some(reason) if !goes => Err(reason),
            _ => Ok(admitted),
        }
    }

    fn admit_to(
        &self,
        state: &mut State,
        road: Road,
        mailbox: MailboxId,
        now: Timestamp,
    ) -> Result<Option<Attempt>, Reason> {
        let Some(breaker) = state.breakers.at_mut(road) else { return Ok(None) };
        let waiting = state.waiting.entry(road).or_default();
        let admission = breaker.admit(&self.shared.settings.breaker, mailbox, now);
        match admission {
            Admission::Held { reason } => {
                waiting.mailboxes.insert(mailbox);
                return Err(reason);
            }
            Admission::Go | Admission::Canary(_) => waiting.mailboxes.remove(&mailbox),
        };
        let Admission::Canary(attempt) = admission else { return Ok(None) };
        state.unsaved = true;
        Ok(Some(attempt))
    }

    /// What came of an admitted run, in each direction; `None`: nothing was learnt of its server.
    pub fn report(&self, admitted: &Admitted, answers: [Option<breaker::Answer>; 2]) {
        let Admitted { mailbox, begun, canaries, held: _ } = admitted;
        let (mailbox, begun) = (*mailbox, *begun);
        let roads = self.state().breakers.roads();
        for road in roads {
            let ways = std::iter::zip(DIRECTIONS, answers).filter(|(way, _)| road.leads(*way));
            let answer = ways.filter_map(|(_, answer)| answer).max_by_key(weight);
            let canary = canaries.iter().find(|(of, _)| of == road).map(|(_, attempt)| *attempt);
            match (canary, answer) {
                (Some(attempt), answer) => {
                    // A canary of which nothing is known proves nothing: the next one goes after the same wait.
                    let answer = answer.unwrap_or(breaker::Answer::Throttled);
                    self.breaker_event(*road, breaker::Event::CanaryEnded { attempt, answer });
                }
                (None, Some(answer)) => {
                    self.breaker_event(*road, breaker::Event::Ended { mailbox, begun, answer });
                }
                (None, None) => {}
            }
        }
    }

    fn breaker_event(&self, road: Road, event: breaker::Event) {
        let now = self.shared.now();
        let rules = &self.shared.settings.breaker;
        let mut state = self.state();
        let canary = state.canary_at(road, rules, now);
        let effect = state.breakers.step(road, rules, event, now);
        let regarding = Regarding::Profile(self.profile);
        let what = match effect {
            Some(breaker::Effect::Opened(reason)) => Some(What::BreakerOpened(road, reason)),
            Some(breaker::Effect::Closed) => Some(What::BreakerClosed(road)),
            None => None,
        };
        if let Some(what) = what {
            let (profile, road) = (self.profile, road.word());
            match what {
                What::BreakerOpened(_, reason) => {
                    tracing::warn!(%profile, road, reason = reason.code(), "the server is left alone");
                }
                _ => tracing::info!(%profile, road, "the server is well again"),
            }
            state.facts.push_back(Fact { regarding, what, at: now });
            state.unsaved = true;
        }
        // Most events change nothing that the lane's task waits for.
        let changed = state.unsaved || state.canary_at(road, rules, now) != canary;
        drop(state);
        if what.is_some() {
            self.watched.tell();
        }
        if matches!(what, Some(What::BreakerClosed(_))) {
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
            let next = self.poke_due();
            // Whoever is poked may be busy: it is asked again, or another one, a second later.
            let wait = next.unwrap_or(std::time::Duration::from_mins(1));
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
                breaker: state.breakers.to_string(),
                open: state.breakers.held().into_iter().flatten().next(),
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

    /// Sends a canary by each road that wants one; how long until the next is wanted.
    fn poke_due(&self) -> Option<std::time::Duration> {
        let now = self.shared.now();
        let roads = self.state().breakers.roads();
        let mut soonest = None;
        for road in roads {
            let Some(at) = self.state().canary_at(*road, &self.shared.settings.breaker, now) else {
                continue;
            };
            if at <= now {
                self.poke_one(*road);
            }
            let wait = at.since(now);
            soonest = Some(soonest.map_or(wait, |soonest: std::time::Duration| soonest.min(wait)));
        }
        soonest
    }

    /// One of those that wait, another one each time.
    fn poke_one(&self, road: Road) {
        let next = self.state().waiting.entry(road).or_default().next();
        if let Some(mailbox) = next {
            (self.tell)(Signal::Canary(mailbox, road));
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

impl State {
    fn canary_at(&self, road: Road, rules: &breaker::Rules, now: Timestamp) -> Option<Timestamp> {
        self.breakers.at(road)?.canary_at(rules, now)
    }
}

impl Waiting {
    fn next(&mut self) -> Option<MailboxId> {
        let after = self.last_poked.and_then(|last| {
            let later = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.mailboxes.range(later).next().copied()
        });
        self.last_poked = after.or_else(|| self.mailboxes.first().copied());
        self.last_poked
    }
}

/// Of what was learnt by one road, the worst counts.
fn weight(answer: &breaker::Answer) -> u8 {
    match answer {
        breaker::Answer::Answered => 0,
        breaker::Answer::Throttled => 1,
        breaker::Answer::Fault(_) => 2,
    }
}

fn is_another_road(before: &Profile, profile: &Profile, direction: Direction) -> bool {
    before.credential_source != profile.credential_source
        || before.credentials(direction) != profile.credentials(direction)
        || before.url(direction) != profile.url(direction)
        || before.ca_pem != profile.ca_pem
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
