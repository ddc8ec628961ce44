//! Where a mailbox is, for profiles whose servers are found by Autodiscover: looked for when it is needed, kept with the
//! mailbox, and doubted when its server fails as servers do that a mailbox has left.

use mailyard_exchange::{Failure, autodiscover::Discovery};
use mailyard_policy::{
    Reason,
    discovery::{Location, Next},
    outbox::Execution,
};
use mailyard_store::holder::{Commit, Located, Place};

use crate::turn::{Trouble, Turn};

/// Finds out where the mailbox is, if the profile does not say it.
///
/// # Errors
/// [`Trouble::Nowhere`] if nothing is found and nothing was found before.
pub async fn locate(turn: &mut Turn) -> Result<(), Trouble> {
    let Some(search) = turn.current.autodiscover() else { return Ok(()) };
    let search = search.map_err(Trouble::Nowhere)?;
    let mut place = known(turn).await?;
    let now = turn.shared.now();
    match place.location.next(&turn.shared.settings.discovery, now) {
        Next::Use => {}
        Next::Held { reason, until } => {
            turn.holding.place = Some(place);
            let detail = "Autodiscover did not say where the mailbox is, and is not asked again yet";
            let back_off = until.map(|until| until.since(now));
            return Err(nowhere(Failure { back_off, ..Failure::new(reason, Execution::Not, detail) }));
        }
        Next::Discover => {
            let discovery = search.discover(&turn.wanted.address).await;
            let missed = learn(&mut place, &discovery, turn.shared.now());
            let attempts = discovery.attempts.iter().map(ToString::to_string).collect();
            let nothing = place.url.is_none();
            keep(turn, place, Some(attempts)).await?;
            return missed.filter(|_| nothing).map_or(Ok(()), |failure| Err(nowhere(failure)));
        }
    }
    turn.holding.place = Some(place);
    Ok(())
}

/// A call failed: its server may be one that the mailbox has left.
///
/// # Errors
/// [`Trouble::Store`].
pub async fn doubt(turn: &mut Turn, reason: Reason) -> Result<(), Trouble> {
    let Some(mut place) = turn.holding.place.clone() else { return Ok(()) };
    let before = place.location;
    place.location.on_call_failed(reason, &turn.shared.settings.discovery, turn.shared.now());
    if place.location == before {
        return Ok(());
    }
    keep(turn, place, None).await
}

/// What was found before. A profile that was changed since is worth another try.
async fn known(turn: &mut Turn) -> Result<Place, Trouble> {
    let profile = (turn.current.profile.id, turn.current.profile.revision);
    let place = match turn.holding.place.take() {
        Some(place) => Some(place),
        None => turn.shared.store.located(turn.mailbox).await?.map(|located| located.place),
    };
    let Some(mut place) = place else {
        return Ok(Place { location: Location::default(), url: None, profile });
    };
    if place.profile != profile {
        place.location.on_changed();
        place.profile = profile;
    }
    Ok(place)
}

fn learn(place: &mut Place, discovery: &Discovery, now: mailyard_policy::Timestamp) -> Option<Failure> {
    match &discovery.result {
        Ok(found) => {
            place.location.on_found(now);
            place.url = Some(found.ews_url.clone());
            None
        }
        Err(failure) => {
            place.location.on_missed(failure.reason, failure.back_off, now);
            Some(failure.clone())
        }
    }
}

async fn keep(turn: &mut Turn, place: Place, attempts: Option<Vec<String>>) -> Result<(), Trouble> {
    turn.commit(Commit { located: Some(Located { place, attempts }), ..Commit::default() }).await
}

fn nowhere(failure: Failure) -> Trouble {
    Trouble::Nowhere(failure)
}
