//! The mail server: it keeps book of who asks for which mailbox and until when it works at that.

use mailyard_policy::id::Incarnation;

use super::{chance::Chance, report::Report, store::Mailbox};

/// A request that is worked at.
#[derive(Clone, Copy, Debug)]
struct Work {
    by: Incarnation,
    until: u64,
}

/// The state of the mail server.
pub struct Exchange {
    delivered: Vec<u64>,
    work: Vec<Vec<Work>>,
    polled: Vec<u64>,
    /// The longest that is worked at a request.
    deadline: u64,
}

impl Exchange {
    pub fn new(mailboxes: usize, deadline: u64) -> Self {
        Self {
            delivered: vec![0; mailboxes],
            work: vec![Vec::new(); mailboxes],
            polled: vec![0; mailboxes],
            deadline,
        }
    }

    /// A mail comes.
    pub fn deliver(&mut self, mailbox: Mailbox) {
        self.delivered[mailbox] += 1;
    }

    /// A request arrives that was sent at `sent`. When it will have been worked at.
    pub fn begin(
        &mut self,
        mailbox: Mailbox,
        by: Incarnation,
        sent: u64,
        now: u64,
        chance: &mut Chance,
        report: &mut Report,
    ) -> u64 {
        let long = match chance.below(100) {
            0 => 25_000,
            1..4 => chance.between(1000, 15_000),
            _ => chance.between(50, 400),
        };
        let until = (now + long).min(sent + self.deadline).max(now);
        let work = &mut self.work[mailbox];
        work.retain(|work| work.until > now);
        if let Some(other) = work.iter().find(|work| work.by != by) {
            report.double_polls += 1;
            report.violation(format!("at {now} mailbox {mailbox} is polled by {by} and by {}", other.by));
        }
        work.push(Work { by, until });
        self.polled[mailbox] = now;
        report.polls += 1;
        until
    }

    /// How many mails have come to a mailbox.
    pub fn delivered(&self, mailbox: Mailbox) -> u64 {
        self.delivered[mailbox]
    }

    /// When it was polled last.
    pub fn polled(&self, mailbox: Mailbox) -> u64 {
        self.polled[mailbox]
    }
}
