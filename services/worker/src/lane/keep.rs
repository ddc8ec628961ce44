//! The writing of what is kept of a lane.

use mailyard_policy::{
    alert::Fact,
    id::{Epoch, ProfileId},
};
use mailyard_store::{
    Error, Result,
    holder::{Holder, Lane},
};

use crate::holding::certain;

/// Writes once, and the facts with it. If the store cannot say whether it did, it is asked until it can: then this is
/// as if it had.
///
/// # Errors
/// The store's, but never [`Error::InDoubt`]: nothing was written.
pub(super) async fn write(
    store: &dyn Holder,
    (profile, number, epoch): (ProfileId, u16, Epoch),
    kept: &Lane,
    facts: &[Fact],
) -> Result<()> {
    match store.keep_lane(profile, number, epoch, kept, facts).await {
        Err(Error::InDoubt(cause)) => {
            let stored = certain(|| store.lane(profile, number)).await?;
            // Facts come of a breaker that opened or closed: it has another text each time.
            if stored.as_ref() == Some(kept) { Ok(()) } else { Err(Error::Unavailable(cause)) }
        }
        known => known,
    }
}

#[cfg(test)]
mod tests;
