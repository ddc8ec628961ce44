//! What people want, applied to the mailbox: methods, approval, tests, polls.

use super::{Changes, Mailbox, Note, Rules, TestEnd, Wanted};
use crate::{
    operation::{Kind, Method, NextRun, Operation, State, Status, Why},
    reason::Reason,
    time::Timestamp,
};

impl Mailbox {
    pub(super) fn apply(&mut self, rules: &Rules, wanted: &Wanted, now: Timestamp, changes: &mut Changes) {
        self.polls_wanted = self.polls_wanted.max(wanted.polls);
        if self.kept.subject != 0 && wanted.revision <= self.kept.wanted_seen {
            return self.want_polls(now);
        }
        let moved = self.kept.subject != 0 && self.kept.subject != wanted.subject;
        changes.forget_cursor |= moved;
        self.kept.subject = wanted.subject;
        self.kept.wanted_seen = wanted.revision;
        for kind in Kind::ALL {
            self.want_method(kind, wanted.methods[kind as usize], moved, wanted.barred, changes);
        }
        self.want_test(wanted, changes);
        self.plan_all(rules, now);
        self.want_polls(now);
    }

    fn want_method(
        &mut self,
        kind: Kind,
        method: Method,
        moved: bool,
        barred: Option<Reason>,
        changes: &mut Changes,
    ) {
        let operation = &mut self.kept.operations[kind as usize];
        let known = operation.method == method && !moved;
        let allowed = barred.is_none() || matches!(operation.state, State::Off | State::Untested);
        let reason = barred.filter(|_| method != Method::None);
        if known && allowed {
            if operation.state == State::Untested {
                operation.reason = reason;
            }
            return;
        }
        if operation.is_failing() {
            changes.notes.push(Note::Recovered { operation: kind });
        }
        let state = if method == Method::None { State::Off } else { State::Untested };
        *operation = Operation { method, state, reason, ..Operation::default() };
        self.due[kind as usize] = None;
    }

    fn want_test(&mut self, wanted: &Wanted, changes: &mut Changes) {
        if self.kept.test.is_some() && self.kept.test != wanted.test {
            self.take_test_back();
        }
        let Some(test) = wanted.test.filter(|test| self.kept.test_done != Some(*test)) else { return };
        if self.kept.test == Some(test) {
            // What it tested may have been taken from it: then it ends here, and nothing waits for it.
            return self.end_test(changes);
        }
        for operation in &mut self.kept.operations {
            if operation.method == Method::ServerSide && wanted.barred.is_none() {
                let was = operation.status();
                *operation = Operation {
                    state: State::Testing { tries: 0, was },
                    not_before: None,
                    period: operation.period,
                    ..*operation
                };
            }
        }
        self.kept.test = Some(test);
        self.end_test(changes);
    }

    /// The test was canceled: what had not ended is as it was.
    fn take_test_back(&mut self) {
        for operation in &mut self.kept.operations {
            if let State::Testing { was, .. } = operation.state {
                operation.state = match was {
                    Status::NotRun => State::Untested,
                    Status::Success => State::Enabled,
                    Status::Failure => State::Disabled,
                };
                operation.not_before = None;
                operation.reason = operation.reason.filter(|_| was == Status::Failure);
            }
        }
        self.kept.test = None;
    }

    fn want_polls(&mut self, now: Timestamp) {
        if self.polls_wanted == self.kept.polls_done {
            return;
        }
        self.polled = Kind::ALL.map(|kind| !self.is_running_well(kind));
        for kind in Kind::ALL {
            if self.is_running_well(kind) {
                self.due[kind as usize] = Some(NextRun { at: now, why: Why::PollWanted });
                self.outgoing_due |= kind == Kind::Outgoing;
            }
        }
    }

    pub(super) fn finish_polls(&mut self) {
        let done =
            Kind::ALL.into_iter().all(|kind| self.polled[kind as usize] || !self.is_running_well(kind));
        if self.polls_wanted != self.kept.polls_done && done {
            self.kept.polls_done = self.polls_wanted;
        }
    }

    /// Ends the test that was asked for, once no operation is testing any more.
    pub(super) fn end_test(&mut self, changes: &mut Changes) {
        let testing = |operation: &Operation| matches!(operation.state, State::Testing { .. });
        let Some(test) = self.kept.test.filter(|_| !self.kept.operations.iter().any(testing)) else { return };
        let disabled = |operation: Operation| {
            if operation.state == State::Disabled { operation.reason } else { None }
        };
        let skipped = !self.kept.operations.iter().any(|operation| {
            matches!(operation.state, State::Enabled | State::Retrying { .. } | State::Disabled)
        });
        let reasons = if skipped {
            self.kept.operations.map(|operation| operation.reason)
        } else {
            self.kept.operations.map(disabled)
        };
        if !skipped && reasons == [None; 3] {
            changes.notes.push(Note::Connected);
        }
        self.kept.test = None;
        self.kept.test_done = Some(test);
        changes.test = Some(TestEnd { test, reasons, skipped });
    }
}
