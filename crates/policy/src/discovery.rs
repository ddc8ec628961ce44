//! Where a mailbox is: how long a URL that was found serves, when it is looked for again, and which hosts may still be
//! shown a password.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    reason::{Nature, Reason},
    time::Timestamp,
};

/// Numbers of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A URL serves so long without a doubt.
    pub fresh: Duration,
    /// A URL that was found less than this ago is not doubted: it is not the cause of a failure.
    pub settled: Duration,
    /// The wait after nothing was found.
    pub nothing: Duration,
    /// The wait after something was found that must be mended: a certificate, a redirect.
    pub broken: Duration,
    /// The wait after Exchange did not know the address; it doubles.
    pub unknown: Duration,
    /// That wait grows to this.
    pub unknown_max: Duration,
    /// The wait after what passes by itself, unless the server named one.
    pub passing: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            fresh: Duration::from_hours(24),
            settled: Duration::from_hours(1),
            nothing: Duration::from_mins(10),
            broken: Duration::from_hours(1),
            unknown: Duration::from_hours(1),
            unknown_max: Duration::from_hours(24),
            passing: Duration::from_mins(1),
        }
    }
}

/// What is known of where a mailbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// When the URL was found; `None`: there is none.
    pub found: Option<Timestamp>,
    /// The URL led to a failure that may be its fault.
    pub doubted: bool,
    /// The last search, if it found nothing.
    pub missed: Option<Miss>,
}

/// A search that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// How many in a row ended with this reason.
    pub times: u8,
    /// The wait that a server asked for.
    pub back_off: Option<Duration>,
}

/// What to do when the URL is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Use what was found.
    Use,
    /// Look for it.
    Discover,
    /// Do neither.
    Held {
        /// Why nothing was found.
        reason: Reason,
        /// Until when; `None`: until the credentials are changed.
        until: Option<Timestamp>,
    },
}

impl Location {
    /// What to do now. An old URL serves while a new one cannot be found.
    pub fn next(&self, rules: &Rules, now: Timestamp) -> Next {
        let is_fresh = |at: Timestamp| at <= now && now.since(at) < rules.fresh;
        if self.found.is_some_and(is_fresh) && !self.doubted {
            return Next::Use;
        }
        match self.missed.and_then(|miss| miss.held(rules, now)) {
            Some(_) if self.found.is_some() => Next::Use,
            Some(held) => held,
            None => Next::Discover,
        }
    }

    /// A URL was found.
    pub fn on_found(&mut self, now: Timestamp) {
        *self = Self { found: Some(now), ..Self::default() };
    }

    /// None was found.
    pub fn on_missed(&mut self, reason: Reason, back_off: Option<Duration>, now: Timestamp) {
        let before = self.missed.filter(|miss| miss.reason == reason).map_or(0, |miss| miss.times);
        self.missed = Some(Miss { at: now, reason, times: before.saturating_add(1), back_off });
    }

    /// A call to the URL failed. A URL that has served for a while may have been moved away from.
    pub fn on_call_failed(&mut self, reason: Reason, rules: &Rules, now: Timestamp) {
        let is_settled = |at: Timestamp| at > now || now.since(at) >= rules.settled;
        self.doubted |= may_have_moved(reason) && self.found.is_some_and(is_settled);
    }

    /// The profile has other credentials, or another certificate of authority.
    pub fn on_changed(&mut self) {
        self.missed = None;
    }
}

impl Miss {
    fn held(&self, rules: &Rules, now: Timestamp) -> Option<Next> {
        let Self { at, reason, .. } = *self;
        let Some(wait) = self.wait(rules) else { return Some(Next::Held { reason, until: None }) };
        // A moment that has not come yet is of a clock that was put back: it holds nothing.
        let holds = at <= now && now.since(at) < wait;
        holds.then_some(Next::Held { reason, until: Some(at + wait) })
    }

    /// How long nothing is looked for; `None`: as long as the credentials stay.
    fn wait(&self, rules: &Rules) -> Option<Duration> {
        let wait = match self.reason {
            reason if reason.is_credential_fault() => return None,
            Reason::MailboxNotFoundOnServer => {
                let doubled = 1_u32.checked_shl(u32::from(self.times.saturating_sub(1))).unwrap_or(u32::MAX);
                rules.unknown.saturating_mul(doubled).min(rules.unknown_max)
            }
            Reason::MailboxLocationUnknown => rules.nothing,
            reason if matches!(reason.nature(), Nature::Transient | Nature::Throttled) => {
                self.back_off.unwrap_or(rules.passing).min(rules.broken)
            }
            _ => rules.broken,
        };
        Some(wait)
    }
}

