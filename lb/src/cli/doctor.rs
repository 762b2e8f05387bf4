//! `ringmaster doctor`: checks what a balancer needs, one line for each, with cause and remedy where one fails.
//!
//! Before a start as well as beside a running balancer. What cannot be checked, and what is as it should be for only one
//! of the two, is a note and no failure.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::anyhow;
use procfs::process::{LimitValue, Process};
use ringmaster_fleet::{Fleet, PhaseName, ReplicaName};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Failure,
    answers::{LastExit, Pool, Pools, Replica, Replicas},
    client::{Admin, Client, ClientError},
    remote::Reach,
    say,
    text::printable,
};
use crate::{
    admin::Access,
    config::{Config, DockerConfig, HeartbeatConfig, PoolConfig, ProviderConfig},
    engine::{self, EngineError, Local},
    heartbeat,
    listen::{self, BindError},
    tls,
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

/// One line of the report.
#[derive(Debug, PartialEq)]
enum Finding {
    /// It is as it should be.
    Good(String),
    /// It could not be checked, or there is nothing to check yet.
    Note(String),
    /// It is wrong; the text says what to do about it.
    Bad(String),
}

use Finding::{Bad, Good, Note};

/// What was found so far.
#[derive(Default)]
struct Report {
    checked: usize,
    failed: usize,
}

impl Report {
    fn tell(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            let (mark, text) = match finding {
                Good(text) => ("ok  ", text),
                Note(text) => ("note", text),
                Bad(text) => ("FAIL", text),
            };
            self.checked += 1;
            self.failed += usize::from(mark == "FAIL");
            say(&format!("{mark}  {}\n", printable(&text)));
        }
    }
}

/// Makes every check, and fails if one did.
pub(super) async fn run(Args { config: path, reach }: Args) -> Result<(), Failure> {
    let loaded = path.as_deref().map_or_else(|| Ok(Config::default()), Config::load);
    let admin = loaded.as_ref().map_or_else(|_| Admin::default(), |it| it.admin.listen.into());
    let is_named = reach.is_named();
    let client = reach.client(admin)?;
    let running = Running::ask(&client).await;

    let mut report = Report::default();
    // One that somebody has named, or that holds a port, must answer.
    let mut is_expected = is_named;
    match &loaded {
        Ok(config) => {
            let source = path.map_or("the default".to_owned(), |path| path.display().to_string());
            report.tell([Good(format!("configuration: {source} is good"))]);
            let ports = [
                ("listen", Some(config.listen)),
                ("tls.listen", config.tls.listen),
                ("admin.listen", Some(config.admin.listen)),
            ];
            for (key, addr) in ports {
                let Some(addr) = addr else { continue };
                let bound = listen::bind(key, addr).map(drop);
                is_expected |= bound.as_ref().is_err_and(is_of_balancer);
                report.tell([port(key, addr, bound, &running)]);
            }
            report.tell(secrets(config));
            for (name, pool) in &config.pools {
                report.tell(provider(&config.cluster, name, pool).await);
            }
        }
        Err(error) => report.tell(error.to_string().lines().map(|line| Bad(line.to_owned()))),
    }
    report.tell([open_files()]);
    report.tell(answers(&client, running, is_expected).await);

    let Report { checked, failed } = report;
    if failed > 0 {
        return Err(anyhow!("{failed} of {checked} checks failed").into());
    }
    Ok(())
}

/// Free, or held by a balancer, which is what it is for.
fn port(
    key: &'static str,
    addr: SocketAddr,
    bound: Result<(), BindError>,
    running: &Running,
) -> Finding {
    match bound {
        Ok(()) => Good(format!("{key}: {addr} is free")),
        Err(BindError::InUse { owner: Some(owner), .. }) if owner.starts_with(OWNER) => {
            Good(format!("{key}: {addr} is held by {owner}"))
        }
        // That of another user, whose processes cannot be seen from here.
        Err(_) if running.listens(key, addr) => {
            Good(format!("{key}: {addr} is held by the running balancer"))
        }
        Err(error) => Bad(error.to_string()),
    }
}

fn is_of_balancer(error: &BindError) -> bool {
    matches!(error, BindError::InUse { owner: Some(owner), .. } if owner.starts_with(OWNER))
}

/// The files that only the balancer's user may read.
fn secrets(config: &Config) -> Vec<Finding> {
    let finding = |what: String, fault: Option<(String, bool)>| match fault {
        None => Good(format!("{what} can be used")),
        Some((fault, true)) => {
            Note(format!("{fault}; to check it, run this as the balancer's user"))
        }
        Some((fault, false)) => Bad(fault),
    };
    let mut findings = Vec::new();
    if config.tls.listen.is_some() {
        let fault = tls::acceptor(&config.tls).err();
        let fault = fault.map(|error| (error.to_string(), error.is_denied()));
        let count = config.tls.certificates.len();
        findings.push(finding(format!("tls.certificates: {count}"), fault));
    }
    if let Some(path) = &config.admin.tokens_file {
        let fault = Access::load(&config.admin).err();
        let fault = fault.map(|error| (error.to_string(), error.is_denied()));
        findings.push(finding(format!("admin.tokens_file: {}", path.display()), fault));
    }
    findings
}

