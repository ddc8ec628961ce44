//! The lanes of a profile as the leader reads them.

use mailyard_store::{Error, Result, Store, holder::Lane, people::Profile};

/// What is kept of each lane of a profile; or what of it cannot be understood.
pub(crate) async fn lanes(
    store: &dyn Store,
    profile: &Profile,
) -> Result<Vec<(u16, Result<Option<Lane>, String>)>> {
    let mut lanes = Vec::with_capacity(profile.lanes.into());
    for number in 0..profile.lanes {
        let lane = match store.lane(profile.id, number).await {
            Ok(lane) => Ok(lane),
            Err(Error::Corrupt(detail)) => Err(detail),
            Err(error) => return Err(error),
        };
        lanes.push((number, lane));
    }
    Ok(lanes)
}
