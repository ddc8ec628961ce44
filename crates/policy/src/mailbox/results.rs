//! Results of turns and tests, applied to the mailbox.

use super::{Changes, Mailbox, Note, OWN_GAP, Outcome, QUIET_CYCLES, Rules, Tested, Work, rules::Verdict};
use crate::{
    id,
    operation::{Kind, NextRun, Operation, State, Status, Why},
    reason::Reason,
    time::Timestamp,
};
use std::time::Duration;

impl Mailbox {
    pub(super) fn ended(
        &mut self,
        rules: &Rules,
        work: Work,
        outcome: Outcome,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let kind = match work {
            Work::Incoming => Kind::Incoming,
            Work::Outgoing { .. } => Kind::Outgoing,
            Work::Test(kinds) => return self.test_ended_early(rules, kinds, outcome, now, changes),
        };
        self.polled[kind as usize] = true;
        match outcome {
            Outcome::Completed { items } => {
                changes.cycle = items > 0;
                self.completed(rules, kind, items, changes);
                self.plan(rules, kind, now);
            }
            Outcome::More { items } => {
                changes.cycle = items > 0;
                self.completed(rules, kind, items, changes);
                self.due[kind as usize] = Some(NextRun { at: now, why: Why::Backlog });
                self.outgoing_due |= kind == Kind::Outgoing;
            }
            Outcome::Failed { reason, hint } => {
                changes.cycle = true;
                self.outgoing_due |= kind == Kind::Outgoing;
                self.failed(rules, kind, reason, hint, now, changes);
                self.plan(rules, kind, now);
            }
            Outcome::Held => {
                self.outgoing_due |= kind == Kind::Outgoing;
                self.hold(rules, kind, now);
            }
            Outcome::OursFailed => {
                self.outgoing_due |= kind == Kind::Outgoing;
                self.due[kind as usize] = Some(NextRun { at: now + OWN_GAP, why: Why::RetryGap });
            }
        }
    }

    pub(super) fn completed(&mut self, rules: &Rules, kind: Kind, items: u32, changes: &mut Changes) {
        if self.operation(kind).is_failing() {
            changes.notes.push(Note::Recovered { operation: kind });
        }
        let period = self.paced(rules, kind, items);
        let operation = &mut self.kept.operations[kind as usize];
        *operation = Operation {
            method: operation.method,
            state: State::Enabled,
            period,
            not_before: None,
            reason: None,
        };
    }

    /// The period after a cycle: shorter while there is work, longer after several empty cycles.
    fn paced(&mut self, rules: &Rules, kind: Kind, items: u32) -> Duration {
        let at = kind as usize;
        let ceiling = rules.idle_max.max(rules.active_max);
        let period = self.operation(kind).period.clamp(rules.active_min.min(ceiling), ceiling);
        if items > 0 {
            let again = std::mem::replace(&mut self.busy[at], true);
            self.quiet[at] = 0;
            return if again || period > rules.active_period { rules.faster(period) } else { period };
        }
        self.busy[at] = false;
        self.quiet[at] += 1;
        if self.quiet[at] < QUIET_CYCLES {
            return period;
        }
        self.quiet[at] = 0;
        rules.slower(period)
    }

    fn failed(
        &mut self,
        rules: &Rules,
        kind: Kind,
        reason: Reason,
        hint: Option<Duration>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let jitter = self.jitter();
        let operation = &mut self.kept.operations[kind as usize];
        let failures = operation.failures();
        operation.reason = Some(reason);
        match Verdict::of(reason) {
            Verdict::Throttled => operation.not_before = Some(now + rules.wait(hint, jitter)),
            Verdict::ServerFault => {
                operation.state = State::Retrying { failures };
                operation.not_before = Some(now + rules.retry_gap);
            }
            Verdict::Transient if failures + 1 < rules.retry_attempts => {
                operation.state = State::Retrying { failures: failures + 1 };
                operation.not_before = Some(now + rules.retry_gap);
                changes.notes.push(Note::Failing { operation: kind, reason, failures: failures + 1 });
            }
            verdict @ (Verdict::Transient | Verdict::Permanent) => {
                operation.state = State::Disabled;
                operation.not_before = None;
                let after_retries = verdict == Verdict::Transient;
                changes.notes.push(Note::Disabled { operation: kind, reason, after_retries });
            }
        }
        if reason.is_account_fault() {
            self.stop_using_account(reason, changes);
        }
    }

