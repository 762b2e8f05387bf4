//! Replicas as containers of an engine.
//!
//! A start is a task of its own that outlives whoever asked for it, so that an end can wait for it: an order given up
//! half-way would be carried out behind our back. One task per provider hears of all ends and tells those who wait;
//! of two ends of one incarnation the first counts. While the engine cannot be reached nothing is concluded, and while
//! another balancer holds the cluster nothing is touched.

mod kept;

use std::{
    net::SocketAddr,
    sync::{Arc, Once},
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use ringmaster_fleet::{Exit, Host, Incarnation, ReplicaName};
use tokio::{sync::mpsc, time::timeout};
use tracing::warn;

use self::kept::{Kept, Key, exit_now};
use super::{Ended, Ending, Found, Provider, Remembered, Spec, Started, failure, insist, order};
use crate::{
    config::{DockerConfig, ProviderConfig, names},
    engine::{Container, Engine, Hold, Order},
};

/// Happenings that may wait; more make the engine's stream wait.
const HAPPENINGS_MAX: usize = 256;

/// How long the end of a container that ended at once may take to be told.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Orders containers of an engine.
pub(crate) struct Docker {
    engine: Arc<dyn Engine>,
    hold: Arc<Hold>,
    cluster: String,
    pool: String,
    config: ArcSwap<DockerConfig>,
    kept: Arc<Kept>,
    watching: Once,
}

impl Docker {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        hold: Arc<Hold>,
        cluster: &str,
        pool: &str,
        config: DockerConfig,
    ) -> Self {
        Self {
            engine,
            hold,
            cluster: cluster.to_owned(),
            pool: pool.to_owned(),
            config: ArcSwap::from_pointee(config),
            kept: Arc::default(),
            watching: Once::new(),
        }
    }

    fn order(&self, spec: &Spec) -> Order {
        order::of(&self.cluster, &self.pool, &self.config.load(), spec)
    }

    /// Begins to hear of ends, the first time that it is called.
    fn watch(&self) {
        self.watching.call_once(|| {
            let (sender, happenings) = mpsc::channel(HAPPENINGS_MAX);
            let (engine, cluster) = (self.engine.clone(), self.cluster.clone());
            tokio::spawn(async move { engine.events(&cluster, sender).await });
            let (engine, cluster) = (self.engine.clone(), self.cluster.clone());
            let kept = self.kept.clone();
            tokio::spawn(async move { kept.listen(&*engine, &cluster, happenings).await });
        });
    }
}

#[async_trait]
impl Provider for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn check_name(&self, name: &ReplicaName, _: &[ReplicaName]) -> Result<(), String> {
        names::container(name)
    }

    fn reconfigure(&self, config: &ProviderConfig) {
        if let ProviderConfig::Docker(config) = config {
            self.config.store(Arc::new(config.clone()));
        }
    }

    fn trouble(&self) -> Option<String> {
        self.hold.trouble().or_else(|| self.kept.trouble().map(|error| error.to_string()))
    }

    fn lost(&self) -> Option<String> {
        self.hold.lost()
    }

    async fn find(&self, remembered: &[Remembered]) -> anyhow::Result<Vec<Found>> {
        self.watch();
        self.hold.acquire(&*self.engine).await?;
        self.hold.keep(self.engine.clone());
        let containers = self.engine.inspect(&self.cluster).await;
        let containers =
            containers.with_context(|| format!("looking for replicas of {}", self.pool))?;
        let mut found = Vec::new();
        for container in containers.into_iter().filter(|it| it.pool == self.pool) {
            let key = (container.name.clone(), container.incarnation);
            match self.recognise(&container, remembered) {
                Some(replica) => {
                    self.kept.insert(key.clone());
                    self.kept.identify(&key, container.id);
                    found.push(replica);
                }
                // It has ended, or is not what we make: nothing of it is worth keeping.
                None => drop(self.engine.stop(&self.cluster, &key.0, key.1, None).await?),
            }
        }
        Ok(found)
    }

    async fn spawn(&self, spec: &Spec) -> Result<Started, Exit> {
        self.watch();
        self.hold.check().map_err(|error| failure(error.to_string(), vec![]))?;
        let order = self.order(spec);
        let key = (order.name.clone(), order.incarnation);
        let keeping = self.kept.insert(key.clone());
        let made = keeping.making.clone().lock_owned().await;
        let (engine, kept) = (self.engine.clone(), self.kept.clone());
        let making = tokio::spawn(async move {
            let container = engine.ensure(&order).await;
            if let Ok(Container { id, .. }) = &container {
                kept.identify(&key, id.clone());
            }
            drop(made);
            container
        });
        match making.await {
            Ok(Ok(Container { running: true, address: Some(ip), port, .. })) => {
                Ok(Started { addr: SocketAddr::new(ip, port), process: None })
            }
            Ok(Ok(_)) => Err(timeout(END_PATIENCE, keeping.exited()).await.unwrap_or_else(|_| {
                failure("it has no address on its network".to_owned(), vec![])
            })),
            Ok(Err(error)) => Err(failure(error.to_string(), vec![])),
            Err(error) => Err(failure(format!("its start failed: {error}"), vec![])),
        }
    }

    async fn exited(&self, name: &ReplicaName, incarnation: Incarnation) -> Exit {
        match self.kept.get(&key(name, incarnation)) {
            Some(keeping) => keeping.exited().await,
            None => failure("no such container".to_owned(), vec![]),
        }
    }

    async fn end(
        &self,
        name: &ReplicaName,
        incarnation: Incarnation,
        ending: Ending,
    ) -> Option<Ended> {
        let key = key(name, incarnation);
        let mut by_itself = false;
        if let Some(keeping) = self.kept.get(&key) {
            drop(keeping.making.lock().await);
            by_itself = keeping.has_ended();
        }
        let grace = match ending {
            Ending::Graceful(grace) => Some(grace),
            Ending::Now => None,
        };
        // The new holder of a lost cluster decides what runs.
        if self.hold.check().is_err() {
            return self.kept.remove(&key).map(|exit| Ended { exit, by_itself });
        }
        let stop = || self.engine.stop(&self.cluster, name.as_str(), incarnation.get(), grace);
        let end = insist(stop, |error, retry_in| {
            warn!(replica = %name, %incarnation, %error, ?retry_in, "A container cannot be removed");
        })
        .await;
        by_itself |= end.as_ref().is_some_and(|it| it.by_itself);
        let heard = self.kept.remove(&key);
        let exit = heard.or_else(|| end.map(exit_now))?;
        Some(Ended { exit, by_itself })
    }
}

impl Docker {
    /// The replica that the container runs; `None` if it runs none.
    fn recognise(&self, container: &Container, remembered: &[Remembered]) -> Option<Found> {
        let ip = container.address.filter(|_| container.running)?;
        let name = ReplicaName::parse(&container.name).ok()?;
        // As the client spelt it: `S4:5000` may name the port that it would have anyway.
        let spelt = remembered.iter().map(|it| &it.spec.host).find(|it| it.name == name).cloned();
        let port = Some(container.port).filter(|&port| port != self.config.load().port);
        let host = spelt.unwrap_or(Host { name, port: port.and_then(|port| port.try_into().ok()) });
        let incarnation = Incarnation::from(container.incarnation);
        let spec = Spec { host, number: container.number, incarnation };
        let outdated = self.order(&spec).hash() != container.spec_hash;
        let started = Started { addr: SocketAddr::new(ip, container.port), process: None };
        Some(Found { spec, started, outdated })
    }
}

fn key(name: &ReplicaName, incarnation: Incarnation) -> Key {
    (name.to_string(), incarnation.get())
}
