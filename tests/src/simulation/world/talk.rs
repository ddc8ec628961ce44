//! What processes ask of each other, of the store and of the mail server, and how it gets there.

use mailyard_policy::{
    id::Attempt,
    membership::{
        SessionId, ToLeader, ToMember,
        leader::{self, Answer},
    },
};

use super::{ASKED, Caller, Happening, Program, Said, Statement, Wire, World, incarnation_of};
use crate::simulation::process::{Act, Reply};

impl World {
    pub(super) fn act(&mut self, caller: Caller, act: Act) {
        let store = self.store_host();
        match act {
            Act::Ask(number, request) => {
                let asked = Happening::StoreHears(caller, number, Box::new(Statement::Data(request)));
                self.send(caller.host, store, asked);
                let unknown = Happening::StoreSaid(caller, number, Box::new(Said::Data(Reply::Unknown)));
                self.at(self.now + ASKED, unknown);
            }
            Act::Poll(number, mailbox) => {
                let (by, time) = (incarnation_of(caller), self.hosts[store].time(self.now));
                if !self.store.leases(by, time) {
                    self.report.violation(format!("at {} {by} polls without a lease", self.now));
                }
                let poll = Happening::Poll(caller, number, mailbox, self.now);
                self.send(caller.host, store + 1, poll);
            }
            Act::Open(session, coordinator, hello) => {
                let host = self.options.workers + coordinator;
                let coordinator = Caller { host, generation: self.hosts[host].generation };
                let wire = Wire { worker: caller, session, coordinator };
                self.send(caller.host, host, Happening::ToCoordinator(wire, Box::new(hello)));
            }
            Act::Say(session, message) => {
                if let Some(wire) = self.wire_of(caller, session) {
                    self.send(
                        caller.host,
                        wire.coordinator.host,
                        Happening::ToCoordinator(wire, Box::new(message)),
                    );
                }
            }
            Act::Close(session) => {
                if let Some(wire) = self.wire_of(caller, session) {
                    self.send(caller.host, wire.coordinator.host, Happening::EndsAtCoordinator(wire));
                }
            }
            Act::Exit | Act::Restart => {
                self.hosts[caller.host].up = false;
                let wait = self.chance.between(100, 1000);
                if matches!(act, Act::Restart) {
                    self.at(self.now + wait, Happening::Start(caller.host));
                }
            }
        }
    }

    /// The stream of a session, as its coordinator knows it.
    fn wire_of(&self, worker: Caller, session: SessionId) -> Option<Wire> {
        let of_session = |wire: &&Wire| wire.worker == worker && wire.session == session;
        self.programs.iter().find_map(|program| match program {
            Program::Coordinator(coordinator) => coordinator.wires.values().find(of_session).copied(),
            Program::Worker(_) | Program::None => None,
        })
    }

    pub(super) fn coordinator_hears(&mut self, wire: Wire, message: ToLeader) {
        let Some(Program::Coordinator(coordinator)) = self.programs.get_mut(wire.coordinator.host) else {
            return;
        };
        let known = coordinator.wires.iter().find(|(_, known)| **known == wire).map(|(id, _)| *id);
        let session = match (&message, known) {
            (_, Some(known)) => known,
            (ToLeader::Hello(_), None) => {
                coordinator.sessions += 1;
                let session = SessionId(coordinator.sessions);
                coordinator.wires.insert(session, wire);
                session
            }
            (_, None) => return,
        };
        self.coordinate(wire.coordinator, leader::Event::Heard(session, message));
    }

    pub(super) fn ends_at_coordinator(&mut self, wire: Wire) {
        let Some(Program::Coordinator(coordinator)) = self.programs.get_mut(wire.coordinator.host) else {
            return;
        };
        let Some(session) = coordinator.wires.iter().find(|(_, known)| **known == wire).map(|(id, _)| *id)
        else {
            return;
        };
        coordinator.wires.remove(&session);
        self.coordinate(wire.coordinator, leader::Event::Ended(session));
    }

    pub(super) fn coordinate(&mut self, caller: Caller, event: leader::Event) {
        let now = self.hosts[caller.host].boot(self.now);
        let Some(Program::Coordinator(coordinator)) = self.programs.get_mut(caller.host) else { return };
        let before = coordinator.leader.is_frozen();
        let effects = coordinator.leader.step(event, now);
        self.report.frozen += u64::from(coordinator.leader.is_frozen() && !before);
        for effect in effects {
            self.carry_out(caller, effect);
        }
    }

    fn carry_out(&mut self, caller: Caller, effect: leader::Effect) {
        let store = self.store_host();
        match effect {
            leader::Effect::Ask(Attempt(number), ask) => {
                let asked = Happening::StoreHears(caller, number, Box::new(Statement::Control(ask)));
                self.send(caller.host, store, asked);
                let unknown = Happening::StoreSaid(caller, number, Box::new(Said::Control(Answer::Unknown)));
                self.at(self.now + ASKED, unknown);
            }
            leader::Effect::Say(session, message) => {
                if let Some(wire) = self.wire(caller, session) {
                    self.send(caller.host, wire.worker.host, Happening::ToWorker(wire, Box::new(message)));
                }
            }
            leader::Effect::Close(session) => {
                if let Some(wire) = self.wire(caller, session) {
                    self.send(caller.host, wire.worker.host, Happening::EndsAtWorker(wire));
                    if let Some(Program::Coordinator(coordinator)) = self.programs.get_mut(caller.host) {
                        coordinator.wires.remove(&session);
                    }
                }
            }
            leader::Effect::Leads(_) => {}
        }
    }

    fn wire(&self, coordinator: Caller, session: SessionId) -> Option<Wire> {
        match self.programs.get(coordinator.host)? {
            Program::Coordinator(coordinator) => coordinator.wires.get(&session).copied(),
            Program::Worker(_) | Program::None => None,
        }
    }

    pub(super) fn worker_hears(&mut self, wire: Wire, message: ToMember) {
        self.with_worker(wire.worker, |process, now| process.heard(wire.session, message, now));
    }
}
