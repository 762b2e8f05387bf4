//! Other settings while the pool works: what follows from them for replicas, routes and requests.

use std::{mem, sync::Arc, time::Instant};

use ringmaster_fleet::{Event, Host, ReplicaName, RespawnName, Table, TableError};
use tracing::{info, warn};

use super::{Keeper, recovery::respawn_label};
use crate::{
    config::{PoolConfig, ProviderConfig},
    routes::Pool,
};

impl Keeper {
    /// What requests to the pool see.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        self.writer.pool()
    }

    /// Whether it is known what an earlier balancer left, so that the pool may be changed.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The table that `config` asks for, if it is another kind than now.
    pub(crate) fn table_under(&self, config: &PoolConfig) -> Result<Option<Table>, TableError> {
        let is_new = config.algorithm != self.config.algorithm;
        let members = self.table.members().iter().cloned();
        is_new.then(|| Table::build(&config.algorithm, members)).transpose()
    }

    /// Goes on with other settings, whose provider is of the same kind. `table` is [`Self::table_under`] them.
    pub(crate) fn reconfigure(&mut self, now: Instant, config: PoolConfig, table: Option<Table>) {
        if config == self.config {
            return;
        }
        let old = mem::replace(&mut self.config, config);
        info!(pool = %self.name, "Going on with other settings");
        if let Some(table) = table {
            self.table = Arc::new(table);
        }
        self.fleet.reconfigure(self.config.limits.clone());
        self.recount_respawns(old.limits.respawn_name);
        self.writer.reconfigure(&self.config, self.metrics.pool(&self.name));
        self.heartbeat.send_replace(self.config.heartbeat.clone());
        if old.upstream != self.config.upstream {
            for upstream in self.upstreams.values_mut() {
                *upstream = Arc::new(upstream.reconfigured(&self.config.upstream));
            }
        }
        self.refresh();
        self.ramp(now);
        if old.provider != self.config.provider {
            self.provider.reconfigure(&self.config.provider);
            self.follow_provider(now, &old.provider);
        }
        // What balancers have agreed on is not one file's to change.
        let counts = self.begun && !self.provider.is_shared();
        if counts && (old.replicas, &old.names) != (self.config.replicas, &self.config.names) {
            self.follow_count(now, &old.names);
        }
        self.replace_outdated(now);
    }

    /// Counts respawns under other labels if replicas come back under other names than before.
    fn recount_respawns(&self, old: RespawnName) {
        let respawn_name = self.config.limits.respawn_name;
        if respawn_name == old {
            return;
        }
        self.metrics.forget_respawns(&self.name);
        for replica in self.fleet.replicas() {
            let label = respawn_label(respawn_name, replica.name());
            self.metrics.declare_respawns(&self.name, label);
        }
    }

    /// Lets go of the pool: its replicas drain and leave, and nothing of it is written down any more.
    pub(crate) fn retire(&mut self, now: Instant) {
        info!(pool = %self.name, "The pool is configured no more");
        self.retired = true;
        self.closing = true;
        self.part();
        self.writer.retire();
        if let Some(scribe) = self.scribe.take() {
            scribe.forget(&self.name);
        }
        self.step(now, Event::Shutdown);
    }

    /// Whether the pool was let go.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Takes away what is left of a pool that was let go.
    pub(crate) fn forget(&self) {
        self.metrics.forget_pool(&self.name);
    }

    /// Replicas that were started under other settings are replaced, one by one; those without an address leave.
    fn follow_provider(&mut self, now: Instant, old: &ProviderConfig) {
        let wanted = self.fleet.wanted().map(|it| it.name().clone());
        match (old, &self.config.provider) {
            (ProviderConfig::Fixed(old), ProviderConfig::Fixed(new)) => {
                let (stay, leave): (Vec<_>, Vec<_>) = wanted.partition(|it| new.contains_key(it));
                self.outdated.extend(stay.into_iter().filter(|it| old.get(it) != new.get(it)));
                self.step(now, Event::Remove { names: leave });
            }
            _ => self.outdated = wanted.collect(),
        }
    }

    /// Makes the wanted set what the file says, now that it says something else.
    fn follow_count(&mut self, now: Instant, old_names: &[Host]) {
        let is_wanted = |name: &ReplicaName| self.fleet.get(name).is_some_and(|it| it.is_wanted());
        let names: Vec<&ReplicaName> = self.config.names.iter().map(|it| &it.name).collect();
        let gone = old_names.iter().map(|it| &it.name).filter(|it| !names.contains(it));
        let gone: Vec<ReplicaName> = gone.filter(|it| is_wanted(it)).cloned().collect();
        let mut hosts: Vec<Host> = self.config.names.clone();
        hosts.retain(|host| self.fleet.get(&host.name).is_none());
        self.step(now, Event::Remove { names: gone });
        let (have, want) = (self.fleet.wanted().count(), self.config.replicas);
        // Those that the file names come even if others must go for them.
        let n = hosts.len().max(want.saturating_sub(have));
        match self.admit(n, hosts) {
            Ok(hosts) => self.step(now, Event::Add { hosts }),
            Err(error) => warn!(pool = %self.name, %error, "The configured replicas were refused"),
        }
        let surplus = self.fleet.wanted().count().saturating_sub(want);
        let unnamed = |name: &ReplicaName| !self.config.names.iter().any(|it| it.name == *name);
        let load = |name: &ReplicaName| match unnamed(name) {
            true => self.upstreams.get(name).map_or(0, |it| it.in_flight()),
            false => u32::MAX,
        };
        match self.fleet.victims(surplus, &[], load) {
            Ok(names) => self.step(now, Event::Remove { names }),
            Err(error) => warn!(pool = %self.name, %error, "Surplus replicas were not removed"),
        }
    }
}
