//! Everything behind the doors of the simulator: mailboxes, clock, faults, and the truth about what was sent.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    Behaviour, Options,
    answer::Refusal,
    counters::Counters,
    fault::{Faults, Kind},
    item::{self, Content},
    made::{Listed, Made},
    mailbox::Contents,
    oauth::Issuer,
    permission::Grants,
    settings::Settings,
    subscription::Subscriptions,
    throttle::{Hanging, Load, Payer},
};

/// A mailbox behind the doors.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub number: u32,
    pub address: String,
    contents: Mutex<Contents>,
}

impl Mailbox {
    /// What it holds.
    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message that was accepted for delivery: the truth that tests compare with.
#[derive(Clone, Debug, Serialize)]
pub struct Submission {
    /// The mailbox that sent it.
    pub mailbox: String,
    /// The operation id that it carried.
    pub send_key: Option<String>,
    /// Its Message-ID.
    pub internet_message_id: String,
    /// All recipients.
    pub to: Vec<String>,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that the doors share.
#[derive(Debug)]
pub(crate) struct World {
    pub options: Options,
    pub password: String,
    /// Where clients go: scheme, host and port.
    pub origin: String,
    mailboxes: Vec<Arc<Mailbox>>,
    by_address: HashMap<String, u32>,
    faults: Mutex<Faults>,
    any_fault: AtomicU64,
    settings: Mutex<Settings>,
    /// What accounts may do in the mailboxes of others.
    pub grants: Mutex<Grants>,
    /// What a handshake over this server's TLS is bound to.
    pub channel_bindings: [u8; 16],
    /// Who gives out tokens, if they are accepted.
    pub issuer: Option<Issuer>,
    pub load: Arc<Load>,
    pub subscriptions: Subscriptions,
    /// True once everything stops.
    pub stopped: watch::Receiver<bool>,
    rules_changed: watch::Sender<u64>,
    pub counters: Counters,
    submissions: Mutex<Vec<Submission>>,
    serial: AtomicU64,
}

impl World {
    pub fn new(
        options: Options,
        origin: String,
        channel_bindings: [u8; 16],
        issuer: Option<Issuer>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let mut mailboxes = Vec::with_capacity(options.mailboxes + 1);
        let mut by_address = HashMap::with_capacity(options.mailboxes + 1);
        let service = format!("{}@{}", options.service_user, options.domain);
        let addresses =
            (1..=options.mailboxes).map(|number| format!("mailbox{number:05}@{}", options.domain));
        for (number, address) in std::iter::once(service).chain(addresses).enumerate() {
            by_address.insert(address.to_lowercase(), number as u32);
            mailboxes.push(Arc::new(Mailbox { number: number as u32, address, contents: Mutex::default() }));
        }
        let password = options.password.clone().unwrap_or_else(|| {
            let digest = Sha256::digest([b"password".as_slice(), &options.seed.to_be_bytes()].concat());
            hex(&digest[..10])
        });
        Self {
            password,
            origin,
            mailboxes,
            by_address,
            faults: Mutex::new(Faults::new(options.seed)),
            any_fault: AtomicU64::new(0),
            settings: Mutex::new(options.settings),
            grants: Mutex::default(),
            channel_bindings,
            issuer,
            load: Arc::default(),
            subscriptions: Subscriptions::default(),
            stopped,
            rules_changed: watch::Sender::new(0),
            counters: Counters::default(),
            submissions: Mutex::default(),
            serial: AtomicU64::new(1),
            options,
        }
    }

    pub fn behaviour(&self) -> Behaviour {
        self.options.behaviour
    }

    /// True for Exchange 2013, which knows less than those after it.
    pub fn is_2013(&self) -> bool {
        self.options.version.1 == 0
    }

    /// The mailbox of the service account.
    pub fn service(&self) -> Option<&Arc<Mailbox>> {
        self.mailboxes.first()
    }

    /// Addresses of the mailboxes without the service account.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.mailboxes.iter().skip(1).map(|mailbox| mailbox.address.as_str())
    }

    pub fn mailbox(&self, number: u32) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(number as usize)
    }

    /// The mailbox that has this address, be it its primary one or the other that each has (`alias00001@…`).
    pub fn mailbox_at(&self, address: &str) -> Option<&Arc<Mailbox>> {
        let address = address.to_lowercase();
        let number = self.by_address.get(&address).copied().or_else(|| {
            let (name, domain) = address.split_once('@')?;
            let digits = name.strip_prefix("alias").filter(|digits| digits.len() >= 5)?;
            (domain == self.options.domain.to_lowercase()).then(|| digits.parse().ok())?
        });
        self.mailboxes.get(number? as usize)
    }

    /// The server's clock, as wrong as a rule says.
    pub fn now(&self) -> i64 {
        let skew = self.asks_faults().map_or(0, |faults| faults.skew());
        self.true_now() + skew
    }

    /// The clock of everybody else.
    pub fn true_now(&self) -> i64 {
        match self.options.fixed_clock {
            Some(start) => start + self.serial.load(Ordering::Relaxed) as i64 * 1000,
            None => jiff::Timestamp::now().as_millisecond(),
        }
    }

