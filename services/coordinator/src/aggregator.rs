//! The actor that turns facts into few alerts, and counts the share of failing mailboxes of each profile.
//!
//! It decides nothing itself: the book and the ratio machines of the core do. One look at the store at a time, beside
//! the actor; whatever it knows it can read again, and does so whenever a booking's outcome is not certain.

mod desk;

use std::{sync::Arc, time::Duration};

use mailyard_host::metrics::Metrics;
use mailyard_policy::{Timestamp, alert::ratio};
use mailyard_store::Store;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::watch, task::AbortHandle};

use self::desk::Desk;
use crate::leadership::Leading;

/// Between two looks without a nudge.
const LOOKED: Duration = Duration::from_secs(1);

/// What the actor begins with.
#[derive(Clone)]
pub struct Arguments {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Whether this coordinator leads.
    pub leading: Leading,
    /// When a profile's owner is told that mailboxes fail.
    pub rules: ratio::Rules,
    /// True if mails can be sent at all.
    pub mails: bool,
    /// The clock of the process.
    pub now: fn() -> Timestamp,
    /// The figures of the process.
    pub metrics: Metrics,
    /// Tells that there may be facts.
    pub nudged: watch::Sender<()>,
}

/// What the aggregator is told.
pub enum Message {
    /// There may be facts, or time has passed.
    Look,
    /// A look ended; what it knows, unless that is not certain.
    Looked(Option<Box<Desk>>),
}

/// The actor.
pub struct Aggregator;

/// What the aggregator keeps.
pub struct State {
    arguments: Arc<Arguments>,
    desk: Option<Box<Desk>>,
    looking: bool,
    wanted: bool,
    ticker: AbortHandle,
}

impl Actor for Aggregator {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut nudged = arguments.nudged.subscribe();
        let ticker = tokio::spawn(async move {
            while myself.cast(Message::Look).is_ok() {
                // Without a nudge it looks a little later.
                let _late = tokio::time::timeout(LOOKED, nudged.changed()).await;
            }
        });
        Ok(State {
            arguments: Arc::new(arguments),
            desk: None,
            looking: false,
            wanted: false,
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
            Message::Look => state.look(&myself),
            Message::Looked(desk) => {
                state.desk = desk;
                state.looking = false;
                if std::mem::take(&mut state.wanted) {
                    state.look(&myself);
                }
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
    fn look(&mut self, myself: &ActorRef<Message>) {
        if self.looking {
            self.wanted = true;
            return;
        }
        let Some(lead) = self.arguments.leading.now() else {
            self.desk = None;
            return;
        };
        self.looking = true;
        let desk = self.desk.take().filter(|desk| desk.lead() == lead);
        let (arguments, myself) = (self.arguments.clone(), myself.clone());
        tokio::spawn(async move {
            let looked = Desk::look(&arguments, lead, desk).await;
            let desk = match arguments.leading.learn(&lead, looked) {
                Ok(desk) => Some(desk),
                Err(error) => {
                    tracing::warn!(%error, "facts could not be booked; the book is read anew");
                    None
                }
            };
            let _stopped = myself.cast(Message::Looked(desk));
        });
    }
}
