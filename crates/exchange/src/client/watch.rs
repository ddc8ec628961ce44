//! Watching mailboxes: subscriptions to new mail, and the connection that tells of it.
//!
//! A connection that goes on answering takes its turn at the gate until it stands, and no longer: servers count such
//! connections apart from requests (`HangingConnectionLimit` beside `EWSMaxConcurrency`), and what is held for half an
//! hour would be missing to every poll. It is therefore not one of the profile's concurrent connections but comes in
//! addition to them, one for each group of up to 200 mailboxes. Whoever opens it counts it.

use std::{sync::Arc, time::Duration};

use mailyard_policy::{Nature, Reason, outbox::Execution, reason::Scope, watch::Trouble};
use tokio::time::Instant;

use super::{Affinity, Again, Client, Ended, Observer, Way};
use crate::{
    Failure, Permit,
    answer::{Gathered, Taken, is_soap},
    codec::{self, Cutter, GetStreamingEvents, Operation as _, Subscribe, Unsubscribe, WellKnown},
    connection::{Deadlines, Taker},
    http1::Head,
};

/// No envelope of a stream is larger: 200 subscriptions with 50 events each, the most that servers keep for a reader,
/// are 5 MB.
const LARGEST_ENVELOPE: usize = 8 << 20;
/// Packed envelopes would be held back until a block is full.
const NOT_PACKED: &str = "identity";

/// Mailboxes that are watched together, and what keeps their subscriptions on one server. A server behind others knows
/// its own subscriptions only.
#[derive(Clone)]
pub struct Watch {
    client: Client,
    anchor: Arc<str>,
    cookie: Option<String>,
}

/// How long a connection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The server is asked to end it after so many minutes, 1 to 30.
    pub minutes: u64,
    /// It is given up when nothing arrives for so long: servers show every 45 seconds or so that it stands.
    pub silence: Duration,
}

/// What a connection tells.
#[derive(Debug)]
pub enum Told<'a> {
    /// The connection stands.
    Stands,
    /// Mail came to the folder of this subscription.
    News(&'a str),
    /// These subscriptions are not there any more, or cannot be read, and why. The others go on.
    Lost(Vec<Box<str>>, Failure),
}

impl Client {
    /// Watches mailboxes, which all lie where the mailbox `anchor` (its primary address) lies.
    pub fn watch(&self, anchor: impl Into<Arc<str>>) -> Watch {
        Watch { client: self.clone(), anchor: anchor.into(), cookie: None }
    }
}

impl Watch {
    /// The mailbox that leads to the server.
    pub fn anchor(&self) -> &str {
        &self.anchor
    }

    /// From now on another mailbox leads there. What was subscribed stays where it is.
    pub fn set_anchor(&mut self, anchor: impl Into<Arc<str>>) {
        self.anchor = anchor.into();
    }

    /// Subscribes to new mail in the Inbox of a mailbox. Returns the name of the subscription: it ends by itself when
    /// nobody reads it for half an hour.
    ///
    /// # Errors
    /// [`Failure`] of the call; its `code` says which limit or right of subscriptions it is about.
    pub async fn subscribe(&mut self, mailbox: &str) -> Result<Box<str>, Failure> {
        let inbox = WellKnown::Inbox.into();
        let way = Way { affinity: Some(self.affinity()), ..Way::of(mailbox) };
        let reply = self.client.pass(way, &Subscribe { folder: &inbox }, &mut Gathered).await?;
        self.cookie = reply.affinity.clone().or(self.cookie.take());
        reply.one()?.ok_or_else(|| {
            let detail = "the answer holds no subscription";
            Failure::new(Reason::EwsProtocolError, Execution::Maybe, detail)
        })
    }

    /// Ends a subscription of a mailbox. One that is gone already is ended.
    ///
    /// # Errors
    /// [`Failure`] of the call.
    pub async fn unsubscribe(&self, mailbox: &str, subscription: &str) -> Result<(), Failure> {
        let way = Way { affinity: Some(self.affinity()), ..Way::of(mailbox) };
        let reply = self.client.pass(way, &Unsubscribe { subscription }, &mut Gathered).await?;
        match reply.one() {
            Err(failure) if failure.code.as_deref() == Some("ErrorSubscriptionNotFound") => Ok(()),
            other => other,
        }
    }

    /// Reads subscriptions, at most 200, over one connection until the server ends it, and tells what comes. The
    /// connection is charged to the anchor. Dropping this closes it; what happens until the next reading waits for that.
    ///
    /// # Errors
    /// [`Failure`] if it could not be opened, breaks off, or falls silent: what happened meanwhile may not be told.
    pub async fn read(
        &self,
        subscriptions: &[Box<str>],
        lifetime: Lifetime,
        told: impl FnMut(Told<'_>) + Send,
    ) -> Result<(), Failure> {
        let inner = &*self.client.inner;
        let operation = GetStreamingEvents { subscriptions, minutes: lifetime.minutes };
        let way = Way { affinity: Some(self.affinity()), ..Way::of(&*self.anchor) };
        let id = inner.request_id();
        let request =
            |authorization: Option<&str>| inner.request(way, &operation, &id, NOT_PACKED, authorization);
        let permit = self.client.gate().enter().await?;
        let opening = Opening { permit, begun: Instant::now(), observer: inner.config.observer.clone() };
        let mut ear = Ear { opening: Some(opening), told };
        let mut gathered = Gathered;
        let mut again = Again::No;
        let ended = loop {
            let mut listening = Listening {
                cutter: Cutter::new(LARGEST_ENVELOPE),
                refused: Taken::new(0, false, &mut gathered),
                streams: false,
                silence: lifetime.silence,
                ear: &mut ear,
            };
            let deadlines = inner.stream_deadlines(lifetime);
            let fresh = again == Again::OnNewConnection;
            let asked =
                inner.transport.attempt(fresh, false, None, deadlines, &request, &mut listening).await;
            match asked {
                Ok(head) => break listening.end(head),
                Err(Ended { again: next, .. }) if again == Again::No && next != Again::No => again = next,
                Err(ended) => break Err(ended.failure),
            }
        };
        if let Some(opening) = ear.opening.take() {
            opening.end(ended.as_ref().err());
        }
        ended
    }

    fn affinity(&self) -> Affinity<'_> {
        Affinity { anchor: &self.anchor, cookie: self.cookie.as_deref() }
    }
}

