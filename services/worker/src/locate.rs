//! Where a mailbox is, for profiles whose servers are found by Autodiscover: looked for when it is needed, kept with the
//! mailbox, and doubted when its server fails as servers do that a mailbox has left.

use std::sync::Arc;

use mailyard_exchange::{Autodiscover, Failure, autodiscover::Discovery};
use mailyard_policy::{
    Reason, Timestamp,
    discovery::{Location, Next},
    operation::Direction,
    outbox::Execution,
};
use mailyard_store::holder::{Commit, Located, Place};

use crate::turn::{Trouble, Turn};

/// Finds out where the mailbox is, if the profile does not say it. `asked`: a person wants to know.
///
/// # Errors
/// [`Trouble::Nowhere`] if nothing is found and nothing was found before; [`Trouble::Held`] if it may not be looked for.
pub async fn locate(turn: &mut Turn, asked: bool) -> Result<(), Trouble> {
    let Some(search) = turn.roads.autodiscover() else { return Ok(()) };
    let search = search.map_err(Trouble::Nowhere)?;
    let place = known(turn, &search, asked).await?;
    let now = turn.shared.now();
    match place.location.next(&turn.shared.settings.discovery, now) {
        Next::Use => {}
        Next::Held { reason, until } => {
            let detail = "Autodiscover did not say where the mailbox is, and is not asked again yet";
            let back_off = until.map(|until| until.since(now));
            let failure = Failure { back_off, ..Failure::new(reason, Execution::Not, detail) };
            turn.holding.place = Some(place);
            return Err(Trouble::Nowhere(failure));
        }
        // It is looked for with the account that mail is read with.
        Next::Discover if turn.held[Direction::Incoming as usize].is_some() => return Err(Trouble::Held),
        Next::Discover => return look(turn, &search, Arc::unwrap_or_clone(place)).await,
    }
    turn.holding.place = Some(place);
    Ok(())
}

/// A call failed: its server may be one that the mailbox has left.
///
/// # Errors
/// [`Trouble::Store`].
pub async fn doubt(turn: &mut Turn, reason: Reason) -> Result<(), Trouble> {
    let Some(before) = turn.holding.place.clone() else { return Ok(()) };
    let mut place = Place::clone(&before);
    place.location.on_call_failed(reason, &turn.shared.settings.discovery, turn.shared.now());
    if place == *before { Ok(()) } else { keep(turn, place, None).await }
}

/// What was found before, as far as it still counts.
async fn known(turn: &Turn, search: &Autodiscover, asked: bool) -> Result<Arc<Place>, Trouble> {
    let profile = (turn.current.profile.id, turn.current.profile.revision);
    let place = match &turn.holding.place {
        Some(place) => Some(place.clone()),
        None => turn.shared.store.located(turn.mailbox).await?.map(|located| Arc::new(located.place)),
    };
    let account = turn.own_secret();
    let nowhere = || Arc::new(Place { location: Location::default(), profile, account });
    let mut place = place.unwrap_or_else(nowhere);
    if (place.profile, place.account) != (profile, account) {
        let changed = Arc::make_mut(&mut place);
        changed.location.on_changed();
        (changed.profile, changed.account) = (profile, account);
    }
    if asked {
        Arc::make_mut(&mut place).location.on_asked();
    }
    // The deployment may trust fewer domains than it did.
    if place.location.url().is_some_and(|url| !search.trusts(&turn.wanted.address, url)) {
        Arc::make_mut(&mut place).location.on_distrusted();
    }
    Ok(place)
}

async fn look(turn: &mut Turn, search: &Autodiscover, mut place: Place) -> Result<(), Trouble> {
    let discovery = search.discover(&turn.wanted.address).await;
    let missed = learn(&mut place.location, &discovery, turn.shared.now());
    let has_url = place.location.url().is_some();
    let attempts = discovery.attempts.iter().map(ToString::to_string).collect();
    keep(turn, place, Some(attempts)).await?;
    match missed {
        Some(failure) if !has_url => Err(Trouble::Nowhere(failure)),
        _ => Ok(()),
    }
}

fn learn(location: &mut Location, discovery: &Discovery, now: Timestamp) -> Option<Failure> {
    match &discovery.result {
        Ok(found) => {
            location.on_found(&found.ews_url, now);
            None
        }
        Err(failure) => {
            location.on_missed(failure.reason, failure.back_off, now);
            Some(failure.clone())
        }
    }
}

async fn keep(turn: &mut Turn, place: Place, attempts: Option<Vec<String>>) -> Result<(), Trouble> {
    turn.commit(Commit { located: Some(Located { place, attempts }), ..Commit::default() }).await
}
