//! Where keepers come from: each pool's provider, routes and memory, put together.

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use anyhow::Context;
use ringmaster_fleet::Table;
use tokio::sync::mpsc;

use crate::{
    config::{PoolConfig, ProviderConfig},
    engine,
    events::Publisher,
    metrics::Metrics,
    provider::{Docker, Fixed, Process, Provider, Remembered, Swarm},
    routes::PoolWriter,
    supervisor::{Keeper, KeeperParts, News, Recollection, Scribe},
};

/// Makes keepers, at the start and when a reload brings a pool.
pub(super) struct Nursery {
    pub(super) cluster: String,
    pub(super) metrics: Arc<Metrics>,
    /// `None` where nothing is written down.
    pub(super) scribe: Option<Scribe>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) events: Publisher,
}

impl Nursery {
    pub(super) fn keepers(
        &self,
        pools: &BTreeMap<String, PoolConfig>,
        mut recollection: Recollection,
    ) -> anyhow::Result<Vec<Keeper>> {
        let keeper = |(index, (name, config)): (usize, (&String, _))| {
            self.keeper(index, name, config, recollection.remove(name))
        };
        pools.iter().enumerate().map(keeper).collect()
    }

    pub(super) fn keeper(
        &self,
        index: usize,
        name: &str,
        config: &PoolConfig,
        remembered: Option<Vec<Remembered>>,
    ) -> anyhow::Result<Keeper> {
        let table = Table::build(&config.algorithm, [])?;
        let writer = PoolWriter::new(name, config, Arc::new(table), self.metrics.pool(name));
        Ok(Keeper::new(KeeperParts {
            index,
            config: config.clone(),
            provider: provider(&self.cluster, name, config)?,
            writer,
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            news: self.news.clone(),
            scribe: self.scribe.clone(),
            remembered,
            seed: seed(),
        })?)
    }
}

fn provider(cluster: &str, name: &str, pool: &PoolConfig) -> anyhow::Result<Arc<dyn Provider>> {
    Ok(match &pool.provider {
        ProviderConfig::Process => {
            let program = env::current_exe().context("finding this program's own file")?;
            Arc::new(Process::new(program))
        }
        ProviderConfig::Docker(docker) => {
            Arc::new(Docker::new(engine::connect(docker), cluster, name, docker.clone()))
        }
        ProviderConfig::Swarm(docker) => {
            let (grace, drain) = (pool.stop_grace, pool.limits.drain_timeout);
            Arc::new(Swarm::new(cluster, name, docker.clone(), grace, drain))
        }
        ProviderConfig::Fixed(addresses) => Arc::new(Fixed::new(addresses.clone())),
    })
}

/// Chance, from the only source in the standard library.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
