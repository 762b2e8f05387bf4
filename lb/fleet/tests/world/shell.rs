//! The shell of a [`World`]: takes events to the fleet in their time and its commands to the provider, and
//! takes over from a shell that crashed.

use crate::{checks::Checks, provider::News, simulation::World};
use ringmaster_fleet::{Command, Event, Fleet, PhaseName};
use std::{mem, time::Instant};

impl World {
    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            let wakeup = self.fleet.next_wakeup().map(|at| at.max(self.now));
            let happens = self.provider.next();
            match (wakeup, happens) {
                (Some(wakeup), _) if wakeup <= end && happens.is_none_or(|at| wakeup <= at) => {
                    self.now = wakeup;
                    self.step(Event::Tick);
                    Checks::after_tick(&self.fleet, self.now);
                }
                (_, Some(at)) if at <= end => {
                    self.now = at;
                    self.let_happen();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn let_happen(&mut self) {
        match self.provider.advance(&mut self.dice) {
            Some(News::Fresh(event)) => self.step(event),
            Some(News::Stale((name, incarnation), event)) => {
                let replica = self.fleet.get(&name);
                if replica.is_none_or(|replica| replica.incarnation != incarnation) {
                    self.step(event);
                }
            }
            None => {}
        }
    }

    pub(crate) fn step(&mut self, event: Event) {
        let commands = self.fleet.step(self.now, event);
        self.checks.after_step(&self.fleet, &self.limits, &self.provider, &commands);
        for command in commands {
            self.execute(command);
        }
    }

    /// The balancer crashes, and a new one adopts what the old one wanted.
    pub(crate) fn crash(&mut self) {
        let fleet = Fleet::new(self.limits.clone(), self.dice.below(u64::MAX));
        let before = mem::replace(&mut self.fleet, fleet);
        let known: Vec<_> = before
            .wanted()
            .map(|it| (it, self.provider.runs_at(&(it.name().clone(), it.incarnation))))
            .collect();
        let runs = known.iter().filter(|(_, addr)| addr.is_some());
        // Leftovers end before the first adoption, as that may spawn beside them.
        self.provider.take_over(&runs.map(|(it, _)| (it.name().clone(), it.incarnation)).collect());
        self.checks.take_over(&known.iter().map(|(it, _)| it.name().clone()).collect());
        for &(it, addr) in &known {
            let (host, number, incarnation) = (it.host.clone(), it.number, it.incarnation);
            self.step(Event::Adopt { host, number, incarnation, addr });
        }
        let adopted = self.fleet.wanted().map(|it| (&it.host, it.number, it.phase.addr()));
        let expected = known.iter().map(|(it, addr)| (&it.host, it.number, *addr));
        assert!(
            adopted.eq(expected),
            "all come home, in their order: {known:#?}, {:#?}",
            self.fleet
        );
    }

    fn execute(&mut self, command: Command) {
        let (now, dice, provider) = (self.now, &mut self.dice, &mut self.provider);
        match command {
            Command::Spawn { host, incarnation, .. } => {
                provider.spawn(now, dice, host, incarnation)
            }
            Command::Stop { name, incarnation } => provider.stop(now, dice, (name, incarnation)),
            Command::Kill { name, incarnation } => provider.kill(now, dice, (name, incarnation)),
            Command::Announce(change) => {
                if change.to == Some(PhaseName::Draining) {
                    provider.drain(now, dice, &(change.name, change.incarnation));
                }
            }
        }
    }
}
