//! A connection that goes on answering: one envelope after the other, as things happen.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use crate::{
    answer::{Refusal, version_attributes},
    doors::Cut,
    event::Event,
    fault::Kind,
    subscription::{BATCH, Subscription, Taken},
    throttle::Hanging,
    world::{World, stop_wished},
    xml,
};

const OPERATION: &str = "GetStreamingEvents";

/// What is to be streamed.
#[derive(Debug)]
pub(crate) struct Stream {
    pub subscriptions: Vec<Arc<Subscription>>,
    /// Ids that cannot be read, and why: nothing but this is told then.
    pub refused: Option<(Refusal, Vec<String>)>,
    pub timeout: Duration,
    pub heartbeat: Duration,
    #[expect(dead_code, reason = "it counts as long as it hangs")]
    pub hanging: Hanging,
}

/// The body of the answer.
#[derive(Debug)]
pub(crate) struct Documents(mpsc::Receiver<Result<Bytes, Cut>>);

impl Body for Documents {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.0.poll_recv(context).map(|next| next.map(|document| document.map(Frame::data)))
    }
}

/// How a connection ends.
enum End {
    /// As it should: the client is told.
    Closed,
    /// Everything that there is to say was said, or nobody listens.
    Over,
    /// Broken off.
    Cut,
}

impl Stream {
    /// Begins. It waits in a task for what happens, and ends with the client, the simulator or its time.
    pub fn begin(self, world: Arc<World>) -> Documents {
        let (out, documents) = mpsc::channel(8);
        tokio::spawn(async move {
            let begun = world.counters.streams.fetch_add(1, Ordering::Relaxed) + 1;
            world.counters.max_streams.fetch_max(begun, Ordering::Relaxed);
            let mut running = Running { reader: Arc::default(), world, out, stream: self };
            let end = match running.open().await {
                Some(end) => end,
                None => running.go_on().await,
            };
            running.close(end).await;
        });
        Documents(documents)
    }
}

struct Running {
    world: Arc<World>,
    out: mpsc::Sender<Result<Bytes, Cut>>,
    reader: Arc<Notify>,
    stream: Stream,
}

