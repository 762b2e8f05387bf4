//! The engine of this machine as a Swarm of one machine, for as long as a test lasts.
//!
//! A balancer must be on the overlay network of its replicas. So those under test run in the network namespace of a
//! container that is, and are reached from here over the bridge that connects such containers to their machine.

use std::{
    fs::File,
    net::Ipv4Addr,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Balancer, DEADLINE, config_file,
    docker::{Lab, docker, inspect, try_docker},
    flush_left, until,
};

/// Marks a Swarm that a test has made: one that is left behind by a test that was killed may be left.
const MARK: &str = "ringmaster.test";

/// Connects containers on overlay networks to their machine. The engine makes it, and forgets to remove it.
const BRIDGE: &str = "docker_gwbridge";

/// The label by which a Swarm says what a container is for.
const SERVICE: &str = "com.docker.swarm.service.name";

/// What a test makes, and the Swarm that it makes it on.
pub(crate) struct SwarmLab {
    pub(crate) lab: Lab,
    /// Of the container in whose network the balancers run.
    pid: String,
    /// Of that container on [`BRIDGE`].
    address: Ipv4Addr,
    /// Whether [`BRIDGE`] was there before.
    had_bridge: bool,
    /// An engine is in one Swarm at a time: other test runs on this machine wait.
    _turn: File,
}

impl SwarmLab {
    /// As [`Lab::open`].
    pub(crate) fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let turn = File::create(std::env::temp_dir().join("ringmaster-swarm.lock")).unwrap();
        turn.lock().unwrap();
        if docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]) != "inactive" {
            let label = format!("{{{{index .Spec.Labels \"{MARK}\"}}}}");
            let mark = docker(&["node", "inspect", "self", "--format", &label]);
            assert_eq!(mark, "yes", "the engine is in a Swarm that no test has made");
            leave();
        }
        let had_bridge = try_docker(&["network", "inspect", BRIDGE]).is_ok();
        docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        let node = docker(&["info", "--format", "{{.Swarm.NodeID}}"]);
        docker(&["node", "update", "--label-add", &format!("{MARK}=yes"), &node]);
        docker(&["network", "create", "--driver", "overlay", "--attachable", &lab.id]);
        let anchor = lab.name("anchor");
        docker(&["run", "-d", "--name", &anchor, "--network", &lab.id, &lab.id]);
        let pid = inspect(&anchor)["State"]["Pid"].to_string();
        let bridge: Value = serde_json::from_str(&docker(&["network", "inspect", BRIDGE])).unwrap();
        let endpoints = bridge[0]["Containers"].as_object().unwrap();
        let sandbox = inspect(&anchor)["NetworkSettings"]["SandboxID"].take();
        let sandbox = sandbox.as_str().unwrap();
        let endpoint = endpoints.values().find(|it| {
            it["Name"]
                .as_str()
                .and_then(|name| name.strip_prefix("gateway_"))
                .is_some_and(|id| sandbox.starts_with(id))
        });
        let address = endpoint.expect("it is on the bridge")["IPv4Address"].as_str().unwrap();
        let address = address.split_once('/').unwrap().0.parse().unwrap();
        Some(Self { lab, pid, address, had_bridge, _turn: turn })
    }

    /// A configuration with `keys` for the pool beside what each test needs.
    pub(crate) fn config(&self, keys: &str) -> String {
        self.lab.config_of("swarm", keys, &self.image())
    }

    /// The image by its id, which the Swarm does not look for in a registry.
    pub(crate) fn image(&self) -> String {
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", &self.lab.id]);
        format!("image: '{id}'")
    }

    /// Starts a balancer, and waits until it listens.
    pub(crate) async fn start_unready(&self, yaml: &str) -> Balancer {
        let Self { address, pid, .. } = self;
        let file = config_file(&format!(
            "listen: {address}:0\nadmin: {{ listen: '{address}:0', trust: [0.0.0.0/0] }}\n{}",
            flush_left(yaml)
        ));
        let mut command = tokio::process::Command::new("nsenter");
        command
            .args(["--net", "--target", pid, env!("CARGO_BIN_EXE_ringmaster"), "-c"])
            .arg(file.path())
            .stdin(Stdio::null())
            .env_remove("RUST_LOG")
            .kill_on_drop(true);
        Balancer::launch(command, Some(file)).await
    }

    /// Starts a balancer, and waits until it is ready.
    pub(crate) async fn start(&self, yaml: &str) -> Balancer {
        let balancer = self.start_unready(yaml).await;
        balancer.until_printed("ready in").await;
        balancer
    }

    /// The services of the cluster, in order of their names.
    pub(crate) fn services(&self) -> Vec<String> {
        let filter = format!("label=ringmaster.cluster={}", self.lab.id);
        let names = docker(&["service", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The containers that run the replica's tasks at this moment.
    pub(crate) fn containers(&self, name: &str) -> Vec<String> {
        let filter = format!("label={SERVICE}={name}");
        let ids = docker(&["ps", "--quiet", "--no-trunc", "--filter", &filter]);
        ids.lines().map(str::to_owned).collect()
    }

    /// Leaves the Swarm, at the latest when the test ends.
    pub(crate) fn leave(&self) {
        leave();
        if !self.had_bridge {
            let _ = try_docker(&["network", "rm", BRIDGE]);
        }
    }

    /// Waits until each of `names` is run by one container, and nothing else is.
    pub(crate) async fn until_each_runs_once(&self, names: &[String]) {
        let mut names = names.to_vec();
        names.sort();
        let once = async || (self.services() == names && running() == names).then_some(());
        let is_so = until("each runs once", once).await.is_some();
        assert!(is_so, "{names:?}: {:?}, {:?}", self.services(), running());
    }
}

/// The names of the services that have a task running, once for each.
fn running() -> Vec<String> {
    let format = format!("{{{{.Label \"{SERVICE}\"}}}}");
    let filter = format!("label={SERVICE}");
    let names = docker(&["ps", "--filter", &filter, "--format", &format]);
    let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
    names.sort();
    names
}

impl Drop for SwarmLab {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Leaves the Swarm when nothing is on its networks any more: of what it tears down itself, the engine may lose count,
/// and then never lets go of the bridge.
fn leave() {
    for id in list(&["service", "ls", "--quiet"]) {
        let _ = try_docker(&["service", "rm", &id]);
    }
    let deadline = Instant::now() + DEADLINE;
    let filter = format!("label={SERVICE}");
    while !list(&["ps", "--all", "--quiet", "--filter", &filter]).is_empty() {
        if Instant::now() > deadline {
            eprintln!("tasks do not end within {DEADLINE:?}");
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let overlays = ["network", "ls", "--quiet", "--filter", "driver=overlay"];
    for network in list(&overlays) {
        let filter = format!("network={network}");
        for id in list(&["ps", "--all", "--quiet", "--filter", &filter]) {
            let _ = try_docker(&["rm", "--force", &id]);
        }
        // Not the one that the Swarm has made for itself.
        let _ = try_docker(&["network", "rm", &network]);
    }
    let _ = try_docker(&["swarm", "leave", "--force"]);
}

/// What `docker` answers, line by line; nothing if it fails.
fn list(args: &[&str]) -> Vec<String> {
    try_docker(args).unwrap_or_default().lines().map(str::to_owned).collect()
}
