//! An engine that is stopped and started again, under load: a second one, of the test's own.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::harness::{
    Balancer, DEADLINE,
    docker::{Lab, docker, try_docker},
    load::Load,
    until,
};

const CONNECTIONS: usize = 8;

/// An engine with a socket, a folder and addresses of its own, and no hand in the machine's packet filter.
pub(super) struct Engine {
    folder: TempDir,
    /// Arguments beside those that keep it apart.
    more: Vec<String>,
    /// Its default network's. Without one of its own it would use the machine's, and without any (`none`) it would
    /// remove that.
    bridge: String,
    /// `None` while it is stopped.
    daemon: Option<Child>,
}

impl Engine {
    /// Starts one in `folder`.
    pub(super) async fn start(folder: TempDir, more: &[String]) -> Self {
        let bridge = format!("rm{}", std::process::id());
        for args in [
            &["link", "add", &bridge, "type", "bridge"][..],
            &["address", "add", "10.212.0.1/24", "dev", &bridge],
            &["link", "set", &bridge, "up"],
        ] {
            assert!(ip(args), "ip {args:?}");
        }
        let mut engine = Self { folder, more: more.to_vec(), bridge, daemon: None };
        std::fs::write(engine.path("empty.json"), "{}").unwrap();
        engine.resume().await;
        engine
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        // Its containers outlive it, as an engine's do that is upgraded.
        let daemon = Command::new("dockerd")
            .args(["--live-restore", "--iptables=false", "--ip6tables=false"])
            .args(["--bridge", &self.bridge])
            .args(["--storage-driver=vfs", "--default-address-pool=base=10.213.0.0/16,size=24"])
            .args(["--config-file", &self.path("empty.json"), "--pidfile", &self.path("pid")])
            .args(["--data-root", &self.path("data"), "--exec-root", &self.path("run")])
            .args(["--host", &self.host()])
            .args(&self.more)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn();
        self.daemon = Some(daemon.expect("the package that has the engine has dockerd, too"));
    }

    /// Starts it, and waits until it answers.
    async fn resume(&mut self) {
        self.launch();
        let answers = until("it answers", async || self.docker(&["version"]).ok());
        assert!(answers.await.is_some(), "{}", self.log());
    }

    /// Ends it, but not its containers.
    fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
        daemon.wait().unwrap();
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path("socket"))
    }

    pub(super) fn docker(&self, args: &[&str]) -> Result<String, String> {
        try_docker(&[&["--host", &self.host()], args].concat())
    }

    /// Everything that it wrote.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Gives it the image of `lab`.
    pub(super) fn copy_image(&self, lab: &Lab) {
        let image = self.path("image.tar");
        docker(&["save", "--output", &image, &lab.id]);
        self.docker(&["load", "--input", &image]).unwrap();
    }

    /// The names of its containers, running or not.
    pub(super) fn containers(&self) -> Vec<String> {
        let names = self.docker(&["ps", "--all", "--format", "{{.Names}}"]).unwrap();
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            self.launch();
        }
        let began = Instant::now();
        while self.docker(&["version"]).is_err() && began.elapsed() < DEADLINE {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for id in self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default().lines() {
            let _ = self.docker(&["rm", "--force", id]);
        }
        let _ = self.docker(&["network", "prune", "--force"]);
        self.stop();
        // It mounts its folder onto itself, and leaves it so.
        let _ = Command::new("umount").arg(self.path("data")).status();
        ip(&["link", "delete", &self.bridge]);
    }
}

/// Whether `ip` did as it was told.
fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).status().is_ok_and(|it| it.success())
}

#[tokio::test]
async fn an_engine_that_is_restarted_is_not_missed() {
    let Some(lab) = Lab::open() else { return };
    let mut engine = Engine::start(tempfile::tempdir().unwrap(), &[]).await;
    engine.copy_image(&lab);
    let names = lab.names(3);
    let socket = format!("{}, socket: '{}'", lab.image(), engine.path("socket"));
    let balancer = Balancer::start(&lab.config(&format!("names: {names:?}"), &socket)).await;
    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", &names[0]]).unwrap();
    let load = Load::start(balancer.proxy, CONNECTIONS);
    load.until_sent(200).await;

    engine.stop();
    let trouble = async || {
        balancer.admin("/api/v1/pools/default").await["trouble"].as_str().map(str::to_owned)
    };
    until("the trouble is told", trouble).await.unwrap();
    load.until_sent(load.sent() + 500).await;
    for name in &names {
        assert_eq!(balancer.replica(name).await.unwrap()["phase"], "serving", "{name}");
    }
    // It dies while there is no engine to tell of it, or to start another.
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    let down = async || (balancer.replica(&names[0]).await?["phase"] != "serving").then_some(());
    until("it is down", down).await.unwrap();
    load.until_sent(load.sent() + 500).await;

    engine.resume().await;
    balancer.until_serving(&names[0], 1).await;
    let over = async || trouble().await.is_none().then_some(());
    until("the trouble is over", over).await.unwrap();
    load.until_sent(load.sent() + 200).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, BTreeMap::new(), "of {} requests", outcome.sent);
    for name in &names[1..] {
        assert_eq!(balancer.replica(name).await.unwrap()["incarnation"], 1, "{name}");
    }
    assert_eq!(engine.containers(), names, "each once, and no other");
    balancer.stop().await;
    assert_eq!(engine.containers(), [""; 0]);
}
