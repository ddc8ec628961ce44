//! What a leader does beside placement and alerts: it hands out tests, gives events their positions, sends mails to
//! owners, and forgets what is old.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{Org, ProfileId},
};
use mailyard_store::{
    Result, Store,
    fleet::Leadership,
    holder::Lane,
    people::{LongOperation, LongState, UnendedTests},
};
use tokio::sync::watch;

use crate::{lanes::lanes, leader::Leader, leadership::Leading, mail::Mailer};

/// Between two looks without a nudge.
const LOOKED: Duration = Duration::from_millis(500);
/// Mailboxes of one operation that are being tested at once.
const TESTED_AT_ONCE: u64 = 200;
/// Long-running operations looked at in one round.
const OPERATIONS: u32 = 100;
/// Events that are given positions in one statement.
const PUBLISHED: u32 = 1000;
/// Mails of one round.
const MAILS: u32 = 20;
/// The wait after a mail that was not taken; it doubles.
const MAILED_AGAIN: Duration = Duration::from_mins(1);
/// Attempts after which a mail is given up.
const MAIL_ATTEMPTS: u32 = 10;
/// Resolved alerts and booked facts are kept so long.
const REMEMBERED: Duration = Duration::from_hours(24 * 90);

/// Profiles that keep tests waiting, and where they belong.
type Halted = BTreeMap<ProfileId, Org>;

/// What the duties need.
#[derive(Clone)]
pub struct Duties {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Whether this coordinator leads.
    pub leading: Leading,
    /// Who is nudged when tests were handed out.
    pub leader: Arc<dyn Leader>,
    /// The relay of mails to owners.
    pub mailer: Arc<Mailer>,
    /// The clock of the process.
    pub now: fn() -> Timestamp,
    /// Tells that there may be something to do.
    pub nudged: watch::Sender<()>,
}

impl Duties {
    /// Hands out tests and publishes events, for as long as the process lives.
    pub async fn run(self) {
        let mut nudged = self.nudged.subscribe();
        // What was told is read anew whenever it is not certain.
        let mut halted = None;
        loop {
            if let Some(lead) = self.leading.now() {
                let done = async {
                    self.advance_operations(&lead, &mut halted).await?;
                    while self.store.publish(&lead, PUBLISHED).await? == u64::from(PUBLISHED) {}
                    Ok(())
                };
                if let Err(error) = self.leading.learn(&lead, done.await) {
                    tracing::warn!(%error, "the duties of a leader could not be done");
                }
            }
            let _late = tokio::time::timeout(LOOKED, nudged.changed()).await;
        }
    }

    /// Sends mails that are due, for as long as the process lives. By itself: a relay may be slow.
    pub async fn send_mails(self) {
        let mut nudged = self.nudged.subscribe();
        loop {
            if let Some(lead) = self.leading.now()
                && let Err(error) = self.leading.learn(&lead, self.mails(&lead).await)
            {
                tracing::warn!(%error, "what became of a mail could not be kept");
            }
            let _late = tokio::time::timeout(LOOKED, nudged.changed()).await;
        }
    }

    /// Forgets what is old, once an hour.
    pub async fn forget(self) {
        loop {
            if let Some(lead) = self.leading.now() {
                let before = (self.now)() - REMEMBERED;
                match self.leading.learn(&lead, self.store.forget(&lead, before).await) {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "old alerts and facts are forgotten"),
                    Err(error) => tracing::warn!(%error, "old alerts and facts could not be forgotten"),
                }
            }
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
    }

    async fn mails(&self, lead: &Leadership) -> Result<()> {
        for notice in self.store.due_notices((self.now)(), MAILS).await? {
            let sent = self.mailer.send(&notice.to, &notice.subject, &notice.text).await;
            let again = sent.as_ref().err().and_then(|error| {
                let wait = MAILED_AGAIN * 2_u32.saturating_pow(notice.attempts.min(6));
                let goes_on = !error.is_permanent() && notice.attempts + 1 < MAIL_ATTEMPTS;
                goes_on.then(|| (self.now)() + wait)
            });
            if let Err(error) = &sent {
                tracing::warn!(notice = notice.number, %error, again = again.is_some(), "a mail to an owner was not sent");
            }
            let result = sent.map_err(|error| error.reason());
            self.store.notice_attempted(lead, notice.number, result, again).await?;
        }
        Ok(())
    }

    /// Hands out tests, and says which profiles keep some of them waiting.
    async fn advance_operations(&self, lead: &Leadership, halted: &mut Option<Halted>) -> Result<()> {
        let live = self.store.live_operations(OPERATIONS).await?;
        if live.is_empty() && halted.as_ref().is_some_and(Halted::is_empty) {
            return Ok(());
        }
        let held = self.held_profiles().await?;
        let mut now = Halted::new();
        for operation in live {
            let waits = self.advance(lead, &operation, &held).await?;
            now.extend(waits.into_iter().map(|profile| (profile, operation.org.clone())));
        }
        let before = match halted.take() {
            Some(before) => before,
            None => self.told_halted().await?,
        };
        self.tell_halted(lead, &before, &now, What::TestHalted).await?;
        self.tell_halted(lead, &now, &before, What::TestResumed).await?;
        *halted = Some(now);
        Ok(())
    }

