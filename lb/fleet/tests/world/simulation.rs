//! [`World`]: its making, its three ages, and the troubles of the first.

use crate::{
    checks::Checks,
    dice::Dice,
    provider::{Id, Provider},
};
use ringmaster_fleet::{Event, Fleet, Host, Limits, Naming, Phase, RespawnName};
use std::time::{Duration, Instant};

const TROUBLE: Duration = Duration::from_secs(40);
/// Slow news, a slow stop, a start and a first heartbeat, after all timeouts have passed.
const SLACK: Duration = Duration::from_secs(6);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) dice: Dice,
    pub(crate) limits: Limits,
    pub(crate) fleet: Fleet,
    pub(crate) provider: Provider,
    pub(crate) checks: Checks,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        // Short limits: more lives in less time.
        let limits = Limits {
            heartbeat_missed_max: 1 + dice.below(3) as u32,
            start_timeout: Duration::from_secs(4),
            drain_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            healthy_after: Duration::from_secs(8),
            replicas_max: 6,
            naming: [Naming::Random, Naming::Sequential, Naming::Uuid][dice.below(3) as usize],
            respawn_name: if dice.one_in(3) { RespawnName::Fresh } else { RespawnName::Keep },
        };
        Self {
            now: an_instant(),
            fleet: Fleet::new(limits.clone(), seed),
            limits,
            dice,
            provider: Provider::new(),
            checks: Checks::default(),
        }
    }

    // === Three ages ===

    pub(crate) fn trouble(&mut self) {
        let end = self.now + TROUBLE;
        self.add();
        while self.now < end {
            let pause = self.dice.millis(50..1_500);
            self.run_until(self.now + pause);
            self.cause_trouble();
        }
    }

    pub(crate) fn peace(&mut self) {
        self.provider.faulty = false;
        let patience = self.limits.start_timeout + self.limits.backoff_max + SLACK;
        self.run_until(self.now + patience);
        let unwell: Vec<_> =
            self.fleet.replicas().filter(|it| !matches!(it.phase, Phase::Serving { .. })).collect();
        assert!(unwell.is_empty(), "after {patience:?} of peace: {unwell:#?}");
        let mut wanted: Vec<_> =
            self.fleet.wanted().map(|it| (it.name().clone(), it.incarnation)).collect();
        let mut running: Vec<_> = self.provider.processes.keys().cloned().collect();
        wanted.sort();
        running.sort();
        assert_eq!(running, wanted, "what is wanted runs, once, and nothing else");
    }

    pub(crate) fn end(&mut self) {
        self.step(Event::Shutdown);
        self.add();
        self.run_until(self.now + self.limits.drain_timeout + SLACK);
        assert_eq!(self.fleet.replicas().count(), 0, "{:#?}", self.fleet);
        assert!(self.provider.processes.is_empty(), "{:?}", self.provider.processes);
    }

    // === Trouble ===

    fn cause_trouble(&mut self) {
        if self.dice.one_in(25) {
            self.crash();
            return;
        }
        match self.dice.below(9) {
            0 => self.add(),
            1 => self.remove(),
            2 => self.restart(),
            3..=5 => {
                if let Some(id) = self.some_process() {
                    self.provider.crash(self.now, &mut self.dice, &id);
                }
            }
            6..=7 => {
                if let Some(id) = self.some_process() {
                    self.provider.toggle_hang(&id);
                }
            }
            _ => self.step(Event::Tick),
        }
    }

    fn some_process(&mut self) -> Option<Id> {
        let running = self.provider.processes.iter().filter(|(_, process)| !process.ended);
        let mut ids: Vec<_> = running.map(|(id, _)| id.clone()).collect();
        ids.sort(); // A hash map's order is not part of the seed.
        self.dice.pick(ids)
    }

    fn add(&mut self) {
        let n = 1 + self.dice.below(3) as usize;
        // Few names, so that they are given again soon after they were removed.
        let hosts = if self.dice.one_in(2) { vec![host(1 + self.dice.below(4))] } else { vec![] };
        let Ok(hosts) = self.fleet.admit(n, &hosts) else {
            return; // Full.
        };
        assert_eq!(hosts.len(), n);
        assert!(hosts.iter().all(|host| self.fleet.get(&host.name).is_none()), "{hosts:?}");
        self.step(Event::Add { hosts });
    }

    fn remove(&mut self) {
        let n = 1 + self.dice.below(2) as usize;
        if let Ok(names) = self.fleet.victims(n, &[], |_| 0) {
            self.step(Event::Remove { names });
        }
    }

    fn restart(&mut self) {
        let names = self.fleet.replicas().map(|it| it.name().clone()).collect();
        if let Some(name) = self.dice.pick(names) {
            self.step(Event::Restart { name });
        }
    }
}

fn host(number: u64) -> Host {
    format!("S{number}").parse().expect("a name")
}

#[expect(clippy::disallowed_methods, reason = "where the world's clock begins does not matter")]
fn an_instant() -> Instant {
    Instant::now()
}
