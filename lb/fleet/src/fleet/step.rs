//! [`Step`]: what each event means for the fleet; the moves that follow are in `moves.rs`.

use super::{Command, Event, Fleet};
use crate::{AfterDrain, Cause, Exit, Host, Incarnation, Phase, Replica, ReplicaName};
use std::{net::SocketAddr, time::Instant};

/// One event's work in progress. A replica is meant by its place in the list.
pub(super) struct Step<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) now: Instant,
    pub(super) commands: Vec<Command>,
    pub(super) wanted_changed: bool,
}

impl<'a> Step<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, now: Instant) -> Self {
        Self { fleet, now, commands: Vec::new(), wanted_changed: false }
    }

    pub(super) fn apply(mut self, event: Event) -> Vec<Command> {
        match event {
            Event::Add { hosts } => self.add(hosts),
            Event::Adopt { host, number, incarnation, addr } => {
                self.adopt(host, number, incarnation, addr);
            }
            Event::Inherit { replica } => self.inherit(*replica),
            Event::Join { host, number } => self.join(host, number),
            Event::Remove { names } => self.remove(names, Cause::RemoveAsked),
            Event::Restart { name } => self.restart(&name),
            Event::Spawned { name, incarnation, addr } => {
                self.about(&name, incarnation, |step, at| step.spawned(at, addr));
            }
            Event::SpawnFailed { name, incarnation, exit } => {
                self.about(&name, incarnation, |step, at| step.spawn_failed(at, exit));
            }
            Event::Answered { name, incarnation } => self.about(&name, incarnation, Self::answered),
            Event::Missed { name, incarnation } => self.about(&name, incarnation, Self::missed),
            Event::Exited { name, incarnation, exit } => {
                self.about(&name, incarnation, |step, at| step.exited(at, exit));
            }
            Event::Drained { name, incarnation } => self.about(&name, incarnation, Self::drained),
            Event::Stopped { name, incarnation, exit } => {
                self.about(&name, incarnation, |step, at| step.stopped(at, exit));
            }
            Event::Tick => self.tick(),
            Event::Shutdown => self.shut_down(),
        }
        self.fleet.version += u64::from(self.wanted_changed);
        self.commands
    }

    // === What is asked for ===

    fn add(&mut self, hosts: Vec<Host>) {
        for host in hosts {
            if self.may_come(&host.name) {
                self.begin(host, None, self.fleet.floor.next(), Cause::Added);
            }
        }
    }

    fn adopt(
        &mut self,
        host: Host,
        number: u32,
        incarnation: Incarnation,
        addr: Option<SocketAddr>,
    ) {
        // Also if it may not come: late news of it must not be taken for news of a later namesake.
        self.fleet.floor = self.fleet.floor.max(incarnation);
        if !self.may_come(&host.name) {
            return;
        }
        match addr {
            Some(addr) => self.take_over(host, number, incarnation, addr),
            None => self.begin(host, Some(number), incarnation.next(), Cause::Restored),
        }
    }

    fn inherit(&mut self, replica: Replica) {
        self.fleet.floor = self.fleet.floor.max(replica.incarnation);
        if !self.fleet.shutting_down && self.place(replica.name()).is_none() {
            self.go_on(replica);
        }
    }

    fn join(&mut self, host: Host, number: u32) {
        if self.may_come(&host.name) {
            self.begin(host, Some(number), self.fleet.floor.next(), Cause::Added);
        }
    }

    fn may_come(&self, name: &ReplicaName) -> bool {
        let full = self.fleet.wanted().count() >= self.fleet.limits.replicas_max;
        !self.fleet.shutting_down && !full && self.place(name).is_none()
    }

    fn remove(&mut self, names: Vec<ReplicaName>, cause: Cause) {
        for name in names {
            if let Some(at) = self.place(&name) {
                self.end(at, AfterDrain::Remove, cause.clone());
            }
        }
    }

    fn restart(&mut self, name: &ReplicaName) {
        if let Some(at) = self.place(name) {
            self.end(at, AfterDrain::Restart, Cause::RestartAsked);
        }
    }

    fn shut_down(&mut self) {
        self.fleet.shutting_down = true;
        let replicas = self.fleet.replicas.iter();
        let names = replicas.map(|replica| replica.name().clone()).collect();
        self.remove(names, Cause::Shutdown);
    }

    // === What is heard of an incarnation ===

    /// Does `work` if `incarnation` is the latest of `name`: news of an older one says nothing about it.
    fn about(
        &mut self,
        name: &ReplicaName,
        incarnation: Incarnation,
        work: impl FnOnce(&mut Self, usize),
    ) {
        let place = self.place(name);
        if let Some(at) = place.filter(|&at| self.replica(at).incarnation == incarnation) {
            work(self, at);
        }
    }

    fn spawned(&mut self, at: usize, told: SocketAddr) {
        match &mut self.replica_mut(at).phase {
            Phase::Starting { addr, .. } => *addr = Some(told),
            // Its end was asked for in the meantime, and comprises this start.
            Phase::Serving { .. } | Phase::Draining { .. } | Phase::Down { .. } => {}
        }
    }

    fn spawn_failed(&mut self, at: usize, exit: Exit) {
        match self.replica(at).phase {
            Phase::Starting { .. } => {
                let cause = Cause::SpawnFailed(exit.reason.clone());
                self.replica_mut(at).last_exit = Some(exit);
                self.fail(at, cause);
            }
            Phase::Draining { .. } | Phase::Down { .. } => {
                self.replica_mut(at).last_exit = Some(exit)
            }
            // It answers heartbeats: they are the better witness.
            Phase::Serving { .. } => {}
        }
    }

    fn answered(&mut self, at: usize) {
        let is_healthy = self.is_healthy(at);
        let replica = self.replica_mut(at);
        match &mut replica.phase {
            &mut Phase::Starting { addr: Some(addr), .. } => self.serve(at, addr),
            Phase::Serving { missed, .. } => {
                *missed = 0;
                if is_healthy {
                    replica.attempts = 0;
                }
            }
            Phase::Starting { addr: None, .. } | Phase::Draining { .. } | Phase::Down { .. } => {}
        }
    }

    fn missed(&mut self, at: usize) {
        let missed_max = self.fleet.limits.heartbeat_missed_max;
        match &mut self.replica_mut(at).phase {
            Phase::Serving { missed, .. } if *missed + 1 < missed_max => *missed += 1,
            Phase::Serving { .. } => self.fail(at, Cause::MissedHeartbeats(missed_max)),
            // A start has its deadline, and the other two are on their way out.
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => {}
        }
    }

    fn exited(&mut self, at: usize, exit: Exit) {
        let cause = Cause::Exited(exit.reason.clone());
        self.replica_mut(at).last_exit = Some(exit);
        match self.replica(at).phase {
            Phase::Starting { .. } | Phase::Serving { .. } => self.fail(at, cause),
            Phase::Draining { then, stopping: false, .. } => self.kill(at, then, cause),
            Phase::Draining { stopping: true, .. } | Phase::Down { .. } => self.settle(at, cause),
        }
    }

    fn drained(&mut self, at: usize) {
        match self.replica(at).phase {
            Phase::Draining { then, stopping: false, .. } => self.stop(at, then, Cause::Drained),
            Phase::Draining { stopping: true, .. }
            | Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Down { .. } => {}
        }
    }

    fn stopped(&mut self, at: usize, exit: Option<Exit>) {
        if exit.is_some() {
            self.replica_mut(at).last_exit = exit;
        }
        match &mut self.replica_mut(at).phase {
            // Nobody asked for it, so somebody else's hand has ended it.
            Phase::Starting { .. } | Phase::Serving { .. } => self.fail(at, Cause::Stopped),
            &mut Phase::Draining { then, .. } => {
                let cause = match then {
                    AfterDrain::Remove => Cause::Stopped,
                    AfterDrain::Restart => Cause::RestartAsked,
                };
                self.after_drain(at, then, cause);
            }
            // The back-off may have to pass yet: the next tick sees to both.
            Phase::Down { stopped, .. } => *stopped = true,
        }
    }

    // === What time brings ===

    fn tick(&mut self) {
        let limits = &self.fleet.limits;
        let (start_timeout, drain_timeout) = (limits.start_timeout, limits.drain_timeout);
        // No move below removes a replica, so places hold; one that a move inserts is not due yet.
        for at in 0..self.fleet.replicas.len() {
            let phase = self.replica(at).phase;
            if phase.due().is_none_or(|due| due > self.now) {
                continue;
            }
            match phase {
                Phase::Starting { .. } => self.fail(at, Cause::StartTimeout(start_timeout)),
                Phase::Draining { then, .. } => {
                    self.stop(at, then, Cause::DrainTimeout(drain_timeout))
                }
                Phase::Down { .. } => self.start(at, Cause::Retry),
                Phase::Serving { .. } => {} // Never due.
            }
        }
    }

    // === The list ===

    fn place(&self, name: &ReplicaName) -> Option<usize> {
        self.fleet.replicas.iter().position(|replica| replica.name() == name)
    }

    pub(super) fn replica(&self, at: usize) -> &Replica {
        &self.fleet.replicas[at]
    }

    pub(super) fn replica_mut(&mut self, at: usize) -> &mut Replica {
        &mut self.fleet.replicas[at]
    }
}
