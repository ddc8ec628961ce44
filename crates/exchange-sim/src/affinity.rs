//! Which of the servers behind the one that clients see answers a request: what Exchange leaves to cookies and headers.

use crate::{
    service::Request,
    world::{Mailbox, World},
};

const COOKIE: &str = "X-BackEndOverrideCookie";

/// True if a request wants to be answered where an earlier one was.
pub(crate) fn is_preferred(request: &Request<'_>) -> bool {
    request.header("x-preferserveraffinity").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The server that answers: the one that a cookie names, else that of the anchor, else that of the mailbox.
pub(crate) fn backend(world: &World, request: &Request<'_>, mailbox: &Mailbox) -> u32 {
    let named = Some(request).filter(|request| is_preferred(request)).and_then(override_of);
    let anchor = request.header("x-anchormailbox").and_then(|anchor| world.mailbox_at(anchor));
    let routed = named.unwrap_or_else(|| anchor.map_or(mailbox.number, |anchor| anchor.number));
    routed % world.settings().backends
}

/// The server that a request's cookie names; some clients send it as a header of its own.
fn override_of(request: &Request<'_>) -> Option<u32> {
    let cookies = request.header("cookie").unwrap_or_default().split(';');
    let mut pairs = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    let cookie = pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value);
    let value = cookie.or_else(|| request.header(COOKIE))?;
    value.strip_prefix("ex")?.split(['.', '~']).next()?.parse().ok()
}

/// The cookie that leads to a server again.
pub(crate) fn cookie(world: &World, backend: u32) -> String {
    format!("{COOKIE}=ex{backend:02}.{}~1943310282; path=/; secure; HttpOnly", world.options.domain)
}
