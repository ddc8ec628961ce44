//! What notifications bring forward.

use super::Rules;
use crate::{
    id::MailboxId,
    operation::{self, NextRun, Why},
    time::Timestamp,
};

/// What was told since the last poll began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notices {
    mail: bool,
    /// Mail may have come unsaid. Many are watched at once: each waits for its turn among them.
    no_later_than: Option<Timestamp>,
    /// The last poll was brought forward.
    hurried: bool,
    polled_last: Option<Timestamp>,
}

impl Notices {
    /// The server said that mail came.
    pub(super) fn mail_came(&mut self) {
        self.mail = true;
    }

    /// The server says it from now on.
    pub(super) fn watched(&mut self, rules: &Rules, mailbox: MailboxId, now: Timestamp) {
        let period = rules.active_period.max(rules.minimum_interval);
        self.no_later_than = Some(operation::turn(mailbox, period, now));
    }

    /// A poll begins; this is what it was due by.
    pub(super) fn poll_begins(&mut self, due: Option<NextRun>, now: Timestamp) {
        let hurried = due.is_some_and(|next| next.why == Why::Notified);
        *self = Self { hurried, polled_last: Some(now), ..Self::default() };
    }

    /// From when on the next poll is planned: one that came early takes the place of the one that would come too soon
    /// after it.
    pub(super) fn plan_from(&self, rules: &Rules, now: Timestamp) -> Timestamp {
        let early = self.polled_last.filter(|_| self.hurried);
        early.map_or(now, |last| (last + rules.minimum_interval).clamp(now, now + rules.minimum_interval))
    }

    /// Mail came, or may have: its poll need not wait for its turn. What waits for another reason goes on waiting.
    pub(super) fn bring_forward(&self, rules: &Rules, due: &mut Option<NextRun>, now: Timestamp) {
        let gap = rules.notified_gap.max(rules.minimum_interval);
        let soon = self.polled_last.map_or(now, |last| (last + gap).clamp(now, now + gap));
        let soon = Some(soon).filter(|_| self.mail);
        let Some(at) = soon.into_iter().chain(self.no_later_than).min() else { return };
        if let Some(next) = due
            && matches!(next.why, Why::Phase | Why::MinimumInterval | Why::Notified)
            && at < next.at
        {
            *next = NextRun { at, why: Why::Notified };
        }
    }
}
