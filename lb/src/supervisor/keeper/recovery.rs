//! What is told of replicas as they move, and how long recoveries take.

use std::time::{Duration, Instant};

use ringmaster_fleet::{Cause, Change, Incarnation, PhaseName, ReplicaName, RespawnName};
use tracing::{info, warn};

use super::Keeper;
use crate::{events::Fact, heartbeat::Beat, metrics::ANY_REPLICA};

/// A failure that is being recovered from.
pub(super) struct Failure {
    known_at: Instant,
    started_at: Option<Instant>,
}

impl Keeper {
    /// The provider has started the replica.
    pub(super) fn note_start(&mut self, now: Instant, name: &ReplicaName) {
        if let Some(failure) = self.failures.get_mut(name) {
            failure.started_at = Some(now);
            self.metrics.recovered(&self.name, "spawn", now - failure.known_at);
        }
    }

    /// The replica has answered a heartbeat, or missed one.
    pub(super) fn note_beat(
        &mut self,
        now: Instant,
        (name, incarnation): (&ReplicaName, Incarnation),
        beat: Beat,
    ) {
        let answered = matches!(beat, Beat::Answered { .. });
        let run = self.runs.get_mut(name).filter(|run| run.incarnation == incarnation);
        if let Some(run) = run.filter(|_| answered) {
            run.answered_at = Some(now);
        }
        if let Some(metrics) = self.replica_metrics.get(name) {
            if answered {
                metrics.heartbeats_answered.inc();
            } else {
                metrics.heartbeats_missed.inc();
            }
        }
    }

    /// A heartbeat that began after these suspicions were raised was answered: requests that wait for the replica's end
    /// need not wait any longer.
    pub(super) fn settle_suspicions(
        &self,
        (name, incarnation): (&ReplicaName, Incarnation),
        suspicion: u64,
    ) {
        let run = self.runs.get(name).filter(|run| run.incarnation == incarnation);
        if run.is_some_and(|run| run.suspicions.settle(suspicion)) {
            self.writer.wake_held();
        }
    }

    /// The replica is started again after `cause` ended its last run, or that of the one that it replaces.
    pub(super) fn note_respawn(&self, name: &ReplicaName, cause: &Cause) {
        let replica = respawn_label(self.config.limits.respawn_name, name);
        self.metrics.respawned(&self.name, replica, cause.label());
    }

    /// Tells of a move, and times recoveries by it.
    pub(super) fn announce(&mut self, now: Instant, change: Change) {
        log(&self.name, &change);
        self.events.publish(Fact::Moved { pool: self.name.clone(), change: change.clone() });
        let is_failure = change.is_failure();
        let Change { name, from, to, cause, .. } = change;
        match (from, to) {
            (Some(PhaseName::Starting | PhaseName::Serving), Some(_)) if is_failure => {
                if from == Some(PhaseName::Serving) {
                    let took = self.time_to_detect(now, &name, &cause);
                    self.metrics.recovered(&self.name, "detect", took);
                }
                self.failures.insert(name, Failure { known_at: now, started_at: None });
            }
            (None, Some(PhaseName::Down)) => {
                if let Cause::Replaces(failed) = cause
                    && let Some(failure) = self.failures.remove(&failed)
                {
                    self.failures.insert(name, failure);
                }
            }
            (_, Some(PhaseName::Serving)) => {
                let started_at = self.failures.remove(&name).and_then(|it| it.started_at);
                if let Some(started_at) = started_at {
                    self.metrics.recovered(&self.name, "ready", now - started_at);
                }
            }
            (_, None) => {
                self.failures.remove(&name);
            }
            (_, Some(PhaseName::Starting | PhaseName::Draining | PhaseName::Down)) => {}
        }
    }

    /// A provider tells of an exit as it happens; a hang shows in the silence since the last answer.
    fn time_to_detect(&self, now: Instant, name: &ReplicaName, cause: &Cause) -> Duration {
        match (cause, self.runs.get(name).and_then(|run| run.answered_at)) {
            (Cause::MissedHeartbeats(_), Some(answered_at)) => now - answered_at,
            _ => Duration::ZERO,
        }
    }
}

/// The label that a replica's respawns are counted under: names that are given once make no series that lasts.
pub(super) fn respawn_label(respawn_name: RespawnName, name: &ReplicaName) -> &str {
    match respawn_name {
        RespawnName::Keep => name.as_str(),
        RespawnName::Fresh => ANY_REPLICA,
    }
}

fn log(pool: &str, change: &Change) {
    let Change { name: replica, incarnation, from, to, cause } = change;
    let phase = |phase: Option<PhaseName>| phase.map_or("gone", PhaseName::as_str);
    let (from, to) = (phase(*from), phase(*to));
    if change.is_failure() {
        warn!(pool, %replica, %incarnation, %from, %to, %cause, "Replica failed");
    } else {
        info!(pool, %replica, %incarnation, %from, %to, %cause, "Replica changed phase");
    }
}
