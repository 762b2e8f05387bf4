//! A container engine in seven verbs: all that replicas and their keeper need of it, and all that a compromised proxy
//! could ask.
//!
//! Two implementations: one speaks to the engine itself, one to a `ringmaster spawner` that does, over a unix socket,
//! and that lets nothing through but this.

#[cfg(any(fuzzing, test))]
mod fuzz;
mod hold;
mod local;
mod remote;
mod spawner;
mod wire;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

#[cfg(any(fuzzing, test))]
pub(crate) use self::fuzz::fuzz_spawner;
use self::remote::Remote;
pub(crate) use self::{
    hold::{Hold, Holds, Origin},
    local::{Local, Service, Stage, Task},
    spawner::{Policy, Socket, Spawner},
};
use crate::config::DockerConfig;

/// The engine that a pool's containers are ordered of.
pub(crate) fn connect(config: &DockerConfig) -> Arc<dyn Engine> {
    match &config.spawner {
        None => Arc::new(Local::new(config.socket.as_deref())),
        Some(path) => Arc::new(Remote::new(path)),
    }
}

/// What a container is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// Which set of replicas it belongs to; containers of other clusters are not touched.
    pub(crate) cluster: String,
    pub(crate) pool: String,
    /// Container name, host name and network alias.
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) incarnation: u64,
    pub(crate) image: String,
    /// In place of the image's own; empty to keep it.
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// The user network, created if missing.
    pub(crate) network: String,
    /// The port that the replica listens on.
    pub(crate) port: u16,
    pub(crate) limits: ContainerLimits,
    pub(crate) read_only: bool,
}

impl Order {
    /// Differs where the settings do that a container is made from; an incarnation is none of them.
    pub(crate) fn hash(&self) -> String {
        let Self { image, command, environment, network, port, limits, read_only, .. } = self;
        let spec = (image, command, environment, network, port, limits, read_only);
        let text = serde_json::to_string(&spec).expect("texts and numbers can be written as JSON");
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }
}

/// What a container may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerLimits {
    pub(crate) memory_bytes: u64,
    /// Thousandths of a core.
    pub(crate) cpu_millis: u64,
    pub(crate) pids: u64,
}

/// A container of ours, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    /// The engine's, which no other container ever has.
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) incarnation: u64,
    /// [`Order::hash`] of what it was made from.
    pub(crate) spec_hash: String,
    pub(crate) running: bool,
    /// On the network of its order.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

/// Something happened to a container of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Happening {
    /// The one with this id ended; how, and what it said last.
    Ended { name: String, incarnation: u64, id: String, end: End },
    /// The stream of events was interrupted, for this reason, and is not heard.
    Lost(EngineError),
    /// The stream is heard, for the first time or again: before, anything may have happened.
    Gap,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    /// In words: `exit 1`, `killed by signal 9`, `out of memory (limit 64 MiB)`.
    pub(crate) reason: String,
    /// The last lines of its log.
    pub(crate) log: Vec<String>,
    /// In the answer to [`Engine::stop`]: whether it had ended before. A spawner of an earlier version does not say.
    #[serde(default)]
    pub(crate) by_itself: bool,
}

/// Why the engine did not do what it was asked: one line with the cause and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum EngineError {
    /// Nobody answers: the engine or the spawner is down, or may not be spoken to.
    #[error("{0}")]
    Unreachable(String),
    /// The engine or the spawner refuses; asking again will not help until somebody mends the cause.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A balancer's claim to the containers of a cluster. Of several the one of the highest generation counts: only its
/// holder starts or ends containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) generation: u64,
    pub(crate) holder: Holder,
}

/// The balancer that claims a cluster: enough for another one to tell whether it still runs, and for people to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holder {
    /// One life of a balancer, over its upgrades.
    pub(crate) session: String,
    pub(crate) pid: u32,
    /// The start of the process, in ticks since the machine was booted.
    pub(crate) started: u64,
    /// The boot id of the machine's kernel.
    pub(crate) boot: String,
    /// The namespace that `pid` belongs to.
    pub(crate) pid_namespace: String,
    /// The container that the process runs in, if it does.
    pub(crate) container: Option<String>,
    pub(crate) host: String,
    /// The address of its admin listener.
    pub(crate) admin: String,
    /// When it began to hold the cluster, for people.
    pub(crate) since: String,
}

/// The two verbs by which balancers agree who keeps a cluster. Both are idempotent.
#[async_trait]
pub(crate) trait Claims: Send + Sync {
    /// Adds `claim` unless another has its generation; answers the claim that counts then.
    async fn claim(
        &self,
        cluster: &str,
        claim: Option<&Claim>,
    ) -> Result<Option<Claim>, EngineError>;

    /// Removes the claims of `session`, and the networks that were created for the cluster and have no container.
    async fn release(&self, cluster: &str, session: &str) -> Result<(), EngineError>;
}

/// The five verbs of a replica's life, on top of those of [`Claims`]. All are idempotent.
#[async_trait]
pub(crate) trait Engine: Claims {
    /// Makes the network and the container of `order` exist and run. An older incarnation of the same name and
    /// cluster is removed first; a container without our labels is never touched.
    async fn ensure(&self, order: &Order) -> Result<Container, EngineError>;

    /// Ends and removes a container of ours: asked first if there is a `grace`, else killed. What is not there is
    /// success, without an [`End`] to tell of.
    async fn stop(
        &self,
        cluster: &str,
        name: &str,
        incarnation: u64,
        grace: Option<Duration>,
    ) -> Result<Option<End>, EngineError>;

    /// All containers of the cluster.
    async fn inspect(&self, cluster: &str) -> Result<Vec<Container>, EngineError>;

    /// The last lines of a container of ours.
    async fn logs(
        &self,
        cluster: &str,
        name: &str,
        lines: usize,
    ) -> Result<Vec<String>, EngineError>;

    /// Reports what happens to containers of the cluster until the receiver is gone. Connects again by itself: each
    /// failure is a [`Happening::Lost`], each connection begins with a [`Happening::Gap`].
    async fn events(&self, cluster: &str, happenings: mpsc::Sender<Happening>);
}
