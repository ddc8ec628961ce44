//! Where a mailbox is: how long a URL that was found serves, when it is looked for again, and which hosts may still be
//! shown a password.

mod standing;
mod text;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{
    reason::{Nature, Reason},
    time::Timestamp,
};

pub use self::standing::Standing;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// What was found last.
    pub found: Option<Found>,
    /// The last search, if it found nothing.
    pub missed: Option<Miss>,
}

/// A URL that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The EWS URL.
    pub url: String,
    /// When it was found.
    pub at: Timestamp,
    /// It led to a failure that may be its fault.
    pub doubted: bool,
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
        let is_good = |found: &Found| !found.doubted && found.at <= now && now.since(found.at) < rules.fresh;
        if self.found.as_ref().is_some_and(is_good) {
            return Next::Use;
        }
        match self.missed.and_then(|miss| miss.held(rules, now)) {
            Some(_) if self.found.is_some() => Next::Use,
            Some(held) => held,
            None => Next::Discover,
        }
    }

    /// A URL was found.
    pub fn on_found(&mut self, url: &str, now: Timestamp) {
        let found = Found { url: url.to_owned(), at: now, doubted: false };
        *self = Self { found: Some(found), missed: None };
    }

    /// None was found.
    pub fn on_missed(&mut self, reason: Reason, back_off: Option<Duration>, now: Timestamp) {
        let before = self.missed.filter(|miss| miss.reason == reason).map_or(0, |miss| miss.times);
        self.missed = Some(Miss { at: now, reason, times: before.saturating_add(1), back_off });
    }

    /// A call to the URL failed. A URL that has served for a while may have been moved away from.
    pub fn on_call_failed(&mut self, reason: Reason, rules: &Rules, now: Timestamp) {
        if let Some(found) = &mut self.found {
            let is_settled = found.at > now || now.since(found.at) >= rules.settled;
            found.doubted |= is_settled && may_have_moved(reason);
        }
    }

    /// The profile is another, or says something else: it is worth another try.
    pub fn on_changed(&mut self) {
        self.missed = None;
    }

    /// A person wants to know whether it works: the mailbox's own account may have been looked after.
    pub fn on_asked(&mut self) {
        self.missed = self.missed.filter(|miss| !miss.reason.is_account_fault());
    }

    /// The URL may not be shown the password any more.
    pub fn on_distrusted(&mut self) {
        self.found = None;
    }

    /// The URL that was found last.
    pub fn url(&self) -> Option<&str> {
        self.found.as_ref().map(|found| found.url.as_str())
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
            reason if reason.is_credential_fault() || reason.is_account_fault() => return None,
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
        reason if reason.is_credential_fault() || reason.is_account_fault() => 5,
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
        | Reason::ProfileTlsSuites
        | Reason::ProfileTlsCertificateUnsuited
        | Reason::ProfileTlsClientCertificate => 1,
        _ => 0,
    }
}