    /// The rules, if any stands.
    pub fn asks_faults(&self) -> Option<MutexGuard<'_, Faults>> {
        (self.any_fault.load(Ordering::Acquire) > 0).then(|| self.faults())
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// Changes the rules.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults();
        change(&mut faults);
        self.any_fault.store(u64::from(!faults.is_empty()), Ordering::Release);
        let version = faults.version;
        drop(faults);
        self.rules_changed.send_replace(version);
    }

    /// Tells whenever the rules are others.
    pub fn rules_changed(&self) -> watch::Receiver<u64> {
        self.rules_changed.subscribe()
    }

    /// A streaming connection begins.
    ///
    /// # Errors
    /// Its payer has so many already.
    pub fn hang(&self, payer: Payer) -> Result<Hanging, Refusal> {
        let usual = if self.is_2013() { 3 } else { 10 };
        self.load.hang(payer, self.settings().hanging_connections.unwrap_or(usual))
    }

    /// The settings of the moment.
    pub fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    /// Changes them, if they are good.
    pub fn change_settings<E>(
        &self,
        change: impl FnOnce(Settings) -> Result<Settings, E>,
    ) -> Result<Settings, E> {
        let mut settings = lock(&self.settings);
        *settings = change(*settings)?;
        Ok(*settings)
    }

    /// True while nobody answers.
    pub fn is_down(&self) -> bool {
        self.asks_faults().is_some_and(|mut faults| faults.strikes(Kind::Down, "", "").is_some())
    }

    /// A number that is never given twice.
    pub fn next(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// 16 bytes that are never given twice.
    pub fn search_key(&self) -> [u8; 16] {
        let digest = Sha256::digest([self.options.seed.to_be_bytes(), self.next().to_be_bytes()].concat());
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }

    /// Puts a message into the Inbox of each of these that is a mailbox here. Returns how many were.
    pub fn deliver(&self, to: &[String], content: &Arc<Content>) -> usize {
        let mut delivered = 0;
        for mailbox in to.iter().filter_map(|address| self.mailbox_at(address)) {
            let (now, key) = (self.now(), self.search_key());
            let mut contents = mailbox.contents();
            contents.deliver(content.clone(), now, key).late_version = true;
            delivered += 1;
        }
        delivered
    }

    /// Accepts a message for delivery, and tells the truth of it.
    pub fn submit(&self, from: &Mailbox, content: &Content, send_key: Option<String>) -> Arc<Content> {
        self.counters.sends.fetch_add(1, Ordering::Relaxed);
        let to: Vec<String> = [&content.to, &content.cc, &content.bcc]
            .into_iter()
            .flatten()
            .map(|person| person.address.clone())
            .collect();
        let at = self.now();
        lock(&self.submissions).push(Submission {
            mailbox: from.address.clone(),
            send_key,
            internet_message_id: content.message_id.clone(),
            to: to.clone(),
            at,
        });
        // Nobody sees the hidden recipients, and the draft's own marks stay with the sender.
        let mime = content.mime.as_ref().map(|mime| item::without_hidden(mime));
        let delivered = Arc::new(Content { bcc: Vec::new(), mime, ..content.clone() });
        self.deliver(&to, &delivered);
        delivered
    }

    /// What was accepted so far.
    pub fn submissions(&self) -> Vec<Submission> {
        lock(&self.submissions).clone()
    }

    /// A Message-ID of this server.
    pub fn message_id(&self) -> String {
        format!("<{}@{}>", hex(&self.search_key()), self.options.domain)
    }

    /// Delivers made messages, as a person or another server would send them. Returns how many arrived.
    pub fn deliver_made(&self, made: &Made) -> usize {
        let mut delivered = 0;
        for number in 0..made.count.unwrap_or(1) {
            let content = made.content(self, number);
            delivered += self.deliver(&made.to, &Arc::new(content));
        }
        delivered
    }

    /// The folder of a mailbox as tests want to see it.
    pub fn list(mailbox: &Mailbox, folder: u32) -> Vec<Listed> {
        let contents = mailbox.contents();
        let listed = contents.items_of(folder).into_iter().map(|item| Listed {
            item_id: crate::id::encode(crate::id::Name::Item {
                mailbox: mailbox.number,
                number: item.number,
            }),
            internet_message_id: item.content.message_id.clone(),
            subject: item.content.subject.clone(),
            from: item.content.from.as_ref().map(|from| from.address.clone()).unwrap_or_default(),
            to: item.content.to.iter().map(|to| to.address.clone()).collect(),
            received_time: crate::item::date(item.received),
            send_key: crate::property::send_key(item),
            told: item.told,
        });
        listed.collect()
    }
}

/// Waits until everything stops.
pub(crate) async fn stop_wished(stopped: &mut watch::Receiver<bool>) {
    // Without a simulator there is nothing to go on for either.
    let _wished = stopped.wait_for(|stopped| *stopped).await;
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A folder by the word that the control API uses.
pub(crate) fn folder_named(contents: &Contents, word: &str) -> Option<u32> {
    let distinguished = crate::mailbox::DISTINGUISHED
        .iter()
        .position(|(id, name, ..)| id.eq_ignore_ascii_case(word) || name.eq_ignore_ascii_case(word));
    distinguished.map(|at| at as u32).or_else(|| {
        contents.made.iter().find(|(_, made)| made.name.eq_ignore_ascii_case(word)).map(|(number, _)| *number)
    })
}
