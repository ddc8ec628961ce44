//! One stream: it does what its machine says, and tells it what came of that.

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use mailyard_exchange::{Client, Failure, Lifetime, Told, Watch};
use mailyard_policy::{
    id::MailboxId,
    operation::Direction,
    watch::{Event, Step, Stream, Trouble},
};
use tokio::sync::{
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    watch::Receiver,
};

use super::{Members, Task};
use crate::{lane::Lane, shared::Shared};

/// No sleep is longer: the wall clock may be set while we sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A stream at work.
pub(super) struct Watching {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    /// Where Autodiscover found its mailboxes, if it is asked.
    url: Option<Arc<str>>,
    told: Receiver<Members>,
    machine: Stream,
    members: Members,
    /// The subscriptions, with the addresses that they were made for.
    subscriptions: HashMap<MailboxId, (Arc<str>, Box<str>)>,
    watch: Option<Watch>,
    reading: Option<Reading>,
}

/// A connection that is open.
struct Reading {
    heard: UnboundedReceiver<Heard>,
    stood: bool,
    _task: Task,
}

/// What a connection says to its stream; mail it tells of itself.
enum Heard {
    Stands,
    Lost(Vec<MailboxId>, Trouble),
    Ended(Option<Trouble>),
}

/// What a stream waits for.
enum Woken {
    Heard(Heard),
    Members,
    Time,
    Over,
}

