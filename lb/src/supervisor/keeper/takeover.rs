//! Taking over from an earlier balancer, and writing down what the next one must know.
//!
//! | written down | runs | what becomes of it |
//! |---|---|---|
//! | yes | yes | adopted as it is: same name, number and incarnation |
//! | yes | no | started again under its name, as the next incarnation |
//! | no | yes | an orphan: ended. But where nothing at all was written down, all that runs is adopted |
//! | no | no | the configured replicas are started, as far as fewer were adopted |
//!
//! After an upgrade the replicas go on in the phases that they were handed over in, and those that wait to be started
//! wait on.

use std::time::Instant;

use ringmaster_fleet::{Event, Phase, PhaseName, Replica};
use tracing::{info, warn};

use super::Keeper;
use crate::{
    provider::{Ending, Found, Remembered, Spec},
    supervisor::run::{Run, RunEnding},
};

impl Keeper {
    /// Begins with what an earlier balancer left, of which `found` still runs.
    pub(super) fn take_over(&mut self, now: Instant, mut found: Vec<Found>) {
        let written = self.remembered.take();
        if let Some(written) = &written {
            for Remembered { spec, .. } in written {
                let at = found.iter().position(|it| it.spec.host.name == spec.host.name);
                match at.map(|at| found.swap_remove(at)) {
                    Some(running) => self.adopt(now, running),
                    None => self.start_again(now, spec.clone()),
                }
            }
            found.into_iter().for_each(|orphan| self.end_orphan(orphan));
        } else {
            found.sort_by_key(|it| it.spec.number);
            found.into_iter().for_each(|running| self.adopt(now, running));
            self.fill_up(now);
        }
        // Not before: a part of the set must not be written down in place of the whole.
        self.begun = true;
        self.write_down();
        self.replace_outdated(now);
        if written.is_some() {
            info!(pool = %self.name, replicas = self.fleet.wanted().count(), "Took over what was written down");
        }
    }

    pub(super) fn adopt(&mut self, now: Instant, found: Found) {
        let Found { spec, started, outdated } = found;
        if outdated {
            self.outdated.push_back(spec.host.name.clone());
        }
        self.run(spec.clone(), Some(started));
        let Spec { host, number, incarnation } = spec;
        let inherited = self.inherited.remove(&host.name);
        let event = match inherited.filter(|it| it.phase.addr() == Some(started.addr)) {
            Some(replica) => {
                Event::Inherit { replica: Box::new(Replica { incarnation, ..replica }) }
            }
            None => Event::Adopt { host, number, incarnation, addr: Some(started.addr) },
        };
        self.step(now, event);
    }

    fn start_again(&mut self, now: Instant, spec: Spec) {
        let Spec { host, number, incarnation } = spec;
        let inherited = self.inherited.remove(&host.name);
        let event = match inherited.filter(|it| it.phase.name() == PhaseName::Down) {
            Some(replica) => Event::Inherit { replica: Box::new(replica) },
            None => Event::Adopt { host, number, incarnation, addr: None },
        };
        self.step(now, event);
    }

    fn end_orphan(&self, orphan: Found) {
        let Spec { host, incarnation, .. } = orphan.spec;
        info!(pool = %self.name, replica = %host.name, %incarnation, "Ending an orphan");
        let id = (host.name, incarnation);
        let ending = RunEnding { ending: Ending::Now, remove: true };
        Run::end(None, self.provider.clone(), id, ending, self.reporter.clone());
    }

    /// Asks for the replicas that the configuration wants, beside those that were adopted.
    fn fill_up(&mut self, now: Instant) {
        let have = self.fleet.wanted().count();
        let missing = self.config.replicas.saturating_sub(have);
        let named = self.config.names.iter().filter(|host| self.fleet.get(&host.name).is_none());
        let names = named.take(missing).cloned().collect();
        match self.admit(missing, names) {
            Ok(hosts) => self.step(now, Event::Add { hosts }),
            // The configuration was checked against the same limits.
            Err(error) => warn!(pool = %self.name, %error, "The configured replicas were refused"),
        }
    }

    /// Restarts the next outdated replica once all others serve.
    pub(super) fn replace_outdated(&mut self, now: Instant) {
        if self.is_whole()
            && let Some(name) = self.outdated.pop_front()
        {
            info!(pool = %self.name, replica = %name, "Replacing a replica with other settings");
            self.step(now, Event::Restart { name });
        }
    }

    /// Writes down the wanted set and what runs of it, if either has changed.
    pub(super) fn write_down(&mut self) {
        // What is known before the begin, or nothing at all, would take the place of what was written down.
        let Some(scribe) = self.scribe.as_ref().filter(|_| self.begun) else { return };
        let replicas: Vec<_> = self.fleet.wanted().map(|it| self.remembered(it)).collect();
        if self.written.as_ref() != Some(&replicas) {
            scribe.note(&self.name, replicas.clone());
            self.written = Some(replicas);
        }
    }

    pub(super) fn remembered(&self, replica: &Replica) -> Remembered {
        let runs = match replica.phase {
            Phase::Starting { .. } | Phase::Serving { .. } => true,
            Phase::Draining { .. } | Phase::Down { .. } => false,
        };
        let run = self.runs.get(replica.name());
        let run = run.filter(|run| runs && run.incarnation == replica.incarnation);
        Remembered {
            spec: Spec {
                host: replica.host.clone(),
                number: replica.number,
                incarnation: replica.incarnation,
            },
            started: run.and_then(|run| run.started),
        }
    }
}
