//! Where the servers of a profile are: at URLs, or where Autodiscover finds them.

use mailyard_exchange::Endpoint;
use mailyard_policy::Reason;
use mailyard_store::people::Profile;

use crate::api::input::Input;

const LONGEST_URL: usize = 2048;

/// An EWS URL; with `found` Autodiscover finds it.
pub(super) fn url(
    field: &str,
    url: &str,
    found: bool,
    allow_plain_http: bool,
    input: &mut Input,
) -> Option<String> {
    let url = input.line(field, url, LONGEST_URL);
    if found {
        if !url.is_empty() {
            input.wrong(field, "autodiscover finds it: give URLs or autodiscover, and not both");
        }
        return None;
    }
    // That there is none is said when everything is known.
    if url.is_empty() {
        return None;
    }
    if let Err(failure) = Endpoint::parse(&url, allow_plain_http) {
        input.wrong(field, failure.detail);
    }
    Some(url)
}

/// Either both URLs, or Autodiscover for both directions. `by_token`: one of them is done with a token.
pub(super) fn settle(profile: &mut Profile, autodiscover: bool, by_token: bool, input: &mut Input) {
    if autodiscover {
        (profile.incoming_url, profile.outgoing_url) = (None, None);
        if by_token {
            let detail =
                "it does not go with oauth: it finds location and port, and nothing that a token needs";
            input.refuse(Reason::AutodiscoverWithOauth, "profile.autodiscover", detail);
        }
        return;
    }
    let urls =
        [("profile.incoming_url", &profile.incoming_url), ("profile.outgoing_url", &profile.outgoing_url)];
    for (field, _) in urls.into_iter().filter(|(_, url)| url.is_none()) {
        input.refuse(Reason::ProfileLocationMissing, field, "it is empty, and there is no autodiscover");
    }
}
