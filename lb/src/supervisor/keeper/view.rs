//! What others may know of a pool: its state at one moment, copied out of the loop.

use std::time::Instant;

use ringmaster_fleet::{Phase, Replica};

use super::Keeper;
use crate::supervisor::handle::{PoolView, ReplicaView};

impl Keeper {
    /// The pool as it is.
    pub(crate) fn view(&self, now: Instant) -> PoolView {
        PoolView {
            name: self.name.clone(),
            version: self.fleet.version(),
            provider: self.provider.kind(),
            trouble: self.provider.trouble(),
            replicas: self
                .fleet
                .replicas()
                .map(|replica| self.replica_view(now, replica))
                .collect(),
            table: self.table.clone(),
        }
    }

    fn replica_view(&self, now: Instant, replica: &Replica) -> ReplicaView {
        let name = replica.name();
        let upstream = self.upstreams.get(name);
        let (missed, uptime) = match replica.phase {
            Phase::Serving { missed, since, .. } => {
                (missed, Some(now.saturating_duration_since(since)))
            }
            Phase::Starting { .. } | Phase::Draining { .. } | Phase::Down { .. } => (0, None),
        };
        let retry_in = match replica.phase {
            Phase::Down { retry_at, .. } => Some(retry_at.saturating_duration_since(now)),
            Phase::Starting { .. } | Phase::Serving { .. } | Phase::Draining { .. } => None,
        };
        ReplicaView {
            host: replica.host.clone(),
            number: replica.number,
            phase: replica.phase.name(),
            incarnation: replica.incarnation,
            addr: replica.phase.addr(),
            pid: self.runs.get(name).and_then(|run| run.started?.process).map(|it| it.pid),
            in_flight: upstream.map_or(0, |it| it.in_flight()),
            in_flight_max: upstream.and_then(|it| self.writer.pool().cap(it)),
            ejected_for: upstream.and_then(|it| it.ejected_for()),
            requests: self.replica_metrics.get(name).map_or(0, |it| it.requests()),
            missed,
            uptime,
            attempts: replica.attempts,
            retry_in,
            last_exit: replica.last_exit.clone(),
        }
    }
}
