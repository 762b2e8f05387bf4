//! What the balancer says about its replicas.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Connection;

/// How often the balancer is asked; no time here is more exact than this.
const POLL: Duration = Duration::from_millis(5);

/// The admin listener's view of one pool.
pub(crate) struct Admin {
    connection: Connection,
    path: String,
}

/// One replica; the fields that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Replica {
    pub(crate) name: String,
    phase: String,
    /// Grows with every start.
    pub(crate) incarnation: u64,
    /// Absent before it has one.
    #[serde(default)]
    pub(crate) address: Option<SocketAddr>,
    /// Absent unless the replica is a process.
    #[serde(default)]
    pub(crate) pid: Option<i32>,
}

impl Replica {
    pub(crate) fn serves(&self) -> bool {
        self.phase == "serving"
    }
}

impl Admin {
    pub(crate) fn new(connection: Connection, pool: &str) -> Self {
        Self { connection, path: format!("/api/v1/pools/{pool}/replicas") }
    }

    /// Waits until every replica serves: before, keys are not where they belong.
    pub(crate) async fn until_all_serve(&mut self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut polls = polls();
        loop {
            let replicas = self.replicas().await?;
            if !replicas.is_empty() && replicas.iter().all(Replica::serves) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let waiting: Vec<_> = replicas.iter().filter(|replica| !replica.serves()).collect();
                bail!("not all replicas serve after {} s: {waiting:?}", limit.as_secs());
            }
            polls.tick().await;
        }
    }

    /// The replicas that serve, at least one, in the balancer's order.
    pub(crate) async fn serving(&mut self) -> anyhow::Result<Vec<Replica>> {
        let mut replicas = self.replicas().await?;
        replicas.retain(Replica::serves);
        ensure!(!replicas.is_empty(), "no replica serves");
        Ok(replicas)
    }

    /// All of them, in the balancer's order.
    pub(crate) async fn replicas(&mut self) -> anyhow::Result<Vec<Replica>> {
        #[derive(Deserialize)]
        struct Replicas {
            replicas: Vec<Replica>,
        }
        let ask = || format!("asking the balancer for {}", self.path);
        let body = self.connection.get(&self.path).await.with_context(ask)?;
        let Replicas { replicas } = serde_json::from_slice(&body).with_context(ask)?;
        Ok(replicas)
    }
}

/// When the balancer is asked while something is waited for.
pub(crate) fn polls() -> tokio::time::Interval {
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls
}