/// True for failures of calls that a mailbox or a server which has moved leaves behind.
fn may_have_moved(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ProfileDnsFailed
            | Reason::ProfileConnectFailed
            | Reason::ProfileConnectTimeout
            | Reason::ProfileConnectionLost
            | Reason::ProfileTlsNameMismatch
            | Reason::ProfileUrlWrong
            | Reason::ProfileAnswerNotEws
            | Reason::ExchangeVersionUnsupported
            | Reason::MailboxMoving
            | Reason::MailboxTransientError
    )
}

/// The reason that a whole search ends with, of those that its attempts ended with: a refused password before what may
/// pass, so that nobody is disabled by an outage, that before what must be mended, and that before having found nothing.
pub fn sharpest(reasons: impl IntoIterator<Item = Reason>) -> Reason {
    let reasons = reasons.into_iter().filter(|reason| rank(*reason) > 0);
    // Of the same rank the last one: hosts that are made for it come after those that merely may do it.
    reasons.max_by_key(|reason| rank(*reason)).unwrap_or(Reason::MailboxLocationUnknown)
}

fn rank(reason: Reason) -> u8 {
    match reason {
        reason if reason.is_credential_fault() => 5,
        // Pages of others, which are asked only because of their name.
        Reason::EwsProtocolError
        | Reason::EwsAnswerTooLarge
        | Reason::ProfileUrlWrong
        | Reason::ProfileAnswerNotEws => 0,
        reason if matches!(reason.nature(), Nature::Transient | Nature::Throttled) => 4,
        Reason::AutodiscoverRedirectForeign
        | Reason::AutodiscoverRedirectInsecure
        | Reason::AutodiscoverRedirectLoop => 3,
        Reason::ProfileAuthSchemeMissing | Reason::ProfileAuthHandshakeInvalid | Reason::ProfileForbidden => {
            2
        }
        Reason::ProfileTlsUntrusted
        | Reason::ProfileTlsNameMismatch
        | Reason::ProfileTlsExpired
        | Reason::ProfileTlsVersion
        | Reason::ProfileTlsSuites => 1,
        _ => 0,
    }
}

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

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: Duration = Duration::from_mins(1);
    const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn missed(reason: Reason, times: u8, back_off: Option<Duration>) -> Location {
        Location { missed: Some(Miss { at: NOW, reason, times, back_off }), ..Location::default() }
    }

    #[test]
    fn a_url_serves_a_day_and_longer_while_none_is_found() {
        let rules = Rules::default();
        let mut location = Location::default();
        assert_eq!(location.next(&rules, NOW), Next::Discover);
        location.on_found(NOW);
        assert_eq!(location.next(&rules, NOW + HOUR * 24 - MINUTE), Next::Use);
        assert_eq!(location.next(&rules, NOW + HOUR * 24), Next::Discover);
        assert_eq!(location.next(&rules, NOW - MINUTE), Next::Discover, "a clock that was put back");
        let later = NOW + HOUR * 25;
        location.on_missed(Reason::ProfileDnsFailed, None, later);
        assert_eq!(location.next(&rules, later), Next::Use);
        assert_eq!(location.next(&rules, later + MINUTE), Next::Discover);
        location.on_found(later + MINUTE);
        assert_eq!(location, Location { found: Some(later + MINUTE), ..Location::default() });
    }

    #[test]
    fn a_failure_that_may_be_the_urls_fault_makes_it_doubtful_after_an_hour() {
        let rules = Rules::default();
        for (reason, after, expected) in [
            (Reason::ProfileConnectFailed, HOUR, Next::Discover),
            (Reason::ProfileConnectFailed, MINUTE * 59, Next::Use),
            (Reason::ProfileUrlWrong, HOUR, Next::Discover),
            (Reason::MailboxMoving, HOUR, Next::Discover),
            (Reason::ExchangeVersionUnsupported, HOUR, Next::Discover),
            (Reason::MailboxTransientError, HOUR, Next::Discover),
            (Reason::ExchangeServerBusy, HOUR, Next::Use),
            (Reason::ProfileAuthRejected, HOUR, Next::Use),
            (Reason::ImpersonationDenied, HOUR, Next::Use),
        ] {
            let mut location = Location::default();
            location.on_call_failed(reason, &rules, NOW);
            assert!(!location.doubted, "there is nothing to doubt");
            location.on_found(NOW);
            location.on_call_failed(reason, &rules, NOW + after);
            assert_eq!(location.next(&rules, NOW + after), expected, "{reason} after {after:?}");
        }
    }

    #[test]
    fn what_was_not_found_is_not_looked_for_at_once() {
        let rules = Rules::default();
        for (reason, times, back_off, wait) in [
            (Reason::MailboxLocationUnknown, 1, None, Some(MINUTE * 10)),
            (Reason::MailboxLocationUnknown, 9, None, Some(MINUTE * 10)),
            (Reason::ProfileTlsNameMismatch, 1, None, Some(HOUR)),
            (Reason::AutodiscoverRedirectForeign, 1, None, Some(HOUR)),
            (Reason::MailboxNotFoundOnServer, 1, None, Some(HOUR)),
            (Reason::MailboxNotFoundOnServer, 2, None, Some(HOUR * 2)),
            (Reason::MailboxNotFoundOnServer, 6, None, Some(HOUR * 24)),
            (Reason::MailboxNotFoundOnServer, 255, None, Some(HOUR * 24)),
            (Reason::ExchangeServerBusy, 1, None, Some(MINUTE)),
            (Reason::ExchangeServerBusy, 1, Some(MINUTE * 5), Some(MINUTE * 5)),
            (Reason::ExchangeServerBusy, 1, Some(HOUR * 500), Some(HOUR)),
            (Reason::ProfileDnsFailed, 1, None, Some(MINUTE)),
            (Reason::ProfileAuthRejected, 1, None, None),
            (Reason::ProfileAccountLocked, 1, None, None),
        ] {
            let location = missed(reason, times, back_off);
            let held = Next::Held { reason, until: wait.map(|wait| NOW + wait) };
            assert_eq!(location.next(&rules, NOW), held, "{reason} {times}");
            let after = wait.unwrap_or(HOUR * 1000);
            let expected = if wait.is_some() { Next::Discover } else { held };
            assert_eq!(location.next(&rules, NOW + after), expected, "{reason} {times}");
            let put_back = location.next(&rules, NOW - HOUR * 9000);
            assert_eq!(put_back, expected, "{reason} {times}: a clock that was put back");
            let mut changed = location;
            changed.on_changed();
            assert_eq!(changed.next(&rules, NOW), Next::Discover);
        }
    }

    #[test]
    fn misses_are_counted_by_their_reason() {
        let mut location = Location::default();
        let mut times = |reason| {
            location.on_missed(reason, None, NOW);
            location.missed.map(|miss| miss.times)
        };
        assert_eq!(times(Reason::MailboxNotFoundOnServer), Some(1));
        assert_eq!(times(Reason::MailboxNotFoundOnServer), Some(2));
        assert_eq!(times(Reason::MailboxLocationUnknown), Some(1));
        assert_eq!(times(Reason::MailboxNotFoundOnServer), Some(1));
    }

    #[test]
    fn a_search_ends_with_its_sharpest_reason() {
        use Reason::{
            AutodiscoverRedirectForeign as Foreign, EwsProtocolError as Page, ExchangeServerBusy as Busy,
            MailboxLocationUnknown as Unknown, ProfileAuthRejected as Rejected,
            ProfileAuthSchemeMissing as Scheme, ProfileConnectTimeout as Timeout, ProfileDnsFailed as Dns,
            ProfileTlsExpired as Expired, ProfileTlsNameMismatch as Mismatch, ProfileUrlWrong as Wrong,
        };
        let cases: [(&[Reason], Reason); 10] = [
            (&[], Unknown),
            (&[Wrong, Unknown, Page], Unknown),
            (&[Mismatch, Unknown], Mismatch),
            (&[Mismatch, Expired, Unknown], Expired),
            (&[Mismatch, Scheme, Unknown], Scheme),
            (&[Foreign, Scheme], Foreign),
            (&[Foreign, Timeout, Mismatch], Timeout),
            (&[Dns, Timeout], Timeout),
            (&[Rejected, Timeout, Foreign], Rejected),
            (&[Busy, Wrong], Busy),
        ];
        for (reasons, expected) in cases {
            assert_eq!(sharpest(reasons.iter().copied()), expected, "{reasons:?}");
        }
    }

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
