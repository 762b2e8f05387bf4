//! The engine on this machine, or wherever `DOCKER_HOST` says: the five verbs as calls of Docker's API.
//!
//! Invariants: every call has a deadline of its own, so an engine that hangs never holds a caller. Containers are found
//! by the labels of their cluster and changed by their id, never by their name: anybody can rename a container, or give
//! the name of a replica to another one.

mod address;
mod body;
mod claims;
mod ending;
mod fault;
mod labels;
mod network;
mod services;
mod survey;
mod wanted;
mod watch;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bollard::{
    Docker,
    models::{ContainerInspectResponse, ContainerSummary},
    query_parameters::{
        CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
    },
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep, timeout},
};

pub(crate) use self::services::{Service, Stage, Task};
use self::{
    address::Address,
    fault::{Fault, or_absent},
};
use super::{Claim, Claims, Container, End, Engine, EngineError, Happening, Order};

/// For one answer of the engine, which on a loaded machine takes seconds to start a container.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// For the first answer: what version it speaks needs no work.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// Longer than any call: the deadlines are ours.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Held while a network is created: the engine takes two of the same name, and then neither can be used.
static NETWORKS: Mutex<()> = Mutex::const_new(());

/// How long a removal that somebody else began may take, and how often it is looked at.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// A Docker engine that is spoken to directly.
pub(crate) struct Local {
    address: Address,
    /// Knows the version of the API that both sides speak; there once the engine has answered.
    docker: ArcSwapOption<Docker>,
}

impl Local {
    /// `socket` is a unix socket; without it, the environment or Docker's default counts.
    pub(crate) fn new(socket: Option<&Path>) -> Self {
        Self { address: Address::new(socket), docker: ArcSwapOption::empty() }
    }

    async fn docker(&self) -> Result<Arc<Docker>, Fault> {
        if let Some(docker) = self.docker.load_full() {
            return Ok(docker);
        }
        let docker = self.address.client().map_err(|error| Fault::new(&self.address, error))?;
        let docker = self.call_within(GREETING_TIMEOUT, docker.negotiate_version()).await?;
        let docker = Arc::new(docker);
        self.docker.store(Some(docker.clone()));
        Ok(docker)
    }

