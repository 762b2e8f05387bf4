//! The holds of one balancer: its pools may order containers of several engines.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::{Hold, HoldError, Origin, lock};
use crate::{
    config::{Config, DockerConfig, ProviderConfig},
    engine::connect,
};

/// How long a start waits for an engine that does not answer; replicas can be looked for later.
const CONTACT_PATIENCE: Duration = Duration::from_secs(2);

/// The holds of a balancer, one for each engine that it orders containers of.
pub(crate) struct Holds {
    cluster: String,
    origin: Origin,
    holds: Mutex<HashMap<EngineKey, (DockerConfig, Arc<Hold>)>>,
    has_left: AtomicBool,
}

/// What tells one engine from another: its own socket, and that of its spawner.
type EngineKey = (Option<PathBuf>, Option<PathBuf>);

impl Holds {
    pub(crate) fn new(cluster: &str, origin: Origin) -> Self {
        let cluster = cluster.to_owned();
        Self { cluster, origin, holds: Mutex::default(), has_left: AtomicBool::new(false) }
    }

    /// The hold on the engine of `config`.
    pub(crate) fn of(&self, config: &DockerConfig) -> Arc<Hold> {
        let key = (config.socket.clone(), config.spawner.clone());
        let mut holds = lock(&self.holds);
        let fresh = || {
            let hold = Hold::new(&self.cluster, self.origin.clone());
            (config.clone(), Arc::new(hold))
        };
        holds.entry(key).or_insert_with(fresh).1.clone()
    }

    /// Takes the cluster on the engine of every pool that runs containers, or says who has it. One that does not
    /// answer is left for later.
    pub(crate) async fn acquire(&self, config: &Config) -> Result<(), HoldError> {
        for pool in config.pools.values() {
            let ProviderConfig::Docker(docker) = &pool.provider else { continue };
            let (hold, engine) = (self.of(docker), connect(docker));
            let answers = timeout(CONTACT_PATIENCE, engine.claim(&self.cluster, None)).await;
            if !matches!(answers, Ok(Ok(_))) {
                continue;
            }
            match hold.acquire(&*engine).await {
                Err(held @ HoldError::Held(_)) => return Err(held),
                // It is told of when replicas are looked for.
                Ok(()) | Err(HoldError::Engine(_)) => {}
            }
        }
        Ok(())
    }

    /// Has all claims renewed at once.
    pub(crate) fn renew(&self) {
        self.all().iter().for_each(|(_, hold)| hold.is_due.notify_one());
    }

    /// Leaves all of them to the process that has taken over.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
        self.all().iter().for_each(|(_, hold)| hold.leave());
    }

    /// Lets go of all of them, once no container is left, unless they were left to another process.
    pub(crate) async fn release(&self) {
        if self.has_left.load(Ordering::Acquire) {
            return;
        }
        for (config, hold) in self.all() {
            hold.release(&*connect(&config)).await;
        }
    }

    fn all(&self) -> Vec<(DockerConfig, Arc<Hold>)> {
        lock(&self.holds).values().cloned().collect()
    }
}
