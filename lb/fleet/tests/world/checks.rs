//! [`Checks`]: what must hold in every world after every step, seen from outside.

use crate::provider::{Id, Provider};
use ringmaster_fleet::{Cause, Command, Fleet, Incarnation, Limits, Phase, PhaseName, ReplicaName};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Instant,
};

/// What the checks remember from step to step.
#[derive(Default)]
pub(crate) struct Checks {
    phases: HashMap<ReplicaName, PhaseName>,
    started: HashMap<ReplicaName, Incarnation>,
    wanted: BTreeSet<ReplicaName>,
    version: u64,
    /// The labels of all causes announced.
    pub(crate) causes: BTreeSet<&'static str>,
    /// The labels of all causes after which a replica was started again.
    pub(crate) respawns: BTreeSet<&'static str>,
}

impl Checks {
    /// After a step that gave `commands`, before they are executed.
    pub(crate) fn after_step(
        &mut self,
        fleet: &Fleet,
        limits: &Limits,
        provider: &Provider,
        commands: &[Command],
    ) {
        for command in commands {
            self.command(fleet, provider, command);
        }
        let phases = fleet.replicas().map(|it| (it.name().clone(), it.phase.name()));
        let phases: HashMap<_, _> = phases.collect();
        assert_eq!(phases, self.phases, "every move is announced, and no other");
        self.version_follows_wanted(fleet);
        well_formed(fleet, limits);
        routes_are_true(fleet, provider);
    }

    /// When a new balancer takes over and adopts `kept`: it announces and counts from nothing, yet what it
    /// starts of them must be above what was started before.
    pub(crate) fn take_over(&mut self, kept: &HashSet<ReplicaName>) {
        self.phases.clear();
        self.wanted.clear();
        self.version = 0;
        // A name that has left is nobody's: nothing of it runs, and news of it died with the balancer.
        self.started.retain(|name, _| kept.contains(name));
    }

    /// After a tick: without a further event there is nothing to do before the next wake-up.
    pub(crate) fn after_tick(fleet: &Fleet, now: Instant) {
        let next = fleet.next_wakeup();
        assert!(next.is_none_or(|next| next > now), "a tick leaves nothing due");
    }

    fn command(&mut self, fleet: &Fleet, provider: &Provider, command: &Command) {
        match command {
            Command::Spawn { host, incarnation, after, .. } => {
                if let Some(cause) = after {
                    assert!(Cause::RESPAWN_LABELS.contains(&cause.label()), "{cause:?}");
                    self.respawns.insert(cause.label());
                }
                let last = Incarnation::from(incarnation.get() - 1);
                let has_crashed = provider.crashed.contains(&(host.name.clone(), last));
                if let Some(Cause::MissedHeartbeats(_) | Cause::StartTimeout(_)) = after {
                    assert!(!has_crashed, "a crash of {} is put down to silence", host.name);
                }
                let before = self.started.insert(host.name.clone(), *incarnation);
                assert!(before < Some(*incarnation), "incarnations of {} grow", host.name);
            }
            Command::Stop { name, incarnation } | Command::Kill { name, incarnation } => {
                let mut serving = fleet.serving();
                let served =
                    serving.any(|(it, _)| it.name() == name && it.incarnation == *incarnation);
                assert!(!served, "{name} is unrouted before it ends");
            }
            Command::Announce(change) => {
                self.causes.insert(change.cause.label());
                assert!(!change.cause.to_string().is_empty());
                let before = match change.to {
                    Some(phase) => self.phases.insert(change.name.clone(), phase),
                    None => self.phases.remove(&change.name),
                };
                assert_eq!(before, change.from, "changes of {} form a chain", change.name);
                if change.to.is_none() {
                    let left = provider.processes.keys().find(|id| id.0 == change.name);
                    assert_eq!(left, None, "what is gone has stopped");
                }
            }
        }
    }

    fn version_follows_wanted(&mut self, fleet: &Fleet) {
        let wanted: BTreeSet<_> = fleet.wanted().map(|it| it.name().clone()).collect();
        let grown = fleet.version() - self.version;
        assert_eq!(
            grown,
            u64::from(wanted != self.wanted),
            "the version counts changes of the wanted set"
        );
        (self.wanted, self.version) = (wanted, fleet.version());
    }
}

fn well_formed(fleet: &Fleet, limits: &Limits) {
    assert!(fleet.wanted().count() <= limits.replicas_max);
    let mut numbers = HashSet::from([0]);
    let mut names = HashSet::new();
    for replica in fleet.replicas() {
        assert!(numbers.insert(replica.number), "numbers are positive and unique");
        assert!(names.insert(replica.name()), "names are unique");
        match replica.phase {
            Phase::Serving { missed, .. } => assert!(missed < limits.heartbeat_missed_max),
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => {}
        }
    }
}

/// Requests go only to where the replica's latest incarnation was started.
fn routes_are_true(fleet: &Fleet, provider: &Provider) {
    for (replica, addr) in fleet.serving() {
        let id: Id = (replica.name().clone(), replica.incarnation);
        let process = provider.processes.get(&id);
        let told = process.and_then(|process| process.addr);
        assert_eq!(told, Some(addr), "{id:?} is routed to its own address");
    }
}
