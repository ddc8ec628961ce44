//! A plan as people read it, one line for each step.

use std::fmt;

use super::{Action, Plan, Step, Why};

/// Such as `shard 17: asked back from worker-1 for worker-2 (drained: its owner is drained)`.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "shard {}: ", self.shard)?;
        match &self.action {
            Action::Grant { worker, .. } => write!(out, "granted to {worker}")?,
            Action::Revoke { from, to } => write!(out, "asked back from {from} for {to}")?,
            Action::Return { worker, .. } => write!(out, "stays with {worker}, granted anew")?,
        }
        write!(out, " ({}: {})", self.why, self.why.sentence())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(out, "{step}"))?;
        if self.waiting > 0 {
            writeln!(out, "{} free shards wait", self.waiting)?;
        }
        self.held.map_or(Ok(()), |held| writeln!(out, "held: {held}"))
    }
}

impl Why {
    /// The reason as a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Free => "nobody holds it",
            Self::Back => "the worker it was kept for is back",
            Self::Moved => "it was released for this move",
            Self::Pinned => "it is pinned there",
            Self::Swapped => "its owner is drained, and a new worker takes over everything",
            Self::Drained => "its owner is drained",
            Self::Quarantined => "its owner is quarantined",
            Self::Levelled => "the loads were uneven for some time",
            Self::Unreleased => "its owner did not release it in time",
        }
    }
}
