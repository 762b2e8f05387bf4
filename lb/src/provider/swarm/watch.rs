//! Looks at the Swarm again and again, as it does not tell what happens to tasks on other machines.
//!
//! While the engine cannot be reached the last picture stands: nothing is concluded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use ringmaster_fleet::{Host, ReplicaName};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    engine::{EngineError, Local, Service},
    provider::Wanted,
};

/// Between two looks.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// The longest wait before an engine that failed is asked again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How much longer than its requests may take to leave it a replica that is not wanted is let alone, as whoever
/// removed it from the wanted set removes its service, too, unless it has crashed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);

/// The pool in the Swarm at one moment.
pub(super) struct Picture {
    services: Vec<Service>,
    pub(super) wanted: Wanted,
}

impl Picture {
    pub(super) fn service(&self, name: &ReplicaName) -> Option<&Service> {
        self.services.iter().find(|it| it.name == name.as_str())
    }

    pub(super) fn wants(&self, name: &ReplicaName) -> bool {
        self.wanted.replicas.values().any(|host| host.name == *name)
    }
}

/// Keeps the latest picture.
pub(super) struct Watch {
    eye: Arc<Eye>,
    begun: Once,
}

struct Eye {
    engine: Arc<Local>,
    cluster: String,
    pool: String,
    network: String,
    /// How long an unwanted service is let alone.
    patience: Duration,
    /// `None` before the first.
    pictures: watch::Sender<Option<Arc<Picture>>>,
    hurried: Notify,
    trouble: Mutex<Option<EngineError>>,
}

/// The latest picture, and then each that is newer.
pub(super) struct Pictures(watch::Receiver<Option<Arc<Picture>>>);

impl Pictures {
    pub(super) async fn next(&mut self) -> Arc<Picture> {
        loop {
            // Fails only when nobody looks any more, which is at the end of the process.
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(picture) = &*self.0.borrow_and_update() {
                return picture.clone();
            }
        }
    }
}

impl Watch {
    pub(super) fn new(
        engine: Arc<Local>,
        cluster: &str,
        pool: &str,
        network: &str,
        drain: Duration,
    ) -> Self {
        let eye = Eye {
            engine,
            cluster: cluster.to_owned(),
            pool: pool.to_owned(),
            network: network.to_owned(),
            patience: drain + ORPHAN_PATIENCE,
            pictures: watch::Sender::new(None),
            hurried: Notify::new(),
            trouble: Mutex::default(),
        };
        Self { eye: Arc::new(eye), begun: Once::new() }
    }

    /// Why the Swarm is not seen, if it is not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.eye.trouble().as_ref().map(ToString::to_string)
    }

    /// What was begun shows in the next picture, which shall come at once.
    pub(super) fn hurry(&self) {
        self.eye.hurried.notify_one();
    }

    pub(super) fn pictures(&self) -> Pictures {
        self.begun.call_once(|| {
            let eye = self.eye.clone();
            tokio::spawn(async move { eye.keep_looking().await });
        });
        let mut pictures = self.eye.pictures.subscribe();
        // The latest is new to whoever subscribes.
        pictures.mark_changed();
        Pictures(pictures)
    }

    /// Waits until a picture answers `question`.
    pub(super) async fn until<T>(&self, question: impl Fn(&Picture) -> Option<T>) -> T {
        let mut pictures = self.pictures();
        loop {
            if let Some(answer) = question(&*pictures.next().await) {
                return answer;
            }
        }
    }

    /// The pool as it is now.
    pub(super) async fn look(&self) -> Result<Picture, EngineError> {
        self.eye.look().await
    }

    /// The wanted set as it is now.
    pub(super) async fn wanted(&self) -> Result<Wanted, EngineError> {
        self.eye.wanted().await
    }
}

impl Eye {
    async fn keep_looking(&self) {
        let mut pause = POLL;
        let mut unwanted = HashMap::new();
        loop {
            match self.look().await {
                Ok(picture) => {
                    if self.trouble().take().is_some() {
                        info!(pool = self.pool, "The Swarm is seen again");
                    }
                    pause = POLL;
                    self.sweep(&picture, &mut unwanted).await;
                    self.pictures.send_replace(Some(Arc::new(picture)));
                }
                Err(error) => {
                    pause = RETRY_MAX.min(pause * 2);
                    warn!(pool = self.pool, %error, retry_in = ?pause, "The Swarm is not seen");
                    *self.trouble() = Some(error);
                }
            }
            // Over either way: in time, or since somebody is in a hurry.
            let _ = timeout(pause, self.hurried.notified()).await;
        }
    }

    async fn look(&self) -> Result<Picture, EngineError> {
        // In this order: what was created for a set is not looked for in the set before.
        let services = self.engine.services(&self.cluster, &self.pool, &self.network).await?;
        Ok(Picture { services, wanted: self.wanted().await? })
    }

    async fn wanted(&self) -> Result<Wanted, EngineError> {
        let written = self.engine.wanted(&self.cluster, &self.pool).await?;
        let mut replicas = BTreeMap::new();
        for (number, text) in written.replicas {
            let host: Host = text.parse().map_err(|error| {
                EngineError::Failed(format!("the wanted set of pool {}: {error}", self.pool))
            })?;
            replicas.insert(number, host);
        }
        Ok(Wanted { version: written.version, replicas })
    }

    /// Removes services that nobody wants and whose remover has not come back for them.
    async fn sweep(&self, picture: &Picture, unwanted: &mut HashMap<String, Instant>) {
        // Without a wanted set there is nothing to compare with.
        let is_wanted = |name: &str| {
            picture.wanted.version == 0
                || picture.wanted.replicas.values().any(|host| host.name.as_str() == name)
        };
        let orphans: Vec<_> = picture.services.iter().filter(|it| !is_wanted(&it.name)).collect();
        unwanted.retain(|id, _| orphans.iter().any(|it| it.id == *id));
        for orphan in orphans {
            let since = *unwanted.entry(orphan.id.clone()).or_insert_with(Instant::now);
            if since.elapsed() < self.patience {
                continue;
            }
            info!(pool = self.pool, service = orphan.name, "Removing an orphan");
            if let Err(error) = self.engine.remove_service(&orphan.id).await {
                warn!(pool = self.pool, service = orphan.name, %error, "An orphan cannot be removed");
            }
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Option<EngineError>> {
        // What it guards is whole between any two calls, so a panic elsewhere leaves nothing half done.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
