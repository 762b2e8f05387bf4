//! A second engine, of the experiment's own, that can be stopped and started again.
//!
//! It has a socket, a folder and addresses of its own, and no hand in the machine's packet filter; its containers outlive
//! it, as those of an engine do that is upgraded. Dropped, it takes with it whatever was made on it.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use super::{Docker, SERVED_LOG, TempDir};
use crate::running::Running;

const START_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Of its bridge, and of its other networks: in none of the ranges that engines take by themselves.
const ADDRESS: &str = "10.214.0.1/24";
const NETWORKS: &str = "base=10.215.0.0/16,size=24";

pub(crate) struct OwnEngine {
    docker: Docker,
    /// `None` while it is stopped.
    daemon: Option<Running>,
    folder: TempDir,
    bridge: Bridge,
}

impl OwnEngine {
    /// Starts one, and waits until it answers.
    pub(crate) fn start() -> anyhow::Result<Self> {
        ensure!(geteuid().is_root(), "only root can start an engine");
        let folder = tempfile::Builder::new().prefix("ringmaster-loadtest-").tempdir()?;
        // Asked of nobody, so that a command that is missing is not taken for an engine that does not answer.
        Docker::of_machine().run(&["--version"])?;
        let docker =
            Docker { host: Some(format!("unix://{}", folder.path().join("socket").display())) };
        let mut engine = Self { docker, daemon: None, folder, bridge: Bridge::add()? };
        engine.resume()?;
        Ok(engine)
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Ends it, but not its containers.
    pub(crate) fn stop(&mut self) {
        self.daemon = None;
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn resume(&mut self) -> anyhow::Result<()> {
        let empty = self.path("empty.json");
        fs::write(&empty, "{}").with_context(|| format!("writing {}", empty.display()))?;
        let mut command = Command::new("dockerd");
        command
            .args(["--live-restore", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--bridge", &self.bridge.0, "--default-address-pool", NETWORKS])
            .args(["--storage-driver", "vfs", "--config-file"])
            .arg(&empty)
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("run"))
            .args(self.docker.host.as_ref().map(|host| format!("--host={host}")));
        let log = self.path("log");
        let mut daemon = Running::start("dockerd", command, &log)?;
        let began = Instant::now();
        while self.docker.run(&["version"]).is_err() {
            if daemon.has_ended() || began.elapsed() > START_MAX {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("dockerd does not answer: {}", said.lines().last().unwrap_or_default());
            }
            thread::sleep(POLL);
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// What the replicas in its containers have written down.
    pub(crate) fn served(&self) -> anyhow::Result<String> {
        let ids = self.docker.run(&["ps", "--quiet"])?;
        let mut served = String::new();
        for id in ids.lines() {
            let pid = self.docker.run(&["inspect", "--format", "{{.State.Pid}}", id])?;
            let file = format!("/proc/{pid}/root{SERVED_LOG}");
            served += &fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        }
        Ok(served)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnEngine {
    /// What fails here was not there, or is told by whoever finds it later: nothing more can be done about it.
    fn drop(&mut self) {
        if self.daemon.is_some() || self.resume().is_ok() {
            for id in self.docker.run(&["ps", "--all", "--quiet"]).unwrap_or_default().lines() {
                let _ = self.docker.run(&["rm", "--force", id]);
            }
            let _ = self.docker.run(&["network", "prune", "--force"]);
        }
        self.stop();
        // It mounts its folder onto itself, and leaves it so.
        let _ = Command::new("umount").arg(self.path("data")).stderr(Stdio::null()).status();
    }
}

/// The network interface of an engine's default network. Without one of its own an engine uses the machine's, and without
/// any (`none`) it removes that.
struct Bridge(String);

impl Bridge {
    fn add() -> anyhow::Result<Self> {
        let name = format!("rml{}", process::id());
        ip(&["link", "add", &name, "type", "bridge"])?;
        // From here on it goes with this.
        let bridge = Self(name);
        ip(&["address", "add", ADDRESS, "dev", &bridge.0])?;
        ip(&["link", "set", &bridge.0, "up"])?;
        Ok(bridge)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // As above.
        let _ = ip(&["link", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let told = || format!("ip {}", arguments.join(" "));
    let output = Command::new("ip").args(arguments).output().with_context(told)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", told(), said.trim_end());
    Ok(())
}