/// Whether who runs the replicas can be reached; for those that somebody else runs, whether each answers as it must.
async fn provider(cluster: &str, pool: &str, config: &PoolConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &config.provider {
        ProviderConfig::Process(_) => {}
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
    let finding = |found: Result<String, EngineError>| match found {
        Ok(text) => Good(named(text)),
        Err(error) => Bad(named(error.to_string())),
    };
    findings.into_iter().map(finding).collect()
}

async fn services(cluster: &str, pool: &str, config: &DockerConfig) -> Finding {
    match engine::Local::new(config.socket.as_deref()).wanted(cluster, pool).await {
        Ok(wanted) => {
            let count = wanted.replicas.len();
            Good(format!(
                "pool {pool}: a manager of the Swarm answers; {count} replicas are wanted"
            ))
        }
        Err(error) => Bad(format!("pool {pool}: {error}")),
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
            return Bad(format!("{what}: cannot connect: {error}; {remedy}"));
        }
        Err(_) => {
            return Bad(format!("{what}: cannot connect within {limit:?}; is the network right?"));
        }
    }
    let remedy = format!("correct pools.{pool}.heartbeat, or mend the replica");
    match timeout(*limit, heartbeat::get(addr, path, fields)).await {
        Ok(Ok(status)) if statuses.contain(status) => {
            Good(format!("{what}: GET {path} answers {status}"))
        }
        Ok(Ok(status)) => Bad(format!(
            "{what}: GET {path} answers {status}, which is not one of {statuses}; {remedy}"
        )),
        Ok(Err(error)) => Bad(format!("{what}: GET {path} is not answered: {error:#}; {remedy}")),
        Err(_) => Bad(format!("{what}: GET {path} is not answered within {limit:?}; {remedy}")),
    }
}

/// A balancer that is started from here may open as many files as this process, and raises its limit as far as it may.
fn open_files() -> Finding {
    match Process::myself().and_then(|it| it.limits()).map(|it| it.max_open_files.hard_limit) {
        Err(error) => Note(format!("open files: the limit is not known: {error}")),
        Ok(LimitValue::Unlimited) => Good("open files: no limit".to_owned()),
        Ok(LimitValue::Value(limit)) if limit >= FILES_MIN => {
            Good(format!("open files: at most {limit}"))
        }
        Ok(LimitValue::Value(limit)) => Bad(format!(
            "open files: at most {limit}, and {FILES_MIN} are needed; start it after `ulimit -n {FILES_MIN}`, \
             or with LimitNOFILE={FILES_MIN} in its systemd unit"
        )),
    }
}

/// The balancer that runs, as far as it answers.
struct Running(Result<Value, ClientError>);

impl Running {
    /// Asks for its configuration.
    async fn ask(client: &Client) -> Self {
        Self(client.get("/api/v1/config").await.and_then(|it| client.parse(&it)))
    }

    /// Whether its configuration has `addr` under `key`.
    fn listens(&self, key: &str, addr: SocketAddr) -> bool {
        let Ok(config) = &self.0 else { return false };
        let configured = config.pointer(&format!("/{}", key.replace('.', "/")));
        configured.and_then(Value::as_str) == Some(&addr.to_string())
    }
}

/// Whether a balancer runs, and keeps its pools as they are wanted. One that is not expected may be started yet.
async fn answers(client: &Client, running: Running, is_expected: bool) -> Vec<Finding> {
    match running.0 {
        Ok(_) => {}
        Err(ClientError::Unreachable { admin, .. }) if !is_expected => {
            return vec![Note(format!("admin API: no balancer runs at {admin}"))];
        }
        Err(error) => return vec![Bad(format!("admin API: {error}"))],
    }
    let pools = match client.get("/api/v1/pools").await.and_then(|it| client.parse(&it)) {
        Ok(Pools { pools }) => pools,
        Err(error) => return vec![Bad(format!("admin API: {error}"))],
    };
    let mut findings = vec![Good(format!("admin API: {} answers", client.admin()))];
    for pool in &pools {
        findings.extend(served(client, pool).await);
    }
    findings
}

/// Whether the pool is whole, and what is known of each replica that is not well.
async fn served(client: &Client, Pool { name, wanted, actual, .. }: &Pool) -> Vec<Finding> {
    let text = format!("pool {name}: {} of {wanted} wanted replicas serve", actual.serving);
    if actual.serving >= *wanted {
        return vec![Good(text)];
    }
    let replicas = client.get(&format!("/api/v1/pools/{name}/replicas")).await;
    match replicas.and_then(|it| client.parse(&it)) {
        Ok(Replicas { replicas }) => {
            let ill = replicas.iter().filter(|it| it.phase != PhaseName::Serving.as_str());
            let told = ill.map(|it| Bad(format!("pool {name}, {}", ill_health(it))));
            std::iter::once(Bad(text)).chain(told).collect()
        }
        Err(error) => vec![Bad(format!("{text}; {error}"))],
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