    /// What one operation was refused is not tried by another.
    fn stop_using_account(&mut self, reason: Reason, changes: &mut Changes) {
        for kind in Kind::ALL {
            let operation = &mut self.kept.operations[kind as usize];
            if matches!(operation.state, State::Enabled | State::Retrying { .. }) {
                *operation = Operation {
                    state: State::Disabled,
                    reason: Some(reason),
                    not_before: None,
                    ..*operation
                };
                self.due[kind as usize] = None;
                changes.notes.push(Note::Disabled { operation: kind, reason, after_retries: false });
            }
        }
    }

    fn hold(&mut self, rules: &Rules, kind: Kind, now: Timestamp) {
        let pace = rules.pace();
        let operation = Operation { not_before: None, reason: None, ..*self.operation(kind) };
        let well = Operation { state: State::Enabled, ..operation };
        self.due[kind as usize] =
            well.next_run(self.id, &pace, now).map(|next| NextRun { why: Why::Breaker, ..next });
    }

    fn jitter(&self) -> u64 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.id.to_bytes());
        bytes[16..].copy_from_slice(&self.attempt.0.to_be_bytes());
        id::hash(&bytes)
    }

    /// A test that took too long has failed. If the breaker or our own side kept it from running, what is not tested
    /// stays untested, and it comes again.
    fn test_ended_early(
        &mut self,
        rules: &Rules,
        kinds: [bool; 3],
        outcome: Outcome,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        match outcome {
            Outcome::Failed { reason, hint } => {
                let failed = kinds.map(|tested| tested.then_some(Tested::Fails { reason, hint }));
                self.tested(rules, &failed, now, changes);
            }
            other => self.test_did_not_run(rules, other, now),
        }
    }

    fn test_did_not_run(&mut self, rules: &Rules, outcome: Outcome, now: Timestamp) {
        let why = if outcome == Outcome::Held { Why::Breaker } else { Why::TestRetry };
        let gap = if outcome == Outcome::Held { rules.retry_gap } else { OWN_GAP };
        for kind in Kind::ALL {
            if matches!(self.operation(kind).state, State::Testing { .. }) {
                self.due[kind as usize] = Some(NextRun { at: now + gap, why });
            }
        }
    }

    pub(super) fn tested(
        &mut self,
        rules: &Rules,
        results: &[Option<Tested>; 3],
        now: Timestamp,
        changes: &mut Changes,
    ) {
        for kind in Kind::ALL {
            if let (Some(result), State::Testing { tries, was }) =
                (results[kind as usize], self.operation(kind).state)
            {
                self.operation_tested(rules, kind, (tries, was), result, now, changes);
                self.plan(rules, kind, now);
            }
        }
        let refused = self.kept.operations.iter().find_map(|operation| {
            operation.reason.filter(|reason| operation.state == State::Disabled && reason.is_account_fault())
        });
        if let Some(reason) = refused {
            self.stop_using_account(reason, changes);
        }
        self.end_test(changes);
    }

    fn operation_tested(
        &mut self,
        rules: &Rules,
        kind: Kind,
        (tries, was): (u8, Status),
        result: Tested,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let jitter = self.jitter();
        let operation = &mut self.kept.operations[kind as usize];
        match result {
            Tested::Works => {
                if was == Status::Failure || operation.reason.is_some() {
                    changes.notes.push(Note::Recovered { operation: kind });
                }
                *operation = Operation {
                    method: operation.method,
                    state: State::Enabled,
                    period: rules.active_period,
                    not_before: None,
                    reason: None,
                };
                self.outgoing_due |= kind == Kind::Outgoing;
            }
            Tested::Fails { reason, hint } => {
                operation.reason = Some(reason);
                match Verdict::of(reason) {
                    Verdict::ServerFault => operation.not_before = Some(now + rules.retry_gap),
                    verdict @ (Verdict::Transient | Verdict::Throttled) if tries < rules.test_tries => {
                        let gap = rules.test_gap * (1 << tries.min(10));
                        let asked =
                            if verdict == Verdict::Throttled { rules.wait(hint, jitter) } else { gap };
                        operation.state = State::Testing { tries: tries + 1, was };
                        operation.not_before = Some(now + gap.max(asked).min(rules.pace().longest_wait));
                    }
                    Verdict::Transient | Verdict::Throttled | Verdict::Permanent => {
                        operation.state = State::Disabled;
                        operation.not_before = None;
                        changes.notes.push(Note::Disabled { operation: kind, reason, after_retries: false });
                    }
                }
            }
        }
    }
}
