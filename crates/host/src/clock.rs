//! The clocks of this host, in the core's types. Nothing else of the product asks the operating system for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use mailyard_policy::{BootTime, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The wall clock, UTC. A clock that is set before 1970 counts as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The clock that goes on while the host sleeps (`CLOCK_BOOTTIME`): leases are counted on it.
pub fn boot_time() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    let millis = i128::from(time.tv_sec) * 1000 + i128::from(time.tv_nsec) / 1_000_000;
    BootTime::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// A number that nobody else makes, later ones greater: the moment in front, 80 bits of chance behind it (ULID).
///
/// # Errors
/// The operating system gives no chance: nothing may go on then.
pub fn new_id() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes[6..])?;
    Ok((now().as_millis().max(0) as u128) << 80 | u128::from_be_bytes(bytes))
}

/// The same for who cannot refuse to go on. Without chance of the operating system nothing on this host is safe any more;
/// the moment alone must do then.
pub fn id() -> u128 {
    new_id().unwrap_or_else(|_| (now().as_millis().max(0) as u128) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward_and_ids_with_them() {
        let (before, boot) = (now(), boot_time());
        let ids: Vec<u128> = (0..100).map(|_| new_id().unwrap_or_default()).collect();
        assert!(before.as_millis() > 1_700_000_000_000 && now() >= before && boot_time() >= boot);
        assert!(ids.iter().all(|id| id >> 80 >= before.as_millis() as u128));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
