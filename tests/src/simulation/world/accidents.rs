//! Faults as they strike.

use mailyard_policy::membership::{leader, member};

use super::{Caller, Happening, HostId, World};
use crate::simulation::{Fault, Kind};

impl World {
    pub(super) fn fault(&mut self) {
        let Some(fault) = Fault::draw(&self.options.kinds, &mut self.chance) else { return };
        *self.report.faults.entry(fault.kind.word()).or_default() += 1;
        let (workers, coordinators) = (self.options.workers as u64, self.options.coordinators as u64);
        let worker = (fault.host % workers) as usize;
        let coordinator = (workers + fault.host % coordinators) as usize;
        let until = self.now + fault.long;
        match fault.kind {
            Kind::WorkerCrash => self.crash(worker, until),
            Kind::CoordinatorCrash => self.crash(coordinator, until),
            Kind::WorkerPause => self.pause(worker, until),
            Kind::CoordinatorPause => self.pause(coordinator, until),
            Kind::WorkerRestart => {
                let caller = Caller { host: worker, generation: self.hosts[worker].generation };
                if self.hosts[worker].up && self.hosts[worker].paused_until <= self.now {
                    self.with_worker(caller, |process, now| process.step(member::Event::Leave, now));
                }
                // Whoever stops it kills it if it does not end by itself.
                self.at(until.max(self.now + 25_000), Happening::Kill(caller));
                for at in [until, until.max(self.now + 25_000)] {
                    self.at(at, Happening::Start(worker));
                }
            }
            Kind::CoordinatorRestart => {
                let caller = Caller { host: coordinator, generation: self.hosts[coordinator].generation };
                if self.hosts[coordinator].up && self.hosts[coordinator].paused_until <= self.now {
                    self.coordinate(caller, leader::Event::Leave);
                    self.crash(coordinator, until);
                }
            }
            Kind::Partition | Kind::OneWay => {
                let hosts = self.hosts.len() as u64;
                let (one, other) = ((fault.host % hosts) as usize, (fault.other % hosts) as usize);
                self.cuts.cut(one, other, until);
                if fault.kind == Kind::Partition {
                    self.cuts.cut(other, one, until);
                }
            }
            Kind::StoreOutage => self.store_down_until = self.store_down_until.max(until),
            Kind::ClockRate => {
                let host = (fault.host % self.hosts.len() as u64) as usize;
                let rate = self.chance.between(990, 1010);
                self.hosts[host].set_rate(rate, self.now);
            }
            Kind::ClockJump => {
                let caller = Caller { host: worker, generation: self.hosts[worker].generation };
                if self.hosts[worker].up && self.hosts[worker].paused_until <= self.now {
                    self.with_worker(caller, |process, now| process.step(member::Event::ClockJumped, now));
                }
            }
        }
    }

    fn crash(&mut self, host: HostId, until: u64) {
        if self.hosts[host].up {
            self.hosts[host].up = false;
            self.hosts[host].paused_until = 0;
            self.at(until, Happening::Start(host));
        }
    }

    fn pause(&mut self, host: HostId, until: u64) {
        self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
    }

    pub(super) fn heal(&mut self) {
        self.cuts.heal();
        self.store_down_until = 0;
        for host in 0..self.options.workers + self.options.coordinators {
            self.hosts[host].paused_until = self.hosts[host].paused_until.min(self.now);
            self.at(self.now, Happening::Start(host));
        }
    }
}
