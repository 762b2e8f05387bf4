//! What goes wrong, or is done on purpose, and how it is known to be over.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_yaml::Mapping;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{
    account::{Account, Seen},
    crowd::{crowd, fill_queue},
    meter::Meter,
};
use crate::{
    admin::{Admin, Replica, polls},
    balancer::Balancer,
    client::Connection,
    engine::OwnEngine,
    request::Request,
    victim::Victim,
};

/// How long anything may take to be well again.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A fault. Those by force take replicas away with requests in their hands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// None: what the others are compared with.
    Nothing {},
    /// SIGKILL, to so many replicas at once.
    Kill {
        replicas: usize,
    },
    /// SIGSTOP, to so many at once: they take connections, and answer nothing.
    Pause {
        replicas: usize,
    },
    /// SIGSTOP to one replica, and connections until it takes no more.
    FullQueue {},
    /// A replica is drained and started again.
    Restart {},
    Add {
        replicas: u32,
    },
    Remove {
        replicas: u32,
    },
    /// Another configuration, and the first one again, in turns.
    Reload {
        pool: Mapping,
    },
    /// A new process of the balancer's binary takes over.
    Upgrade {},
    /// So many connections of other clients, more than there is room for.
    Connections {
        count: usize,
    },
    /// The engine that has the replicas is stopped, and started again after this long.
    EngineRestart {
        down_ms: u64,
    },
}

impl Fault {
    pub(crate) fn is_by_force(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Pause { .. } | Self::FullQueue {})
    }
}

/// A balancer whose replicas faults happen to.
pub(crate) struct Site {
    // Dropped in this order.
    balancer: Balancer,
    /// The one that has the replicas, if it is the experiment's own.
    engine: Option<OwnEngine>,
    meter: Meter,
    replicas: u32,
    pool: Mapping,
    /// Whether another configuration than the first one is in place.
    is_changed: bool,
    /// How many replicas were victims so far; each time it is the turn of others.
    turn: usize,
}

impl Site {
    /// `replicas` and `pool` are what the balancer was started with.
    pub(crate) async fn new(
        balancer: Balancer,
        engine: Option<OwnEngine>,
        replicas: u32,
        pool: Mapping,
    ) -> anyhow::Result<Self> {
        let meter = Meter::start(balancer.admin()).await?;
        Ok(Self { balancer, engine, meter, replicas, pool, is_changed: false, turn: 0 })
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The balancer's account of a load that has ended, which consisted of `requests`.
    pub(crate) async fn account(&mut self, requests: &[Request]) -> anyhow::Result<Account> {
        self.meter.account(Seen::of(requests)).await
    }

    /// What replicas have written down that cannot write to a file of this machine.
    pub(super) fn served(&self) -> anyhow::Result<String> {
        self.engine.as_ref().map_or(Ok(String::new()), |it| block_in_place(|| it.served()))
    }

    /// Over a new connection: one that is kept from fault to fault is closed for having been idle.
    fn admin(&self) -> Admin {
        Admin::new(Connection::new(self.balancer.admin(), RECOVERY_MAX), "default")
    }

    /// Lets the fault happen once, and returns when all is well again.
    pub(crate) async fn let_loose(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Nothing {} => {}
            Fault::Kill { replicas } => {
                let victims = self.victims(*replicas).await?;
                for it in &victims {
                    Victim::process(it)?.kill()?;
                }
                self.until_replaced(&victims).await?;
            }
            Fault::Pause { replicas } => {
                let victims = self.victims(*replicas).await?;
                for it in &victims {
                    Victim::process(it)?.stop()?;
                }
                self.until_replaced(&victims).await?;
            }
            Fault::FullQueue {} => {
                let victims = self.victims(1).await?;
                let address = victims[0].address.context("a replica that serves has an address")?;
                Victim::process(&victims[0])?.stop()?;
                let filling = tokio::task::spawn_blocking(move || fill_queue(address));
                let _queue = filling.await.context("filling the queue")??;
                self.until_replaced(&victims).await?;
            }
            Fault::Restart {} => {
                let victims = self.victims(1).await?;
                self.balancer.command(&["restart", &victims[0].name]).await?;
                self.until_replaced(&victims).await?;
            }
            Fault::Add { replicas } => {
                self.balancer.command(&["add", &replicas.to_string()]).await?;
            }
            Fault::Remove { replicas } => {
                self.balancer.command(&["rm", &replicas.to_string()]).await?;
            }
            Fault::Reload { pool } => {
                self.is_changed = !self.is_changed;
                let mut keys = self.pool.clone();
                if self.is_changed {
                    keys.extend(pool.clone());
                }
                self.balancer.reload(self.replicas, &keys).await?;
            }
            Fault::Upgrade {} => {
                let before = self.admin().replicas().await?;
                self.meter.read().await?;
                self.balancer.upgrade().await?;
                self.meter.was_taken_over();
                self.ensure_same(&before).await?;
            }
            Fault::Connections { count } => {
                let (_crowd, seen) = crowd(&self.balancer.target(), *count).await?;
                self.meter.others(seen);
                self.admin().serving().await.context("asking while the crowd is there")?;
            }
            Fault::EngineRestart { down_ms } => {
                let before = self.admin().replicas().await?;
                let engine = self.engine.as_mut().context("there is no engine of its own")?;
                block_in_place(|| engine.stop());
                sleep(Duration::from_millis(*down_ms)).await;
                block_in_place(|| engine.resume())?;
                self.until_untroubled().await?;
                self.ensure_same(&before).await?;
            }
        }
        self.admin().until_all_serve(RECOVERY_MAX).await
    }

    async fn ensure_same(&self, before: &[Replica]) -> anyhow::Result<()> {
        let after = self.admin().replicas().await?;
        ensure!(before == after, "not the same replicas: before {before:?}, after {after:?}");
        Ok(())
    }

    /// Waits until replicas can be started and ended again.
    async fn until_untroubled(&self) -> anyhow::Result<()> {
        let (began, mut polls) = (Instant::now(), polls());
        loop {
            let pool = self.balancer.ask("/api/v1/pools/default").await?;
            if pool["trouble"].is_null() {
                return Ok(());
            }
            ensure!(began.elapsed() < RECOVERY_MAX, "still in trouble: {}", pool["trouble"]);
            polls.tick().await;
        }
    }

    /// The next replicas in turn, all different.
    async fn victims(&mut self, count: usize) -> anyhow::Result<Vec<Replica>> {
        let serving = self.admin().serving().await?;
        ensure!(
            count <= serving.len(),
            "{} replicas serve, fewer than the {count} to be taken",
            serving.len()
        );
        let first = self.turn;
        self.turn += count;
        Ok((first..self.turn).map(|turn| serving[turn % serving.len()].clone()).collect())
    }

    /// Waits until each of `gone` serves as a later incarnation.
    async fn until_replaced(&self, gone: &[Replica]) -> anyhow::Result<()> {
        let began = Instant::now();
        let (mut admin, mut polls) = (self.admin(), polls());
        loop {
            let replicas = admin.replicas().await?;
            let is_back = |it: &&Replica| {
                let later = |now: &Replica| now.name == it.name && now.incarnation > it.incarnation;
                replicas.iter().any(|now| now.serves() && later(now))
            };
            let missing: Vec<_> = gone.iter().filter(|it| !is_back(it)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if began.elapsed() > RECOVERY_MAX {
                bail!("not back after {} s: {missing:?}", RECOVERY_MAX.as_secs());
            }
            polls.tick().await;
        }
    }
}