    /// Waits for an answer, but not for ever.
    async fn call<T>(
        &self,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Fault> {
        self.call_within(CALL_TIMEOUT, answer).await
    }

    async fn call_within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Fault> {
        let answer = match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| Fault::new(&self.address, error)),
            Err(_) => Err(Fault::silent(&self.address, limit)),
        };
        if matches!(answer, Err(Fault::Unreachable(_))) {
            // Another version may answer next time.
            self.docker.store(None);
        }
        answer
    }

    async fn look(
        &self,
        docker: &Docker,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, Fault> {
        or_absent(self.call(docker.inspect_container(id, None)).await)
    }

    /// The containers that match every filter, running or not.
    async fn list(
        &self,
        docker: &Docker,
        filters: impl IntoIterator<Item = (&str, Vec<String>)>,
    ) -> Result<Vec<ContainerSummary>, Fault> {
        let filters = filters.into_iter().map(|(key, values)| (key.to_owned(), values));
        let options = ListContainersOptions {
            all: true,
            filters: Some(filters.collect()),
            ..Default::default()
        };
        self.call(docker.list_containers(Some(options))).await
    }

    /// The containers of a replica, whatever they are called by now.
    async fn of_replica(
        &self,
        docker: &Docker,
        cluster: &str,
        name: &str,
    ) -> Result<Vec<Container>, Fault> {
        let listed = self.list(docker, [("label", labels::of_replica(cluster, name))]).await?;
        Ok(listed.iter().filter_map(|it| labels::of_listed(cluster, it)).collect())
    }

    /// The container that is called `name`, whoever made it. Asking for it directly would also find one whose id
    /// begins like that.
    async fn called(&self, docker: &Docker, name: &str) -> Result<Option<ContainerSummary>, Fault> {
        let pattern = format!("^/?{}$", name.replace('.', "\\."));
        let mut listed = self.list(docker, [("name", vec![pattern])]).await?;
        let is_called = |it: &ContainerSummary| {
            it.names.iter().flatten().any(|it| it.strip_prefix('/').unwrap_or(it) == name)
        };
        listed.retain(is_called);
        Ok(listed.pop())
    }

    /// Makes room for `order`. Answers the container if it is there already, as ordered.
    async fn make_room(
        &self,
        docker: &Docker,
        order: &Order,
    ) -> Result<Option<Container>, EngineError> {
        let mut as_ordered = None;
        for ours in self.of_replica(docker, &order.cluster, &order.name).await? {
            if ours.pool != order.pool {
                return Err(EngineError::Refused(format!(
                    "the name {} is held by a replica of pool {}: pools of one cluster need different names",
                    order.name, ours.pool
                )));
            }
            if ours.running && ours.incarnation > order.incarnation {
                return Err(EngineError::Refused(format!(
                    "{} runs as incarnation {}, later than {}: is another balancer keeping cluster {}?",
                    order.name, ours.incarnation, order.incarnation, order.cluster
                )));
            }
            let is_ordered =
                ours.incarnation == order.incarnation && ours.spec_hash == order.hash();
            if ours.running && is_ordered {
                as_ordered = Some(ours);
            } else {
                self.remove(docker, &ours.id).await?;
            }
        }
        if as_ordered.is_none()
            && let Some(holder) = self.called(docker, &order.name).await?
        {
            return Err(fault::foreign(&order.cluster, &order.name, &holder));
        }
        Ok(as_ordered)
    }

    /// Ends and removes the container; how it ended, and whether it had before.
    async fn end(
        &self,
        docker: &Docker,
        container: &Container,
        grace: Option<Duration>,
    ) -> Result<End, EngineError> {
        let id = &container.id;
        let mut by_itself = !container.running;
        match grace {
            Some(grace) => {
                // The engine counts whole seconds.
                let seconds = grace.as_millis().div_ceil(1_000);
                let options =
                    StopContainerOptions { t: i32::try_from(seconds).ok(), ..Default::default() };
                let stopped = docker.stop_container(id, Some(options));
                or_absent(self.call_within(grace + CALL_TIMEOUT, stopped).await)?;
            }
            None => match self.call(docker.kill_container(id, None)).await {
                // It has ended by itself, or never ran.
                Err(Fault::Answered { status: 409, .. }) => by_itself = true,
                killed => drop(or_absent(killed)?),
            },
        }
        // Once it is removed nobody knows.
        let end = self.end_of(docker, id, &HashMap::new()).await;
        self.remove(docker, id).await?;
        Ok(End { by_itself, ..end })
    }

    /// Kills and removes; returns when it is gone.
    async fn remove(&self, docker: &Docker, id: &str) -> Result<(), Fault> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match self.call(docker.remove_container(id, Some(options))).await {
            // Somebody else removes it at this moment.
            Err(Fault::Answered { status: 409, .. }) => self.until_gone(docker, id).await,
            answer => or_absent(answer).map(drop),
        }
    }

    async fn until_gone(&self, docker: &Docker, id: &str) -> Result<(), Fault> {
        let deadline = Instant::now() + REMOVAL_TIMEOUT;
        while self.look(docker, id).await?.is_some() {
            if Instant::now() >= deadline {
                return Err(Fault::Other(format!(
                    "container {id} is not gone {} s after its removal began",
                    REMOVAL_TIMEOUT.as_secs()
                )));
            }
            sleep(REMOVAL_PAUSE).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Claims for Local {
    async fn claim(
        &self,
        cluster: &str,
        claim: Option<&Claim>,
    ) -> Result<Option<Claim>, EngineError> {
        let docker = self.docker().await?;
        self.add_claim(&docker, cluster, claim).await
    }

    async fn release(&self, cluster: &str, session: &str) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        self.remove_unused_networks(&docker, cluster).await?;
        self.remove_claims(&docker, cluster, session).await
    }
}

#[async_trait]
impl Engine for Local {
    async fn ensure(&self, order: &Order) -> Result<Container, EngineError> {
        let docker = self.docker().await?;
        if let Some(container) = self.make_room(&docker, order).await? {
            return Ok(container);
        }
        self.ensure_network(&docker, &order.cluster, &order.network).await?;
        let options =
            CreateContainerOptions { name: Some(order.name.clone()), ..Default::default() };
        let created = docker.create_container(Some(options), body::of(order));
        let id = match self.call(created).await {
            Ok(created) => created.id,
            Err(Fault::Answered { status: 404, .. }) => return Err(fault::no_image(&order.image)),
            Err(fault) => return Err(fault.into()),
        };
        let begun = match self.call(docker.start_container(&id, None)).await {
            Ok(()) => self.look(&docker, &id).await,
            Err(fault) => Err(fault),
        };
        match begun {
            Ok(Some(it)) => labels::of_inspected(&order.cluster, &it)
                .ok_or_else(|| EngineError::Failed(format!("container {id} has lost its labels"))),
            Ok(None) => Err(EngineError::Failed(format!("{} was removed as it began", order.name))),
            Err(fault) => {
                // Half made, it would hold the name. If it cannot be removed, whoever asked will end it.
                let _ = self.remove(&docker, &id).await;
                Err(fault.into())
            }
        }
    }

    async fn stop(
        &self,
        cluster: &str,
        name: &str,
        incarnation: u64,
        grace: Option<Duration>,
    ) -> Result<Option<End>, EngineError> {
        let docker = self.docker().await?;
        let mut end = None;
        for ours in self.of_replica(&docker, cluster, name).await? {
            if ours.incarnation == incarnation {
                end = Some(self.end(&docker, &ours, grace).await?);
            }
        }
        Ok(end)
    }

    async fn inspect(&self, cluster: &str) -> Result<Vec<Container>, EngineError> {
        let docker = self.docker().await?;
        let listed = self.list(&docker, [("label", vec![labels::filter(cluster)])]).await?;
        Ok(listed.iter().filter_map(|it| labels::of_listed(cluster, it)).collect())
    }

    async fn logs(
        &self,
        cluster: &str,
        name: &str,
        lines: usize,
    ) -> Result<Vec<String>, EngineError> {
        let docker = self.docker().await?;
        let ours = self.of_replica(&docker, cluster, name).await?;
        match ours.iter().max_by_key(|it| it.incarnation) {
            Some(latest) => Ok(self.tail(&docker, &latest.id, lines).await?),
            None => Ok(Vec::new()),
        }
    }

    async fn events(&self, cluster: &str, happenings: mpsc::Sender<Happening>) {
        tokio::select! {
            () = happenings.closed() => {}
            () = self.keep_watching(cluster, &happenings) => {}
        }
    }
}
