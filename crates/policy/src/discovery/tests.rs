use super::*;

const URL: &str = "https://mail.example.org/EWS/Exchange.asmx";
const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

fn missed(reason: Reason, times: u8, back_off: Option<Duration>) -> Location {
    Location { missed: Some(Miss { at: NOW, reason, times, back_off }), ..Location::default() }
}

fn found(at: Timestamp, doubted: bool) -> Option<Found> {
    Some(Found { url: URL.to_owned(), at, doubted })
}

#[test]
fn what_is_known_is_read_as_it_was_written() {
    let both = Location { found: found(NOW, false), ..missed(Reason::ProfileDnsFailed, 1, Some(MINUTE)) };
    for (location, text) in [
        (Location::default(), ""),
        (
            Location { found: found(NOW, true), missed: None },
            "found=1772366400000:https://mail.example.org/EWS/Exchange.asmx doubted",
        ),
        (missed(Reason::MailboxLocationUnknown, 2, None), "missed=1772366400000:MAILBOX_LOCATION_UNKNOWN:2:"),
        (
            both,
            "found=1772366400000:https://mail.example.org/EWS/Exchange.asmx \
             missed=1772366400000:PROFILE_DNS_FAILED:1:60000",
        ),
    ] {
        assert_eq!(location.to_string(), text);
        assert_eq!(text.parse(), Ok(location));
    }
    for text in [" ", "found", "found=1", "found=x:y", "doubted", "missed=1:NOTHING:1:", "missed=1", "lost"] {
        assert!(text.parse::<Location>().is_err(), "{text}");
    }
}

#[test]
fn a_url_serves_a_day_and_longer_while_none_is_found() {
    let rules = Rules::default();
    let mut location = Location::default();
    assert_eq!(location.next(&rules, NOW), Next::Discover);
    location.on_found(URL, NOW);
    assert_eq!(location.next(&rules, NOW + HOUR * 24 - MINUTE), Next::Use);
    assert_eq!(location.next(&rules, NOW + HOUR * 24), Next::Discover);
    assert_eq!(location.next(&rules, NOW - MINUTE), Next::Discover, "a clock that was put back");
    let later = NOW + HOUR * 25;
    location.on_missed(Reason::ProfileDnsFailed, None, later);
    assert_eq!(location.next(&rules, later), Next::Use);
    assert_eq!(location.next(&rules, later + MINUTE), Next::Discover);
    location.on_found(URL, later + MINUTE);
    assert_eq!(location, Location { found: found(later + MINUTE, false), missed: None });
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
        assert_eq!(location, Location::default(), "there is nothing to doubt");
        location.on_found(URL, NOW);
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
        (Reason::MailboxAuthRejected, 1, None, None),
    ] {
        let location = missed(reason, times, back_off);
        let held = Next::Held { reason, until: wait.map(|wait| NOW + wait) };
        assert_eq!(location.next(&rules, NOW), held, "{reason} {times}");
        let after = wait.unwrap_or(HOUR * 1000);
        let expected = if wait.is_some() { Next::Discover } else { held };
        assert_eq!(location.next(&rules, NOW + after), expected, "{reason} {times}");
        let put_back = location.next(&rules, NOW - HOUR * 9000);
        assert_eq!(put_back, expected, "{reason} {times}: a clock that was put back");
        let mut asked = location.clone();
        asked.on_asked();
        let expected = if reason.is_account_fault() { Next::Discover } else { held };
        assert_eq!(asked.next(&rules, NOW), expected, "{reason} {times}: a person asks");
        let mut changed = location.clone();
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
