//! Which hosts may still be shown a password.

use std::collections::BTreeSet;

/// Which hosts took a password and which refused it. A host that refused it is not shown it again, and when several
/// refused it in a row no host is that has not taken it: accounts are locked after few refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    accepted: BTreeSet<String>,
    refused: BTreeSet<String>,
    in_a_row: u8,
}

impl Standing {
    /// Refusals in a row after which no more hosts are tried.
    pub const REFUSALS: u8 = 3;

    /// True if the host took the password before.
    pub fn has_accepted(&self, host: &str) -> bool {
        self.accepted.contains(&host.to_ascii_lowercase())
    }

    /// True if the host may be shown the password.
    pub fn may_try(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        !self.refused.contains(&host) && (self.in_a_row < Self::REFUSALS || self.accepted.contains(&host))
    }

    /// The host took it.
    pub fn on_accepted(&mut self, host: &str) {
        self.accepted.insert(host.to_ascii_lowercase());
        self.in_a_row = 0;
    }

    /// The host refused it.
    pub fn on_refused(&mut self, host: &str) {
        let host = host.to_ascii_lowercase();
        self.accepted.remove(&host);
        self.refused.insert(host);
        self.in_a_row = self.in_a_row.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_to_few_who_refuse_it() {
        let mut standing = Standing::default();
        assert!(standing.may_try("a.example.org") && !standing.has_accepted("a.example.org"));
        standing.on_refused("A.example.org");
        assert!(!standing.may_try("a.example.org") && standing.may_try("b.example.org"));
        standing.on_accepted("b.example.org");
        standing.on_refused("c.example.org");
        standing.on_refused("d.example.org");
        assert!(standing.may_try("e.example.org"), "it was taken in between");
        standing.on_refused("e.example.org");
        assert!(!standing.may_try("f.example.org"));
        assert!(standing.may_try("B.example.org") && standing.has_accepted("b.example.org"));
        standing.on_refused("b.example.org");
        assert!(!standing.may_try("b.example.org") && !standing.has_accepted("b.example.org"));
    }
}
