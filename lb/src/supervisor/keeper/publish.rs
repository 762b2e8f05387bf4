//! What follows from the fleet: the table, the upstreams, the routes and the gauges.

use std::{collections::HashMap, sync::Arc, time::Instant};

use ringmaster_fleet::{Phase, PhaseName, ReplicaName, ramp};
use tracing::warn;

use super::{Keeper, change::table_of, recovery::respawn_label};
use crate::routes::{Ring, Upstream};

impl Keeper {
    /// Makes the table, the upstreams, the routes and the gauges follow the fleet.
    pub(super) fn refresh(&mut self) {
        match table_of(&self.table, &self.fleet) {
            Ok(table) if table == *self.table => {}
            Ok(table) => self.table = Arc::new(table),
            // Every change was tried on a copy before it was made.
            Err(error) => {
                warn!(pool = %self.name, %error, "The slot table cannot follow the fleet")
            }
        }
        self.replica_metrics.retain(|name, _| {
            let known = self.fleet.get(name).is_some();
            if !known {
                self.metrics.forget_replica(&self.name, name.as_str());
            }
            known
        });
        let respawn_name = self.config.limits.respawn_name;
        for replica in self.fleet.replicas() {
            let name = replica.name();
            self.replica_metrics.entry(name.clone()).or_insert_with(|| {
                self.metrics.declare_respawns(&self.name, respawn_label(respawn_name, name));
                Arc::new(self.metrics.replica(&self.name, name.as_str()))
            });
        }
        self.refresh_upstreams();
        let serving: HashMap<&ReplicaName, &Arc<Upstream>> = self
            .fleet
            .serving()
            .filter_map(|(replica, _)| Some((replica.name(), self.upstreams.get(replica.name())?)))
            .collect();
        let routes = Ring::new(self.table.clone(), |member| {
            serving.get(&member.name).map(|&upstream| upstream.clone())
        });
        self.writer.publish(routes);
        self.refresh_gauges();
    }

    fn refresh_upstreams(&mut self) {
        let fleet = &self.fleet;
        self.upstreams.retain(|name, upstream| {
            fleet.get(name).is_some_and(|replica| {
                replica.incarnation == upstream.incarnation
                    && matches!(replica.phase, Phase::Serving { .. } | Phase::Draining { .. })
            })
        });
        for (replica, addr) in fleet.serving() {
            let name = replica.name();
            let (Some(run), Some(metrics)) = (self.runs.get(name), self.replica_metrics.get(name))
            else {
                continue;
            };
            self.upstreams.entry(name.clone()).or_insert_with(|| {
                Arc::new(Upstream::new(
                    name.clone(),
                    replica.incarnation,
                    addr,
                    &self.config.upstream,
                    metrics.clone(),
                    self.writer.load(),
                    run.suspicions.clone(),
                ))
            });
        }
    }

    fn refresh_gauges(&self) {
        for phase in [PhaseName::Starting, PhaseName::Serving, PhaseName::Draining, PhaseName::Down]
        {
            let count = self.fleet.replicas().filter(|it| it.phase.name() == phase).count();
            self.metrics.set_replicas(&self.name, phase.as_str(), count);
        }
        let slots: HashMap<&ReplicaName, usize> = self
            .table
            .members()
            .iter()
            .map(|member| &member.name)
            .zip(self.table.slots_per_member())
            .collect();
        for replica in self.fleet.replicas() {
            let name = replica.name();
            let serving = replica.phase.name() == PhaseName::Serving;
            let slots = slots.get(name).copied().unwrap_or(0);
            self.metrics.set_replica(&self.name, name.as_str(), serving, slots);
        }
    }

    /// Whether a replica that serves has less than its full share.
    pub(super) fn is_ramping(&self) -> bool {
        self.fleet.serving().any(|(replica, _)| {
            self.upstreams.get(replica.name()).is_some_and(|it| it.share() < 1.0)
        })
    }

    /// Gives each replica the share that its time in service has earned.
    pub(super) fn ramp(&self, now: Instant) {
        for replica in self.fleet.replicas() {
            if let Phase::Serving { since, .. } = replica.phase
                && let Some(upstream) = self.upstreams.get(replica.name())
            {
                upstream
                    .ramp_to(ramp(now.saturating_duration_since(since), self.config.slow_start));
            }
        }
    }
}
