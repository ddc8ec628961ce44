//! The notifications of a lane: its mailboxes in groups, and a stream for each, as long as the profile wishes it.
//!
//! What a stream tells brings polls forward and nothing else. Whatever goes wrong here is no failure of a mailbox and
//! nothing that the breaker hears of: polls find out by themselves.

mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mailyard_policy::{id::MailboxId, watch::Groups};
use tokio::{
    sync::watch::{self, Sender},
    task::AbortHandle,
};

use self::stream::Watching;
use crate::{lane::Lane, shared::Shared};

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

/// Keeps a stream for each group of mailboxes, until it is dropped. Subscriptions that are left end by themselves.
pub(crate) async fn run(shared: Arc<Shared>, lane: Arc<Lane>) {
    let rules = shared.settings.watch;
    let (mut groups, mut streams) = (Groups::default(), BTreeMap::<u32, Running>::new());
    let mut seen = None;
    loop {
        let revision = Some(lane.current().profile.revision);
        if std::mem::replace(&mut seen, revision) != revision {
            // It may be another server now.
            streams.clear();
            groups = Groups::default();
        }
        let watched = lane.watched();
        groups.set(&rules, &watched.keys().copied().collect::<BTreeSet<_>>());
        streams.retain(|number, _| groups.iter().any(|(known, _)| known == *number));
        for (number, group) in groups.iter() {
            let address = |id: &MailboxId| Some((*id, watched.get(id)?.clone()));
            let members: Members = group.iter().filter_map(address).collect();
            let running = streams.entry(number).or_insert_with(|| begin(&shared, &lane));
            running.members.send_if_modified(|known| {
                let changed = *known != members;
                *known = members;
                changed
            });
        }
        lane.watched_changed().await;
    }
}

fn begin(shared: &Arc<Shared>, lane: &Arc<Lane>) -> Running {
    let (members, told) = watch::channel(Members::new());
    let watching = Watching::new(shared.clone(), lane.clone(), told);
    Running { members, _task: Task(tokio::spawn(watching.run()).abort_handle()) }
}
