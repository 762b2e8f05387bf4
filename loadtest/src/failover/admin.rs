//! What the balancer says about its replicas.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::kill::Gap;
use crate::client::Connection;

/// How often the balancer is asked; no time here is more exact than this.
const POLL: Duration = Duration::from_millis(5);

/// The admin listener's view of one pool.
pub(super) struct Admin {
    connection: Connection,
    path: String,
}

/// One replica; the fields that matter here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Replica {
    pub(super) name: String,
    phase: String,
    /// Grows with every start.
    incarnation: u64,
    /// Absent unless the replica is a process.
    #[serde(default)]
    pub(super) pid: Option<i32>,
}

impl Replica {
    fn serves(&self) -> bool {
        self.phase == "serving"
    }
}

impl Admin {
    pub(super) fn new(connection: Connection, pool: &str) -> Self {
        Self { connection, path: format!("/api/v1/pools/{pool}/replicas") }
    }

    /// Waits until every replica serves: before, keys are not where they belong.
    pub(super) async fn until_all_serve(&mut self, limit: Duration) -> anyhow::Result<()> {
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
    pub(super) async fn serving(&mut self) -> anyhow::Result<Vec<Replica>> {
        let mut replicas = self.replicas().await?;
        replicas.retain(Replica::serves);
        ensure!(!replicas.is_empty(), "no replica serves: there is nothing to kill");
        Ok(replicas)
    }

    /// Watches `killed`, which was killed just before, until it serves again or `limit` is over.
    pub(super) async fn watch_recovery(
        &mut self,
        killed: &Replica,
        limit: Duration,
    ) -> anyhow::Result<Gap> {
        let start = Instant::now();
        let mut polls = polls();
        let mut gap = Gap::default();
        while start.elapsed() < limit {
            let replicas = self.replicas().await?;
            let now_us = u64::try_from(start.elapsed().as_micros()).expect("limits are in seconds");
            let replica = replicas.iter().find(|replica| replica.name == killed.name);
            let serving =
                replica.filter(|replica| replica.serves()).map(|replica| replica.incarnation);
            if serving != Some(killed.incarnation) {
                gap.detected_us.get_or_insert(now_us);
            }
            if serving.is_some_and(|incarnation| incarnation > killed.incarnation) {
                gap.recovered_us = Some(now_us);
                break;
            }
            polls.tick().await;
        }
        Ok(gap)
    }

    async fn replicas(&mut self) -> anyhow::Result<Vec<Replica>> {
        #[derive(Deserialize)]
        struct Replicas {
            replicas: Vec<Replica>,
        }
        let ask = || format!("asking the balancer for {}", self.path);
        let body = self.connection.get(&self.path, None).await.with_context(ask)?;
        let Replicas { replicas } = serde_json::from_slice(&body).with_context(ask)?;
        Ok(replicas)
    }
}

fn polls() -> tokio::time::Interval {
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls
}
