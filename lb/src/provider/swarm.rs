//! Replicas as services of a Swarm, which several balancers on its managers keep together.
//!
//! ```text
//! wanted set   one object in the Swarm, written by comparison: of two changes at once one comes first, and the
//!              other is made to what it left
//! services     one for each wanted replica: whoever comes first creates it or has its task replaced, and the
//!              others find that done
//! ```
//!
//! Nobody is elected and nothing is locked. An incarnation is a task as this balancer met it: when the Swarm replaces
//! a task, or another balancer has it replaced, that is the end of one incarnation, and the next one takes over the
//! new task. So the end of an incarnation ends nothing in the Swarm; only [`Provider::remove`] does.

mod met;
mod watch;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use ringmaster_fleet::{Exit, Host, Incarnation, ReplicaName};
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::{
    met::Met,
    watch::{POLL, Picture, Watch},
};
use super::{
    AgreeError, Ended, Ending, Found, Provider, Remembered, Spec, Started, Wanted, failure, insist,
    order,
};
use crate::{
    config::{DockerConfig, ProviderConfig, names},
    engine::{EngineError, Local, Order, Service, Stage, Task},
};

/// How long a replica that is no longer wanted is left running: by then every balancer has heard of it, and sends
/// no more requests to it.
const NOTICE: Duration = Duration::from_millis(2 * POLL.as_millis() as u64);

/// How long the last task of a removed service may take beyond its grace, and how often it is looked at.
const END_TIMEOUT: Duration = Duration::from_secs(20);
const END_PAUSE: Duration = Duration::from_millis(100);

/// Orders services of a Swarm.
pub(crate) struct Swarm {
    engine: Arc<Local>,
    cluster: String,
    pool: String,
    config: DockerConfig,
    /// From SIGTERM to SIGKILL.
    grace: Duration,
    watch: Watch,
    met: Met,
}

impl Swarm {
    /// `drain` is how long requests may take to leave a replica that is no longer wanted.
    pub(crate) fn new(
        cluster: &str,
        pool: &str,
        config: DockerConfig,
        grace: Duration,
        drain: Duration,
    ) -> Self {
        let engine = Arc::new(Local::new(config.socket.as_deref()));
        Self {
            watch: Watch::new(engine.clone(), cluster, pool, &config.network, drain),
            engine,
            cluster: cluster.to_owned(),
            pool: pool.to_owned(),
            config,
            grace,
            met: Met::default(),
        }
    }

    /// What stands between the replica and its start, if anything does, is set going; `None` until it has started.
    /// `failed` are tasks that had ended before.
    async fn advance(
        &self,
        spec: &Spec,
        picture: &Picture,
        failed: &mut Option<Vec<String>>,
    ) -> Result<Option<Started>, Exit> {
        let name = &spec.host.name;
        let service = picture.service(name);
        let ended = service.into_iter().flat_map(|it| &it.tasks);
        let mut ended = ended.filter(|it| matches!(it.stage, Stage::Ended { .. }));
        let before = failed.get_or_insert_with(|| ended.clone().map(|it| it.id.clone()).collect());
        let Some(service) = service else {
            // Where it is not wanted either, others have removed it, or the picture is older than the wish.
            if picture.wants(name) {
                self.create(&self.order(spec)).await?;
            }
            return Ok(None);
        };
        if let Some((task, started)) = self.met.startable(name, service) {
            self.met.meet(name, spec.incarnation, &task.id);
            return Ok(Some(started));
        }
        // That one which was given up ends is as it should be.
        let has_failed = |it: &&Task| !before.contains(&it.id) && !self.met.gave_up(name, it);
        if let Some(task) = ended.find(has_failed) {
            return Err(self.exit_of(task).await);
        }
        if self.met.is_stuck(name, service) {
            self.replace(spec, service).await?;
        }
        Ok(None)
    }

    async fn create(&self, order: &Order) -> Result<(), Exit> {
        let created = self.engine.create_service(order, self.grace).await;
        self.watch.hurry();
        created.map(drop).map_err(refusal)
    }

    /// Asks for another task; from our own settings only if the present ones were found to be outdated. A balancer
    /// with settings of another time would otherwise undo what a later one has begun.
    async fn replace(&self, spec: &Spec, service: &Service) -> Result<(), Exit> {
        let order = self.order(spec);
        let is_outdated =
            self.met.is_outdated(&spec.host.name) && service.spec_hash != order.hash();
        let order = is_outdated.then_some((&order, self.grace));
        let incarnation = spec.incarnation.get().max(service.incarnation + 1);
        let replaced = self.engine.replace_task(service, incarnation, order).await;
        self.watch.hurry();
        replaced.map(drop).map_err(refusal)
    }

    fn order(&self, spec: &Spec) -> Order {
        order::of(&self.cluster, &self.pool, &self.config, spec)
    }

    async fn exit_of(&self, task: &Task) -> Exit {
        let end = self.engine.end_of_task(task).await;
        Exit { code: end.code, ..failure(end.reason, end.log) }
    }

