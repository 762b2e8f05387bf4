//! Changes that were begun and whose askers wait until they are true.

use std::time::{Duration, Instant};

use ringmaster_fleet::{Fleet, Incarnation, Phase, PhaseName, ReplicaName};
use tokio::sync::oneshot;

use super::handle::{AskError, PoolView};
use crate::config::PoolConfig;

/// A change under way.
pub(super) struct Pending {
    pub(super) wish: Wish,
    /// When its asker gets an error instead.
    pub(super) deadline: Option<Instant>,
    pub(super) answer: oneshot::Sender<Result<PoolView, AskError>>,
}

/// What must become true.
#[derive(Debug)]
pub(super) enum Wish {
    /// All of these serve.
    Serve(Vec<ReplicaName>),
    /// None of these is left.
    Gone(Vec<ReplicaName>),
    /// A later incarnation than `since` serves.
    Restart { name: ReplicaName, since: Incarnation },
}

impl Wish {
    /// How long it may take. A removal ends in any case, as drains and stops have limits of their own.
    pub(super) fn patience(&self, config: &PoolConfig) -> Option<Duration> {
        let limits = &config.limits;
        match self {
            Self::Serve(_) => Some(limits.start_timeout),
            Self::Gone(_) => None,
            Self::Restart { .. } => {
                Some(limits.drain_timeout + config.stop_grace + limits.start_timeout)
            }
        }
    }

    /// Whether it is true, or can't be by `deadline`; `None` while that is open.
    pub(super) fn judge(
        &self,
        fleet: &Fleet,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Option<Result<(), AskError>> {
        let serves = |name: &ReplicaName, since: Incarnation| {
            fleet.get(name).is_some_and(|replica| {
                replica.phase.name() == PhaseName::Serving && replica.incarnation > since
            })
        };
        let (names, since) = match self {
            Self::Gone(names) => {
                return names.iter().all(|name| fleet.get(name).is_none()).then_some(Ok(()));
            }
            Self::Serve(names) => (&names[..], Incarnation::default()),
            Self::Restart { name, since } => (std::slice::from_ref(name), *since),
        };
        let mut waiting = names.iter().filter(|name| !serves(name, since)).peekable();
        if waiting.peek().is_none() {
            return Some(Ok(()));
        }
        waiting.find_map(|name| why_never(fleet, name, now, deadline)).map(Err)
    }
}

/// Why the replica will not serve by `deadline`, if that is certain.
fn why_never(
    fleet: &Fleet,
    name: &ReplicaName,
    now: Instant,
    deadline: Option<Instant>,
) -> Option<AskError> {
    let Some(replica) = fleet.get(name).filter(|it| it.is_wanted()) else {
        return Some(AskError::NotStarted(format!("{name} was removed before it served")));
    };
    let earliest = match replica.phase {
        Phase::Down { retry_at, .. } => retry_at.max(now),
        Phase::Starting { .. } | Phase::Serving { .. } | Phase::Draining { .. } => now,
    };
    let late = deadline.is_some_and(|deadline| earliest >= deadline);
    late.then(|| AskError::NotStarted(why_not_started(fleet, name)))
}

/// The last that is known of a start that failed: how it ended and what it said.
fn why_not_started(fleet: &Fleet, name: &ReplicaName) -> String {
    match fleet.get(name).and_then(|replica| replica.last_exit.as_ref()) {
        Some(exit) => match exit.log.last() {
            Some(line) => format!("{name} did not start in time: {}: {line}", exit.reason),
            None => format!("{name} did not start in time: {}", exit.reason),
        },
        None => format!("{name} did not start in time: it answered no heartbeat"),
    }
}