impl Drop for Running {
    fn drop(&mut self) {
        for subscription in &self.stream.subscriptions {
            subscription.detach(&self.reader);
        }
        self.world.counters.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Running {
    /// The first envelope. `Some`: there is nothing after it.
    async fn open(&mut self) -> Option<End> {
        if let Some((refusal, ids)) = self.stream.refused.take() {
            self.say(&failed(&refusal, &ids, "Closed")).await;
            return Some(End::Over);
        }
        for subscription in &self.stream.subscriptions {
            subscription.attach(&self.reader);
        }
        let heard = self.say(&status("OK")).await;
        (!heard).then_some(End::Over)
    }

    async fn go_on(&mut self) -> End {
        let mut rules = self.world.rules_changed();
        let mut stopped = self.world.stopped.clone();
        let closing = Instant::now() + self.stream.timeout;
        let mut heartbeat = Instant::now() + self.stream.heartbeat;
        loop {
            if let Some(end) = self.struck().await {
                return end;
            }
            match self.tell().await {
                Ok(true) => heartbeat = Instant::now() + self.stream.heartbeat,
                Ok(false) => {}
                Err(end) => return end,
            }
            tokio::select! {
                biased;
                () = self.reader.notified() => {}
                () = self.out.closed() => return End::Over,
                _ = rules.changed() => {}
                () = stop_wished(&mut stopped) => return End::Closed,
                () = sleep_until(closing) => return End::Closed,
                () = sleep_until(heartbeat) => {
                    heartbeat = Instant::now() + self.stream.heartbeat;
                    self.say(&self.alive()).await;
                }
            }
        }
    }

    async fn close(&mut self, end: End) {
        match end {
            End::Closed => {
                self.say(&status("Closed")).await;
            }
            End::Cut => {
                // The client may have gone before.
                let _gone = self.out.send(Err(Cut)).await;
            }
            End::Over => {}
        }
    }

    /// Rules that strike the connection while it is open.
    async fn struck(&mut self) -> Option<End> {
        if let Some(strike) = self.strikes(Kind::CutStream) {
            if strike.code.is_empty() {
                return Some(End::Cut);
            }
            let ids: Vec<String> = self.stream.subscriptions.iter().map(|one| one.id.clone()).collect();
            self.say(&failed(&strike.refusal(), &ids, "Closed")).await;
            return Some(End::Over);
        }
        self.strikes(Kind::SilentStream)?;
        let mut stopped = self.world.stopped.clone();
        tokio::select! {
            () = self.out.closed() => {}
            () = stop_wished(&mut stopped) => {}
        }
        Some(End::Cut)
    }

    fn strikes(&self, kind: Kind) -> Option<crate::fault::Strike> {
        let mut faults = self.world.asks_faults()?;
        self.stream.subscriptions.iter().find_map(|one| {
            let mailbox = self.world.mailbox(one.mailbox)?;
            faults.strikes(kind, OPERATION, &mailbox.address)
        })
    }

    /// Tells what happened. `true`: there was something.
    async fn tell(&mut self) -> Result<bool, End> {
        let mut told = String::new();
        let mut over: Vec<(Refusal, String)> = Vec::new();
        self.stream.subscriptions.retain(|one| match one.take(&self.reader) {
            Taken::Events(events) => {
                if !events.is_empty() && !is_lost(&self.world, one) {
                    write_notifications(one, &events, &mut told);
                }
                true
            }
            Taken::Over(refusal) => {
                over.push((refusal, one.id.clone()));
                false
            }
        });
        let something = !told.is_empty() || !over.is_empty();
        if !told.is_empty() {
            let inner = format!("{SUCCESS}<m:Notifications>{told}</m:Notifications>{MESSAGE_END}");
            self.say(&inner).await;
        }
        // What goes on is told together with what does not.
        let left = if self.stream.subscriptions.is_empty() { "Closed" } else { "OK" };
        for (refusal, id) in over {
            self.say(&failed(&refusal, &[id], left)).await;
        }
        if left == "Closed" { Err(End::Over) } else { Ok(something) }
    }

    /// That the connection still stands, as Exchange says it: an event that is none.
    fn alive(&self) -> String {
        let id = self.stream.subscriptions.first().map(|one| one.id.as_str()).unwrap_or_default();
        format!(
            "{SUCCESS}<m:Notifications><m:Notification><t:SubscriptionId>{id}</t:SubscriptionId><t:StatusEvent/></m:Notification>\
             </m:Notifications>{MESSAGE_END}"
        )
    }

    /// Sends an envelope, in two pieces: nobody may rely on where they end. `false`: nobody listens.
    async fn say(&self, inner: &str) -> bool {
        let document = Bytes::from(envelope(&self.world, inner));
        let middle = document.len() / 2;
        let first = self.out.send(Ok(document.slice(..middle))).await;
        first.is_ok() && self.out.send(Ok(document.slice(middle..))).await.is_ok()
    }
}

/// True if a rule makes events vanish on their way.
fn is_lost(world: &World, subscription: &Subscription) -> bool {
    let address = world.mailbox(subscription.mailbox).map(|mailbox| mailbox.address.as_str());
    let faults = world.asks_faults();
    faults.is_some_and(|mut faults| {
        faults.strikes(Kind::LostEvents, OPERATION, address.unwrap_or_default()).is_some()
    })
}

const SUCCESS: &str =
    "<m:GetStreamingEventsResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>";
const MESSAGE_END: &str = "</m:GetStreamingEventsResponseMessage>";

fn status(status: &str) -> String {
    format!("{SUCCESS}<m:ConnectionStatus>{status}</m:ConnectionStatus>{MESSAGE_END}")
}

fn failed(refusal: &Refusal, ids: &[String], status: &str) -> String {
    let mut out = String::new();
    crate::operation::open_message(OPERATION, "Error", refusal, &mut out);
    out.push_str("<m:ErrorSubscriptionIds>");
    ids.iter().for_each(|id| xml::element("m:SubscriptionId", id, &mut out));
    out.push_str(&format!(
        "</m:ErrorSubscriptionIds><m:ConnectionStatus>{status}</m:ConnectionStatus>{MESSAGE_END}"
    ));
    out
}

fn write_notifications(subscription: &Subscription, events: &[Event], out: &mut String) {
    for batch in events.chunks(BATCH) {
        out.push_str("<m:Notification>");
        xml::element("t:SubscriptionId", &subscription.id, out);
        batch.iter().for_each(|event| event.write(subscription.mailbox, None, out));
        out.push_str("</m:Notification>");
    }
}

/// An envelope as Exchange writes streamed ones: SOAP is the default namespace of some elements and has a prefix in others.
fn envelope(world: &World, message: &str) -> String {
    let soap = "http://schemas.xmlsoap.org/soap/envelope/";
    format!(
        "<Envelope xmlns=\"{soap}\"><soap11:Header xmlns:soap11=\"{soap}\"><ServerVersionInfo {} \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></soap11:Header>\
         <soap11:Body xmlns:soap11=\"{soap}\"><m:GetStreamingEventsResponse \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>{message}\
         </m:ResponseMessages></m:GetStreamingEventsResponse></soap11:Body></Envelope>",
        version_attributes(world)
    )
}
