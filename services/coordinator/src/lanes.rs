//! The lanes of a profile as the coordinator reads them.

use mailyard_policy::{Reason, breaker::Breakers};
use mailyard_store::{Error, Result, Store, holder::Lane, people::Profile};

/// What is kept of one lane; or what of it cannot be understood.
pub(crate) async fn lane(
    store: &dyn Store,
    profile: &Profile,
    number: u16,
) -> Result<Result<Option<Lane>, String>> {
    match store.lane(profile.id, number).await {
        Ok(lane) => Ok(Ok(lane)),
        Err(Error::Corrupt(detail)) => Ok(Err(detail)),
        Err(error) => Err(error),
    }
}

/// What is kept of each lane of a profile; or what of it cannot be understood.
pub(crate) async fn lanes(
    store: &dyn Store,
    profile: &Profile,
) -> Result<Vec<(u16, Result<Option<Lane>, String>)>> {
    let mut lanes = Vec::with_capacity(profile.lanes.into());
    for number in 0..profile.lanes {
        lanes.push((number, lane(store, profile, number).await?));
    }
    Ok(lanes)
}

/// Why a lane holds each direction back: incoming, outgoing.
pub(crate) fn held(lane: &Lane) -> [Option<Reason>; 2] {
    // Of a later version it is known that it is open.
    lane.breaker.parse().map_or([lane.open; 2], |breakers: Breakers| breakers.held())
}