impl Watching {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        url: Option<Arc<str>>,
        told: Receiver<Members>,
    ) -> Self {
        let (members, subscriptions) = (Members::new(), HashMap::new());
        let machine = Stream::default();
        Self { shared, lane, url, told, machine, members, subscriptions, watch: None, reading: None }
    }

    /// Goes on until nobody is to be watched together any more.
    pub(super) async fn run(mut self) {
        loop {
            let wait = match self.machine.next(&self.shared.settings.watch, self.shared.now()) {
                Step::Subscribe(id) => {
                    self.subscribe(id).await;
                    Duration::ZERO
                }
                Step::Unsubscribe(id) => {
                    self.unsubscribe(id).await;
                    Duration::ZERO
                }
                Step::Read { anchor } => {
                    self.read(anchor);
                    Duration::ZERO
                }
                Step::Wait(until) => {
                    until.map_or(LONGEST_SLEEP, |until| until.since(self.shared.now())).min(LONGEST_SLEEP)
                }
            };
            match self.woken(wait).await {
                Woken::Heard(heard) => self.heard(heard),
                Woken::Members => self.set_members(),
                Woken::Time => {}
                Woken::Over => return,
            }
        }
    }

    async fn woken(&mut self, wait: Duration) -> Woken {
        let heard = async {
            match &mut self.reading {
                // A task that came to an unforeseen end says nothing.
                Some(reading) => {
                    reading.heard.recv().await.unwrap_or(Heard::Ended(Some(Trouble::Server(None))))
                }
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.told.changed() => if changed.is_ok() { Woken::Members } else { Woken::Over },
            heard = heard => Woken::Heard(heard),
            () = tokio::time::sleep(wait) => Woken::Time,
        }
    }

    fn step(&mut self, event: Event) {
        let now = self.shared.now();
        self.machine.step(&self.shared.settings.watch, event, now);
    }

    fn set_members(&mut self) {
        let members = self.told.borrow_and_update().clone();
        // Who has another address now is another one.
        let same = |(id, address): &(&MailboxId, &Arc<str>)| {
            self.members.get(id).is_none_or(|known| known == *address)
        };
        let stayed: BTreeSet<MailboxId> = members.iter().filter(same).map(|(id, _)| *id).collect();
        self.machine.set_members(&stayed);
        self.machine.set_members(&members.keys().copied().collect());
        self.members = members;
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Stands => {
                if let Some(reading) = &mut self.reading {
                    reading.stood = true;
                }
                let mailboxes = self.machine.read().count();
                tracing::info!(profile = %self.lane.profile(), mailboxes, "the server tells of new mail");
            }
            Heard::Lost(ids, trouble) => {
                for id in ids {
                    self.subscriptions.remove(&id);
                    self.step(Event::Lost(id, trouble));
                }
            }
            Heard::Ended(trouble) => {
                let stood = self.reading.take().is_some_and(|reading| reading.stood);
                if let Some(trouble) = trouble {
                    let profile = self.lane.profile();
                    tracing::info!(%profile, ?trouble, stood, "the server tells of new mail no more: polls find it");
                }
                self.step(Event::Ended { stood, trouble });
            }
        }
    }

    async fn subscribe(&mut self, id: MailboxId) {
        let subscribed = self.subscribed(id).await;
        match subscribed {
            Ok(()) => {
                self.step(Event::Subscribed(id));
                self.lane.tell_watched(id);
            }
            Err(failure) => {
                let profile = self.lane.profile();
                tracing::debug!(%profile, mailbox = %id, reason = failure.reason.code(), "a mailbox is not watched");
                self.step(Event::Refused(id, failure.of_watching()));
            }
        }
    }

    async fn subscribed(&mut self, id: MailboxId) -> Result<(), Failure> {
        let client = self.client()?;
        let Some(address) = self.members.get(&id).cloned() else { return Ok(()) };
        if self.machine.subscribed().next().is_none() {
            // Nothing is kept anywhere: any server will do.
            self.watch = None;
        }
        let watch = self.watch.get_or_insert_with(|| client.watch(address.clone()));
        let subscription = watch.subscribe(&address).await?;
        self.subscriptions.insert(id, (address, subscription));
        Ok(())
    }

    /// One that cannot be ended now ends by itself, because nobody reads it.
    async fn unsubscribe(&mut self, id: MailboxId) {
        if let Some((address, subscription)) = self.subscriptions.remove(&id)
            && let Some(watch) = &self.watch
            && let Err(failure) = watch.unsubscribe(&address, &subscription).await
        {
            tracing::debug!(mailbox = %id, reason = failure.reason.code(), "a subscription is left to its end");
        }
        self.step(Event::Unsubscribed(id));
    }

    fn client(&self) -> Result<Client, Failure> {
        self.lane.current().client(Direction::Incoming, self.url.as_deref())
    }

    /// Opens a connection for all that are subscribed; the one that is open ends.
    fn read(&mut self, anchor: MailboxId) {
        let subscribed: BTreeSet<MailboxId> = self.machine.subscribed().collect();
        self.step(Event::Reading);
        let (says, heard) = mpsc::unbounded_channel();
        let names: HashMap<Box<str>, MailboxId> = self
            .subscriptions
            .iter()
            .filter(|(id, _)| subscribed.contains(id))
            .map(|(id, (_, subscription))| (subscription.clone(), *id))
            .collect();
        let rules = &self.shared.settings.watch;
        let lifetime = Lifetime { minutes: rules.minutes, silence: rules.silence };
        let Some(watch) = &mut self.watch else { return };
        if let Some(address) = self.members.get(&anchor) {
            watch.set_anchor(address.clone());
        }
        let task = tokio::spawn(reading(watch.clone(), lifetime, names, self.lane.clone(), says));
        self.reading = Some(Reading { heard, stood: false, _task: Task(task.abort_handle()) });
    }
}

async fn reading(
    watch: Watch,
    lifetime: Lifetime,
    names: HashMap<Box<str>, MailboxId>,
    lane: Arc<Lane>,
    says: UnboundedSender<Heard>,
) {
    // Whom it is said to may have ended.
    let say = |heard| drop(says.send(heard));
    let ids: Vec<Box<str>> = names.keys().cloned().collect();
    let ended = watch.read(&ids, lifetime, |told| match told {
        Told::Stands => say(Heard::Stands),
        Told::News(id) => {
            if let Some(mailbox) = names.get(id) {
                lane.tell_mail(*mailbox);
            }
        }
        Told::Lost(ids, failure) => {
            let lost = ids.iter().filter_map(|id| names.get(id).copied()).collect();
            say(Heard::Lost(lost, failure.of_watching()));
        }
    });
    let ended = ended.await;
    say(Heard::Ended(ended.err().map(|failure| failure.of_watching())));
}
