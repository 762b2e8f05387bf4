//! What a process of the balancer leaves to the one that replaces it: every pool as it is at one moment.
//!
//! Times are given as spans, as the two have no clock in common that starts at the same point.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use ringmaster_fleet::{Exit, Incarnation, Phase, Replica};
use serde::{Deserialize, Serialize};

use super::memory::Entry;
use crate::provider::Remembered;

/// Every pool by its name.
pub(crate) type Legacy = BTreeMap<String, PoolLegacy>;

/// A pool.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolLegacy {
    /// Its kind, which must be the same there.
    pub(crate) provider: String,
    pub(super) version: u64,
    /// The incarnation above which new replicas begin.
    pub(super) floor: u64,
    /// In the order they were added.
    pub(super) replicas: Vec<ReplicaLegacy>,
}

/// A replica, in one of the phases in which it waits for nothing that only this process could do.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicaLegacy {
    pub(super) replica: Entry,
    phase: PhaseLegacy,
    attempts: u32,
    last_exit: Option<ExitLegacy>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum PhaseLegacy {
    Starting { time_left: Duration },
    Serving { since: Duration, missed: u32 },
    Down { retry_in: Duration },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ExitLegacy {
    code: Option<i32>,
    reason: String,
    log: Vec<String>,
    at: SystemTime,
}

impl ReplicaLegacy {
    /// `None` while it drains, or its end is not known to have come.
    pub(super) fn of(now: Instant, replica: &Replica, remembered: &Remembered) -> Option<Self> {
        let phase = match replica.phase {
            Phase::Starting { deadline, .. } => {
                PhaseLegacy::Starting { time_left: deadline.saturating_duration_since(now) }
            }
            Phase::Serving { since, missed, .. } => {
                PhaseLegacy::Serving { since: now.saturating_duration_since(since), missed }
            }
            Phase::Down { retry_at, stopped: true } => {
                PhaseLegacy::Down { retry_in: retry_at.saturating_duration_since(now) }
            }
            Phase::Down { stopped: false, .. } | Phase::Draining { .. } => return None,
        };
        let last_exit = replica.last_exit.clone();
        let last_exit =
            last_exit.map(|Exit { code, reason, log, at }| ExitLegacy { code, reason, log, at });
        let attempts = replica.attempts;
        Some(Self { replica: remembered.into(), phase, attempts, last_exit })
    }

    /// What the provider is to look for, and the replica to go on with if it is found.
    pub(super) fn receive(self, now: Instant) -> Result<(Remembered, Replica), String> {
        let remembered = Remembered::try_from(self.replica)?;
        let addr = remembered.started.map(|it| it.addr);
        let phase = match (self.phase, addr) {
            (PhaseLegacy::Starting { time_left }, _) => {
                Phase::Starting { addr, deadline: now + time_left }
            }
            (PhaseLegacy::Serving { since, missed }, Some(addr)) => {
                let since = now.checked_sub(since).unwrap_or(now);
                Phase::Serving { addr, since, missed }
            }
            (PhaseLegacy::Serving { .. }, None) => {
                return Err(format!("{} serves, but nowhere", remembered.spec.host));
            }
            (PhaseLegacy::Down { retry_in }, _) => {
                Phase::Down { retry_at: now + retry_in, stopped: true }
            }
        };
        let last_exit = self.last_exit;
        let replica = Replica {
            host: remembered.spec.host.clone(),
            number: remembered.spec.number,
            incarnation: remembered.spec.incarnation,
            phase,
            attempts: self.attempts,
            // Counted in the process that noticed it, or not at all: metrics begin anew.
            failure: None,
            replaces: None,
            last_exit: last_exit.map(|ExitLegacy { code, reason, log, at }| Exit {
                code,
                reason,
                log,
                at,
            }),
        };
        Ok((remembered, replica))
    }
}

impl PoolLegacy {
    pub(super) fn floor(&self) -> Incarnation {
        self.floor.into()
    }
}
