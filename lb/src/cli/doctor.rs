//! `ringmaster doctor`: checks what a balancer needs, one line for each, with cause and remedy where one fails.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::anyhow;
use procfs::process::{LimitValue, Process};
use ringmaster_fleet::{Fleet, PhaseName, ReplicaName};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Failure,
    answers::{LastExit, Pool, Pools, Replica, Replicas},
    client::{Admin, Client},
    remote::Reach,
    say,
    text::printable,
};
use crate::{
    config::{Config, DockerConfig, HeartbeatConfig, PoolConfig, ProviderConfig},
    engine::{self, Local},
    heartbeat,
    listen::{self, BindError},
};

/// Each request may hold two files, its client's and its replica's: room for some thousands.
const FILES_MIN: u64 = 4_096;

/// How the owner of a port is called if it is a balancer.
const OWNER: &str = "ringmaster (";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration; without one, the defaults.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// What is well, or what is wrong and what to do: one line each.
type Finding = Result<String, String>;

/// What was found so far.
#[derive(Default)]
struct Report {
    checked: usize,
    failed: usize,
}

impl Report {
    fn tell(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.checked += 1;
            let line = match finding {
                Ok(text) => format!("ok    {}\n", printable(&text)),
                Err(text) => {
                    self.failed += 1;
                    format!("FAIL  {}\n", printable(&text))
                }
            };
            say(&line);
        }
    }
}

/// Makes every check, and fails if one did.
pub(super) async fn run(Args { config: path, reach }: Args) -> Result<(), Failure> {
    let loaded = path.as_deref().map_or_else(|| Ok(Config::default()), Config::load);
    let admin = loaded.as_ref().map_or_else(|_| Admin::default(), |it| it.admin.listen.into());
    let client = reach.client(admin)?;

    let mut report = Report::default();
    match &loaded {
        Ok(config) => {
            let source = path.map_or("the default".to_owned(), |path| path.display().to_string());
            report.tell([Ok(format!("configuration: {source} is good"))]);
            report.tell([port("listen", config.listen), port("admin.listen", config.admin.listen)]);
            for (name, pool) in &config.pools {
                report.tell(provider(&config.cluster, name, pool).await);
            }
        }
        Err(error) => report.tell(error.to_string().lines().map(|line| Err(line.to_owned()))),
    }
    report.tell([open_files()]);
    report.tell(running(&client).await);

    let Report { checked, failed } = report;
    if failed > 0 {
        return Err(anyhow!("{failed} of {checked} checks failed").into());
    }
    Ok(())
}

