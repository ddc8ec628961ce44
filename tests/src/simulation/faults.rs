//! What goes wrong.

use mailyard_policy::words;

use super::chance::Chance;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A worker's process ends without a word, and begins anew.
    WorkerCrash,
    /// A worker's process stands still for a while.
    WorkerPause,
    /// A worker is stopped in order and begun anew.
    WorkerRestart,
    /// A coordinator's process ends without a word, and begins anew.
    CoordinatorCrash,
    /// A coordinator's process stands still for a while.
    CoordinatorPause,
    /// A coordinator is stopped in order and begun anew.
    CoordinatorRestart,
    /// Two hosts do not hear each other for a while.
    Partition,
    /// One host does not hear another one for a while.
    OneWay,
    /// The store does not answer for a while.
    StoreOutage,
    /// A host's clock changes its rate.
    ClockRate,
    /// A worker's clocks show that its host was stopped.
    ClockJump,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::WorkerCrash,
        Self::WorkerPause,
        Self::WorkerRestart,
        Self::CoordinatorCrash,
        Self::CoordinatorPause,
        Self::CoordinatorRestart,
        Self::Partition,
        Self::OneWay,
        Self::StoreOutage,
        Self::ClockRate,
        Self::ClockJump,
    ];
}

words! {
    Kind: WorkerCrash = "worker_crash", WorkerPause = "worker_pause", WorkerRestart = "worker_restart",
        CoordinatorCrash = "coordinator_crash", CoordinatorPause = "coordinator_pause",
        CoordinatorRestart = "coordinator_restart", Partition = "partition", OneWay = "one_way",
        StoreOutage = "store_outage", ClockRate = "clock_rate", ClockJump = "clock_jump";
}

/// A fault as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// To which host, of those that it can happen to.
    pub host: u64,
    /// And to which other one.
    pub other: u64,
    /// For how long, in milliseconds.
    pub long: u64,
}

impl Fault {
    /// The next one of a seed.
    pub fn draw(kinds: &[Kind], chance: &mut Chance) -> Option<Self> {
        let kind = *kinds.get(chance.below(kinds.len() as u64) as usize)?;
        let long = match kind {
            Kind::WorkerCrash | Kind::CoordinatorCrash => chance.between(500, 60_000),
            Kind::WorkerRestart | Kind::CoordinatorRestart => chance.between(500, 20_000),
            Kind::WorkerPause | Kind::CoordinatorPause => match chance.below(3) {
                0 => chance.between(1000, 5000),
                1 => chance.between(5000, 35_000),
                _ => chance.between(35_000, 120_000),
            },
            Kind::Partition | Kind::OneWay | Kind::StoreOutage => chance.between(1000, 90_000),
            Kind::ClockRate | Kind::ClockJump => 0,
        };
        Some(Self { kind, host: chance.next(), other: chance.next(), long })
    }
}
