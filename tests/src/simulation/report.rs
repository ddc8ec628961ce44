//! What a run counted.

use std::{collections::BTreeMap, fmt};

/// Counts of a run, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What must never be, with the first time it was: empty in a good run.
    pub violations: Vec<String>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Mails that came.
    pub delivered: u64,
    /// Mails that were tracked, each time.
    pub tracked: u64,
    /// Mails that were tracked once more than once.
    pub tracked_twice: u64,
    /// Polls that the mail server saw.
    pub polls: u64,
    /// Polls of a mailbox while another process polled it.
    pub double_polls: u64,
    /// Commits that a fence kept out.
    pub stale_commits: u64,
    /// Statements of former leaders.
    pub deposed: u64,
    /// Statements that were carried out though nobody heard of it.
    pub in_doubt: u64,
    /// Leaderships.
    pub terms: u64,
    /// Processes that were declared dead.
    pub declared_dead: u64,
    /// Shards whose owner was declared dead.
    pub orphaned: u64,
    /// Grants.
    pub granted: u64,
    /// Grants to another worker than the last one.
    pub moved: u64,
    /// Shards that were asked back.
    pub revoked: u64,
    /// Shards that were asked back and stayed.
    pub returned: u64,
    /// Plans that stood still because many fell silent together.
    pub frozen: u64,
    /// A hash over everything that happened, in order.
    pub trace: u64,
}

impl Report {
    /// Something that must never be.
    pub fn violation(&mut self, what: impl Into<String>) {
        if self.violations.len() < 10 {
            self.violations.push(what.into());
        }
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.violations.extend(other.violations.iter().cloned());
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        let counts = [
            (&mut self.delivered, other.delivered),
            (&mut self.tracked, other.tracked),
            (&mut self.tracked_twice, other.tracked_twice),
            (&mut self.polls, other.polls),
            (&mut self.double_polls, other.double_polls),
            (&mut self.stale_commits, other.stale_commits),
            (&mut self.deposed, other.deposed),
            (&mut self.in_doubt, other.in_doubt),
            (&mut self.terms, other.terms),
            (&mut self.declared_dead, other.declared_dead),
            (&mut self.orphaned, other.orphaned),
            (&mut self.granted, other.granted),
            (&mut self.moved, other.moved),
            (&mut self.revoked, other.revoked),
            (&mut self.returned, other.returned),
            (&mut self.frozen, other.frozen),
        ];
        for (ours, theirs) in counts {
            *ours += theirs;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(out, "mails tracked {} of {}, twice {}", self.tracked, self.delivered, self.tracked_twice)?;
        writeln!(out, "polls {}, of them at the same time as another's {}", self.polls, self.double_polls)?;
        writeln!(
            out,
            "kept out: commits {}, statements of former leaders {}; in doubt {}",
            self.stale_commits, self.deposed, self.in_doubt
        )?;
        writeln!(
            out,
            "terms {}, declared dead {}, orphaned {}, granted {}, moved {}, asked back {}, of them stayed {}, frozen {}",
            self.terms,
            self.declared_dead,
            self.orphaned,
            self.granted,
            self.moved,
            self.revoked,
            self.returned,
            self.frozen
        )?;
        write!(out, "faults {faults}:")?;
        for (kind, count) in &self.faults {
            write!(out, " {kind} {count}")?;
        }
        for violation in &self.violations {
            write!(out, "\nVIOLATION {violation}")?;
        }
        Ok(())
    }
}
