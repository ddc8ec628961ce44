//! A block as its worker sees it.

use super::Block;

/// What a worker says of its block with each beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The version it goes by.
    pub version: u64,
    /// Requests of the profile that are running.
    pub in_flight: u32,
    /// Requests of the profile that wait for a permit.
    pub queued: u32,
}

/// The block that a worker's process goes by. It is kept for as long as the process lives, also while the process
/// holds no lane of the profile: an older word that comes late must not be taken for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    version: u64,
    permits: u32,
}

impl Held {
    /// Of the owner of a profile in one lane: it has the whole budget without being told.
    pub fn whole(budget: u32) -> Self {
        Self { version: 0, permits: budget }
    }

    /// It was told a block. What is older than what it knows changes nothing.
    #[must_use]
    pub fn told(self, block: Block) -> Self {
        let Block { version, permits } = block;
        if version > self.version { Self { version, permits } } else { self }
    }

    /// True if one request more may be begun beside those in flight.
    pub fn allows(self, in_flight: u32) -> bool {
        in_flight < self.permits
    }

    /// Permits it goes by.
    pub fn permits(self) -> u32 {
        self.permits
    }

    /// What it says of itself. What is in flight is counted after the version was applied.
    pub fn report(self, in_flight: u32, queued: u32) -> Report {
        Report { version: self.version, in_flight, queued }
    }
}
