//! What goes wrong, or is done on purpose, and how it is known to be over.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_yaml::Mapping;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::Instant,
};

use super::{
    account::{Account, Seen},
    meter::Meter,
};
use crate::{
    admin::{Admin, Replica, polls},
    balancer::Balancer,
    client::Connection,
    request::Request,
    target::Target,
    victim::Victim,
};

/// How long anything may take to be well again.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A connection that is not taken within this finds a full queue; on this machine a free place takes microseconds.
const QUEUE_IS_FULL: Duration = Duration::from_millis(250);

/// More connections than any queue has places.
const QUEUE_MAX: usize = 8192;

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
}

impl Fault {
    pub(crate) fn is_by_force(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Pause { .. } | Self::FullQueue {})
    }
}

/// A balancer whose replicas faults happen to.
pub(crate) struct Site {
    balancer: Balancer,
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
        replicas: u32,
        pool: Mapping,
    ) -> anyhow::Result<Self> {
        let meter = Meter::start(balancer.admin()).await?;
        Ok(Self { balancer, meter, replicas, pool, is_changed: false, turn: 0 })
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The balancer's account of a load that has ended, which consisted of `requests`.
    pub(crate) async fn account(&mut self, requests: &[Request]) -> anyhow::Result<Account> {
        self.meter.account(Seen::of(requests)).await
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
                    victim(it)?.kill()?;
                }
                self.until_replaced(&victims).await?;
            }
            Fault::Pause { replicas } => {
                let victims = self.victims(*replicas).await?;
                for it in &victims {
                    victim(it)?.stop()?;
                }
                self.until_replaced(&victims).await?;
            }
            Fault::FullQueue {} => {
                let victims = self.victims(1).await?;
                let address = victims[0].address.context("a replica that serves has an address")?;
                victim(&victims[0])?.stop()?;
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
                let after = self.admin().replicas().await?;
                ensure!(
                    before == after,
                    "not the same replicas: before {before:?}, after {after:?}"
                );
            }
            Fault::Connections { count } => {
                let (_crowd, seen) = crowd(&self.balancer.target(), *count).await?;
                self.meter.others(seen);
                self.admin().serving().await.context("asking while the crowd is there")?;
            }
        }
        self.admin().until_all_serve(RECOVERY_MAX).await
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

fn victim(replica: &Replica) -> anyhow::Result<Victim> {
    let pid = replica.pid.with_context(|| format!("replica {} has no pid", replica.name))?;
    Victim::new(pid)
}

/// Connections to `address` until no more are taken.
fn fill_queue(address: SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let mut queue = Vec::new();
    while queue.len() < QUEUE_MAX {
        match TcpStream::connect_timeout(&address, QUEUE_IS_FULL) {
            Ok(stream) => queue.push(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(queue),
            Err(error) => return Err(error).with_context(|| format!("connecting to {address}")),
        }
    }
    bail!("{address} took {QUEUE_MAX} connections, and would take more")
}

/// As many connections, each with one request; an error unless some are refused.
async fn crowd(
    target: &Target,
    count: usize,
) -> anyhow::Result<(Vec<tokio::net::TcpStream>, Seen)> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let target = target.clone();
        clients.spawn(async move {
            let mut stream = target.connect().await?;
            let request = format!("GET /home HTTP/1.1\r\nHost: {}\r\n\r\n", target.authority());
            stream.write_all(request.as_bytes()).await?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await?;
            anyhow::Ok((stream, &status == b"HTTP/1.1 200"))
        });
    }
    let (mut admitted, mut seen) = (Vec::new(), Seen::default());
    for client in clients.join_all().await {
        match client {
            Ok((stream, true)) => {
                seen.ok += 1;
                admitted.push(stream);
            }
            Ok((_, false)) => seen.errors += 1,
            // A refused one may be closed before its answer is read.
            Err(_) => seen.unanswered += 1,
        }
    }
    ensure!(
        admitted.len() < count,
        "all of {count} connections were admitted: there are more descriptors than that"
    );
    Ok((admitted, seen))
}

/// Lets this process have as many descriptors as it may: queues are filled from here.
pub(super) fn raise_descriptors() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_queue_is_full_when_nobody_takes_from_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let queue = fill_queue(listener.local_addr().unwrap()).unwrap();
        assert!(!queue.is_empty());
    }
}
