//! Mail that comes in and mail that is enqueued, without a pause, whether the server is there or not.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailyard::control::Control;
use mailyard_ctl::server::Server;
use mailyard_host::data_dir::Endpoint;
use mailyard_wire::records::{EnqueueEmailRequest, enqueue_email_request::Body};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::Outcome;

/// The subjects of the story begin so.
pub(super) const SUBJECT: &str = "Order";

/// What flows.
pub(super) struct Traffic {
    addresses: Vec<String>,
    control: Control,
    data: PathBuf,
    delivered: AtomicU64,
    /// Ids of enqueued emails; each enqueued once by its key, however often it was asked for.
    enqueued: Mutex<Vec<String>>,
}

/// Traffic that flows until it is stopped.
pub(super) struct Flow {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Outcome>>,
}

impl Flow {
    /// Ends with the mail that is under way.
    pub(super) async fn stop(self) -> Outcome {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

impl Traffic {
    pub(super) fn new(addresses: Vec<String>, control: Control, data: PathBuf) -> Self {
        Self { addresses, control, data, delivered: AtomicU64::new(0), enqueued: Mutex::default() }
    }

    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    pub(super) fn enqueued(&self) -> Vec<String> {
        self.enqueued.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn flow(self: Arc<Self>, incoming_every: Duration, outgoing_every: Duration) -> Flow {
        let stop = watch::Sender::new(false);
        let (incoming, outgoing) = (self.clone(), self);
        let (stop_incoming, stop_outgoing) = (stop.subscribe(), stop.subscribe());
        let tasks = vec![
            tokio::spawn(async move { incoming.deliver(incoming_every, stop_incoming).await }),
            tokio::spawn(async move { outgoing.enqueue(outgoing_every, stop_outgoing).await }),
        ];
        Flow { stop, tasks }
    }

    /// One of so many: never the same twice in a row.
    fn address(&self, number: u64) -> &str {
        let at = usize::try_from(number).unwrap_or_default() % self.addresses.len().max(1);
        self.addresses.get(at).map_or("", String::as_str)
    }

    async fn deliver(&self, every: Duration, mut stop: watch::Receiver<bool>) -> Outcome {
        let mut number = 0;
        while !*stop.borrow() {
            number += 1;
            let mail = json!({
                "to": [self.address(number)],
                "from": "customer@example.org",
                "subject": format!("{SUBJECT} {number}"),
                "text": "Ten, please.",
            });
            self.control.post("/deliver", &mail).await?;
            self.delivered.fetch_add(1, Ordering::SeqCst);
            let _early = tokio::time::timeout(every, stop.changed()).await;
        }
        Ok(())
    }

    /// Each email is asked for until it is certainly enqueued: a server that died in the middle may have taken it.
    async fn enqueue(&self, every: Duration, mut stop: watch::Receiver<bool>) -> Outcome {
        let mut number = 0;
        let mut server = None;
        while !*stop.borrow() {
            number += 1;
            let id = loop {
                match self.enqueue_one(number, &mut server).await {
                    Ok(id) => break Some(id),
                    Err(_) if *stop.borrow() => break None,
                    Err(_) => {
                        server = None;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            };
            self.enqueued.lock().unwrap_or_else(PoisonError::into_inner).extend(id);
            let _early = tokio::time::timeout(every, stop.changed()).await;
        }
        Ok(())
    }

    async fn enqueue_one(&self, number: u64, server: &mut Option<Server>) -> Outcome<String> {
        if server.is_none() {
            *server = Some(Server::at(&Endpoint::find(&self.data)?, "default").await?);
        }
        let server = server.as_ref().ok_or("no server")?;
        let request = EnqueueEmailRequest {
            parent: server.parent.clone(),
            idempotency_key: format!("order-{number}"),
            from: self.address(number).to_owned(),
            to: vec![self.address(number + 1).to_owned()],
            subject: format!("{SUBJECT} confirmed {number}"),
            body: Some(Body::Text("It will be there tomorrow.".to_owned())),
            ..Default::default()
        };
        let taken = server.call(server.emails().enqueue_email(request)).await?;
        Ok(taken.email.ok_or("no email")?.uid)
    }
}
