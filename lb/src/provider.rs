//! Who runs the replicas: the [`Provider`] trait and its implementations.
//!
//! A provider acts and reports; it decides nothing. When to start, stop or give up is the fleet's to say.

mod docker;
mod fixed;
mod order;
mod process;
mod swarm;

use std::{
    collections::BTreeMap,
    future,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use ringmaster_fleet::{Exit, Host, Incarnation, ReplicaName};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

pub(crate) use self::{docker::Docker, fixed::Fixed, process::Process, swarm::Swarm};
use crate::{
    config::{ProviderConfig, ServerId},
    engine::EngineError,
};

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) host: Host,
    pub(crate) number: u32,
    pub(crate) incarnation: Incarnation,
}

impl Spec {
    /// What the replica is to call itself in its answers.
    fn server_id(&self, is: ServerId) -> String {
        match is {
            ServerId::Number => self.number.to_string(),
            ServerId::Name => self.host.name.to_string(),
        }
    }
}

/// What was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// Where it listens, or will soon: only its heartbeat says that it serves.
    pub(crate) addr: SocketAddr,
    /// Its process, if it is one on this machine.
    pub(crate) process: Option<ProcessId>,
}

/// One process and no other: ids are given again, but not in the same tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// In ticks since the machine was booted.
    pub(crate) started: u64,
}

/// A replica as an earlier balancer wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) spec: Spec,
    /// `None` while it did not run.
    pub(crate) started: Option<Started>,
}

/// A replica of an earlier balancer that still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) spec: Spec,
    pub(crate) started: Started,
    /// Whether it was started with settings that are no longer the configured ones: it is to be replaced.
    pub(crate) outdated: bool,
}

/// How a replica is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// Asked first, killed after this long.
    Graceful(Duration),
    /// Killed.
    Now,
}

/// How a replica has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// Whether it had ended before the provider was asked to end it.
    pub(crate) by_itself: bool,
}

/// The wanted set of replicas that several balancers keep together, as they have agreed on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Grows with every change; 0 while there was never one.
    pub(crate) version: u64,
    /// Number → which replica.
    pub(crate) replicas: BTreeMap<u32, Host>,
}

/// Why a proposed wanted set was not agreed on.
#[derive(Debug)]
pub(crate) enum AgreeError {
    /// Others have changed it meanwhile, to this.
    Overtaken(Wanted),
    /// Nobody could be asked.
    Failed(String),
}

/// Runs replicas.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Its name in the configuration.
    fn kind(&self) -> &'static str;

    /// The only names it can run; `None` if it can run any.
    fn names(&self) -> Option<Vec<ReplicaName>> {
        None
    }

    /// Whether a replica can have this name beside `others`; else the rule that it breaks, in one line.
    fn check_name(&self, _: &ReplicaName, _others: &[ReplicaName]) -> Result<(), String> {
        Ok(())
    }

    /// Starts replicas in another way from now on; those that run go on. `config` is of the same kind and speaks of
    /// the same engine.
    fn reconfigure(&self, config: &ProviderConfig);

    /// Why replicas can be neither started nor ended at present, if they cannot.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// The balancer that has taken the replicas over, if one has: nothing is started or ended here any more.
    fn lost(&self) -> Option<String> {
        None
    }

    /// The replicas that an earlier balancer started and that still run; [`Self::exited`] and [`Self::end`] know
    /// them from then on. `remembered` is what it wrote down: a provider that can ask an engine asks that instead.
    async fn find(&self, remembered: &[Remembered]) -> anyhow::Result<Vec<Found>>;

    /// Starts a replica. Whoever drops the future calls [`Self::end`].
    async fn spawn(&self, spec: &Spec) -> Result<Started, Exit>;

    /// Resolves when the replica has ended, with the reason; never for one that it cannot watch.
    async fn exited(&self, name: &ReplicaName, incarnation: Incarnation) -> Exit;

    /// Ends a replica and returns when nothing of it is left: how it ended, if that is known. It may have ended before
    /// it was asked to; ending what is gone already is success.
    async fn end(
        &self,
        name: &ReplicaName,
        incarnation: Incarnation,
        ending: Ending,
    ) -> Option<Ended>;

    /// Removes what outlives the incarnations of a replica, and returns when nothing of it is left. The last one has
    /// ended, and the replica is no longer wanted.
    async fn remove(&self, _: &ReplicaName) {}

    /// Whether other balancers keep the same replicas. Then the wanted set is what they have agreed on, and the end
    /// of a balancer ends no replica.
    fn is_shared(&self) -> bool {
        false
    }

    /// The wanted set that was agreed on, once it is a later one than `known`.
    async fn agreed(&self, _: Option<u64>) -> Wanted {
        future::pending().await
    }

    /// Makes `replicas` the wanted set in place of that of version `base`.
    async fn agree(&self, _: u64, _: BTreeMap<u32, Host>) -> Result<Wanted, AgreeError> {
        Err(AgreeError::Failed(format!("provider {} shares no replicas", self.kind())))
    }
}

/// The waits before an engine that failed is asked again: they double from the first to the second.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Asks again, with pauses, until it succeeds.
async fn insist<T, F: Future<Output = Result<T, EngineError>>>(
    ask: impl Fn() -> F,
    complain: impl Fn(&EngineError, Duration),
) -> T {
    let mut pause = RETRY_MIN;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => complain(&error, pause),
        }
        sleep(pause).await;
        pause = RETRY_MAX.min(pause * 2);
    }
}

/// An exit without a code, seen now.
fn failure(reason: String, log: Vec<String>) -> Exit {
    Exit { code: None, reason, log, at: SystemTime::now() }
}