    /// Removes the service unless the replica is wanted again. Answers its id if there was one.
    async fn remove_unwanted(&self, name: &ReplicaName) -> Result<Option<String>, EngineError> {
        let picture = self.watch.look().await?;
        let Some(service) = picture.service(name).filter(|_| !picture.wants(name)) else {
            return Ok(None);
        };
        self.engine.remove_service(&service.id).await?;
        Ok(Some(service.id.clone()))
    }

    async fn until_ended(&self, service: &str) {
        let deadline = Instant::now() + self.grace + END_TIMEOUT;
        // A machine that was lost does not report: what it ran is not waited for without end.
        while Instant::now() < deadline {
            if let Ok(false) = self.engine.has_tasks(&self.cluster, service).await {
                return;
            }
            sleep(END_PAUSE).await;
        }
        warn!(service, "Its task has not ended: was its machine lost?");
    }
}

#[async_trait]
impl Provider for Swarm {
    fn kind(&self) -> &'static str {
        "swarm"
    }

    fn check_name(&self, name: &ReplicaName, others: &[ReplicaName]) -> Result<(), String> {
        names::service(name, others)
    }

    /// What services are made from is one for all balancers, and read at the start only.
    fn reconfigure(&self, _: &ProviderConfig) {}

    fn trouble(&self) -> Option<String> {
        self.watch.trouble()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn agreed(&self, known: Option<u64>) -> Wanted {
        let is_later = |it: &Picture| known.is_none_or(|known| it.wanted.version > known);
        self.watch.until(|it| is_later(it).then(|| it.wanted.clone())).await
    }

    async fn agree(&self, base: u64, replicas: BTreeMap<u32, Host>) -> Result<Wanted, AgreeError> {
        let failed = |error: EngineError| AgreeError::Failed(error.to_string());
        let texts = replicas.iter().map(|(number, host)| (*number, host.to_string())).collect();
        let written = self.engine.write_wanted(&self.cluster, &self.pool, base, &texts).await;
        let written = written.map_err(failed)?;
        self.watch.hurry();
        let now = self.watch.wanted().await.map_err(failed)?;
        match written {
            true => Ok(now),
            false => Err(AgreeError::Overtaken(now)),
        }
    }

    async fn find(&self, _: &[Remembered]) -> anyhow::Result<Vec<Found>> {
        let picture = self.watch.look().await?;
        let mut found = Vec::new();
        for (number, host) in &picture.wanted.replicas {
            let Some(service) = picture.service(&host.name) else { continue };
            let Some((task, started)) = self.met.startable(&host.name, service) else { continue };
            let incarnation = Incarnation::from(service.incarnation);
            let spec = Spec { host: host.clone(), number: *number, incarnation };
            let outdated = self.order(&spec).hash() != service.spec_hash;
            self.met.meet(&host.name, incarnation, &task.id);
            self.met.note_outdated(&host.name, outdated);
            found.push(Found { spec, started, outdated });
        }
        Ok(found)
    }

    async fn spawn(&self, spec: &Spec) -> Result<Started, Exit> {
        let mut pictures = self.watch.pictures();
        let mut failed = None;
        loop {
            let picture = pictures.next().await;
            if let Some(started) = self.advance(spec, &picture, &mut failed).await? {
                return Ok(started);
            }
        }
    }

    async fn exited(&self, name: &ReplicaName, incarnation: Incarnation) -> Exit {
        let Some(met) = self.met.task(name, incarnation) else {
            return failure("no such task".to_owned(), vec![]);
        };
        let ended = |picture: &Picture| match picture.service(name) {
            Some(service) => match service.tasks.iter().find(|it| it.id == met) {
                Some(task) if task.wanted && task.stage == Stage::Running => None,
                task => Some(task.cloned()),
            },
            // One that others have removed is not replaced, and has not failed.
            None => picture.wants(name).then_some(None),
        };
        match self.watch.until(ended).await {
            Some(task) => self.exit_of(&task).await,
            None => failure("removed from the Swarm".to_owned(), vec![]),
        }
    }

    /// How the task ended is told by [`Provider::exited`], or not known: it is the Swarm that ends it.
    async fn end(&self, name: &ReplicaName, incarnation: Incarnation, _: Ending) -> Option<Ended> {
        self.met.give_up(name, incarnation);
        None
    }

    async fn remove(&self, name: &ReplicaName) {
        self.met.forget(name);
        sleep(NOTICE).await;
        let removed = insist(
            || self.remove_unwanted(name),
            |error, retry_in| {
                warn!(replica = %name, %error, ?retry_in, "A service cannot be removed");
            },
        );
        if let Some(service) = removed.await {
            self.until_ended(&service).await;
        }
    }
}

fn refusal(error: EngineError) -> Exit {
    failure(error.to_string(), vec![])
}

/// Where the task listens.
fn started(service: &Service, task: &Task) -> Option<Started> {
    let ip = task.address?;
    Some(Started { addr: SocketAddr::new(ip, service.port), process: None })
}