impl super::Inner {
    fn stream_deadlines(&self, lifetime: Lifetime) -> Deadlines {
        let (now, deadline) = (Instant::now(), self.config.request_deadline);
        let minutes = lifetime.minutes.clamp(1, codec::LONGEST_CONNECTION);
        Deadlines { head: now + deadline, body: now + deadline + Duration::from_mins(minutes) }
    }
}

impl Failure {
    /// What it means to mailboxes that are watched.
    pub fn of_watching(&self) -> Trouble {
        match self.code.as_deref().unwrap_or_default() {
            "ErrorSubscriptionNotFound"
            | "ErrorExpiredSubscription"
            | "ErrorInvalidSubscription"
            | "ErrorSubscriptionUnsubscribed"
            | "ErrorMissedNotificationEvents"
            | "ErrorReadEventsFailed"
            | "ErrorNewEventStreamConnectionOpened"
            | "ErrorProxiedSubscriptionCallFailure" => Trouble::Gone,
            "ErrorExceededSubscriptionCount" => Trouble::Full,
            "ErrorSubscriptionDelegateAccessNotSupported"
            | "ErrorSubscriptionAccessDenied"
            | "ErrorSubscriptionsDisabledForGroup"
            | "ErrorProxyRequestNotAllowed" => Trouble::Never,
            _ if self.reason == Reason::EwsRequestRejected => Trouble::Never,
            _ if self.reason.nature() == Nature::Throttled || self.reason.scope() == Scope::Profile => {
                Trouble::Server(self.back_off)
            }
            _ => Trouble::Mailbox,
        }
    }
}

/// A connection that does not stand yet.
struct Opening {
    permit: Permit,
    begun: Instant,
    observer: Option<Observer>,
}

impl Opening {
    /// It stands now, or it will not.
    fn end(self, failure: Option<&Failure>) {
        // How many connections may hang says nothing of how many requests may be under way.
        let told = failure.filter(|failure| failure.reason != Reason::ExchangeConnectionLimit);
        self.permit.report(told.map_or(Ok(()), Err));
        if let Some(Observer(tell)) = &self.observer {
            tell(GetStreamingEvents::NAME, failure.map(|failure| failure.reason), self.begun.elapsed());
        }
    }
}

/// Understands one envelope after the other.
struct Ear<F> {
    opening: Option<Opening>,
    told: F,
}

impl<F: FnMut(Told<'_>)> Ear<F> {
    fn hear(&mut self, envelope: &[u8]) -> Result<(), Failure> {
        let document = codec::text(envelope)?;
        let answer = match codec::read::<GetStreamingEvents<'_>>(&document, Vec::new()) {
            Err(_) if !is_soap(envelope) => return Err(Failure::of_page()),
            other => other?,
        };
        for message in answer.messages.map_err(|fault| Failure::of_refusal(&fault))? {
            match message {
                // Whatever the status beside it says: an error that is about no one in particular is about all.
                Err(refusal) if refusal.subscriptions.is_empty() => {
                    return Err(Failure::of_refusal(&refusal));
                }
                Err(refusal) => {
                    self.stands();
                    (self.told)(Told::Lost(refusal.subscriptions.clone(), Failure::of_refusal(&refusal)));
                }
                Ok(heard) => {
                    self.stands();
                    heard.news.iter().for_each(|id| (self.told)(Told::News(id)));
                }
            }
        }
        Ok(())
    }

    fn stands(&mut self) {
        if let Some(opening) = self.opening.take() {
            opening.end(None);
            (self.told)(Told::Stands);
        }
    }
}

/// An answer while it goes on.
struct Listening<'a, F> {
    cutter: Cutter,
    /// An answer that is none of those that go on.
    refused: Taken<'a, Gathered>,
    streams: bool,
    silence: Duration,
    ear: &'a mut Ear<F>,
}

impl<F: FnMut(Told<'_>)> Listening<'_, F> {
    /// The answer came to its end.
    fn end(self, head: Head) -> Result<(), Failure> {
        if !self.streams {
            self.refused.read::<GetStreamingEvents<'_>>(head)?;
        }
        let left = self.cutter.rest().trim_ascii();
        match &self.ear.opening {
            Some(_) if !is_soap(left) => Err(Failure::of_page()),
            None if left.is_empty() => Ok(()),
            Some(_) | None => Err(codec::Malformed::Truncated.into()),
        }
    }
}

impl<F: FnMut(Told<'_>) + Send> Taker for Listening<'_, F> {
    fn head(&mut self, head: &Head) -> Result<(), Failure> {
        self.streams = head.status == 200;
        self.refused.head(head)
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if !self.streams {
            return self.refused.piece(piece);
        }
        let Self { cutter, ear, .. } = self;
        cutter.push(piece, |envelope| ear.hear(envelope))
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn longest_silence(&self) -> Option<Duration> {
        self.streams.then_some(self.silence)
    }
}
