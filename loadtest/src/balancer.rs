//! A balancer of our own: started with a configuration, changed through its command line, ended when dropped.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

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

/// A running balancer on free ports.
pub(crate) struct Balancer {
    // Dropped in this order: the process, then its files.
    _process: Running,
    _dir: TempDir,
    program: PathBuf,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Balancer {
    /// Starts one with one pool, `default`, of so many replicas; `pool` holds its other keys. Returns when they serve.
    pub(crate) async fn start(replicas: u32, pool: &serde_yaml::Mapping) -> anyhow::Result<Self> {
        #[derive(Serialize)]
        struct Config<'a> {
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
        let [proxy, admin] = free_addresses()?;
        let dir = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
        let config = Config {
            listen: proxy,
            admin: Admin { listen: admin },
            pools: Pools { default: Pool { replicas, more: pool } },
        };
        let file = dir.path().join("ringmaster.yaml");
        fs::write(&file, serde_yaml::to_string(&config)?)?;
        let program = beside("ringmaster")?;
        let mut command = Command::new(&program);
        command.arg("-c").arg(&file).env("RUNTIME_DIRECTORY", dir.path());
        let mut process = Running::start("ringmaster", command, &dir.path().join("log"))?;
        tokio::task::block_in_place(|| process.until_answers(proxy))?;
        let balancer = Self { _process: process, _dir: dir, program, proxy, admin };
        balancer.until_serving(replicas).await?;
        Ok(balancer)
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
            std::cmp::Ordering::Greater => self.command("add", replicas - serving).await?,
            std::cmp::Ordering::Less => self.command("rm", serving - replicas).await?,
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
        let body =
            Connection::new(self.admin(), ASK_MAX).get(path, None).await.with_context(asked)?;
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

    async fn command(&self, verb: &str, replicas: u32) -> anyhow::Result<()> {
        let output = tokio::process::Command::new(&self.program)
            .args([verb, &replicas.to_string()])
            .env("RINGMASTER_ADMIN", format!("http://{}", self.admin))
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ringmaster {verb} {replicas}: {}", said.trim_end());
        Ok(())
    }
}
