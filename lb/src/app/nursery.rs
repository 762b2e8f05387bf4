//! Where keepers come from: each pool's provider, routes and memory, put together.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
};

use anyhow::bail;
use ringmaster_fleet::Table;
use tokio::sync::mpsc;

use crate::{
    config::{PoolConfig, ProviderConfig},
    engine::{self, Holds},
    events::Publisher,
    metrics::Metrics,
    provider::{Docker, Fixed, Process, Provider, Remembered, Swarm},
    routes::PoolWriter,
    supervisor::{Keeper, KeeperParts, Legacy, News, PoolLegacy, Recollection, Scribe},
};

/// Makes keepers, at the start and when a reload brings a pool.
pub(super) struct Nursery {
    pub(super) cluster: String,
    pub(super) holds: Arc<Holds>,
    pub(super) metrics: Arc<Metrics>,
    /// `None` where nothing is written down.
    pub(super) scribe: Option<Scribe>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) events: Publisher,
    /// This binary, as which replicas are run.
    pub(super) program: PathBuf,
}

/// What is known of a pool from before; nothing of one that a reload brings.
#[derive(Default)]
pub(super) struct Known {
    /// As it was written down.
    pub(super) remembered: Option<Vec<Remembered>>,
    /// As another process hands it over.
    pub(super) legacy: Option<PoolLegacy>,
}

impl Nursery {
    pub(super) fn keepers(
        &self,
        pools: &BTreeMap<String, PoolConfig>,
        mut recollection: Recollection,
        mut legacy: Legacy,
    ) -> anyhow::Result<Vec<Keeper>> {
        let keeper = |(index, (name, config)): (usize, (&String, _))| {
            let known =
                Known { remembered: recollection.remove(name), legacy: legacy.remove(name) };
            self.keeper(index, name, config, known)
        };
        let keepers = pools.iter().enumerate().map(keeper).collect();
        // Who leaves a pool out has its replicas drained first, which is a reload's work.
        if let Some((name, left)) = legacy.pop_first() {
            bail!(
                "pools.{name}: it has replicas of provider {}, but is not configured any more; reload first, then upgrade",
                left.provider
            );
        }
        keepers
    }

    pub(super) fn keeper(
        &self,
        index: usize,
        name: &str,
        config: &PoolConfig,
        Known { remembered, legacy }: Known,
    ) -> anyhow::Result<Keeper> {
        let provider = self.provider(name, config);
        if let Some(left) = legacy.as_ref().filter(|it| it.provider != provider.kind()) {
            bail!(
                "pools.{name}.provider: {} follows {}; a pool stays with its provider, give it another name",
                provider.kind(),
                left.provider
            );
        }
        let table = Table::build(&config.algorithm, [])?;
        let writer = PoolWriter::new(name, config, Arc::new(table), self.metrics.pool(name));
        Keeper::new(KeeperParts {
            index,
            config: config.clone(),
            provider,
            writer,
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            news: self.news.clone(),
            scribe: self.scribe.clone(),
            remembered,
            legacy,
            seed: seed(),
        })
    }

    fn provider(&self, name: &str, pool: &PoolConfig) -> Arc<dyn Provider> {
        let cluster = &self.cluster;
        match &pool.provider {
            ProviderConfig::Process(server_id) => {
                Arc::new(Process::new(self.program.clone(), *server_id))
            }
            ProviderConfig::Docker(docker) => {
                let (engine, hold) = (engine::connect(docker), self.holds.of(docker));
                Arc::new(Docker::new(engine, hold, cluster, name, docker.clone()))
            }
            ProviderConfig::Swarm(docker) => {
                let (grace, drain) = (pool.stop_grace, pool.limits.drain_timeout);
                Arc::new(Swarm::new(cluster, name, docker.clone(), grace, drain))
            }
            ProviderConfig::Fixed(addresses) => Arc::new(Fixed::new(addresses.clone())),
        }
    }
}

/// Chance, from the only source in the standard library.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
