//! The runs of a pool's replicas: begun and ended as the fleet commands.

use std::time::Instant;

use ringmaster_fleet::{Event, Exit, Incarnation, ReplicaName};

use super::Keeper;
use crate::{
    provider::{Ending, Spec, Started},
    supervisor::run::{Run, RunEnding},
};

impl Keeper {
    /// Starts a replica, unless it was `started` already, and watches it.
    pub(super) fn run(&mut self, spec: Spec, started: Option<Started>) {
        let name = spec.host.name.clone();
        let run = Run::begin(
            self.provider.clone(),
            spec,
            started,
            self.heartbeat.subscribe(),
            self.reporter.clone(),
        );
        self.runs.insert(name, run);
    }

    /// Ends an incarnation, and with it its replica unless that is wanted still.
    pub(super) fn end(&mut self, name: ReplicaName, incarnation: Incarnation, ending: Ending) {
        let run = match self.runs.get(&name) {
            Some(run) if run.incarnation == incarnation => self.runs.remove(&name),
            Some(_) | None => None,
        };
        // At the end of a balancer its replicas go, but not those that others keep, too.
        let remove = !self.closing && !self.fleet.get(&name).is_some_and(|it| it.is_wanted());
        let ending = RunEnding { ending, remove };
        Run::end(run, self.provider.clone(), (name, incarnation), ending, self.reporter.clone());
    }

    /// An incarnation has ended, and its replica was `removed` if it was not wanted then.
    pub(super) fn note_end(
        &mut self,
        now: Instant,
        (name, incarnation): (ReplicaName, Incarnation),
        exit: Option<Exit>,
        removed: bool,
    ) {
        let is_unwanted = self
            .fleet
            .get(&name)
            .is_some_and(|it| it.incarnation == incarnation && !it.is_wanted() && !self.closing);
        if is_unwanted && !removed {
            // It is so since its end was begun.
            self.end(name, incarnation, Ending::Now);
        } else {
            self.step(now, Event::Stopped { name, incarnation, exit });
        }
    }
}
