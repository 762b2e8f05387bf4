//! A balancer of our own: started with a configuration, changed through its command line, ended when dropped.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::Connection,
    running::{Running, beside, free_addresses},
    target::Target,
};

/// How long one question to the admin listener may take.
const ASK_MAX: Duration = Duration::from_secs(30);

/// What a balancer is started with.
#[derive(Default)]
pub(crate) struct Setup {
    /// How many there are in its one pool, `default`.
    pub(crate) replicas: u32,
    /// The other keys of the pool.
    pub(crate) pool: serde_yaml::Mapping,
    /// Its limit of file descriptors; `None`: this process's own.
    pub(crate) descriptors: Option<u32>,
    /// Where its replicas write down what they serve.
    pub(crate) served_log: Option<PathBuf>,
}

/// The cluster of every balancer of this process: what others keep on the same engine is not theirs.
pub(crate) fn cluster() -> String {
    format!("loadtest-{}", process::id())
}

/// A running balancer on free ports.
pub(crate) struct Balancer {
    // Dropped in this order: the process, then its files.
    process: Running,
    _dir: TempDir,
    program: PathBuf,
    config: PathBuf,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Balancer {
    /// Starts one and returns when its replicas serve.
    pub(crate) async fn start(setup: Setup) -> anyhow::Result<Self> {
        let [proxy, admin] = free_addresses()?;
        let dir = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
        let config = dir.path().join("ringmaster.yaml");
        write_config(&config, proxy, admin, setup.replicas, &setup.pool)?;
        let program = beside("ringmaster")?;
        let mut command = match setup.descriptors {
            None => Command::new(&program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
                shell.arg(&program);
                shell
            }
        };
        command.arg("-c").arg(&config).env("RUNTIME_DIRECTORY", dir.path());
        command.env_remove("SERVED_LOG").envs(setup.served_log.map(|it| ("SERVED_LOG", it)));
        let mut process = Running::start("ringmaster", command, &dir.path().join("log"))?;
        tokio::task::block_in_place(|| process.until_answers(proxy))?;
        let balancer = Self { process, _dir: dir, program, config, proxy, admin };
        balancer.until_serving(setup.replicas).await?;
        Ok(balancer)
    }

    /// Puts another configuration of the pool in place.
    pub(crate) async fn reload(
        &self,
        replicas: u32,
        pool: &serde_yaml::Mapping,
    ) -> anyhow::Result<()> {
        write_config(&self.config, self.proxy, self.admin, replicas, pool)?;
        self.command(&["reload"]).await?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Where clients go.
    pub(crate) fn target(&self) -> Target {
        Target::from(self.proxy)
    }

    /// The operator's door.
    pub(crate) fn admin(&self) -> Target {
        Target::from(self.admin)
    }

    /// Adds or removes replicas until there are so many; returns when they serve and the removed ones are gone.
    pub(crate) async fn scale_to(&self, replicas: u32) -> anyhow::Result<()> {
        let serving = self.names().await?.len() as u32;
        match replicas.cmp(&serving) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => {
                self.command(&["add", &(replicas - serving).to_string()]).await?;
            }
            std::cmp::Ordering::Less => {
                self.command(&["rm", &(serving - replicas).to_string()]).await?;
            }
        }
        self.until_serving(replicas).await
    }

    /// The names of the replicas that serve.
    pub(crate) async fn names(&self) -> anyhow::Result<Vec<String>> {
        let list = self.ask("/api/v1/pools/default/replicas").await?;
        let serving = |it: &&Value| it["phase"] == "serving";
        let replicas =
            list["replicas"].as_array().context("a list of replicas")?.iter().filter(serving);
        Ok(replicas.filter_map(|it| Some(it["name"].as_str()?.to_owned())).collect())
    }

    /// What the admin listener answers to a GET of `path`.
    pub(crate) async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let asked = || format!("asking the balancer for {path}");
        let body = Connection::new(self.admin(), ASK_MAX).get(path).await.with_context(asked)?;
        serde_json::from_slice(&body).with_context(asked)
    }

    async fn until_serving(&self, replicas: u32) -> anyhow::Result<()> {
        let limit = tokio::time::Instant::now() + ASK_MAX;
        while self.names().await?.len() != replicas as usize {
            ensure!(
                tokio::time::Instant::now() < limit,
                "not {replicas} replicas serve after {ASK_MAX:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Has a new process of the same binary take over.
    pub(crate) async fn upgrade(&mut self) -> anyhow::Result<()> {
        let told = self.command(&["upgrade", "--json"]).await?;
        let told: Value = serde_json::from_str(&told).context("what an upgrade answers")?;
        let pid = told["pid"].as_i64().and_then(|it| it.try_into().ok());
        self.process.follow(pid.with_context(|| format!("no pid in {told}"))?);
        Ok(())
    }

    /// What the command line says to a running balancer; returns when it is done, with what was printed.
    pub(crate) async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(&self.program)
            .args(arguments)
            .env("RINGMASTER_ADMIN", format!("http://{}", self.admin))
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let told = || format!("ringmaster {}: {}", arguments.join(" "), said.trim_end());
        ensure!(output.status.success(), told());
        String::from_utf8(output.stdout).with_context(told)
    }
}

fn write_config(
    file: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
    replicas: u32,
    pool: &serde_yaml::Mapping,
) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Config<'a> {
        cluster: String,
        listen: SocketAddr,
        admin: Admin,
        pools: Pools<'a>,
    }
    #[derive(Serialize)]
    struct Admin {
        listen: SocketAddr,
    }
    #[derive(Serialize)]
    struct Pools<'a> {
        default: Pool<'a>,
    }
    #[derive(Serialize)]
    struct Pool<'a> {
        replicas: u32,
        #[serde(flatten)]
        more: &'a serde_yaml::Mapping,
    }
    let pools = Pools { default: Pool { replicas, more: pool } };
    let config = Config { cluster: cluster(), listen, admin: Admin { listen: admin }, pools };
    fs::write(file, serde_yaml::to_string(&config)?)
        .with_context(|| format!("writing {}", file.display()))
}