    /// Profiles of which an alert says that a test waits for them.
    async fn told_halted(&self) -> Result<Halted> {
        let open = self.store.open_alerts().await?.into_iter();
        let halted = open.filter(|alert| alert.reason == Reason::ProfileTestHalted);
        Ok(halted.filter_map(|alert| Some((alert.profile?, alert.org))).collect())
    }

    /// Tells of what is in `after` and not in `before`.
    async fn tell_halted(
        &self,
        lead: &Leadership,
        before: &Halted,
        after: &Halted,
        what: What,
    ) -> Result<()> {
        let at = (self.now)();
        for (profile, org) in after.iter().filter(|(profile, _)| !before.contains_key(profile)) {
            let fact = Fact { regarding: Regarding::Profile(*profile), what, at };
            self.store.raise(lead, org, &[fact]).await?;
        }
        Ok(())
    }

    /// Profiles whose server is left alone.
    async fn held_profiles(&self) -> Result<HashSet<ProfileId>> {
        let mut held = HashSet::new();
        for profile in self.store.profiles(None).await? {
            // One that cannot be understood keeps no test waiting.
            let open = |lane: Result<Option<Lane>, String>| {
                lane.is_ok_and(|lane| lane.is_some_and(|lane| lane.open.is_some()))
            };
            if lanes(&*self.store, &profile).await?.into_iter().any(|(_, lane)| open(lane)) {
                held.insert(profile.id);
            }
        }
        Ok(held)
    }

    /// Hands out more mailboxes of an operation, halts it, lets it go on, or ends it. The profiles that it waits for.
    async fn advance(
        &self,
        lead: &Leadership,
        operation: &LongOperation,
        held: &HashSet<ProfileId>,
    ) -> Result<Vec<ProfileId>> {
        let LongOperation { id, running, succeeded, failed, skipped, total, .. } = *operation;
        let now = (self.now)();
        let ended = succeeded + failed + skipped;
        if ended == total {
            self.store.set_operation_state(lead, id, LongState::Done, None, now).await?;
            return Ok(Vec::new());
        }
        let room = u32::try_from(TESTED_AT_ONCE.saturating_sub(running)).unwrap_or_default();
        let left_alone: Vec<ProfileId> = held.iter().copied().collect();
        let mut handed = self.store.advance_test(lead, id, room, &left_alone).await?;
        let unended = if held.is_empty() { Vec::new() } else { self.store.unended_tests(id).await? };
        for others in without_canary(&unended, held) {
            handed += self.store.advance_test(lead, id, 1, &others).await?;
        }
        if handed > 0 {
            self.leader.nudge();
        }
        let waits = waits(&unended, held);
        let state = if waits.is_empty() { LongState::Running } else { LongState::Paused };
        if state != operation.state {
            let reason = (state == LongState::Paused).then_some(Reason::ProfileTestHalted);
            self.store.set_operation_state(lead, id, state, reason, now).await?;
        }
        Ok(waits)
    }
}

/// The profiles that keep an operation from going on; none, if some of its mailboxes can be tested.
fn waits(unended: &[UnendedTests], held: &HashSet<ProfileId>) -> Vec<ProfileId> {
    let all = unended.iter().all(|tests| held.contains(&tests.profile));
    if all { unended.iter().map(|tests| tests.profile).collect() } else { Vec::new() }
}

/// For each server that is left alone and of which nobody is being tested: the profiles of all others. One mailbox of its
/// own goes ahead and is its canary.
fn without_canary(unended: &[UnendedTests], held: &HashSet<ProfileId>) -> Vec<Vec<ProfileId>> {
    let needs = |tests: &&UnendedTests| tests.running == 0 && held.contains(&tests.profile);
    let others = |own: &UnendedTests| {
        unended.iter().map(|tests| tests.profile).filter(|profile| *profile != own.profile).collect()
    };
    unended.iter().filter(needs).map(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_that_is_left_alone_has_a_canary_of_its_own() {
        let [a, b, c] = [1, 2, 3].map(ProfileId::new);
        let tests = |profile, running, waiting| UnendedTests { profile, running, waiting };
        let (unended, held) = ([tests(a, 1, 4), tests(b, 0, 2), tests(c, 0, 7)], HashSet::from([a, b]));
        assert_eq!(
            without_canary(&unended, &held),
            [vec![a, c]],
            "that of another one does not stand in for it"
        );
        assert_eq!(waits(&unended, &held), [], "the third can be tested");
        assert_eq!(waits(&unended[..2], &held), [a, b]);
        assert_eq!(without_canary(&unended[2..], &held), Vec::<Vec<ProfileId>>::new());
    }
}
