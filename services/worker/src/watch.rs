//! The notifications of a lane: its mailboxes in groups, and a stream for each, as long as the profile wishes it.
//!
//! What a stream tells brings polls forward and nothing else. Whatever goes wrong here is no failure of a mailbox and
//! nothing that the breaker hears of: polls find out by themselves.

mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mailyard_policy::{
    id::MailboxId,
    watch::{Groups, Rules},
};
use tokio::{
    sync::watch::{self, Sender},
    task::AbortHandle,
};

use self::stream::Watching;
use crate::{
    lane::{Lane, Target},
    shared::Shared,
};

/// Mailboxes with their addresses.
type Members = BTreeMap<MailboxId, Arc<str>>;

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Running {
    members: Sender<Members>,
    _task: Task,
}

/// Groups of mailboxes that are watched together, by the URL that Autodiscover found for them.
#[derive(Default)]
struct Servers(BTreeMap<Option<Arc<str>>, Groups>);

/// A group by its URL and number.
type Key = (Option<Arc<str>>, u32);

impl Servers {
    fn set(&mut self, rules: &Rules, watched: &BTreeMap<MailboxId, Target>) {
        let mut wanted = BTreeMap::<_, BTreeSet<MailboxId>>::new();
        for server in self.0.keys() {
            wanted.insert(server.clone(), BTreeSet::new());
        }
        for (id, target) in watched {
            wanted.entry(target.url.clone()).or_default().insert(*id);
        }
        for (server, members) in &wanted {
            self.0.entry(server.clone()).or_default().set(rules, members);
        }
        self.0.retain(|_, groups| groups.iter().next().is_some());
    }

    fn groups(&self) -> BTreeMap<Key, &BTreeSet<MailboxId>> {
        let mut all = BTreeMap::new();
        for (server, groups) in &self.0 {
            all.extend(groups.iter().map(|(number, members)| ((server.clone(), number), members)));
        }
        all
    }
}

/// Keeps a stream for each group of mailboxes, until it is dropped. Subscriptions that are left end by themselves.
pub(crate) async fn run(shared: Arc<Shared>, lane: Arc<Lane>) {
    let (mut servers, mut streams) = (Servers::default(), BTreeMap::<Key, Running>::new());
    let mut seen = None;
    loop {
        let revision = Some(lane.current().profile.revision);
        if std::mem::replace(&mut seen, revision) != revision {
            // It may be another server now.
            streams.clear();
            servers = Servers::default();
        }
        let watched = lane.watched();
        servers.set(&shared.settings.watch, &watched);
        let groups = servers.groups();
        streams.retain(|key, _| groups.contains_key(key));
        for (key, group) in groups {
            let address = |id: &MailboxId| Some((*id, watched.get(id)?.address.clone()));
            let members: Members = group.iter().filter_map(address).collect();
            let url = key.0.clone();
            let running = streams.entry(key).or_insert_with(|| begin(&shared, &lane, url));
            running.members.send_if_modified(|known| {
                let changed = *known != members;
                *known = members;
                changed
            });
        }
        lane.watched_changed().await;
    }
}

fn begin(shared: &Arc<Shared>, lane: &Arc<Lane>, url: Option<Arc<str>>) -> Running {
    let (members, told) = watch::channel(Members::new());
    let watching = Watching::new(shared.clone(), lane.clone(), url, told);
    Running { members, _task: Task(tokio::spawn(watching.run()).abort_handle()) }
}
