//! One timer for all mailboxes of the process: it says when somebody is due, and knows nothing else of them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailyard_policy::{Timestamp, id::MailboxId};
use tokio::sync::Notify;

/// No sleep is longer: the wall clock may be set while we sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Who wants to be woken when.
#[derive(Debug, Default)]
pub struct Scheduler {
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    at: HashMap<MailboxId, Timestamp>,
    order: BTreeSet<(Timestamp, MailboxId)>,
}

impl Book {
    /// True if the earliest entry is another one now.
    fn set(&mut self, mailbox: MailboxId, at: Option<Timestamp>) -> bool {
        let before = self.order.first().copied();
        let old = match at {
            Some(at) => self.at.insert(mailbox, at),
            None => self.at.remove(&mailbox),
        };
        if let Some(old) = old {
            self.order.remove(&(old, mailbox));
        }
        if let Some(at) = at {
            self.order.insert((at, mailbox));
        }
        before != self.order.first().copied()
    }

    fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<MailboxId> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, mailbox)) = self.order.first().copied()
            && at <= now
        {
            self.order.pop_first();
            self.at.remove(&mailbox);
            due.push(mailbox);
        }
        due
    }
}

impl Scheduler {
    /// Wakes a mailbox at this moment instead of whenever it was to be woken before; `None`: not at all.
    pub fn set(&self, mailbox: MailboxId, at: Option<Timestamp>) {
        if self.book().set(mailbox, at) {
            self.changed.notify_one();
        }
    }

    /// How long the mailbox that is due the longest has been waiting.
    pub fn lag(&self, now: Timestamp) -> Duration {
        self.book().order.first().map(|(at, _)| now.since(*at)).unwrap_or_default()
    }

    /// How many mailboxes want to be woken.
    pub fn len(&self) -> usize {
        self.book().at.len()
    }

    /// True if nobody wants to be woken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until somebody is due, and takes up to `limit` of them out of the book.
    pub async fn due(&self, clock: impl Fn() -> Timestamp, limit: usize) -> Vec<MailboxId> {
        loop {
            let now = clock();
            let wait = {
                let mut book = self.book();
                let due = book.take_due(now, limit);
                if !due.is_empty() {
                    return due;
                }
                book.order.first().map_or(LONGEST_SLEEP, |(at, _)| at.since(now)).min(LONGEST_SLEEP)
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn mailboxes_come_in_their_order_and_each_once() {
        let mut book = Book::default();
        let id = MailboxId::new;
        assert!(book.set(id(1), Some(at(30))));
        assert!(book.set(id(2), Some(at(10))));
        assert!(!book.set(id(3), Some(at(20))));
        assert!(book.set(id(2), Some(at(40))), "the earliest moved away");
        assert!(!book.set(id(1), None));
        assert_eq!(book.take_due(at(19), 9), []);
        assert_eq!(book.take_due(at(40), 1), [id(3)]);
        assert_eq!(book.take_due(at(40), 9), [id(2)]);
        assert!(book.at.is_empty() && book.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_wish_wakes_the_sleeper() {
        let scheduler = std::sync::Arc::new(Scheduler::default());
        let begun = tokio::time::Instant::now();
        let clock = move || at(begun.elapsed().as_millis() as i64);
        scheduler.set(MailboxId::new(1), Some(at(60_000)));
        let waiting = tokio::spawn({
            let scheduler = scheduler.clone();
            async move { (scheduler.due(clock, 9).await, clock()) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        scheduler.set(MailboxId::new(2), Some(at(2000)));
        let (due, now) = waiting.await.unwrap_or_default();
        assert_eq!(due, [MailboxId::new(2)]);
        assert!((2000..2010).contains(&now.as_millis()), "{now}");
    }
}