/// Free, or held by a balancer, which is what it is for.
fn port(key: &'static str, addr: SocketAddr) -> Finding {
    match listen::bind(key, addr) {
        Ok(_) => Ok(format!("{key}: {addr} is free")),
        Err(BindError::InUse { owner: Some(owner), .. }) if owner.starts_with(OWNER) => {
            Ok(format!("{key}: {addr} is held by {owner}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether who runs the replicas can be reached; for those that somebody else runs, whether each answers as it must.
async fn provider(cluster: &str, pool: &str, config: &PoolConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &config.provider {
        ProviderConfig::Process => {}
        ProviderConfig::Docker(docker) => {
            findings.extend(containers(cluster, pool, config, docker).await);
        }
        ProviderConfig::Swarm(docker) => findings.push(services(cluster, pool, docker).await),
        ProviderConfig::Fixed(addresses) => {
            for (name, &addr) in addresses {
                findings.push(fixed_replica(pool, name, addr, &config.heartbeat).await);
            }
        }
    }
    findings
}

/// What a start would meet with; behind a spawner, which starts nothing to see whether it could, less is known.
async fn containers(
    cluster: &str,
    pool: &str,
    config: &PoolConfig,
    docker: &DockerConfig,
) -> Vec<Finding> {
    let findings = if docker.spawner.is_some() {
        let containers = engine::connect(docker).inspect(cluster).await;
        vec![containers.map(|_| "the spawner and its engine answer".to_owned())]
    } else {
        // The configuration was checked against the same limits.
        let fleet = Fleet::new(config.limits.clone(), 0);
        let hosts = fleet.admit(config.replicas, &config.names).unwrap_or_default();
        let names = hosts.iter().map(|host| host.name.to_string());
        Local::new(docker.socket.as_deref()).survey(cluster, docker, names).await
    };
    let named = |text: String| format!("pool {pool}: {text}");
    findings.into_iter().map(|it| it.map(named).map_err(|error| named(error.to_string()))).collect()
}

async fn services(cluster: &str, pool: &str, config: &DockerConfig) -> Finding {
    match engine::Local::new(config.socket.as_deref()).wanted(cluster, pool).await {
        Ok(wanted) => {
            let count = wanted.replicas.len();
            Ok(format!("pool {pool}: a manager of the Swarm answers; {count} replicas are wanted"))
        }
        Err(error) => Err(format!("pool {pool}: {error}")),
    }
}

async fn fixed_replica(
    pool: &str,
    name: &ReplicaName,
    addr: SocketAddr,
    HeartbeatConfig { path, fields, statuses, timeout: limit, .. }: &HeartbeatConfig,
) -> Finding {
    let what = format!("pool {pool}, {name} at {addr}");
    match timeout(*limit, TcpStream::connect(addr)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            let remedy = format!("start it, or correct pools.{pool}.fixed.{name}");
            return Err(format!("{what}: cannot connect: {error}; {remedy}"));
        }
        Err(_) => {
            return Err(format!("{what}: cannot connect within {limit:?}; is the network right?"));
        }
    }
    let remedy = format!("correct pools.{pool}.heartbeat, or mend the replica");
    match timeout(*limit, heartbeat::get(addr, path, fields)).await {
        Ok(Ok(status)) if statuses.contain(status) => Ok(format!("{what}: GET {path} answers {status}")),
        Ok(Ok(status)) => Err(format!(
            "{what}: GET {path} answers {status}, which is not one of {statuses}; {remedy}"
        )),
        Ok(Err(error)) => Err(format!("{what}: GET {path} is not answered: {error:#}; {remedy}")),
        Err(_) => Err(format!("{what}: GET {path} is not answered within {limit:?}; {remedy}")),
    }
}

/// A balancer that is started from here may open as many files as this process.
fn open_files() -> Finding {
    let limits = Process::myself().and_then(|myself| myself.limits());
    let limits = limits.map_err(|error| format!("open files: the limit is not known: {error}"))?;
    match limits.max_open_files.soft_limit {
        LimitValue::Unlimited => Ok("open files: no limit".to_owned()),
        LimitValue::Value(limit) if limit >= FILES_MIN => {
            Ok(format!("open files: at most {limit}"))
        }
        LimitValue::Value(limit) => Err(format!(
            "open files: at most {limit}, and {FILES_MIN} are needed; start it after `ulimit -n {FILES_MIN}`, \
             or with LimitNOFILE={FILES_MIN} in its systemd unit"
        )),
    }
}

/// Whether a balancer runs, and keeps its pools as they are wanted.
async fn running(client: &Client) -> Vec<Finding> {
    let pools = match client.get("/api/v1/pools").await.and_then(|it| client.parse(&it)) {
        Ok(Pools { pools }) => pools,
        Err(error) => return vec![Err(format!("admin API: {error}"))],
    };
    let mut findings = vec![Ok(format!("admin API: {} answers", client.admin()))];
    for pool in &pools {
        findings.extend(served(client, pool).await);
    }
    findings
}

/// Whether the pool is whole, and what is known of each replica that is not well.
async fn served(client: &Client, Pool { name, wanted, actual, .. }: &Pool) -> Vec<Finding> {
    let text = format!("pool {name}: {} of {wanted} wanted replicas serve", actual.serving);
    if actual.serving >= *wanted {
        return vec![Ok(text)];
    }
    let replicas = client.get(&format!("/api/v1/pools/{name}/replicas")).await;
    match replicas.and_then(|it| client.parse(&it)) {
        Ok(Replicas { replicas }) => {
            let ill = replicas.iter().filter(|it| it.phase != PhaseName::Serving.as_str());
            let told = ill.map(|it| Err(format!("pool {name}, {}", ill_health(it))));
            std::iter::once(Err(text)).chain(told).collect()
        }
        Err(error) => vec![Err(format!("{text}; {error}"))],
    }
}

fn ill_health(Replica { name, phase, attempts, retry_in_s, last_exit, .. }: &Replica) -> String {
    let mut text = format!("{name}: {phase}, {attempts} failed starts or runs");
    if let Some(wait) = retry_in_s {
        text.push_str(&format!(", next try in {wait:.1} s"));
    }
    if let Some(LastExit { reason, log, .. }) = last_exit {
        text.push_str(&format!("; last end: {reason}"));
        text.extend(log.last().map(|line| format!(": {line}")));
    }
    text
}
